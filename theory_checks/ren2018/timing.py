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
from theory_checks.records import Check, Measured, Plot
from weighting import Weighting, lookahead, lookahead_unrolled, stateless, uniform
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
FORMS = {
    "linearized": lookahead(),
    "Algorithm 1": lookahead_unrolled(optax.sgd(1.0)),
}
# What is not a product (ReLU, pooling, softmax, optimizer) grows with the passes as products do,
# within a third: of at most 6 % in a plain step it leaves 2 % in a quotient.
OTHER, TOLERANCE = 0.06, 0.02


class DerivedCosts(NamedTuple):
    """Operations in units of n F, from the share r of the first layer and m / n."""

    plain: float
    linearized: float
    kept: float  # Algorithm 1, with one forward pass
    repeated: float  # and with two


class MeasuredCosts(NamedTuple):
    """What steps with one network take, by form of the step and number m of clean examples.

    A plain step is ("plain", 0); from the rows of J, ("rows", m).
    """

    network: str
    first: float  # share r of the first layer
    operations: dict[tuple[str, int], float]  # as XLA counts them
    seconds: dict[tuple[str, int], Any]  # of every round

    def relative(self, form: str, num_clean: int) -> float:
        """Operations of a step over those of a plain one."""
        return self.operations[form, num_clean] / self.operations["plain", 0]


def checks(preset: str) -> list[Check]:
    """The claim; for "smoke" one network, ten clean examples."""
    if preset == "smoke":
        return [step_costs(networks=("mlp:512,512",), clean_counts=(10,), rounds=5)]
    return [step_costs()]


def derived_costs(first: float, share: float) -> DerivedCosts:
    """The counts of the module's docstring."""
    plain, product = 3 - first, 2 - first
    linearized = 1 + 2 * product + share * plain
    return DerivedCosts(plain, linearized, linearized + product, linearized + product + 1)


def _from_rows() -> Weighting:
    """Lookahead's weights from each example's own gradient, the rows of J."""

    def update(
        weights: Any,
        signals: Any,
        *,
        clean_loss_fn: Any,
        params: Any,
        example_loss_fn: Any,
        examples: Any,
        **extra: Any,
    ) -> Any:
        gradient = jax.grad(clean_loss_fn)(params)
        rows = jax.vmap(jax.grad(example_loss_fn), (None, 0))(params, examples)
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
    rows, control, curves = [], [], {}
    for name in networks:
        measured = _measure(name, clean_counts, rounds)
        rows += _plain_rows(measured)
        for num_clean in clean_counts:
            rows += _lookahead_rows(measured, num_clean)
            control.append(_pass_less(measured, num_clean))
        if ("rows", min(clean_counts)) in measured.operations:
            control.append(_rows_against_linearized(measured, min(clean_counts)))
        for form in FORMS:
            values = [measured.relative(form, num_clean) for num_clean in clean_counts]
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


def _measure(name: str, clean_counts: tuple[int, ...], rounds: int) -> MeasuredCosts:
    """Compiles, counts and times every form of the step, the timings in turn."""
    steps = {("plain", 0): Candidate(uniform())}
    for num_clean in clean_counts:
        for form, scheme in FORMS.items():
            steps[form, num_clean] = Candidate(scheme, num_clean=num_clean)
    # convolutions have few parameters, and their rows cost little
    if name.startswith("mlp") and len(clean_counts) > 1:
        fewest = min(clean_counts)
        steps["rows", fewest] = Candidate(_from_rows(), num_clean=fewest)
    labels = {key: f"{key[0]}, {key[1]}" for key in steps}
    candidates = {labels[key]: step for key, step in steps.items()}
    table = StepTable(
        name, make_model(name, 10), cross_entropy, optax.sgd(0.1), BATCH_SIZE, candidates
    )
    compiled = {label: compile_candidate(table, one) for label, one in candidates.items()}
    calls = {label: one.call for label, one in compiled.items()}
    seconds = interleave(calls, rounds=rounds, warm_up=2)
    return MeasuredCosts(
        name,
        PRODUCTS[name][0] / sum(PRODUCTS[name]),
        {key: compiled[label].flops for key, label in labels.items()},
        {key: seconds[label] for key, label in labels.items()},
    )


def _plain_rows(measured: MeasuredCosts) -> tuple[Measured, ...]:
    """A plain step is 3 - r passes, and little else."""
    name, first = measured.network, measured.first
    unit = 2.0 * BATCH_SIZE * sum(PRODUCTS[name])
    beyond = measured.operations["plain", 0] / unit / (3 - first) - 1
    return (
        Measured(f"{name}: share of the first layer", first),
        Measured(f"{name}: operations of a plain step beyond 3 - r passes", beyond, OTHER),
        Measured(f"{name}: operations of a plain step below 3 - r passes", -beyond, 0),
    )


def _lookahead_rows(measured: MeasuredCosts, num_clean: int) -> list[Measured]:
    """Both forms of lookahead beside a plain step, and beside the counts derived for them."""
    share = num_clean / BATCH_SIZE
    at = f"{measured.network}, m/n = {share:g}"
    rows = []
    for form in FORMS:
        wall, *_ = paired_ratio(measured.seconds[form, num_clean], measured.seconds["plain", 0])
        operations = measured.relative(form, num_clean)
        rows += [
            Measured(f"{at}: {form} / plain, operations", operations),
            Measured(f"{at}: {form} / plain, time", wall),
        ]
    costs = derived_costs(measured.first, share)
    linearized = measured.relative("linearized", num_clean)
    algorithm = measured.relative("Algorithm 1", num_clean)
    off = linearized * costs.plain / costs.linearized - 1
    low, high = costs.kept / costs.plain, costs.repeated / costs.plain
    outside = max(low / algorithm, algorithm / high) - 1
    passes = algorithm * costs.plain - costs.kept + 1
    return [
        *rows,
        Measured(f"{at}: linearized, distance from the derived count", abs(off), TOLERANCE),
        Measured(f"{at}: Algorithm 1, beyond its two derived counts", outside, TOLERANCE),
        Measured(f"{at}: Algorithm 1, forward passes of the batch", passes),
    ]


def _pass_less(measured: MeasuredCosts, num_clean: int) -> Measured:
    """A control: the derived count of the linearized step without one of its passes."""
    share = num_clean / BATCH_SIZE
    costs = derived_costs(measured.first, share)
    less = (costs.linearized - 1) / costs.plain
    return Measured(
        f"{measured.network}, m/n = {share:g}: linearized, distance from a pass less",
        abs(measured.relative("linearized", num_clean) / less - 1),
        TOLERANCE,
    )


def _rows_against_linearized(measured: MeasuredCosts, num_clean: int) -> Measured:
    """A control: scores from every example's own gradient, which cost far more."""
    costs = derived_costs(measured.first, num_clean / BATCH_SIZE)
    value = measured.relative("rows", num_clean) * costs.plain / costs.linearized - 1
    name = f"{measured.network}: from the rows of J, distance from linearized"
    return Measured(name, abs(value), TOLERANCE)
