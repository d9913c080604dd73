r"""What a weighting should favour, easy or hard examples (zhou2022, Sec. 5), on simulated data.

Of the paper's three statements the first has :math:`p_t(x_i) = 0` on noisy samples, whose weights
should fall; the others pair orders with data: easy-first with label noise (SuperLoss, truncated
loss), hard-first with imbalance (inverse frequency, focal). Balanced accuracies, on clean and
balanced test data, are compared between weightings of the same training set and initialization.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from experiments.networks.models import make_model
from theory_checks.common.reference import curve, mean_interval
from theory_checks.records import Check, Plot, Row
from weighting import (
    Batch,
    Weighting,
    co_teaching_rate,
    focal,
    init_train_state,
    inverse_class_frequency,
    known_examples_weights,
    make_train_step,
    per_example,
    scheduled,
    small_losses,
    superloss,
    uniform,
)
from weighting.losses import logistic

NUM_TRAIN = 100
NUM_TEST = 1000
NOISE = 0.2  # share of wrong labels
NUM_STEPS = 400
VALUES = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)  # weights of the noisy samples
TASKS = ("symmetric noise", "one-sided noise", "imbalance", "clean")
NOISY = TASKS[:2]
RIGHT_INSTEAD = "symmetric noise, right samples instead"
EASY, HARD = ("SuperLoss", "truncated"), ("inverse frequency", "focal")
MODELS = {"linear": "linear", "network": "mlp:5"}


Runs = dict[str, dict[str, np.ndarray]]  # task -> scheme -> accuracies [S]


class Data(NamedTuple):
    """One training set and its test set; the inputs end in a constant one."""

    inputs: Any  # [N, 3]
    labels: Any  # [N]
    is_noisy: Any  # [N]
    test_inputs: Any  # [M, 3], one half of each class
    class_counts: Any  # [2] of the given labels


def checks(preset: str) -> list[Check]:
    """All claims; the linear predictor alone for "smoke"."""
    if preset == "smoke":
        return discussion(models=("linear",), num_seeds=20)
    return discussion()


def draw(task: str, kind: str, rng: np.random.Generator) -> Data:
    """Two Gaussians (for "linear") or two moons, with the task's flaw in the training set."""
    rare = NUM_TRAIN // 11 if task == "imbalance" else NUM_TRAIN // 2
    classes = np.repeat([0, 1], [NUM_TRAIN - rare, rare])
    test_classes = np.repeat([0, 1], NUM_TEST // 2)
    points = gaussians if kind == "linear" else moons
    count = round(NOISE * NUM_TRAIN) if task in NOISY else 0
    candidates = np.flatnonzero(classes == 0) if task == "one-sided noise" else np.arange(NUM_TRAIN)
    is_noisy = np.isin(np.arange(NUM_TRAIN), rng.permutation(candidates)[:count])
    labels = np.where(is_noisy, 1 - classes, classes)
    inputs, test_inputs = (
        np.column_stack([points(rng, group), np.ones(len(group))]).astype(np.float32)
        for group in (classes, test_classes)
    )
    return Data(inputs, labels, is_noisy, test_inputs, np.bincount(labels, minlength=2))


def gaussians(rng: np.random.Generator, classes: np.ndarray) -> np.ndarray:
    """Unit Gaussians at a distance of two."""
    return rng.normal(size=(len(classes), 2)) + (2 * classes[:, None] - 1) * np.array([1.0, 0.0])


def moons(rng: np.random.Generator, classes: np.ndarray) -> np.ndarray:
    """Two half circles that reach into one another, with noise of 0.2."""
    angles, signs = rng.uniform(0, np.pi, len(classes)), 1 - 2 * classes
    circles = np.column_stack([signs * np.cos(angles), signs * np.sin(angles)])
    centers = np.where(classes[:, None] == 1, [0.5, 0.25], [-0.5, -0.25])
    return circles + centers + 0.2 * rng.normal(size=circles.shape)


def schemes(data: Data) -> dict[str, Weighting]:
    """The weightings of both orders, and uniform weights."""
    rate = co_teaching_rate(NOISE, NUM_STEPS // 4)
    return {
        "uniform": uniform(),
        "SuperLoss": superloss(1.0, float(np.log(2))),
        "truncated": scheduled(small_losses, keep_fraction=rate),
        "inverse frequency": inverse_class_frequency(data.class_counts),
        "focal": focal(2.0),
    }


def train(model_name: str, scheme: Weighting, data: Data, key: Array) -> Array:
    """Balanced test accuracy after full-batch gradient descent on the logistic loss."""
    model, optimizer = make_model(model_name, 1), optax.sgd(0.5)
    step = make_train_step(model.apply, logistic, scheme, optimizer)
    params, _ = model.init(key, data.inputs[:1])
    batch = Batch(data.inputs, data.labels, jnp.arange(NUM_TRAIN))
    state = init_train_state(key, params, scheme, optimizer)
    state, _ = jax.lax.scan(lambda s, _: (step(s, batch)[0], None), state, None, length=NUM_STEPS)
    output, _ = model.apply(state.params, {}, data.test_inputs, train=False)
    return jnp.mean((output.logits[:, 0] > 0) == (jnp.arange(NUM_TEST) >= NUM_TEST // 2))


@functools.partial(jax.jit, static_argnames=("model_name", "make_scheme"))
def accuracies(
    model_name: str, make_scheme: Callable[[Data], Weighting], data: Data, keys: Array
) -> Array:
    """Of R runs at once, [R]; data [R, ...]."""
    return jax.vmap(lambda d, key: train(model_name, make_scheme(d), d, key))(data, keys)


def discussion(*, models: tuple[str, ...] = tuple(MODELS), num_seeds: int = 40) -> list[Check]:
    """Z-S5: the three statements.

    Args:
      models: keys of `MODELS`.
      num_seeds: training sets of each task.
    """
    found = {model: compare(model, num_seeds) for model in models}
    return [
        noise(found),
        imbalance(found),
        absent({model: by_noisy_weight(model, num_seeds) for model in models}),
    ]


def compare(model: str, num_seeds: int) -> Runs:
    """Accuracies after training; the same data and initialization for every scheme."""
    stacked, keys = _draw_all(TASKS, model, num_seeds)
    names = ("uniform", *EASY, *HARD)
    runs = {
        name: np.asarray(accuracies(MODELS[model], _SCHEMES[name], stacked, keys)) for name in names
    }
    return {
        task: {name: values.reshape(len(TASKS), -1)[index] for name, values in runs.items()}
        for index, task in enumerate(TASKS)
    }


def by_noisy_weight(model: str, num_seeds: int) -> dict[str, np.ndarray]:
    """Task -> accuracies [S, V] with each of `VALUES` on the noisy samples, one elsewhere.

    `RIGHT_INSTEAD` has symmetric noise too, and the weights on as many samples with right labels.
    """
    stacked, keys = _draw_all((*NOISY, NOISY[0]), model, num_seeds)
    right = ~stacked.is_noisy[-num_seeds:]
    order = np.argsort(np.random.default_rng(0).uniform(size=right.shape) + ~right, axis=1)
    stacked.is_noisy[-num_seeds:] = False
    chosen = order[:, : round(NOISE * NUM_TRAIN)]
    np.put_along_axis(stacked.is_noisy[-num_seeds:], chosen, True, axis=1)
    values = np.asarray(_noisy_accuracies(MODELS[model], stacked, keys))
    by_task = values.reshape(3, num_seeds, len(VALUES))
    return dict(zip((*NOISY, RIGHT_INSTEAD), by_task, strict=True))


def noise(found: dict[str, Runs]) -> Check:
    """Easy-first with label noise, against the order by losses on the other side, focal weights."""
    rows, control = [], []
    for model, tasks in found.items():
        for task in NOISY:
            runs, name = tasks[task], f"{model}, {task}"
            for scheme in (*EASY, *HARD):
                rows += _difference_rows(
                    f"{name}: {scheme} - uniform", _gap(runs, (scheme,), ("uniform",))
                )
            rows += _difference_rows(f"{name}: easy - focal", _gap(runs, EASY, ("focal",)))
        for task in ("clean", "imbalance"):
            difference = _gap(tasks[task], EASY, ("focal",))
            control.append(_shortfall(f"{model}, {task}: easy - focal", difference))
    return Check(
        "Z-S5 noise",
        "with label noise easy-first weights generalize better than uniform and hard-first ones",
        "TREND",
        tuple(rows),
        assumptions=f"{NUM_TRAIN} points in the plane, {100 * NOISE:.0f} % wrong labels, drawn "
        "from both classes (symmetric) or from one (one-sided, which makes the given labels 30:70 "
        "and lets inverse frequencies undo it); balanced accuracy in percent, differences paired "
        f"by training set and initialization; {NUM_STEPS} steps of descent",
        control=tuple(control),
    )


def imbalance(found: dict[str, Runs]) -> Check:
    """Hard-first with imbalance."""
    rows, control = [], []
    for model, tasks in found.items():
        runs, name = tasks["imbalance"], f"{model}, imbalance"
        for scheme in (*HARD, *EASY):
            difference = _gap(runs, (scheme,), ("uniform",))
            rows += _difference_rows(f"{name}: {scheme} - uniform", difference)
            if scheme == "inverse frequency":
                rows.append(_shortfall(f"{name}: {scheme} - uniform", difference))
        difference = _gap(runs, HARD, EASY)
        rows += _difference_rows(f"{name}: hard - easy", difference)
        rows.append(_shortfall(f"{name}: hard - easy", difference))
        for task in ("clean", "symmetric noise"):
            difference = _gap(tasks[task], ("focal",), EASY)
            control.append(_shortfall(f"{model}, {task}: focal - easy", difference))
        difference = _gap(runs, EASY, HARD)
        control.append(_shortfall(f"{name}: easy - hard", difference))
    return Check(
        "Z-S5 imbalance",
        "with imbalance hard-first weights generalize better than uniform and easy-first ones",
        "TREND",
        tuple(rows),
        assumptions=f"{NUM_TRAIN} points in the plane, about 10:1, balanced accuracy in percent; "
        f"differences paired by training set and initialization; {NUM_STEPS} steps of descent",
        control=tuple(control),
    )


def absent(found: dict[str, dict[str, np.ndarray]]) -> Check:
    """Weights of noisy samples, absent from the target, should fall."""
    rows, control, curves = [], [], {}
    one = VALUES.index(1.0)
    for model, tasks in found.items():
        for task, values in tasks.items():
            name = f"{model}, {task}"
            dropped, raised = values[:, 0] - values[:, one], values[:, one] - values[:, -1]
            if task == RIGHT_INSTEAD:
                control.append(_shortfall(f"{name}: weight 0 - 1", dropped))
            else:
                rows += _difference_rows(f"{name}: weight 0 - 1", dropped)
                rows += _difference_rows(f"{name}: weight 1 - {VALUES[-1]:g}", raised)
                rows.append(_shortfall(f"{name}: weight 0 - {VALUES[-1]:g}", dropped + raised))
            curves[name] = curve(np.array(VALUES), values.mean(axis=0))
    return Check(
        "Z-S5 absent",
        "samples that are absent from the target, as noisy ones, should weigh less",
        "TREND",
        tuple(rows),
        assumptions=f"as for label noise; the noisy samples are known, and weigh {VALUES[0]:g} to "
        f"{VALUES[-1]:g} times the others",
        control=tuple(control),
        plot=Plot("weight of the noisy samples", "balanced accuracy", curves),
    )


_SCHEMES = {
    name: functools.partial(lambda name, data: schemes(data)[name], name)
    for name in ("uniform", *EASY, *HARD)
}


@functools.partial(jax.jit, static_argnames=("model_name",))
def _noisy_accuracies(model_name: str, data: Data, keys: Array) -> Array:
    def one(data: Data, key: Array, value: Array) -> Array:
        scheme = per_example(known_examples_weights(data.is_noisy, value))
        return train(model_name, scheme, data, key)

    over_values = jax.vmap(one, (None, None, 0))
    return jax.vmap(over_values, (0, 0, None))(data, keys, jnp.array(VALUES))


def _draw_all(tasks: tuple[str, ...], model: str, num_seeds: int) -> tuple[Data, Array]:
    """Data [T S, ...] and keys [T S]: seeds side by side within a task."""
    sets = [
        draw(task, model, np.random.default_rng(seed))
        for task in tasks
        for seed in range(num_seeds)
    ]
    keys = jnp.tile(jax.random.split(jax.random.key(0), num_seeds), len(tasks))
    return Data(*(np.stack(column) for column in zip(*sets, strict=True))), keys


def _gap(runs: dict[str, np.ndarray], one: tuple[str, ...], other: tuple[str, ...]) -> np.ndarray:
    """Mean accuracy of some schemes less that of others, [S]."""
    return np.mean([runs[name] for name in one], axis=0) - np.mean(
        [runs[name] for name in other], axis=0
    )


def _difference_rows(name: str, differences: np.ndarray) -> list[Row]:
    """Mean of paired differences, its 95 % interval, the effect size, and what they say."""
    mean, low, high = mean_interval(100 * differences)
    deviation = float(100 * differences.std(ddof=1))
    return [
        Row(name, mean),
        Row(f"{name}, half of the 95 % interval", (high - low) / 2),
        Row(f"{name}, over its standard deviation", mean / deviation if deviation else 0.0),
        Row(f"{name}: yes (1), no (-1), open (0)", float(low > 0) - float(high < 0)),
    ]


def _shortfall(name: str, differences: np.ndarray) -> Row:
    """How far the 95 % interval reaches below zero."""
    return Row(f"{name}, interval below zero by", -mean_interval(100 * differences)[1], 0)
