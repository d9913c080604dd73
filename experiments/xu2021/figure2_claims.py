"""What the paper reads off Figure 2, asked of curves [S, A, T] by name; `step` [T] has times."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import numpy as np

from experiments.reporting.claims import Claim
from experiments.xu2021.common import in_every_arm, milestones

LINEAR_ARMS = ("equal", "inverse margin", "matched to p*", "proportional to margin")
_EQUAL, _INVERSE, _MATCHED, _PROPORTIONAL = range(4)
CLASS_ARMS = {  # orange : blue
    "1 : 1": (1.0, 1.0),
    "4 : 1": (4.0, 1.0),
    "16 : 1": (16.0, 1.0),
    "1 : 4": (1.0, 4.0),
    "1 : 16": (1.0, 16.0),
}
RATIO_ARM = "16 : 1"  # the density ratio of the unbalanced moons
_CONVERGED = 0.9  # of the largest margin: the linear run counts as converged
_ITEM = "Figure 2"

_LATE = "Prop. 1 bounds the rate late in training; early on the starting point decides"
_RATIO = "perhaps: with so few points the density ratio reweights noise, too"

_Found = Mapping[str, np.ndarray]


class _Quantity(NamedTuple):
    """What two weightings of the linear model are compared by."""

    name: str
    better: str
    sign: int  # of better ones
    place: str
    cause: str  # why inverse margins are not better


_QUANTITIES = (
    _Quantity(
        "angle",
        "smaller angle",
        -1,
        "Fig. 2a",
        "the weights that speed the direction up are those of the dual solution, zero off the "
        "support vectors; inverse margins only resemble them, and which way they lead depends on "
        "the data",
    ),
    _Quantity(
        "average_margin",
        "larger average margin / |θ|",
        1,
        "Fig. 2b",
        "as with the angle: the weights that are matched to the dual win late, inverse margins do "
        "not always",
    ),
    _Quantity(
        "raw_average_margin",  # the paper does not say which of the two it plots
        "larger average margin",
        1,
        "Fig. 2b",
        "early on the steps are of the size of the starting point",
    ),
)


def linear_claims(steps: np.ndarray) -> list[Claim]:
    """Weights change how fast the linear model converges, from curves in the order of its arms.

    The curves: `angle` to the max-margin direction, average margins, and `margin_share`, the
    normalized margin over the largest possible.
    """
    times = milestones(steps)
    found = []
    for quantity in _QUANTITIES:
        compare = partial(_better_than_equal, quantity, steps)
        found += [compare(t, _INVERSE, quantity.place, quantity.cause) for t in times]
        found += [compare(t, _MATCHED, "Prop. 1", _LATE) for t in times]
        found += [compare(t, _PROPORTIONAL, is_control=True) for t in times]
    return found + [_converges(arm) for arm in range(len(LINEAR_ARMS))]


def _better_than_equal(
    quantity: _Quantity,
    steps: np.ndarray,
    t: int,
    arm: int,
    place: str = "",
    cause: str = "",
    *,
    is_control: bool = False,
) -> Claim:
    def ask(found: _Found) -> np.ndarray:
        values = quantity.sign * found[quantity.name]
        return values[:, arm, t] > values[:, _EQUAL, t]

    text = f"{LINEAR_ARMS[arm]}: {quantity.better} than equal after {steps[t]:,} steps"
    return Claim(text, _ITEM, place, ask, cause, is_control=is_control)


def _converges(arm: int) -> Claim:
    return Claim(
        f"{LINEAR_ARMS[arm]}: nine tenths of the largest margin reached at the end",
        _ITEM,
        "Prop. 1",
        lambda found: found["margin_share"][:, arm, -1] >= _CONVERGED,
        cause=_LATE if arm == _MATCHED else "",
    )


def margin_claims(steps: np.ndarray) -> list[Claim]:
    """Class weights of the network on balanced moons; seeds count on which all of them separate.

    Of `average_margin` and the smallest, `margin`.
    """
    times = milestones(steps)
    before = times[-2]

    def differ_less(found: _Found) -> np.ndarray:
        spread = np.ptp(_separated(found, "average_margin"), axis=1)
        return spread[:, -1] < spread[:, before]

    return [
        *(_change_the_margin(steps, t) for t in times[1:]),
        Claim(
            "some class weights separate the classes in half the steps of others",
            _ITEM,
            "Fig. 2c",
            _is_twice_as_soon,
        ),
        Claim(
            f"class weights differ less in average margin at the end than after "
            f"{steps[before]:,} steps",
            _ITEM,
            "Prop. 3",
            differ_less,
            cause="few seeds separate (dead units), and their margins still grow",
        ),
    ]


def _change_the_margin(steps: np.ndarray, t: int) -> Claim:
    def ask(found: _Found) -> np.ndarray:
        now = _separated(found, "average_margin")[:, :, t]
        low, high = now.min(axis=1), now.max(axis=1)
        return high - low > 0.1 * np.abs(high)

    return Claim(
        f"class weights change the average margin by a tenth after {steps[t]:,} steps",
        _ITEM,
        "Fig. 2c",
        ask,
        cause="the larger effect is early; at the end all weightings approach one margin",
    )


def _is_twice_as_soon(found: _Found) -> np.ndarray:
    starts = separated_from(found["step"], _separated(found, "margin"))
    return 2 * starts.min(axis=1) <= starts.max(axis=1)


def separated_from(steps: np.ndarray, margins: np.ndarray) -> np.ndarray:
    """The logged step [...] from which on the smallest margin [..., T] stays positive, or inf."""
    last_wrong = margins.shape[-1] - 1 - np.argmax(np.flip(margins <= 0, axis=-1), axis=-1)
    first_right = np.where((margins > 0).all(axis=-1), 0, last_wrong + 1)
    return np.append(steps, np.inf)[first_right]


def error_claims(steps: np.ndarray) -> list[Claim]:
    """Class weights of the network on unbalanced moons, in the order of `CLASS_ARMS`.

    Of the test `error` and the smallest training margin, `margin`.
    """
    times = milestones(steps)
    found = []
    for t in times:
        found += [_ratio_errs_least(steps, t), _ratio_errs_less(steps, t)]
    return [
        *found,
        *(_errors_differ_less(steps, t) for t in times[:-1]),
        Claim(
            "where all separate: errors at the end within two points in a hundred",
            _ITEM,
            "Prop. 3",
            lambda found: np.ptp(_separated(found, "error")[..., -1], axis=1) <= 0.02,
            cause="the margins are still growing at the end of the run",
        ),
    ]


def _ratio_errs_least(steps: np.ndarray, t: int) -> Claim:
    return Claim(
        f"no weights err less than the density ratio's after {steps[t]:,} steps",
        _ITEM,
        "Fig. 2d, Thm. 1",
        lambda found: _error(found, RATIO_ARM, t) <= found["error"][:, :, t].min(axis=1),
        cause=_RATIO,
    )


def _ratio_errs_less(steps: np.ndarray, t: int) -> Claim:
    return Claim(
        f"the density ratio's weights err less than equal ones after {steps[t]:,} steps",
        _ITEM,
        "Fig. 2d, Thm. 1",
        lambda found: _error(found, RATIO_ARM, t) < _error(found, "1 : 1", t),
        cause=_RATIO,
    )


def _errors_differ_less(steps: np.ndarray, t: int) -> Claim:
    def ask(found: _Found) -> np.ndarray:
        spread = np.ptp(found["error"], axis=1)
        return spread[:, -1] < spread[:, t]

    return Claim(
        f"errors differ less between class weights at the end than after {steps[t]:,} steps",
        _ITEM,
        "Fig. 2d",
        ask,
        cause="perhaps: late differences are a few test points",
    )


def _error(found: _Found, arm: str, t: int) -> np.ndarray:
    return found["error"][:, list(CLASS_ARMS).index(arm), t]


def _separated(found: _Found, name: str) -> np.ndarray:
    """Curves of the seeds on which all weightings end with the classes separated."""
    return found[name][in_every_arm(found["margin"][..., -1] > 0)]
