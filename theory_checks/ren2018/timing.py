r"""Operations of a lookahead step beside those of a plain one (ren2018, Sec. 3.3: about 3 times).

A pass through the products of all layers (matrix products, convolutions) costs F per example, and
:math:`r F` of it is the first layer's. The gradient by the parameters is another such pass; the
gradient by the layers' inputs is one too, but the first layer needs none. With m clean examples to
n noisy ones, in units of n F (derived here):

- a plain step: forward and backward, :math:`3 - r`;
- linearized: forward, :math:`J v` (each layer's input times the direction of its kernel, and the
  moving input times its kernel), :math:`J^\top w`, and a plain gradient of the clean examples,
  :math:`1 + (2 - r) + (2 - r) + (3 - r) m / n`;
- Algorithm 1: the virtual step's backward pass as well, :math:`2 - r` more, and another forward
  pass if the first is not kept.

For small r these are :math:`(5 + 3 m / n) / 3` and :math:`(7 + 3 m / n) / 3` of a plain step.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.networks.models import make_model
from experiments.training.timing import (
    Candidate,
    StepTable,
    compile_candidate,
    interleave,
    paired_ratio,
)
from theory_checks.records import Check, Plot, Row
from weighting import Weighting, lookahead_reweight, stateless, uniform
from weighting.losses import cross_entropy

# Multiplications per example and layer, on 28 x 28 images with ten classes. A padded axis of N
# pixels has 5 N - 6 taps of a 5-wide kernel inside the image.
PRODUCTS = {
    "mlp:512,512": (784 * 512, 512 * 512, 512 * 10),
    "lenet5": (134**2 * 6, 50**2 * 6 * 16, 400 * 120, 120 * 84, 84 * 10),
    "ren2018_net": (134**2 * 16, 64**2 * 16 * 32, 29**2 * 32 * 64, 1024 * 100, 100 * 10),
}
BATCH_SIZE = 100
CLEAN_COUNTS = (10, 100)
# What is not a product (ReLU, pooling, softmax, optimizer) grows with the passes as products do,
# within a third: of at most 6 % in a plain step it leaves 2 % in a quotient.
OTHER, TOLERANCE = 0.06, 0.02


class Costs(NamedTuple):
    """Operations in units of n F, from the share r of the first layer and m / n."""

    plain: float
    linearized: float
    kept: float  # Algorithm 1, with one forward pass
    repeated: float  # and with two


def checks(preset: str) -> list[Check]:
    """The claim; for "smoke" one network, ten clean examples."""
    if preset == "smoke":
        return [step_costs(networks=("mlp:512,512",), clean_counts=(10,), rounds=5)]
    return [step_costs()]


def derived_costs(first: float, share: float) -> Costs:
    """The counts of the module's docstring."""
    plain, product = 3 - first, 2 - first
    linearized = 1 + 2 * product + share * plain
    return Costs(plain, linearized, linearized + product, linearized + product + 1)


def from_rows() -> Weighting:
    """Lookahead's weights from each example's own gradient, the rows of J."""

    def update(weights: Any, signals: Any, **extra: Any) -> Any:
        gradient = jax.grad(extra["clean_loss_fn"])(extra["params"])
        rows = jax.vmap(jax.grad(extra["example_loss_fn"]), (None, 0))(
            extra["params"], extra["examples"]
        )
        products = jax.tree.map(lambda row, v: jnp.tensordot(row, v, v.ndim), rows, gradient)
        scores = jnp.maximum(sum(jax.tree.leaves(products)), 0)
        return weights * scores / jnp.mean(scores)

    return stateless(update)


