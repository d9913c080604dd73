r"""What a weighting should favour, easy or hard examples (zhou2022, Sec. 5), on simulated data.

Of the paper's three statements the first has :math:`p_t(x_i) = 0` on noisy samples, whose weights
should fall; the others pair orders with data: easy-first with label noise (SuperLoss, truncated
loss), hard-first with imbalance (inverse frequency, focal). Balanced accuracies, on clean and
balanced test data, are compared between weightings of the same training set and initialization.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from experiments.networks.models import make_model
from theory_checks.common.reference import curve, mean_interval
from theory_checks.records import Check, Measured, Plot
from theory_checks.zhou2022.flawed_data import (
    NOISE,
    NOISY,
    NUM_TEST,
    NUM_TRAIN,
    TASKS,
    FlawedData,
    draw,
)
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

NUM_STEPS = 400
VALUES = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)  # weights of the noisy samples
RIGHT_INSTEAD = "symmetric noise, right samples instead"
EASY, HARD = ("SuperLoss", "truncated"), ("inverse frequency", "focal")
MODELS = {"linear": "linear", "network": "mlp:5"}


Accuracies = dict[str, dict[str, np.ndarray]]  # task -> scheme -> [S], by training set


def checks(preset: str) -> list[Check]:
    """All claims; the linear predictor alone for "smoke"."""
    if preset == "smoke":
        return discussion(models=("linear",), num_seeds=20)
    return discussion()


def _schemes(data: FlawedData) -> dict[str, Weighting]:
    """The weightings of both orders, and uniform weights."""
    rate = co_teaching_rate(NOISE, NUM_STEPS // 4)
    return {
        "uniform": uniform(),
        "SuperLoss": superloss(1.0, float(np.log(2))),
        "truncated": scheduled(small_losses, keep_fraction=rate),
        "inverse frequency": inverse_class_frequency(data.class_counts),
        "focal": focal(2.0),
    }


def _train(model_name: str, scheme: Weighting, data: FlawedData, key: Array) -> Array:
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
    model_name: str, make_scheme: Callable[[FlawedData], Weighting], data: FlawedData, keys: Array
) -> Array:
    """Of R runs at once, [R]; data [R, ...]."""
    return jax.vmap(lambda d, key: _train(model_name, make_scheme(d), d, key))(data, keys)


def discussion(*, models: tuple[str, ...] = tuple(MODELS), num_seeds: int = 40) -> list[Check]:
    """Z-S5: the three statements.

    Args:
      models: keys of `MODELS`.
      num_seeds: training sets of each task.
    """
    found = {model: _compare(model, num_seeds) for model in models}
    return [
        _with_label_noise(found),
        _with_imbalance(found),
        _of_absent_samples({model: _by_noisy_weight(model, num_seeds) for model in models}),
    ]


def _compare(model: str, num_seeds: int) -> Accuracies:
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


def _by_noisy_weight(model: str, num_seeds: int) -> dict[str, np.ndarray]:
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


def _with_label_noise(found: dict[str, Accuracies]) -> Check:
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


def _with_imbalance(found: dict[str, Accuracies]) -> Check:
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


def _of_absent_samples(found: dict[str, dict[str, np.ndarray]]) -> Check:
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
    name: functools.partial(lambda name, data: _schemes(data)[name], name)
    for name in ("uniform", *EASY, *HARD)
}


@functools.partial(jax.jit, static_argnames=("model_name",))
def _noisy_accuracies(model_name: str, data: FlawedData, keys: Array) -> Array:
    def one(data: FlawedData, key: Array, value: Array) -> Array:
        scheme = per_example(known_examples_weights(data.is_noisy, value))
        return _train(model_name, scheme, data, key)

    over_values = jax.vmap(one, (None, None, 0))
    return jax.vmap(over_values, (0, 0, None))(data, keys, jnp.array(VALUES))


def _draw_all(tasks: tuple[str, ...], model: str, num_seeds: int) -> tuple[FlawedData, Array]:
    """FlawedData [T S, ...] and keys [T S]: seeds side by side within a task."""
    sets = [
        draw(task, model, np.random.default_rng(seed))
        for task in tasks
        for seed in range(num_seeds)
    ]
    keys = jnp.tile(jax.random.split(jax.random.key(0), num_seeds), len(tasks))
    return FlawedData(*(np.stack(column) for column in zip(*sets, strict=True))), keys


def _gap(runs: dict[str, np.ndarray], one: tuple[str, ...], other: tuple[str, ...]) -> np.ndarray:
    """Mean accuracy of some schemes less that of others, [S]."""
    return np.mean([runs[name] for name in one], axis=0) - np.mean(
        [runs[name] for name in other], axis=0
    )


def _difference_rows(name: str, differences: np.ndarray) -> list[Measured]:
    """Mean of paired differences, its 95 % interval, the effect size, and what they say."""
    mean, low, high = mean_interval(100 * differences)
    deviation = float(100 * differences.std(ddof=1))
    return [
        Measured(name, mean),
        Measured(f"{name}, half of the 95 % interval", (high - low) / 2),
        Measured(f"{name}, over its standard deviation", mean / deviation if deviation else 0.0),
        Measured(f"{name}: yes (1), no (-1), open (0)", float(low > 0) - float(high < 0)),
    ]


def _shortfall(name: str, differences: np.ndarray) -> Measured:
    """How far the 95 % interval reaches below zero."""
    return Measured(f"{name}, interval below zero by", -mean_interval(100 * differences)[1], 0)
