"""Time and precision of `max_margin` beside scikit-learn's SVC, on real and on synthetic pairs.

Run `python -m benchmarks.max_margin`; with `--data-dir` of MNIST for tfds its pairs
too. Both solvers are called in turn, with one thread of BLAS (SVC has one, and threads make small
matrices slower on a busy machine); a ratio is the median over rounds of the ratio within a round.
SVC is asked for a hard margin (C = 1e10) at its default tolerance, which leaves a gap of some 1e-4.
Pairs that no hyperplane separates are left to `max_margin`: SVC would not end.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from benchmarks.report import (
    KEPT,
    RUNS,
    check_positive,
    describe_machine,
    run_benchmark,
    write_results,
)
from experiments.data.sets.table import load
from experiments.tools.progress import follow
from experiments.tools.tables import align
from weighting.implicit_bias.diagnostics import angle_between
from weighting.implicit_bias.max_margin import max_margin

PAIRS = ((0, 1), (3, 8), (4, 9))
SIZES = (100, 1_000, 10_000)
DIMENSIONS = (2, 64, 784)
MNIST_SIZES = (1_000, 10_000)

LabelledPoints = tuple[np.ndarray, np.ndarray]


class SolverComparison(NamedTuple):
    """Median seconds of either solver, and how precise they are; NaN where SVC was not asked."""

    seconds: float
    svc_seconds: float
    ratio: float  # of the times; below one is faster than SVC
    gap: float  # relative duality gap
    svc_gap: float  # the same for SVC's hyperplane, against our dual
    angle: float  # between the two normals, radians
    num_support: int
    status: str


def compare_with_svc(
    inputs: np.ndarray, labels: np.ndarray, num_rounds: int = 5
) -> SolverComparison:
    """Times both solvers on one problem, inputs [N, D] and labels in {-1, +1}."""
    begin = time.perf_counter()
    solution = max_margin(inputs, labels, intercept=True)
    seconds = time.perf_counter() - begin
    gap, support = float(solution.gap), int(solution.support.sum())
    if not solution.separable:
        nan = float("nan")
        return SolverComparison(seconds, nan, nan, gap, nan, nan, support, "not separable")
    machine = SVC(C=1e10, kernel="linear")
    times = []
    for _ in range(num_rounds):
        begin = time.perf_counter()
        max_margin(inputs, labels, intercept=True)
        middle = time.perf_counter()
        machine.fit(inputs, labels)
        times.append((middle - begin, time.perf_counter() - middle))
    ours, theirs = np.transpose(times)
    normal = machine.coef_[0] / np.linalg.norm(machine.coef_)
    scores = inputs @ normal
    svc_margin = 0.5 * (scores[labels > 0].min() - scores[labels < 0].max())
    return SolverComparison(
        seconds=float(np.median(ours)),
        svc_seconds=float(np.median(theirs)),
        ratio=float(np.median(ours / theirs)),
        gap=gap,
        svc_gap=float(1 - svc_margin / solution.residual),
        angle=_angle(normal, solution.direction),
        num_support=support,
        status="certified" if solution.converged else "not converged",
    )


def solver_problems(data_dir: str | None) -> Iterator[tuple[str, LabelledPoints]]:
    """Real pairs, then clouds of every size and dimension."""
    images, digits = load_digits(return_X_y=True)
    for pair in PAIRS:
        yield f"digits {pair[0]} {pair[1]}", _pair(images, digits, pair)
    inputs, malignant = load_breast_cancer(return_X_y=True)
    yield "breast cancer", (StandardScaler().fit_transform(inputs), np.where(malignant, 1, -1))
    if data_dir is not None:
        train = load("mnist", data_dir=data_dir).train
        pixels = train.inputs.reshape(len(train.inputs), -1) / 255.0
        for pair in PAIRS:
            inputs, labels = _pair(pixels, train.labels, pair)
            for size in MNIST_SIZES:
                yield f"MNIST {pair[0]} {pair[1]}", (inputs[:size], labels[:size])
    for size in SIZES:
        for dimension in DIMENSIONS:
            yield "clouds", two_clouds(size, dimension)


def two_clouds(num_examples: int, num_features: int) -> LabelledPoints:
    """Two Gaussian clouds whose means are nine standard deviations apart."""
    labels = np.where(np.arange(num_examples) % 2, 1, -1)
    inputs = np.random.default_rng(0).normal(size=(num_examples, num_features))
    inputs[:, 0] += 4.5 * labels
    return inputs, labels


def main(
    data_dir: str | None = None,
    rounds: int = 5,
    out: Path = RUNS / "max_margin.json",
    keep: bool = False,
) -> None:
    """Prints the table and writes it as JSON.

    Args:
      data_dir: of tfds; with it, pairs of MNIST's digits are compared too.
      rounds: how often each problem is solved by either solver.
      out: the JSON file.
      keep: write results/max_margin_benchmark.json, too, which is under version control.
    """
    check_positive("rounds", rounds)
    header = ["data", "N", "D", "seconds", "SVC", "ratio", "gap", "SVC's gap", "angle", "support"]
    table, records = [[*header, "status"]], []
    for name, (inputs, labels) in follow(solver_problems(data_dir), "solvers", "problem"):
        with threadpool_limits(1):
            row = compare_with_svc(inputs, labels, rounds)
        n, d = inputs.shape
        cells = [f"{row.seconds:.5f}", f"{row.svc_seconds:.5f}", f"{row.ratio:.2f}"]
        cells += [f"{row.gap:.1e}", f"{row.svc_gap:.1e}", f"{row.angle:.1e}"]
        table.append([name, str(n), str(d), *cells, str(row.num_support), row.status])
        records.append({"data": name, "N": n, "D": d, **row._asdict()})
    print(align(table))
    write_results(
        out,
        {"machine": describe_machine(), "rounds": rounds, "problems": records},
        KEPT / "max_margin_benchmark.json" if keep else None,
    )


def _pair(inputs: np.ndarray, digits: np.ndarray, pair: tuple[int, int]) -> LabelledPoints:
    chosen = np.isin(digits, pair)
    return inputs[chosen], np.where(digits[chosen] == pair[1], 1, -1)


def _angle(a: np.ndarray, b: np.ndarray) -> float:
    with jax.enable_x64(True):
        return float(angle_between(jnp.asarray(a), jnp.asarray(b)))


if __name__ == "__main__":
    raise SystemExit(run_benchmark(main, "max_margin", __doc__))
