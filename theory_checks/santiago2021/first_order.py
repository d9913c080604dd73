r"""LOW's first-order argument (santiago2021, Eqs. 4-6), for one example and for a batch.

A step of rate eta on the weighted mean loss lowers the loss of example k by

.. math:: \ell_k(\theta_t) - \ell_k(\theta_{t+1})
          = \frac{\eta}{M} \sum_j w_j \nabla \ell_k^\top \nabla \ell_j + O(\eta^2),

which is :math:`\eta w \|\nabla \ell\|^2` for M = 1 only. Summed over the batch, what example j's
weight buys is :math:`h_j = \nabla \ell_j^\top \sum_k \nabla \ell_k`, not
:math:`g_j = \|\nabla \ell_j\|^2`.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from theory_checks.common.ensembles import rank_correlation
from theory_checks.records import Check, Measured, Plot
from weighting import linearize_losses, low_weights
from weighting.gradient_norms import jacobian_row_norms
from weighting.losses import cross_entropy

RATES = 10.0 ** np.arange(-1, -5.5, -0.5)  # 0.1 .. 1e-5
SMALL = RATES < 0.002  # above, third orders show in the slope
CLASSES = 3


class Decreases(NamedTuple):
    """What steps of each rate do to every loss, and the first order; [R, B] and [B]."""

    actual: Array
    first_order: Array  # sum_j w_j grad l_k . grad l_j / M, per unit of rate
    own: Array  # w_k |grad l_k|^2 / M
    squared: Array  # g, squared gradient norms
    effects: Array  # h, grad l_j . sum of all gradients


class SingleSteps(NamedTuple):
    """Steps on K examples, each on its own: linear models first, then as many networks."""

    actual: np.ndarray  # decrease of the loss at each rate, [R, K]
    own: np.ndarray  # first order w |grad l|^2, [K]
    squared: np.ndarray  # |grad l|^2, [K]
    weights: np.ndarray  # w, [K]
    lengths: np.ndarray  # |x|^2, [K]


class NormsAndEffects(NamedTuple):
    """Of P batches of B examples: g and h, [P, B]."""

    squared: np.ndarray
    effects: np.ndarray


def checks(preset: str) -> list[Check]:
    """All claims; few problems for "smoke"."""
    if preset == "smoke":
        return [single(num_problems=4), batch(num_problems=4), ranking(num_problems=10)]
    return [single(), batch(), ranking()]


def _init_params(rng: np.random.Generator, num_features: int, hidden: int) -> list[np.ndarray]:
    """A network of one tanh layer, or (`hidden` zero) a linear one."""
    sizes = (num_features, hidden, CLASSES) if hidden else (num_features, CLASSES)
    return [rng.normal(size=pair) / np.sqrt(pair[0]) for pair in itertools.pairwise(sizes)]


def _losses(params: list[Array], inputs: Array, labels: Array) -> Array:
    """Cross-entropy of the network, [B]."""
    x = inputs
    for kernel in params[:-1]:
        x = jnp.tanh(x @ kernel)
    return cross_entropy(x @ params[-1], labels)


@jax.jit
def _decreases(params: list[Array], inputs: Array, labels: Array, weights: Array) -> Decreases:
    """One step of every rate on the weighted mean loss, and the library's linearization."""
    linearized = linearize_losses(lambda p: _losses(p, inputs, labels), params)
    size = len(labels)
    gradient = linearized.vjp(weights / size)

    def after(rate: Array) -> Array:
        return _losses(jax.tree.map(lambda p, g: p - rate * g, params, gradient), inputs, labels)

    squared = jacobian_row_norms(linearized)
    return Decreases(
        linearized.values[None] - jax.lax.map(after, jnp.asarray(RATES)),
        linearized.jvp(gradient),
        weights * squared / size,
        squared,
        linearized.jvp(linearized.vjp(jnp.ones(size))),
    )


def fitted_slope(residuals: np.ndarray) -> float:
    """Slope of the root mean square of residuals [R, K] against the rate, both in logarithms.

    Of all K together: an example whose second order happens to vanish has another slope.
    """
    sizes = np.log(np.linalg.norm(residuals[SMALL], axis=1))
    return float(np.polyfit(np.log(RATES[SMALL]), sizes, 1)[0])


def _label(rng: np.random.Generator, size: int) -> np.ndarray:
    return rng.integers(0, CLASSES, size)


