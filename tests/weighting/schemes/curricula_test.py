"""Curricula by hand, by their objectives, and over the steps."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import weighting
from tests.weighting.schemes.one_batch import run, signals, update
from weighting.schemes import curricula, loss_based


def test_co_teaching_schedule_of_small_losses():
    rate = curricula.co_teaching_rate(0.4, 4)
    np.testing.assert_allclose([rate(t) for t in (0, 1, 2, 4, 9)], [1, 0.9, 0.8, 0.6, 0.6])
    scheme = weighting.scheduled(
        lambda keep_fraction: loss_based.small_losses(keep_fraction, normalize=False),
        keep_fraction=curricula.co_teaching_rate(0.5, 2),
    )
    kept = [weights.sum() for weights in run(scheme, [signals(np.arange(8.0))] * 4)]
    assert kept == [8, 6, 4, 4]
    with pytest.raises(ValueError, match="noise_rate must lie in"):
        curricula.co_teaching_rate(1.0, 4)


def test_root_pace_by_hand():
    pace = curricula.root_pace(100, 0.2)
    # sqrt(0.04 + 0.96 t / 100)
    expected = [0.2, math.sqrt(0.28), math.sqrt(0.52), 1, 1]
    np.testing.assert_allclose([pace(t) for t in (0, 25, 50, 100, 1000)], expected, rtol=1e-6)


def test_curriculum_admits_the_easiest_of_the_training_set():
    difficulty = np.array([5.0, 1.0, 3.0, 3.0, 2.0, 4.0, 0.0, 9.0])
    scheme = curricula.curriculum(difficulty, 4, initial_fraction=0.5, normalize=False)
    batch = signals(np.zeros(8), indices=jnp.arange(8))
    steps = run(scheme, [batch] * 5)
    # fractions sqrt(0.25 + 0.75 t / 4) of 8 examples: 4, 5.3, 6.3, 7.2, 8
    for weights, num_kept in zip(steps, (4, 6, 7, 8, 8), strict=True):
        cutoff = np.sort(difficulty)[num_kept - 1]  # a tie at the cutoff enters with it
        np.testing.assert_array_equal(weights, difficulty <= cutoff)
    hard_alone = signals([0.0, 0.0], indices=jnp.array([0, 7]))
    np.testing.assert_array_equal(
        update(curricula.curriculum(difficulty, 4), hard_alone), np.zeros(2)
    )
    half = signals([0.0, 0.0], indices=jnp.array([6, 7]))
    np.testing.assert_array_equal(update(curricula.curriculum(difficulty, 4), half), [2, 0])


def test_curriculum_refuses_difficulties_it_cannot_rank():
    with pytest.raises(ValueError, match="difficulty must be finite"):
        curricula.curriculum(np.array([1.0, np.nan]), 10)
    with pytest.raises(ValueError, match=r"difficulty must be a vector"):
        curricula.curriculum(np.ones((2, 2)), 10)
    with pytest.raises(ValueError, match="initial_fraction must lie in"):
        curricula.curriculum(np.ones(2), 10, 0.0)


def test_mentornet_curriculum_minimizes_its_objective(float64):
    losses, ramp = np.array([0.1, 1.0, 1.4, 2.2, 5.0]), 1.5
    # the 0.4 quantile of five losses is the second; the first batch sets the threshold
    weights = update(curricula.mentornet_curriculum(0.4, ramp, normalize=False), signals(losses))
    for loss, weight in zip(losses, weights, strict=True):
        best = optimize.minimize_scalar(
            lambda w, loss=loss: w * loss + ramp * w**2 / 2 - (1.0 + ramp) * w,
            bounds=(0, 1),
            method="bounded",
            options={"xatol": 1e-10},
        )
        assert weight == pytest.approx(best.x, abs=1e-7)
    hard = update(curricula.mentornet_curriculum(0.4, normalize=False), signals(losses))
    np.testing.assert_array_equal(hard, [1, 1, 0, 0, 0])
    wide = update(curricula.mentornet_curriculum(0.4, 1e8, normalize=False), signals(losses))
    np.testing.assert_allclose(wide, np.ones(5), atol=1e-6)


def test_mentornet_threshold_follows_the_quantile():
    batches = [
        signals([4.0, 1.0, 3.0, 2.0]),
        signals([0.0, 0.0, 0.0, 0.0], mask=jnp.zeros(4)),
        signals([10.0, 7.0, 5.5, 0.0], mask=jnp.array([1, 1, 1, 0])),
    ]
    scheme = curricula.mentornet_curriculum(0.5, 1.0, decay=0.5, normalize=False)
    weights = run(scheme, batches)
    np.testing.assert_allclose(weights[0], [0, 1, 0, 1], rtol=1e-6)  # half lie at or below 2
    np.testing.assert_array_equal(weights[1], np.zeros(4))
    # the median of three is 7; (0.5 * 0.5 * 2 + 0.5 * 7) / (1 - 0.5^2) = 4 / 0.75
    np.testing.assert_allclose(weights[2], [0, 0, 1 - (5.5 - 4 / 0.75), 0], rtol=1e-5)


def test_paced_self_paced_starts_at_the_median_and_grows():
    first = [signals([1.0, 2.0, 3.0]), signals([4.0, 6.0, 9.0])]  # medians 2 and 6: 4
    later = signals([3.9, 4.1, 7.9, 8.1, 15.9, 16.1])
    scheme = curricula.paced_self_paced(2, growth=2.0, normalize=False)
    weights = run(scheme, [*first, later, later, later, later, later, later])
    for row in weights[:2]:
        np.testing.assert_array_equal(row, np.ones(3))
    kept = [row.sum() for row in weights[2:]]
    assert kept == [1, 1, 3, 3, 5, 5]
    state = scheme.init(None, None)._replace(count=jnp.int32(10_000), start=jnp.float32(4.0))
    np.testing.assert_array_equal(scheme.update(jnp.ones(6), state, later)[0], np.ones(6))
    with pytest.raises(ValueError, match="growth must lie in"):
        curricula.paced_self_paced(2, growth=0.9)


def test_a_burn_in_is_a_chain():
    scheme = weighting.chain(curricula.mentornet_curriculum(0.5), weighting.deferred(2))
    weights = run(scheme, [signals([1.0, 2.0])] * 3)
    np.testing.assert_allclose(weights, [[1, 1], [1, 1], [2, 0]])
