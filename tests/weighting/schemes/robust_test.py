"""Robust weights against SciPy's linear and quadratic programs, and group DRO against a loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special

from weighting import Signals
from weighting.schemes import robust as robust

LOSSES = np.array([0.3, 2.0, 0.7, 1.1, 2.0, 0.05, 3.5])


def signals(values, **fields):
    return Signals(jnp.asarray(values, jnp.result_type(float)), **fields)


def update(scheme, batch):
    weights, _ = scheme.update(batch.valid, scheme.init(jax.random.key(0), None), batch)
    return np.asarray(weights)


def best_weights(penalty, losses):
    """Maximizes mean(w l) - penalty(w) over w >= 0 of mean one by sequential programming."""
    size = len(losses)
    result = optimize.minimize(
        lambda w: -np.mean(w * losses) + penalty(w),
        np.ones(size),
        method="SLSQP",
        bounds=[(1e-12, None)] * size,
        constraints={"type": "eq", "fun": lambda w: np.mean(w) - 1},
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    return result.x


# --- conditional value at risk --------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.05, 1 / 7, 0.2, 0.4, 0.5, 3 / 7, 0.9, 1.0])
def test_cvar_solves_its_linear_program(float64, alpha):
    size = LOSSES.size
    weights = update(robust.cvar(alpha), signals(LOSSES))
    solution = optimize.linprog(
        -LOSSES, A_eq=np.ones((1, size)), b_eq=[size], bounds=[(0, 1 / alpha)] * size
    )
    assert weights.mean() == pytest.approx(1, abs=1e-12)
    assert weights.min() >= 0
    assert weights.max() <= 1 / alpha + 1e-12 or alpha < 1 / size
    assert LOSSES @ weights == pytest.approx(-solution.fun, rel=1e-10) or alpha < 1 / size
    assert weights[1] == weights[4]  # their losses tie


def test_cvar_is_the_minimum_over_thresholds(float64):
    # Rockafellar and Uryasev: min over c of c + mean(max(l - c, 0)) / alpha, attained at a loss.
    for alpha in (0.15, 0.3, 0.65):
        value = min(c + np.mean(np.maximum(LOSSES - c, 0)) / alpha for c in LOSSES)
        weights = update(robust.cvar(alpha), signals(LOSSES))
        assert np.mean(weights * LOSSES) == pytest.approx(value, rel=1e-12)


def test_cvar_by_hand():
    four = signals([1.0, 4.0, 2.0, 3.0])
    np.testing.assert_allclose(update(robust.cvar(0.5), four), [0, 2, 0, 2])
    np.testing.assert_allclose(update(robust.cvar(0.625), four), [0, 1.6, 0.8, 1.6], rtol=1e-6)
    np.testing.assert_allclose(update(robust.cvar(1e-3), four), [0, 4, 0, 0])
    np.testing.assert_allclose(update(robust.cvar(1.0), four), np.ones(4))
    tied = signals([2.0, 2.0, 2.0, 0.0, 9.0], mask=jnp.array([1, 1, 1, 1, 0]))
    np.testing.assert_allclose(
        update(robust.cvar(0.5), tied), [4 / 3, 4 / 3, 4 / 3, 0, 0], rtol=1e-6
    )
    slightly_more = np.float32(1 / 2 + 2e-7)  # counts as two of four, whose weights keep the bound
    assert max(update(robust.cvar(slightly_more), four)) == 1 / slightly_more
    with pytest.raises(ValueError, match="alpha must lie in"):
        robust.cvar(0.0)
    with pytest.raises(ValueError, match="losses must be a vector"):
        robust.cvar_weights(jnp.ones((2, 2)), 0.5)


# --- tilting --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tilt", [-2.0, 0.0, 0.5, 4.0])
def test_tilted_weights_are_a_softmax(tilt):
    weights = update(robust.tilted(tilt), signals(LOSSES))
    np.testing.assert_allclose(weights, 7 * special.softmax(tilt * LOSSES), rtol=1e-5)


def test_tilted_weights_solve_the_entropic_program(float64):
    tilt = 1.3
    weights = update(robust.tilted(tilt), signals(LOSSES))
    best = best_weights(lambda w: np.mean(special.xlogy(w, w)) / tilt, LOSSES)
    np.testing.assert_allclose(weights, best, atol=1e-5)
    value = np.mean(weights * LOSSES) - np.mean(weights * np.log(weights)) / tilt
    tilted_risk = (special.logsumexp(tilt * LOSSES) - np.log(7)) / tilt
    assert value == pytest.approx(tilted_risk, rel=1e-12)


def test_tilted_weights_are_the_gradient_of_the_tilted_risk():
    def tilted_risk(losses):
        return jax.nn.logsumexp(0.8 * losses) / 0.8

    gradient = jax.grad(tilted_risk)(jnp.asarray(LOSSES))
    np.testing.assert_allclose(update(robust.tilted(0.8), signals(LOSSES)), 7 * gradient, rtol=1e-5)


def test_tilted_survives_extremes():
    huge = signals([0.0, 1e8, 1e8, -1e8, 3e8], mask=jnp.array([1, 1, 1, 1, 0]))
    np.testing.assert_allclose(update(robust.tilted(100.0), huge), [0, 2, 2, 0, 0])
    np.testing.assert_allclose(update(robust.tilted(-100.0), huge), [0, 0, 0, 4, 0])
    with pytest.raises(ValueError, match="tilt must lie in"):
        robust.tilted(np.inf)


# --- chi square -----------------------------------------------------------------------------------


@pytest.mark.parametrize("regularization", [0.05, 0.3, 1.0, 20.0])
def test_chi_square_weights_solve_their_program(float64, regularization):
    weights = update(robust.chi_square_dro(regularization), signals(LOSSES))
    best = best_weights(lambda w: regularization * np.mean((w - 1) ** 2), LOSSES)
    np.testing.assert_allclose(weights, best, atol=1e-6)


def test_a_penalty_of_fast_dro_is_half_of_it_here(float64):
    # fast-dro: p . l - reg / (2 n) |n p - 1|^2 with p = w / n
    weights = update(robust.chi_square_dro(0.8 / 2), signals(LOSSES))
    best = best_weights(lambda w: 0.8 * 0.5 * np.mean((w - 1) ** 2), LOSSES)
    np.testing.assert_allclose(weights, best, atol=1e-6)


def test_chi_square_ball_has_the_penalized_solution(float64):
    weights = update(robust.chi_square_dro(0.4), signals(LOSSES))
    radius = np.mean((weights - 1) ** 2)
    ball = optimize.minimize(
        lambda w: -np.mean(w * LOSSES),
        np.ones(7),
        method="SLSQP",
        bounds=[(0, None)] * 7,
        constraints=[
            {"type": "eq", "fun": lambda w: np.mean(w) - 1},
            {"type": "ineq", "fun": lambda w: radius - np.mean((w - 1) ** 2)},
        ],
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    np.testing.assert_allclose(weights, ball.x, atol=1e-5)


def test_chi_square_by_hand():
    # 1 + (l - mean) / (2 lambda), with mean 2 and lambda 1
    batch = signals([1.0, 2.0, 3.0])
    np.testing.assert_allclose(update(robust.chi_square_dro(1.0), batch), [0.5, 1, 1.5], rtol=1e-6)
    np.testing.assert_allclose(update(robust.chi_square_dro(1e-6), batch), [0, 0, 3], atol=1e-5)
    with pytest.raises(ValueError, match="regularization must be positive"):
        robust.chi_square_dro(0.0)


# --- group DRO ------------------------------------------------------------------------------------


def group_dro_by_loop(batches, num_groups, step_size, margins):
    """Algorithm 1 with every group of the batch updated, one example at a time."""
    q = [1 / num_groups] * num_groups
    all_weights = []
    for losses, groups in batches:
        members = {g: [x for x, h in zip(losses, groups, strict=True) if h == g] for g in groups}
        for g, own in members.items():
            q[g] *= np.exp(step_size * (sum(own) / len(own) + margins[g]))
        q = [x / sum(q) for x in q]
        all_weights.append([q[g] * len(losses) / len(members[g]) for g in groups])
    return all_weights, q


@pytest.mark.parametrize("adjustment", [0.0, 3.0])
def test_group_dro_against_a_loop(float64, adjustment):
    generator = np.random.default_rng(0)
    groups = generator.integers(0, 4, 30)
    counts = np.bincount(groups, minlength=4)
    scheme = robust.group_dro(
        4, 0.3, groups=groups, group_counts=counts, adjustment=adjustment, normalize=False
    )
    rows = [generator.permutation(30)[:5] for _ in range(6)]
    batches = [(generator.exponential(size=5), groups[row]) for row in rows]
    expected, q = group_dro_by_loop(batches, 4, 0.3, adjustment / np.sqrt(counts))
    state = scheme.init(None, None)
    for row, (losses, own_groups), target in zip(rows, batches, expected, strict=True):
        batch = signals(losses, indices=jnp.asarray(row))
        weights, state = scheme.update(batch.valid, state, batch)
        np.testing.assert_allclose(weights, target, rtol=1e-10)
        assert np.mean(weights) == pytest.approx(
            sum(np.exp(state.log_probabilities)[g] for g in set(own_groups))
        )
    np.testing.assert_allclose(np.exp(state.log_probabilities), q, rtol=1e-10)


def test_group_dro_by_hand_with_labels_and_padding():
    batch = signals(
        [1.0, 3.0, 0.0, 50.0], labels=jnp.array([0, 0, 1, 1]), mask=jnp.array([1, 1, 1, 0])
    )
    # log q = (2 ln 2, 0, 0): q = (4, 1, 1) / 6, groups of 2 and 1 in a batch of 3
    scheme = robust.group_dro(3, np.log(2), normalize=False)
    np.testing.assert_allclose(update(scheme, batch), [1, 1, 0.5, 0], rtol=1e-6)
    np.testing.assert_allclose(
        update(robust.group_dro(3, np.log(2)), batch), [1.2, 1.2, 0.6, 0], rtol=1e-6
    )
    equal = robust.group_dro(3, 0.0)
    np.testing.assert_allclose(update(equal, batch), [0.75, 0.75, 1.5, 0], rtol=1e-6)


def test_group_dro_recovers_from_extremes():
    scheme = robust.group_dro(2, 1.0)
    state = scheme.init(None, None)
    first = signals([1e8, 0.0], labels=jnp.array([0, 1]))
    weights, state = scheme.update(jnp.ones(2), state, first)
    np.testing.assert_array_equal(weights, [2, 0])
    second = signals([0.0, 2e8], labels=jnp.array([0, 1]))
    weights, state = scheme.update(jnp.ones(2), state, second)
    np.testing.assert_array_equal(weights, [0, 2])
    assert np.all(np.isfinite(state.log_probabilities))
    empty = signals([1.0, 1.0], labels=jnp.array([0, 1]), mask=jnp.zeros(2))
    weights, after = scheme.update(empty.valid, state, empty)
    np.testing.assert_array_equal(weights, [0, 0])
    np.testing.assert_allclose(after.log_probabilities, state.log_probabilities)


def test_group_dro_refuses_what_it_cannot_use():
    with pytest.raises(ValueError, match=r"groups must lie in \[0, 2\)"):
        robust.group_dro(2, groups=np.array([0, 1, 2]))
    with pytest.raises(ValueError, match="vector \\[N\\] of integers"):
        robust.group_dro(2, groups=np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="needs group_counts"):
        robust.group_dro(2, adjustment=1.0)
    with pytest.raises(ValueError, match="group_counts must be positive"):
        robust.group_dro(2, group_counts=np.array([3, 0]), adjustment=1.0)
    with pytest.raises(ValueError, match="group_counts must have shape"):
        robust.group_dro(2, group_counts=np.array([3, 4, 5]))