def single(
    *,
    num_problems: int = 30,
    perturb: Callable[[np.ndarray], np.ndarray] = lambda first: first,
    seed: int = 0,
) -> Check:
    r"""S-E46 for M = 1: the remainder is of second order, with an explicit constant.

    For a linear model cross-entropy is convex and :math:`\|x\|^2 / 2`-smooth, so that the decrease
    lies between :math:`\eta w g - \eta^2 w^2 \|x\|^2 g / 4` and :math:`\eta w g`.

    Args:
      num_problems: of each kind of network.
      perturb: changes the first order (nothing in the claim).
      seed: of all problems.
    """
    steps = _single_steps(np.random.default_rng(seed), num_problems)
    rates = RATES[:, None]
    first = rates * perturb(steps.own)
    remainders = {
        "claim": steps.actual - first,
        "wrong sign": steps.actual + first,
        "no weight": steps.actual - rates * steps.squared,
    }
    limit = rates**2 * steps.weights**2 * steps.lengths * steps.squared / 4
    linear = slice(num_problems)  # the first half of all problems
    above = float(np.max(((steps.actual - first) / rates)[:, linear]))
    below = float(np.max(((first - steps.actual - limit) / rates)[:, linear]))
    slope_error = {name: abs(fitted_slope(values) - 2) for name, values in remainders.items()}
    relative = float(np.max(np.abs(remainders["claim"]) / rates**2))
    curves = {
        name: (RATES.tolist(), np.sqrt(np.mean(values**2, axis=1)).tolist())
        for name, values in remainders.items()
    }
    # differences of losses of order one carry 1e-16, at rate 1e-5 an error of 1e-11 per unit rate
    rows = (
        Measured("|slope - 2| of the remainder, 1e-3 .. 1e-5", slope_error["claim"], 0.01),
        Measured("largest remainder / rate^2, 0.1 .. 1e-5", relative),
        Measured("linear model: decrease above eta w g, per eta", above, 1e-10),
        Measured("linear model: below eta w g - eta^2 w^2 |x|^2 g / 4, per eta", below, 1e-10),
    )
    control = (
        Measured("wrong sign: |slope - 2|", slope_error["wrong sign"], 0.01),
        Measured("without the weight: |slope - 2|", slope_error["no weight"], 0.01),
    )
    return Check(
        "S-E46",
        "M = 1: a weighted step lowers the loss by eta w |grad l|^2 + O(eta^2)",
        "EXACT",
        rows,
        assumptions="smooth losses (linear and tanh networks with cross-entropy)",
        control=control,
        plot=Plot("rate", "decrease minus first order, root mean square", curves, "xy"),
    )


def _single_steps(rng: np.random.Generator, num_problems: int) -> SingleSteps:
    found = []
    with jax.enable_x64(True):
        for hidden in (0, 5):
            for _ in range(num_problems):
                params = _init_params(rng, 4, hidden)
                inputs, labels = rng.normal(size=(1, 4)), _label(rng, 1)
                weights = np.array([rng.choice([0.5, 2.0, 3.0])])
                got = _decreases(params, inputs, labels, weights)
                actual, own, squared = (np.asarray(x) for x in (got.actual, got.own, got.squared))
                lengths = np.array([np.sum(inputs**2)])
                found.append(SingleSteps(actual, own, squared, weights, lengths))
    return SingleSteps(*(np.concatenate(column, axis=-1) for column in zip(*found, strict=True)))


def batch(*, num_problems: int = 30, size: int = 8, seed: int = 0) -> Check:
    """S-E46 for a batch: the decrease is a sum over all examples, not one's own norm."""
    rng = np.random.default_rng(seed)
    slope_error, own_error, share_up = [], [], []
    with jax.enable_x64(True):
        for _ in range(num_problems):
            params = _init_params(rng, 4, 5)
            inputs, labels = rng.normal(size=(size, 4)), _label(rng, size)
            squared = _decreases(params, inputs, labels, np.ones(size)).squared
            weights = np.asarray(low_weights(squared, 0.5))
            got = _decreases(params, inputs, labels, weights)
            actual = np.asarray(got.actual)
            remainder = actual - RATES[:, None] * np.asarray(got.first_order)
            slope_error.append(abs(fitted_slope(remainder) - 2))
            own = actual - RATES[:, None] * np.asarray(got.own)
            own_error.append(abs(fitted_slope(own) - 2))
            share_up.append(np.mean(np.asarray(got.first_order) < 0))

        # one large gradient against two smaller ones, on a linear model of one weight each
        gradients = np.array([3.0, -2.0, -2.0])
        effects = gradients * gradients.sum()
        weights = np.asarray(low_weights(jnp.asarray(gradients**2), 0.5))
        change = {"LOW": weights @ effects, "uniform": effects.sum()}

        # orthogonal gradients: own norms are the whole effect
        inputs, labels = 0.7 * np.eye(5), _label(rng, 5)
        got = _decreases(_init_params(rng, 5, 0), inputs, labels, np.ones(5))
        orthogonal = float(np.max(np.abs(got.effects - got.squared)))
    rows = (
        Measured("|slope - 2| of the remainder, cross terms included", max(slope_error), 0.05),
        Measured("orthogonal inputs: |h - g|", orthogonal, 1e-14),
        Measured("share of examples whose loss rises to first order", float(np.mean(share_up))),
        Measured(
            "gradients 3, -2, -2: minus uniform decrease per eta / M",
            -float(change["uniform"]),
            -0.99,
        ),
        Measured("gradients 3, -2, -2: LOW decrease per eta / M", float(change["LOW"]), -8.99),
    )
    control = (Measured("own norms only: |slope - 2|", max(own_error), 0.05),)
    return Check(
        "S-E46 batch",
        "in a batch the first-order decrease of example k is (eta/M) sum_j w_j grad l_k . grad l_j",
        "EXACT-CORR",
        rows,
        assumptions="a tanh network with cross-entropy; LOW's weights at lambda = 0.5",
        control=control,
        erratum="In a batch, own gradient norms (Eqs. 4-8) are not the first-order decrease: with "
        "scalar gradients 3, -2, -2 LOW's weights at lambda = 0.5 change the batch's loss by "
        f"{-float(change['LOW']):+.3g} eta / M, uniform ones by {-float(change['uniform']):+.3g}."
        " The decrease is (eta/M) sum_j w_j grad l_k . grad l_j; over the batch it sums to "
        "(eta/M) w.g where gradients are orthogonal.",
    )