def step_costs(
    *,
    networks: tuple[str, ...] = tuple(PRODUCTS),
    clean_counts: tuple[int, ...] = CLEAN_COUNTS,
    rounds: int = 20,
) -> Check:
    """R-3x: XLA's count of a step's operations, and the time it takes.

    Args:
      networks: names of models.
      clean_counts: numbers m of clean examples; beyond one, per-example gradients are counted too.
      rounds: how often each step is timed.
    """
    schemes = {
        "linearized": lookahead_reweight(),
        "Algorithm 1": lookahead_reweight(mode="unrolled", optimizer=optax.sgd(1.0)),
    }
    rows, control, curves = [], [], {}
    for name in networks:
        candidates = {"plain": Candidate(uniform())}
        for num_clean in clean_counts:
            for form, scheme in schemes.items():
                candidates[f"{form}, {num_clean}"] = Candidate(scheme, num_clean=num_clean)
        if (
            name.startswith("mlp") and len(clean_counts) > 1
        ):  # convolutions have few parameters, and their rows cost little
            candidates["rows"] = Candidate(from_rows(), num_clean=min(clean_counts))
        table = StepTable(
            name, make_model(name, 10), cross_entropy, optax.sgd(0.1), BATCH_SIZE, candidates
        )
        compiled = {label: compile_candidate(table, one) for label, one in candidates.items()}
        seconds = interleave(
            {label: one.call for label, one in compiled.items()}, rounds=rounds, warm_up=2
        )
        unit = 2.0 * BATCH_SIZE * sum(PRODUCTS[name])
        first = PRODUCTS[name][0] / sum(PRODUCTS[name])
        plain = compiled["plain"].flops
        beyond = plain / unit / (3 - first) - 1
        rows += [
            Row(f"{name}: share of the first layer", first),
            Row(f"{name}: operations of a plain step beyond 3 - r passes", beyond, OTHER),
            Row(f"{name}: operations of a plain step below 3 - r passes", -beyond, 0),
        ]
        for num_clean in clean_counts:
            share = num_clean / BATCH_SIZE
            costs = derived_costs(first, share)
            at = f"{name}, m/n = {share:g}"
            counted = {form: compiled[f"{form}, {num_clean}"].flops / plain for form in schemes}
            low, high = costs.kept / costs.plain, costs.repeated / costs.plain
            passes = counted["Algorithm 1"] * costs.plain - costs.kept + 1
            for form, value in counted.items():
                wall, *_ = paired_ratio(seconds[f"{form}, {num_clean}"], seconds["plain"])
                rows += [
                    Row(f"{at}: {form} / plain, operations", value),
                    Row(f"{at}: {form} / plain, time", wall),
                ]
            off = counted["linearized"] * costs.plain / costs.linearized - 1
            outside = max(low / counted["Algorithm 1"], counted["Algorithm 1"] / high) - 1
            rows += [
                Row(f"{at}: linearized, distance from the derived count", abs(off), TOLERANCE),
                Row(f"{at}: Algorithm 1, beyond its two derived counts", outside, TOLERANCE),
                Row(f"{at}: Algorithm 1, forward passes of the batch", passes),
            ]
            less = (costs.linearized - 1) / costs.plain
            control.append(
                Row(
                    f"{at}: linearized, distance from a pass less",
                    abs(counted["linearized"] / less - 1),
                    TOLERANCE,
                )
            )
        if "rows" in compiled:
            costs = derived_costs(first, min(clean_counts) / BATCH_SIZE)
            value = compiled["rows"].flops / plain * costs.plain / costs.linearized - 1
            control.append(
                Row(f"{name}: from the rows of J, distance from linearized", abs(value), TOLERANCE)
            )
        for form in schemes:
            values = [compiled[f"{form}, {num_clean}"].flops / plain for num_clean in clean_counts]
            curves[f"{name}, {form}"] = ([m / BATCH_SIZE for m in clean_counts], values)
    shares = np.linspace(0, 1, 11)
    for form, count in {"linearized": 5, "Algorithm 1": 7}.items():
        curves[f"{form}, large networks"] = (shares.tolist(), ((count + 3 * shares) / 3).tolist())
    return Check(
        "R-3x",
        "about three plain steps: (5 + 3 m/n) / 3 linearized, (7 + 3 m/n) / 3 by Algorithm 1",
        "TREND",
        tuple(rows),
        assumptions=f"{BATCH_SIZE} examples a batch, {jax.default_backend()}; operations as XLA "
        "counts them, compilation excluded; the paper's own sum with m = n is 3, as it counts the "
        "backward-on-backward pass as one forward pass, not two",
        control=tuple(control),
        plot=Plot("clean examples / batch size", "operations of a step / plain", curves),
    )
