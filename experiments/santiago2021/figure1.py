"""Figure 1: the weights that LOW gives one batch of digits.

The paper's diagram shows 20 digits, ten of weight 0.366 to 0.388 and ten of 1.301 to 1.822, whose
mean is one: a batch of 20. The state of its network and its lambda are not printed. Here LeNet-5
trains on other batches, and at several steps one batch of 20 is weighted at lambda 0.1, which the
released code defaults to, by per-example gradients and by those of the batch mean (its scale). The
step to show is the one whose ten lowest weights come closest to the printed ones on average.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from experiments.data import load
from experiments.networks.models import Model, make_model
from experiments.reporting.claims import Claim, answers
from experiments.reporting.experiment import Experiment, Options
from experiments.reporting.ledger import not_run
from experiments.reporting.page import Page, Picture
from experiments.santiago2021.gallery import lightest_and_heaviest
from experiments.tools.files import read_arrays, write_arrays
from weighting.gradient_norms import logit_gradient_norms
from weighting.losses import cross_entropy
from weighting.schemes.low import low_weights
from weighting.train_step import as_output

PRINTED_LOW = (0.384, 0.378, 0.380, 0.366, 0.388, 0.373, 0.385, 0.386, 0.379, 0.373)
PRINTED_HIGH = (1.301, 1.603, 1.548, 1.740, 1.730, 1.774, 1.330, 1.605, 1.757, 1.822)
ITEMS = {"Figure 1": "a batch of 20 digits with its weights"}
LAMBDA = 0.1
_TOLERANCE = 0.05  # of the mean of the lowest weights
_BATCH, _SHOWN = 256, 20


class _Size(NamedTuple):
    """How much a preset runs."""

    dataset: str
    model: str
    seeds: int
    steps: tuple[int, ...]  # at which the batch is weighted
    learning_rate: float


class _Scale(NamedTuple):
    """The loss whose gradients are taken."""

    name: str
    title: str
    picture: str


_SCALES = {
    "example": _Scale("example", "per-example gradients", "figure1"),
    "mean": _Scale("batch_mean", "gradients of the batch mean", "figure1_batch_mean"),
}
_STEPS = (0, 10, 20, 30, 40, 60, 80, 100, 150, 200, 300)
_SIZES = {
    "smoke": _Size("digits", "mlp:32", 2, (0, 5, 20, 60), 0.05),
    "cpu": _Size("mnist", "lenet5", 5, _STEPS, 0.01),
    "paper": _Size("mnist", "lenet5", 5, tuple(10 * step for step in _STEPS), 0.001),
}


def batch_weights(logits: Array, labels: Array, *, batch_mean: bool) -> Array:
    """LOW's weights [B] at lambda 0.1; `batch_mean` divides the squared gradients by B^2."""
    squared = logit_gradient_norms(cross_entropy, logits, labels)
    return low_weights(squared / len(labels) ** 2 if batch_mean else squared, LAMBDA)


def _logits(model: Model, params: Any, state: Any, inputs: Array, *, train: bool) -> Array:
    output, _ = model.apply(params, state, inputs, train=train)
    return as_output(output).logits


def _one_seed(size: _Size, inputs: np.ndarray, labels: np.ndarray, seed: int) -> dict:
    """Images and labels of the batch, and its weights [T, 20] at both scales."""
    model = make_model(size.model, 10)
    rng = np.random.default_rng(seed)
    shown, *_ = np.split(rng.permutation(len(labels)), [_SHOWN])
    rest = np.setdiff1d(np.arange(len(labels)), shown)
    params, state = model.init(jax.random.key(seed), jnp.asarray(inputs[:1]))
    optimizer = optax.sgd(size.learning_rate, momentum=0.9, nesterov=True)

    @jax.jit
    def step(params, momentum, images, targets):
        def risk(params):
            return jnp.mean(
                cross_entropy(_logits(model, params, state, images, train=True), targets)
            )

        updates, momentum = optimizer.update(jax.grad(risk)(params), momentum, params)
        return optax.apply_updates(params, updates), momentum

    @jax.jit
    def weigh(params, images, targets):
        logits = _logits(model, params, state, images, train=False)
        return [batch_weights(logits, targets, batch_mean=flag) for flag in (False, True)]

    momentum, done, found = optimizer.init(params), 0, []
    for until in size.steps:
        for _ in range(until - done):
            batch = rng.choice(rest, _BATCH, replace=False)
            params, momentum = step(params, momentum, inputs[batch], labels[batch])
        done = until
        found.append(weigh(params, inputs[shown], labels[shown]))
    example, mean = (np.stack(weights) for weights in zip(*found, strict=True))
    return {"images": inputs[shown], "labels": labels[shown], "example": example, "mean": mean}


