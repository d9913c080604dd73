"""Will weighting matter here? The prediction of `weighting_sensitivity`, against training.

Linear classifiers of two overlapping Gaussian classes on 108 kinds of problem (three sizes of the
training set, the smaller ones separable; three losses, three regularizations, four step budgets),
two pairs of weightings and several seeds each. The truth: gradient descent from
zero with either weighting, and whether the two classifiers call more than one in twenty of 2,000
fresh points differently. The prediction trains nothing: it sees the training set and 1,000 inputs
without labels.
"""

import functools
import itertools
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from experiments.reporting import plotting
from experiments.reporting.experiment import Experiment, Options
from experiments.reporting.page import Page, Picture
from experiments.tools.files import read_arrays, write_arrays
from experiments.tools.progress import follow
from experiments.tools.tables import Table
from weighting import losses
from weighting.implicit_bias.sensitivity import weighting_sensitivity

LOSSES = {
    "logistic": losses.logistic,
    "exponential": losses.exponential,
    "polynomial": functools.partial(losses.polynomial_tailed, alpha=1.0),
}
SIZES = (20, 50, 200)
REGULARIZATIONS = (0.0, 1e-3, 1e-1)
BUDGETS = {"smoke": (30, 300), "cpu": (100, 1_000, 10_000, 100_000)}
SEEDS = {"smoke": 2, "cpu": 5, "paper": 50}
PAIRS = ("classes 1 : 8", "random")
_DIMENSION, _GAP, _FRESH, _UNLABELLED = 20, 1.0, 2000, 1000
_LEARNING_RATE = 0.5
_MATTERS = 0.05  # disagreement on fresh points


def _draw(key: Array, size: int) -> tuple[Array, Array]:
    """Two Gaussian classes at +- 1 along one axis, inputs scaled to norms of about one."""
    labels = jnp.arange(size) % 2
    inputs = jax.random.normal(key, (size, _DIMENSION))
    inputs = inputs.at[:, 0].add(_GAP * (2 * labels - 1))
    return inputs / jnp.sqrt(_DIMENSION + _GAP**2), labels


def _weight_pair(pair: int, labels: Array, key: Array) -> tuple[Array, Array]:
    uniform = jnp.ones(labels.shape)
    if pair == 0:
        return uniform, jnp.where(labels == 1, 8.0, 1.0)
    return uniform, jnp.exp(jax.random.normal(key, labels.shape))


def _measure(
    loss: str, pair: int, size: int, budgets: tuple[int, ...], decay: Array, key: Array
) -> dict[str, Array]:
    """Truth and prediction for one problem at every budget, each [T]."""
    data_key, fresh_key, unlabelled_key, weight_key = jax.random.split(key, 4)
    inputs, labels = _draw(data_key, size)
    fresh, _ = _draw(fresh_key, _FRESH)
    unlabelled, _ = _draw(unlabelled_key, _UNLABELLED)
    weights = jnp.stack(_weight_pair(pair, labels, weight_key))
    signed = inputs * (2 * labels - 1)[:, None]
    ones = jnp.ones(size, jnp.int32)

    def risk(theta: Array, weights: Array) -> Array:
        own = weights / jnp.mean(weights)
        return jnp.mean(own * LOSSES[loss](signed @ theta, ones)) + decay / 2 * theta @ theta

    def step(thetas: Array, _: None) -> tuple[Array, None]:
        return thetas - _LEARNING_RATE * jax.vmap(jax.grad(risk))(thetas, weights), None

    thetas, done, rows = jnp.zeros((2, _DIMENSION)), 0, []
    for budget in budgets:
        thetas, _ = jax.lax.scan(step, thetas, None, length=budget - done)
        done = budget
        scores = fresh @ thetas.T
        truth = jnp.mean((scores[:, 0] > 0) != (scores[:, 1] > 0))
        found = weighting_sensitivity(
            inputs,
            labels,
            weights[0],
            weights[1],
            LOSSES[loss],
            learning_rate=_LEARNING_RATE,
            num_steps=budget,
            regularization=decay,
            evaluation_inputs=unlabelled,
        )
        rows.append((truth, found.disagreement, found.angle, found.is_separated))
    columns = (jnp.stack(column) for column in zip(*rows, strict=True))
    return dict(zip(("truth", "prediction", "angle", "separated"), columns, strict=True))


