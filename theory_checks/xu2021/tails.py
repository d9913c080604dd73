r"""Exponential tails of losses (xu2021, condition C1 and App. A.1.1), as functions of the margin u.

Two definitions: (i) :math:`(1 - e^{-c u}) e^{-u} \le -\ell'(u) \le (1 + e^{-c u}) e^{-u}` for large
u, here with c = 1 and no other constant; (ii) :math:`\ell = e^{-\phi}` with :math:`\phi' \ge 0`,
and :math:`\phi'(u) u` non-decreasing and unbounded for large u. And both the loss and its slope
vanish as u grows.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from theory_checks.records import Check, Measured, Plot
from weighting.losses import cross_entropy, exponential, logistic, polynomial_tailed, soft_margins

LossOfMargins = Callable[[Array], Array]  # margins [U] -> losses [U]

MARGINS = np.linspace(2.0, 40.0, 761)
ROUNDING = 1e-14  # of quotients of numbers rounded a few times
RAISED = 20.0  # what phi'(u) u must reach at u = 40


class Tail(NamedTuple):
    """Violations of the definitions on u in 2 .. 40, relative; at most rounding if they hold."""

    below: float  # -l' below (1 - e^-u) e^-u
    above: float  # -l' above (1 + e^-u) e^-u
    falling: float  # phi' below zero (all u), or phi' u falling
    growth: float  # phi' u at u = 40
    end: float  # the larger of the loss and its slope at u = 40
    wrong_end: float  # the same at u = -40, which the print says vanishes
    products: np.ndarray  # phi' u on 2 .. 40


def checks(preset: str) -> list[Check]:
    """All claims, the same at every preset."""
    del preset
    return [tails(), multiclass()]


def _ones(margins: Array) -> Array:
    """Positive labels, for which a score is its margin."""
    return jnp.ones(margins.shape, jnp.int32)


def _lead(margins: Array, *, classes: int = 2) -> Array:
    """Cross-entropy where the label's logit leads all others, equal to one another, by u.

    As the logistic loss of the soft margin: log-sum-exp less a logit is zero from u = 37 on.
    """
    logits = jnp.zeros((*margins.shape, classes)).at[..., 0].set(margins)
    return logistic(soft_margins(logits, jnp.zeros(margins.shape, jnp.int32)), _ones(margins))


LOSSES: dict[str, LossOfMargins] = {
    "exponential": lambda u: exponential(u, _ones(u)),
    "logistic": lambda u: logistic(u, _ones(u)),
    "cross-entropy, two classes": _lead,
}
OTHERS: dict[str, LossOfMargins] = {
    "squared hinge": lambda u: jnp.maximum(1 - u, 0) ** 2,
    "1 / u": lambda u: 1 / u,
    "polynomially tailed": lambda u: polynomial_tailed(u, _ones(u)),
    "exp(-u^2)": lambda u: jnp.exp(-(u**2)),
    "exp(-log^2 u)": lambda u: jnp.exp(-(jnp.log(u) ** 2)),
}


def measure(loss: LossOfMargins) -> Tail:
    """All violations of a loss; call it where 64-bit arrays are on."""

    @jax.jit
    def derivatives(margins: Array) -> tuple[Array, Array]:
        return loss(margins), jax.grad(lambda u: jnp.sum(loss(u)))(margins)

    wide = np.linspace(-40.0, 40.0, 801) + 1e-3  # not zero, where 1 / u has no value
    values, slopes = map(np.asarray, derivatives(np.concatenate([MARGINS, wide, [-40.0]])))
    rates, size = _quotient(-slopes, values), len(MARGINS)
    scaled, small = -slopes[:size] * np.exp(MARGINS), np.exp(-MARGINS)
    products = rates[:size] * MARGINS
    falls = -np.diff(products) / np.maximum(products[:-1], 1e-300)
    return Tail(
        below=float(np.max((1 - small) - scaled)),
        above=float(np.max(scaled - (1 + small))),
        falling=float(max(np.max(falls), np.max(-rates))),
        growth=float(products[-1]),
        end=float(max(values[size - 1], -slopes[size - 1])),
        wrong_end=float(max(values[-1], -slopes[-1])),
        products=products,
    )


def _quotient(slopes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """phi', zero where the loss itself is zero (there phi is infinite)."""
    return np.where(values > 0, slopes / np.where(values > 0, values, 1), 0.0)


def _rows(name: str, tail: Tail) -> list[Measured]:
    return [
        Measured(f"{name}: (i) slope below (1 - e^-u) e^-u, relative", tail.below, ROUNDING),
        Measured(f"{name}: (i) slope above (1 + e^-u) e^-u, relative", tail.above, ROUNDING),
        Measured(f"{name}: (ii) phi' < 0 or phi' u falling, relative", tail.falling, ROUNDING),
        Measured(f"{name}: (ii) {RAISED:g} - phi'(u) u at u = 40", RAISED - tail.growth, 0),
        Measured(f"{name}: loss or slope at u = 40", tail.end, 1e-16),
    ]


