"""Time and precision of `max_margin` beside scikit-learn's SVC, on real and on synthetic pairs.

Run `OPENBLAS_NUM_THREADS=1 python -m experiments.max_margin_benchmark`. SVC has one thread; on a
machine whose cores are busy, a threaded BLAS makes matrices of a few hundred rows many times slower
than that. Both are called in turn, and a ratio is the median over rounds of the ratio within a
round. SVC is asked for a hard margin (C = 1e10) at its default tolerance, which leaves a gap of
some 1e-4.
"""

import time
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from weighting.max_margin import max_margin

DIGIT_PAIRS = ((0, 1), (3, 8), (4, 9))
SIZES = (100, 1_000, 10_000)
DIMENSIONS = (2, 64, 784)


class Comparison(NamedTuple):
    """Median seconds of either solver, and how precise they are."""

    seconds: float
    svc_seconds: float
    ratio: float  # of the times; below one is faster than SVC
    gap: float  # relative duality gap
    svc_gap: float  # the same for SVC's hyperplane, against our dual
    num_support: int


def compare_with_svc(inputs: np.ndarray, labels: np.ndarray, num_rounds: int = 5) -> Comparison:
    """Times both solvers on one separable problem, inputs [N, D] and labels in {-1, +1}."""
    machine = SVC(C=1e10, kernel="linear")
    times = []
    for _ in range(num_rounds):
        begin = time.perf_counter()
        max_margin(inputs, labels, intercept=True)
        middle = time.perf_counter()
        machine.fit(inputs, labels)
        times.append((middle - begin, time.perf_counter() - middle))
    ours, theirs = np.transpose(times)
    solution = max_margin(inputs, labels, intercept=True)
    scores = inputs @ machine.coef_[0] / np.linalg.norm(machine.coef_)
    svc_margin = 0.5 * (scores[labels > 0].min() - scores[labels < 0].max())
    return Comparison(
        seconds=float(np.median(ours)),
        svc_seconds=float(np.median(theirs)),
        ratio=float(np.median(ours / theirs)),
        gap=float(solution.gap),
        svc_gap=float(1 - svc_margin / solution.residual),
        num_support=int(solution.support.sum()),
    )


def digit_pair(negative: int, positive: int) -> tuple[np.ndarray, np.ndarray]:
    """Two classes of scikit-learn's digits, 8 x 8 pixels."""
    inputs, digits = load_digits(return_X_y=True)
    chosen = (digits == negative) | (digits == positive)
    return inputs[chosen], np.where(digits[chosen] == positive, 1, -1)


def two_clouds(num_examples: int, num_features: int) -> tuple[np.ndarray, np.ndarray]:
    """Two Gaussian clouds whose means are nine standard deviations apart."""
    labels = np.where(np.arange(num_examples) % 2, 1, -1)
    inputs = np.random.default_rng(0).normal(size=(num_examples, num_features))
    inputs[:, 0] += 4.5 * labels
    return inputs, labels


def main() -> None:
    """Prints the table."""
    print("data            N    D   seconds       SVC  ratio      gap  SVC's gap  support")
    problems = [(f"digits {a} {b}", digit_pair(a, b)) for a, b in DIGIT_PAIRS]
    problems += [("clouds", two_clouds(n, d)) for n in SIZES for d in DIMENSIONS]
    for name, (inputs, labels) in problems:
        row = compare_with_svc(inputs, labels)
        n, d = inputs.shape
        print(
            f"{name:10} {n:6} {d:4} {row.seconds:9.5f} {row.svc_seconds:9.5f} {row.ratio:6.2f} "
            f"{row.gap:8.1e} {row.svc_gap:10.1e} {row.num_support:8}"
        )


if __name__ == "__main__":
    main()
