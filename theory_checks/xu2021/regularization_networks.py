r"""Two-layer networks under l2 and under dropout of hidden units, with weights (xu2021, Sec. 5).

Dropout of hidden ReLU units leaves room for the norm to diverge: a unit that is active on one class
only is right under every mask. Units are dropped independently, each kept with probability p, so
that the risk expected over the masks is a product, as for a linear model's inputs.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from theory_checks.common.descent import log_spaced
from theory_checks.common.reference import curve, mean_interval, separable_points
from theory_checks.records import Check, Measured, Plot
from theory_checks.xu2021.regularization_linear import degrees_of_chords, interval_rows, unit

KEPT = 0.5  # probability that a unit survives dropout
HIDDEN = 5
LAMBDAS = np.array([1e-1, 1e-2, 1e-3, 1e-5, 0.0])
SIGNS = np.where(np.arange(20) % 2, 1.0, -1.0)  # the labels
ARMS = np.stack(
    [
        np.ones(20),
        np.where(SIGNS > 0, 10.0, 1.0) / 5.5,
        np.where(SIGNS > 0, 1.0, 10.0) / 5.5,
    ]
)  # weights [A, N], classes 1:1, 1:10 and 10:1


class RecordedNetworks(NamedTuple):
    """Two-layer networks of K problems after T numbers of steps."""

    inner: np.ndarray  # [K, T, H, D]
    outer: np.ndarray  # [K, T, H]


class RegularizedNetworks(NamedTuple):
    """S data sets, A weightings and P regularizations: every lambda, then hidden dropout."""

    squares: np.ndarray  # [S, A, P, T] |theta|^2
    growth: np.ndarray  # [S, A, P] d|theta|^2 / d log t over the last decade
    collapsed: np.ndarray  # [S, A, P] whether it ends at zero
    angles: np.ndarray  # [S, P] between the functions of two weightings, mean, in degrees
    pure: np.ndarray  # [S, A] whether under dropout some unit is active on its own class only


def networks(*, num_seeds: int = 6, last: int = 100_000, seed: int = 0) -> Check:
    """X-S5b: two-layer ReLU networks under l2 and under dropout of hidden units; reported."""
    rng = np.random.default_rng(seed)
    sets = [separable_points(rng, 20, 2, gap=(0.3, 0.8)) for _ in range(num_seeds)]
    starts = [(rng.normal(size=(HIDDEN, 2)), rng.normal(size=HIDDEN)) for _ in sets]
    times = log_spaced(last, per_decade=1)
    found = _regularized_networks(sets, starts, times)
    return Check(
        "X-S5b networks",
        "in networks l2 makes weights matter; dropout of hidden units need not stop the norm",
        "TREND",
        (
            *_lambda_rows(found),
            *_dropout_rows(found),
            *interval_rows(
                "angle at lambda = 0.01 less that at 1e-5",
                mean_interval(found.angles[:, 1] - found.angles[:, 3]),
            ),
        ),
        assumptions=f"{HIDDEN} ReLU units, separable data, class weights 1:1, 1:10 and 10:1",
        control=(
            Measured(
                "lambda = 0.1: minus the median growth of |theta|^2 per log t",
                -float(np.median(found.growth[:, :, 0])),
                -0.1,
            ),
        ),
        plot=Plot(
            "steps",
            "median |theta|^2",
            {
                name: curve(times, np.median(found.squares[:, :, index], axis=(0, 1)))
                for name, index in (
                    ("lambda = 0.1", 0),
                    ("lambda = 1e-3", 2),
                    ("lambda = 0", 4),
                    ("hidden dropout", 5),
                )
            },
            "x",
        ),
    )


def _lambda_rows(found: RegularizedNetworks) -> list[Measured]:
    rows = []
    for index, regularization in enumerate(LAMBDAS):
        name = f"lambda = {regularization:.0e}"
        collapsed = found.collapsed[:, :, index]
        rows.append(Measured(f"{name}: share that ends at zero", float(collapsed.mean())))
        if not collapsed.any():
            angle = mean_interval(found.angles[:, index])
            rows += interval_rows(f"{name}: angle of the functions, degrees", angle)
        growth = float(np.median(found.growth[:, :, index]))
        rows.append(Measured(f"{name}: median growth of |theta|^2 per log t, last decade", growth))
    return rows


def _dropout_rows(found: RegularizedNetworks) -> list[Measured]:
    growth = found.growth[:, :, -1]
    angle = mean_interval(found.angles[:, -1])
    return [
        *interval_rows("hidden dropout: angle of the functions, degrees", angle),
        Measured(
            "hidden dropout: median growth of |theta|^2 per log t, last decade",
            float(np.median(growth)),
        ),
        Measured("hidden dropout: share that grows by more than 0.1", float(np.mean(growth > 0.1))),
        Measured(
            "hidden dropout: share with a unit active on its own class only",
            float(np.mean(found.pure)),
        ),
    ]


def _regularized_networks(
    sets: list[np.ndarray], starts: list[tuple[np.ndarray, np.ndarray]], times: np.ndarray
) -> RegularizedNetworks:
    """Trains on every set [N, D] from its start [H, D], [H]."""
    shape = (len(sets), len(ARMS), len(LAMBDAS) + 1)
    cases = list(np.ndindex(*shape))
    inputs = np.stack([SIGNS[:, None] * sets[s] for s, _, _ in cases])
    trained = _train(
        inputs,
        np.stack([ARMS[arm] for _, arm, _ in cases]),
        (
            np.stack([starts[s][0] for s, _, _ in cases]),
            np.stack([starts[s][1] for s, _, _ in cases]),
        ),
        times,
        np.array([np.append(LAMBDAS, 0.0)[index] for _, _, index in cases]),
        np.array([KEPT if index == len(LAMBDAS) else 1.0 for _, _, index in cases]),
    )
    squares = np.sum(trained.inner**2, axis=(2, 3)) + np.sum(trained.outer**2, axis=2)
    squares = squares.reshape(*shape, len(times))
    collapsed = squares[..., -1] < 1e-6  # zero is a stationary point, and a minimum if l2 is strong
    pure = np.array([_has_pure_unit(trained, k, inputs[k]) for k in range(len(cases))])
    return RegularizedNetworks(
        squares,
        (squares[..., -1] - squares[..., -2]) / np.log(10),
        collapsed,
        _function_angles(trained, collapsed),
        pure.reshape(shape)[..., -1],
    )


def _function_angles(trained: RecordedNetworks, collapsed: np.ndarray) -> np.ndarray:
    """Between the last functions of two weightings on the unit circle, mean over the pairs.

    [S, A, P] -> [S, P], in degrees; a network at zero is at the distance 1 of all others.
    """
    turn = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    circle = np.column_stack([np.cos(turn), np.sin(turn)])
    hidden = np.maximum(np.einsum("khd,gd->kgh", trained.inner[:, -1], circle), 0)
    outputs = np.einsum("kgh,kh->kg", hidden, trained.outer[:, -1])
    outputs = outputs.reshape(*collapsed.shape, -1)
    directions = np.where(collapsed[..., None], 0.0, outputs)
    directions[~collapsed] = unit(directions[~collapsed])
    pairs = itertools.combinations(range(len(ARMS)), 2)
    chords = [np.linalg.norm(directions[:, i] - directions[:, j], axis=-1) for i, j in pairs]
    return degrees_of_chords(np.mean(chords, axis=0))


def _train(
    inputs: np.ndarray,
    weights: np.ndarray,
    start: tuple[np.ndarray, np.ndarray],
    times: np.ndarray,
    penalties: np.ndarray,
    kept: np.ndarray,
) -> RecordedNetworks:
    """Descent of the risk expected over masks of the hidden units, steps 0.1 / max(1, L)."""
    with jax.enable_x64(True):
        lengths = jnp.asarray(np.diff(np.append(0, times)))
        arrays = (inputs, weights, *start, penalties, kept)
        inner, outer = _descend(
            *(jnp.asarray(array, float) for array in arrays), jnp.asarray(SIGNS), lengths
        )
        return RecordedNetworks(*(np.swapaxes(np.asarray(part), 0, 1) for part in (inner, outer)))


@jax.jit
def _descend(inputs, weights, inner, outer, penalties, kept, labels, lengths):
    count = inputs.shape[1]

    def risk(params, inputs, weights, penalty, kept):
        inner, outer = params
        pulls = labels[:, None] * jnp.maximum(inputs @ inner.T, 0) * outer[None]  # [N, H]
        # Units are dropped independently, so that the expectation is a product.
        factors = 1 - kept + kept * jnp.exp(-pulls / kept)
        loss = jnp.sum(weights * jnp.prod(factors, axis=1)) / count
        return loss + penalty * (jnp.sum(inner**2) + jnp.sum(outer**2))

    slopes_of = jax.vmap(jax.value_and_grad(risk))

    def step(_, params):
        values, slopes = slopes_of(params, inputs, weights, penalties, kept)
        rates = 0.1 / jnp.maximum(1, values)
        return jax.tree.map(
            lambda p, s: p - rates.reshape(-1, *[1] * (p.ndim - 1)) * s, params, slopes
        )

    def segment(params, length):
        params = jax.lax.fori_loop(0, length, step, params)
        return params, params

    return jax.lax.scan(segment, (inner, outer), lengths)[1]


def _has_pure_unit(trained: RecordedNetworks, index: int, inputs: np.ndarray) -> bool:
    """Whether some unit of the last network is active, and only where its sign is the label."""
    active = inputs @ trained.inner[index, -1].T > 0
    right = SIGNS[:, None] * np.sign(trained.outer[index, -1]) > 0
    return bool(np.any(np.any(active, axis=0) & np.all(~active | right, axis=0)))