def tails(*, scale: float = 1.0) -> Check:
    """X-C: which losses have exponential tails; other losses are the control.

    Args:
      scale: multiplies the margin (1 in the claim: another scale has another exponent).
    """
    with jax.enable_x64(True):
        own = {name: measure(lambda u, loss=loss: loss(scale * u)) for name, loss in LOSSES.items()}
        others = {name: measure(loss) for name, loss in OTHERS.items()}
    curves = {
        name: (MARGINS[::20].tolist(), tail.products[::20].tolist())
        for name, tail in (own | others).items()
        if name not in ("squared hinge", "cross-entropy, two classes")  # infinite; as logistic
    }
    rows = [row for name, tail in own.items() for row in _rows(name, tail)]
    # definition (ii) is wider than (i): a normal tail and a log-normal one pass it
    rows += [
        Measured("exp(-u^2): (ii) phi' u falling on u > 2", _falling_tail(lambda u: 2 * u**2), 0),
        Measured(
            "exp(-log^2 u): (ii) phi' u falling on u > 2", _falling_tail(lambda u: 2 * np.log(u)), 0
        ),
        Measured("exp(-log^2 u): phi'(u) u at u = 40", others["exp(-log^2 u)"].growth),
    ]
    control = [
        Measured(f"{name}, as printed: loss or slope at u = -40", tail.wrong_end, 1e-16)
        for name, tail in own.items()
    ]
    for name, tail in others.items():
        below, above, _, growth, _ = _rows(name, tail)
        control += [below, above] if name.startswith("exp") else [below, above, growth]
    return Check(
        "X-C",
        "exponential, logistic and cross-entropy losses have exponential tails by both definitions",
        "EXACT-CORR",
        tuple(rows),
        assumptions="u from 2 to 40, in double precision; c_1 = c_2 = 1",
        control=tuple(control),
        erratum="C1 prints that the loss vanishes as its argument -u falls; at u = -40 the "
        f"exponential loss is {own['exponential'].wrong_end:.3g} and the logistic "
        f"{own['logistic'].wrong_end:.3g}. Loss and slope vanish as u itself grows. Definition "
        "(ii), shortened from its source, also admits exp(-log^2 u), whose tail is heavier than "
        "any exponential.",
        plot=Plot("u", "phi'(u) u", curves, "xy"),
    )


def _falling_tail(products: Callable[[np.ndarray], np.ndarray]) -> float:
    """Largest fall of phi'(u) u, given in closed form, over u in 2 .. 1e6."""
    return float(np.max(-np.diff(products(np.geomspace(2, 1e6, 10_000)))))


def multiclass(*, num_examples: int = 200, classes: int = 10, seed: int = 0) -> Check:
    """X-C for more classes: the tail in the soft margin; up to a factor C - 1 in the hard one."""
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        logits = jnp.asarray(rng.normal(0, 5, (num_examples, classes)))
        labels = jnp.asarray(rng.integers(0, classes, num_examples))
        own = cross_entropy(logits, labels)
        reduced = logistic(soft_margins(logits, labels), _ones(labels))
        difference = float(jnp.max(jnp.abs(own - reduced)))

        is_label = np.arange(classes) == np.asarray(labels)[:, None]
        numbers = np.asarray(logits)
        hard = numbers[is_label] - np.where(is_label, -np.inf, numbers).max(axis=1)
        low, high = np.logaddexp(0, -hard), np.log1p((classes - 1) * np.exp(-hard))
        outside = float(np.max(np.maximum(low - own, own - high) / own))
        shifted = measure(lambda u: _lead(u + np.log(classes - 1), classes=classes))
        unshifted = measure(lambda u: _lead(u, classes=classes))
        zero = {
            dtype.__name__: _first_zero(lambda u, dtype=dtype: _two_logits(u.astype(dtype)))
            for dtype in (jnp.float64, jnp.float32)
        }
    rows = [
        Measured("cross-entropy - logistic loss of the soft margin", difference, 1e-13),
        Measured("outside log(1 + e^-m) .. log(1 + (C - 1) e^-m), relative", outside, 1e-12),
        *_rows("in the soft margin", shifted),
        *(
            Measured(f"first margin where {name} cross-entropy rounds to zero", u)
            for name, u in zero.items()
        ),
    ]
    return Check(
        "X-C multi-class",
        "cross-entropy of C classes has the logistic tail in the soft margin",
        "EXACT",
        tuple(rows),
        assumptions=f"C = {classes}; the hard margin m is the lead over the runner-up",
        control=tuple(_rows("in the hard margin, all others equal", unshifted)),
    )


def _two_logits(margins: Array) -> Array:
    logits = jnp.stack([margins, jnp.zeros_like(margins)], axis=1)
    return cross_entropy(logits, jnp.zeros(margins.shape, jnp.int32))


def _first_zero(loss: LossOfMargins) -> float:
    margins = np.linspace(1.0, 60.0, 1181)
    return float(margins[np.argmax(np.asarray(jax.jit(loss)(margins)) == 0)])