def _compute(options: Options) -> None:
    preset, seeds = options.preset, options.seeds or SEEDS[options.preset]
    budgets = BUDGETS.get(preset, BUDGETS["cpu"])
    keys = jax.random.split(jax.random.key(0), seeds)
    jobs = list(itertools.product(LOSSES, range(len(PAIRS)), SIZES))
    for loss, pair, size in follow(jobs, "sensitivity", "set"):
        path = options.folder / f"{loss}-{pair}-{size}.npz"
        if path.exists():
            continue
        with jax.enable_x64(True):
            measure = functools.partial(_measure, loss, pair, size, budgets)
            over_seeds = jax.vmap(measure, (None, 0))
            over = jax.jit(jax.vmap(over_seeds, (0, None)))  # [decays, seeds, T]
            write_arrays(path, over(jnp.array(REGULARIZATIONS), keys))


_NOTE = """\
Weighting matters: the trained classifiers differ on more than 5 % of fresh points.
Accuracy: of predicting so where the predicted classifiers differ on more than 5 %.
AUC and rank correlation: of the predicted disagreement with the truth."""


def _present(folder: Path, preset: str) -> Page:
    rows = _rows(folder, BUDGETS.get(preset, BUDGETS["cpu"]))
    columns = dict(zip(rows[0], zip(*rows[1:], strict=True), strict=True))
    summary = {"all": _statistics(columns, np.ones(len(rows) - 1, bool))}
    for name in ("loss", "weightings", "examples", "separated", "weight decay", "steps"):
        values = np.array([str(value) for value in columns[name]])
        for value in dict.fromkeys(values):
            summary[f"{name} {value}"] = _statistics(columns, values == value)
    header = ["problems", "number", "weighting matters", "accuracy", "AUC", "rank correlation"]
    body = [[name, *(f"{x:g}" for x in values.values())] for name, values in summary.items()]
    names = ("predicted disagreement", "disagreement")
    predicted, truth = (_numbers(columns, name) for name in names)
    title = "Disagreement of two weightings on fresh points"
    figure = plotting.scatter(predicted, truth, x="predicted", y="measured", title=title)
    return Page(
        [Table(header, body, note=_NOTE)],
        figures=[Picture("sensitivity", figure)],
        files={"sensitivity.csv": rows},
        summary=summary,
    )


def _rows(folder: Path, budgets: tuple[int, ...]) -> list[list]:
    """A header, and a row for every problem, pair of weightings, budget and seed."""
    header = ["loss", "weightings", "examples", "weight decay", "steps", "seed"]
    header += ["separated", "disagreement", "predicted disagreement", "predicted angle"]
    rows: list[list] = [header]
    for loss, (pair, pair_name), size in itertools.product(LOSSES, enumerate(PAIRS), SIZES):
        arrays = read_arrays(folder / f"{loss}-{pair}-{size}.npz")
        for place, truth in np.ndenumerate(arrays["truth"]):
            d, s, t = place
            setting = [loss, pair_name, size, REGULARIZATIONS[d], budgets[t], s]
            numbers = [truth, arrays["prediction"][place], arrays["angle"][place]]
            separated = "yes" if arrays["separated"][place] else "no"
            rows.append([*setting, separated, *(f"{x:.5f}" for x in numbers)])
    return rows


def _numbers(columns: Mapping[str, tuple], name: str) -> np.ndarray:
    return np.array([float(value) for value in columns[name]])


def _statistics(columns: Mapping[str, tuple], chosen: np.ndarray) -> dict[str, float]:
    truth = _numbers(columns, "disagreement")[chosen]
    predicted = _numbers(columns, "predicted disagreement")[chosen]
    matters = truth > _MATTERS
    mixed = 0 < matters.sum() < len(matters)
    ranks = np.corrcoef(rankdata(predicted), rankdata(truth))[0, 1]
    return {
        "number": len(truth),
        "matters": round(float(matters.mean()), 3),
        "accuracy": round(float(np.mean(matters == (predicted > _MATTERS))), 3),
        "auc": round(float(roc_auc_score(matters, predicted)), 3) if mixed else float("nan"),
        "rank_correlation": round(float(ranks), 3),
    }


EXPERIMENT = Experiment(
    name="sensitivity",
    summary="will weighting matter? predicted without training, and measured",
    presets={
        "smoke": "2 seeds, 300 steps; half a minute",
        "cpu": "5 seeds, 100,000 steps; some minutes",
        "paper": "50 seeds",
    },
    compute=_compute,
    present=_present,
)