def _compute(options: Options) -> None:
    path = options.folder / "batches.npz"
    if path.exists():
        return
    size = _SIZES[options.preset]
    train = load(size.dataset, data_dir=options.data_dir).train
    seeds = range(size.seeds if options.seeds is None else options.seeds)
    runs = [_one_seed(size, train.inputs, train.labels, seed) for seed in seeds]
    arrays = {name: np.stack([run[name] for run in runs]) for name in runs[0]}
    write_arrays(path, {**arrays, "steps": np.array(size.steps)})


def closest_step(weights: np.ndarray) -> int:
    """Of weights [T, 20], the step whose ten lowest come closest to the printed on average."""
    lowest = np.sort(weights, axis=1)[:, :10].mean(axis=1)
    return int(np.argmin(np.abs(lowest - np.mean(PRINTED_LOW))))


def _shown(found: Mapping[str, np.ndarray]) -> np.ndarray:
    """The weights of every seed's batch at the step that is shown, in order; [S, 20]."""
    return np.stack([np.sort(weights[closest_step(weights)]) for weights in found["example"]])


def _lowest_as_printed(found: Mapping[str, np.ndarray]) -> np.ndarray:
    means = _shown(found)[:, :10].mean(axis=1)
    return np.abs(means - np.mean(PRINTED_LOW)) <= _TOLERANCE


def _highest_as_printed(found: Mapping[str, np.ndarray]) -> np.ndarray:
    high = _shown(found)[:, 10:]
    is_inside = (high >= min(PRINTED_HIGH) - 0.2) & (high <= max(PRINTED_HIGH) + 0.2)
    return np.all(is_inside, axis=1)


_OTHER_DIGITS = (
    "perhaps: the diagram's digits were chosen, ten easy and ten hard ones; ours are a random batch"
)
_CLAIMS = (  # of the weights [S, T, 20] at both scales
    Claim(
        f"at lambda {LAMBDA:g}, at some step, the ten lowest weights average the printed "
        f"{np.mean(PRINTED_LOW):.3f} within {_TOLERANCE:g}",
        "Figure 1",
        "Fig. 1",
        _lowest_as_printed,
        _OTHER_DIGITS,
    ),
    Claim(
        "the ten lowest are nearly equal there (printed: 0.37 to 0.39): within 0.1",
        "Figure 1",
        "Fig. 1",
        lambda found: np.ptp(_shown(found)[:, :10], axis=1) <= 0.1,
        _OTHER_DIGITS,
    ),
    Claim(
        f"the ten highest lie there within {min(PRINTED_HIGH):g} and {max(PRINTED_HIGH):g}, as "
        "printed, up to 0.2",
        "Figure 1",
        "Fig. 1",
        _highest_as_printed,
        _OTHER_DIGITS,
    ),
    Claim(
        f"gradients of the batch mean, lambda {LAMBDA:g}: all weights exceed 0.9 at every step",
        "Figure 1",
        "the released code's scale",
        lambda found: found["mean"].min(axis=(1, 2)) > 0.9,
        is_control=True,
    ),
)


def _present(folder: Path, preset: str) -> Page:
    found = read_arrays(folder / "batches.npz")
    rows: list[tuple] = [("seed", "step", "scale", "rank", "weight")]
    for scale in _SCALES:
        for s, t in np.ndindex(found[scale].shape[:2]):
            ranked = enumerate(np.sort(found[scale][s, t]))
            place = (s, int(found["steps"][t]), _SCALES[scale].name)
            rows += [(*place, rank, f"{weight:.4f}") for rank, weight in ranked]
    return Page(
        claims=answers(_CLAIMS, found),
        figures=[_picture(found, scale) for scale in _SCALES],
        files={"weights.csv": rows},
        summary={"preset": preset},
    )


def _picture(found: Mapping[str, np.ndarray], scale: str) -> Picture:
    """The first seed's batch with its weights."""
    step = closest_step(found["example"][0])
    steps = found["steps"][step]
    figure = lightest_and_heaviest(
        found["images"][0],
        [str(label) for label in found["labels"][0]],
        found[scale][0, step],
        title=f"λ = {LAMBDA:g}, {_SCALES[scale].title},\na batch of {_SHOWN} after {steps} steps",
        rows=5,
        columns=2,
    )
    return Picture(_SCALES[scale].picture, figure)


EXPERIMENT = Experiment(
    name="santiago2021.figure1",
    summary="the weights that LOW gives one batch of digits",
    presets={
        "smoke": "scikit-learn digits, a small network, 2 seeds; some seconds",
        "cpu": "MNIST, LeNet-5, up to 300 steps at rate 0.01, 5 seeds; a minute",
        "paper": "MNIST, LeNet-5, up to 3,000 steps at rate 0.001, 5 seeds; a GPU, a minute",
    },
    compute=_compute,
    present=_present,
    items=ITEMS,
    printed=not_run(
        _CLAIMS, "seconds of computing: python -m experiments run santiago2021.figure1"
    ),
)