def ranking(*, num_problems: int = 100, size: int = 32, seed: int = 0) -> Check:
    """S-E46: how often own norms rank a batch as its full first-order effects do."""
    start, trained, shuffled = _random_batches(
        np.random.default_rng(seed), num_problems=num_problems, size=size
    )
    rows, above = [], {}
    for name, batches in {
        "at the start": start,
        "after 100 steps": trained,
        "effects shuffled": shuffled,
    }.items():
        values = [rank_correlation(*pair) for pair in zip(*batches, strict=True)]
        mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(num_problems))
        above[name] = 0.1 + 4 * error - mean
        rows += [
            Measured(f"{name}: mean Spearman of g and h", mean),
            Measured(f"{name}: its standard error", error),
        ]
    first = np.argmax(trained.squared, axis=1)
    same_first = float(np.mean(first == np.argmax(trained.effects, axis=1)))
    harmful = float(np.mean(trained.effects[np.arange(num_problems), first] < 0))
    return Check(
        "S-E46 ranking",
        "after training, own gradient norms rank a batch partly as the full first-order effects do",
        "TREND",
        (
            *rows[:4],
            Measured("after 100 steps: 0.1 + 4 s.e. above the mean", above["after 100 steps"], 0),
            Measured("after 100 steps: share of batches with the same first", same_first),
            Measured("after 100 steps: share whose largest norm is harmful", harmful),
        ),
        assumptions=f"batches of {size}, a tanh network, 20 % of labels redrawn",
        control=(Measured("effects shuffled: the same", above["effects shuffled"], 0),),
    )


def _random_batches(
    rng: np.random.Generator, *, num_problems: int, size: int
) -> tuple[NormsAndEffects, NormsAndEffects, NormsAndEffects]:
    """Noisy batches of linear labels: at random parameters, after descent; the latter shuffled."""
    start, trained, shuffled = [], [], []
    with jax.enable_x64(True):
        for _ in range(num_problems):
            params = _init_params(rng, 4, 8)
            inputs = rng.normal(size=(size, 4))
            labels = np.argmax(inputs @ rng.normal(size=(4, CLASSES)), axis=1)
            noisy = np.where(rng.uniform(size=size) < 0.2, _label(rng, size), labels)
            for at, found in ((params, start), (_descend(params, inputs, noisy), trained)):
                got = _decreases(at, inputs, noisy, np.ones(size))
                found.append((np.asarray(got.squared), np.asarray(got.effects)))
            squared, effects = trained[-1]
            shuffled.append((squared, rng.permutation(effects)))
    start, trained, shuffled = (
        NormsAndEffects(*map(np.stack, zip(*pairs, strict=True)))
        for pairs in (start, trained, shuffled)
    )
    return start, trained, shuffled


@jax.jit
def _descend(params: list[Array], inputs: Array, labels: Array) -> list[Array]:
    """100 steps of rate 0.5 on the mean loss."""

    def body(_: int, params: list[Array]) -> list[Array]:
        gradient = jax.grad(lambda p: jnp.mean(_losses(p, inputs, labels)))(params)
        return jax.tree.map(lambda p, g: p - 0.5 * g, params, gradient)

    return jax.lax.fori_loop(0, 100, body, [jnp.asarray(p) for p in params])
