"""Figure 3: weights that lookahead gives to validation images, which the network never saw.

The network is OURS after half of the steps, before the learning rate drops, trained once more. The
hyper-validation set (wrong labels as in training) is cut into batches; each is weighted by one
lookahead to the clean set, without a step. Left: those batches. Right: batches of one true class
each, in which 40 % of the labels are flipped to the background class anew.
"""

import functools
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.figure import Figure

from experiments.data import Source, Task, make_task
from experiments.explain.telescope import ZERO
from experiments.ren2018.table_page import TableExtras
from experiments.reporting import plotting
from experiments.reporting.page import Picture
from experiments.tools.files import read_arrays, write_arrays
from experiments.training.config import RunConfig
from experiments.training.driver import build_model
from experiments.training.program import make_program, seed_data, stack_hyperparameters
from experiments.training.streams import shuffled
from weighting import losses
from weighting.metrics import corruption_auc
from weighting.schemes.meta.lookahead import lookahead_weights

_RATE = 0.4


class Weighed(NamedTuple):
    """Weights of examples (mean one in each batch), and which labels were wrong."""

    weights: np.ndarray  # [..., B]
    is_flipped: np.ndarray  # [..., B]


def weigh_validation(config: RunConfig, seed: int, source: Source) -> tuple[Weighed, Weighed]:
    """Trains OURS for half of the steps; weights of mixed batches and of one-class batches.

    Args:
      config: of OURS under background flips.
      seed: one of its seeds.
      source: its data.
    """
    task = make_task(config.task, seed, source)
    weigh = _half_trained(replace(config, seeds=1, first_seed=seed), task)
    rng = np.random.default_rng(seed)
    validation = task.validation
    order = rng.permutation(len(validation.labels))
    size = min(config.batch_size, len(order))
    mixed = order[: len(order) // size * size].reshape(-1, size)
    labels = validation.labels[mixed]
    background = int(task.train.labels[task.train.is_corrupted][0])
    left = Weighed(
        np.asarray(weigh(validation.inputs[mixed], labels)), validation.is_corrupted[mixed]
    )
    classes = [c for c in range(task.num_classes) if c != background]
    own = [order[validation.true_labels[order] == c] for c in classes]
    size = min(config.batch_size, *map(len, own))
    single = np.stack([members[:size] for members in own])
    is_flipped = rng.random(single.shape) < _RATE
    given = np.where(is_flipped, background, validation.true_labels[single]).astype(np.int32)
    return left, Weighed(np.asarray(weigh(validation.inputs[single], given)), is_flipped)


def _half_trained(config: RunConfig, task: Task):
    """(inputs [K, B, ...], labels [K, B]) -> weights [K, B], by the network of half the steps."""
    model = build_model(config, task.num_classes)
    program = make_program(config, model, task)
    hyper, data = stack_hyperparameters([config]), seed_data([task], config.seed_numbers)
    state = program.init(hyper, data)
    seed, clean_size = config.first_seed, len(task.clean.labels)
    stream = shuffled(len(task.train.labels), config.batch_size, seed)
    clean_batch = min(config.clean_batch_size, clean_size)
    clean_stream = shuffled(clean_size, clean_batch, seed + 1)
    size = config.num_steps // config.num_evals
    for first in range(0, config.num_steps // 2, size):
        indices, clean = stream(first, size)[None], clean_stream(first, size)[None]
        state, _, _ = program.advance(state, indices, clean, data, hyper)
    network = jax.tree.map(lambda leaf: leaf[0, 0], program.network(state))
    chosen = clean_stream(0, 1)[0]
    clean = jnp.asarray(task.clean.inputs[chosen]), jnp.asarray(task.clean.labels[chosen])

    @jax.jit  # the network and the clean batch are arguments: as constants XLA would fold them
    def weigh(network, clean, inputs: Array, labels: Array) -> Array:
        params, model_state = network

        def losses_of(params, inputs: Array, labels: Array) -> Array:
            output, _ = model.apply(params, model_state, inputs, train=True)
            return losses.cross_entropy(output.logits, labels)

        def one(batch: tuple[Array, Array]) -> Array:
            return lookahead_weights(
                lambda params: losses_of(params, *batch),
                params,
                lambda params: jnp.mean(losses_of(params, *clean)),
            )

        return jax.lax.map(one, (inputs, labels))

    return functools.partial(weigh, network, clean)


def flip_measures(left: Weighed, right: Weighed) -> dict[str, float]:
    """Shares of zero weights among flipped images, and the weight's AUC as a detector of flips."""

    def auc(found: Weighed) -> float:
        flat = jnp.asarray(found.weights.ravel()), jnp.asarray(found.is_flipped.ravel())
        return float(corruption_auc(*flat))

    return {
        "zero weights of flipped, mixed batch": float(
            np.mean(left.weights[left.is_flipped] <= ZERO)
        ),
        "zero weights of right, mixed batch": float(
            np.mean(left.weights[~left.is_flipped] <= ZERO)
        ),
        "AUC, mixed batch": auc(left),
        "AUC, one-class batch": auc(right),
    }


def _histograms(left: Weighed, right: Weighed, *, title: str) -> Figure:
    """Both panels: the share of right and of flipped images by weight, all trials pooled.

    The first bar holds the weights that are exactly zero, the last one also all larger ones.
    """
    figure = Figure(figsize=(8.6, 3.9), layout="constrained")
    figure.suptitle(title, fontweight="bold", x=0.01, ha="left")
    panels = figure.subplots(1, 2)
    names = ("images of all classes", "one class and its flips to the background")
    for panel, found, name in zip(panels, (left, right), names, strict=True):
        weights, flipped = found.weights.ravel(), found.is_flipped.ravel()
        top = max(float(np.quantile(weights, 0.99)), 1.0)
        bins = np.concatenate([[-top / 24], np.linspace(ZERO, top, 25)])
        inside = np.minimum(weights, top)
        kinds = (
            (~flipped, plotting.CLEAN, "right label"),
            (flipped, plotting.CORRUPTED, "flipped"),
        )
        for is_kind, color, label in kinds:
            share = np.histogram(inside[is_kind], bins)[0] * 100 / max(is_kind.sum(), 1)
            panel.stairs(share, bins, color=color, alpha=0.35, fill=True)
            panel.stairs(share, bins, color=color, lw=1.4, label=label)
        panel.set(xlim=(bins[0], top), ylim=(0, None), xlabel="weight (first bar: zero)")
        panel.set_title(name, fontsize=9.5)
        plotting.clean_look(panel)
    panels[0].set_ylabel("share of images (%)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def store_weights(path: Path, found: list[tuple[Weighed, Weighed]]) -> None:
    """Writes the weights of all trials, along a leading axis."""
    sides = zip(*found, strict=True)
    arrays = {
        f"{side}_{field}": np.stack([getattr(weighed, field) for weighed in trials])
        for side, trials in zip(("left", "right"), sides, strict=True)
        for field in Weighed._fields
    }
    write_arrays(path, arrays)


def stored_weights(path: Path) -> list[tuple[Weighed, Weighed]]:
    """Both sides of every trial."""
    stored = read_arrays(path)
    left, right = (
        [
            Weighed(*pair)
            for pair in zip(*(stored[f"{s}_{f}"] for f in Weighed._fields), strict=True)
        ]
        for s in ("left", "right")
    )
    return list(zip(left, right, strict=True))


def stored_extras(folder: Path, dataset: str, label: str) -> TableExtras:
    """The picture of what is stored for a data set, and its measures; nothing if nothing is."""
    path = folder / f"figure3_{dataset}.npz"
    if not path.exists():
        return TableExtras()
    found = stored_weights(path)
    pooled = [
        Weighed(*(np.stack(arrays) for arrays in zip(*side, strict=True)))
        for side in zip(*found, strict=True)
    ]
    title = f"{label}: lookahead's weights of validation images, 40 % flipped to background"
    picture = Picture(f"figure3_{dataset}", _histograms(*pooled, title=title), "Figure 3")
    trials = [flip_measures(*sides) for sides in found]
    measures = {name: np.array([own[name] for own in trials]) for name in trials[0]}
    return TableExtras(measures, [picture])
