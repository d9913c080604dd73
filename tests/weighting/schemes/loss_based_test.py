"""SuperLoss, gradient harmonizing, curricula, small losses: by hand, SciPy and decimal numbers."""

import decimal
import math
from decimal import Decimal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special

import weighting
from weighting import Signals
from weighting.schemes import curricula, loss_based
from weighting.schemes.gradient_harmonized import gradient_harmonized
from weighting.schemes.superloss import lambert_w, superloss


def signals(values, **fields):
    return Signals(jnp.asarray(values, jnp.result_type(float)), **fields)


def run(scheme, batches):
    """Weights of each batch in turn."""
    state, all_weights = scheme.init(jax.random.key(0), None), []
    for batch in batches:
        weights, state = scheme.update(batch.valid, state, batch)
        all_weights.append(np.asarray(weights))
    return all_weights


def update(scheme, batch):
    return run(scheme, [batch])[0]


# --- Lambert's W ----------------------------------------------------------------------------------


def exact_lambert_w(x):
    """W of a float to forty digits, by Newton steps in decimal arithmetic."""
    with decimal.localcontext(prec=50):
        x, e = Decimal(float(x)), Decimal(1).exp()
        if x <= -1 / e:
            return Decimal(-1)
        w = (1 + x).ln() if x > 0 else (2 * (e * x + 1)).sqrt() - 1
        for _ in range(200):
            new = w - (w * w.exp() - x) / (w.exp() * (1 + w))
            if abs(new - w) <= Decimal(10) ** -40 * abs(w):
                break
            w = new
        return w


def grid(dtype):
    smallest = 1e-8 if dtype == np.float32 else 1e-17
    from_branch = np.append(0, np.geomspace(smallest, 0.367, 60)) - math.exp(-1)
    return np.concatenate(
        [from_branch, -np.geomspace(1e-30, 0.3, 30), [0.0], np.geomspace(1e-30, 1e30, 60)]
    ).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lambert_w_to_float_precision_up_to_the_branch_point(dtype):
    with jax.enable_x64(dtype == np.float64):
        x = grid(dtype)
        w = np.asarray(lambert_w(jnp.asarray(x)))
    assert w.dtype == dtype
    exact = [exact_lambert_w(value) for value in x]
    errors = [
        float(abs(Decimal(float(a)) - b) / abs(b)) if b else abs(float(a))
        for a, b in zip(w, exact, strict=True)
    ]
    assert max(errors) < 4 * np.finfo(dtype).eps


def test_lambert_w_against_scipy(float64):
    x = np.concatenate([np.linspace(-0.36, 5, 4000), np.geomspace(5, 1e300, 2000)])
    np.testing.assert_allclose(lambert_w(jnp.asarray(x)), special.lambertw(x).real, rtol=1e-14)
    assert np.isnan(lambert_w(-0.4))


def test_derivatives_of_lambert_w(float64):
    x = jnp.array([-0.36, -0.25, -1e-3, 0.0, 0.5, 3.0, 1e6])
    first = jax.vmap(jax.grad(lambert_w))(x)
    for value, slope in zip(x, first, strict=True):
        step = 1e-5 * max(1.0, abs(float(value)))
        ends = special.lambertw([value - step, value + step]).real
        assert slope == pytest.approx((ends[1] - ends[0]) / (2 * step), rel=1e-5)
    # W(x) = x - x^2 + (3/2) x^3 - ..., so W' = 1, W'' = -2, W''' = 9 at zero.
    second = jax.grad(jax.grad(lambert_w))
    np.testing.assert_allclose([second(0.0), jax.grad(second)(0.0)], [-2, 9], rtol=1e-12)


# --- SuperLoss ------------------------------------------------------------------------------------


def test_superloss_weights_minimize_its_objective(float64):
    losses, tau, regularization = np.array([0.9, 1.0, 1.3, 2.5, 9.0]), 1.0, 0.3
    weights = update(superloss(regularization, tau, normalize=False), signals(losses))
    for loss, weight in zip(losses, weights, strict=True):
        best = optimize.minimize_scalar(
            lambda log_sigma, loss=loss: (
                (loss - tau) * math.exp(log_sigma) + regularization * log_sigma**2
            ),
            bounds=(-30, 1),
            method="bounded",
            options={"xatol": 1e-12},
        )
        assert weight == pytest.approx(math.exp(best.x), rel=1e-6)
    # l - tau = 2 lambda e gives W(e) = 1, and l = tau gives W(0) = 0
    by_hand = update(
        superloss(0.5, 1.0, normalize=False), signals([1 + math.e, 1.0, 1 - 1 / math.e, -50.0])
    )
    np.testing.assert_allclose(by_hand, [math.exp(-1), 1, math.e, math.e], rtol=1e-7)


def test_superloss_weights_are_the_slope_of_the_superloss(float64):
    tau, regularization, step = 0.7, 0.4, 1e-5

    def minimum(loss):
        sigma = math.exp(-special.lambertw((loss - tau) / (2 * regularization)).real)
        return (loss - tau) * sigma + regularization * math.log(sigma) ** 2

    losses = [0.5, 0.7, 2.0, 30.0]
    slopes = [(minimum(x + step) - minimum(x - step)) / (2 * step) for x in losses]
    native = update(superloss(regularization, tau, normalize=False), signals(losses))
    np.testing.assert_allclose(native, slopes, rtol=1e-8)


def test_superloss_limits_and_extremes():
    losses = signals([0.1, 0.5, 1.5, 4.0])
    np.testing.assert_allclose(update(superloss(1e6, 1.0), losses), np.ones(4), atol=1e-5)
    np.testing.assert_allclose(update(superloss(1e-9, 1.0), losses), [2, 2, 0, 0], atol=1e-6)

    def total(losses):
        return jnp.sum(superloss(0.25, 1.0, normalize=False).update(1.0, (), signals(losses))[0])

    corner = 1.0 - 0.5 / math.e  # where the maximum switches, and W has infinite slope
    gradient = jax.grad(total)(jnp.array([0.0, corner, np.nextafter(corner, 2), 1e8]))
    assert np.all(np.isfinite(gradient))
    assert gradient[0] == 0


def test_superloss_threshold_follows_the_mean_loss():
    batches = [
        signals([1.0, 3.0, 100.0], mask=jnp.array([1, 1, 0])),
        signals([7.0, 7.0, 7.0], mask=jnp.zeros(3)),
        signals([4.0, 6.0, 8.0]),
    ]
    weights = run(superloss(2.0, decay=0.75, normalize=False), batches)

    def confidence(losses, tau):
        return np.exp(-special.lambertw(np.maximum((losses - tau) / 4, -np.exp(-1))).real)

    np.testing.assert_allclose(weights[0][:2], confidence(np.array([1.0, 3.0]), 2.0), rtol=1e-5)
    np.testing.assert_array_equal(weights[1], np.zeros(3))
    # (0.75 * 0.25 * 2 + 0.25 * 6) / (1 - 0.75^2), the empty batch left out
    tau = 1.875 / 0.4375
    np.testing.assert_allclose(weights[2], confidence(np.array([4.0, 6.0, 8.0]), tau), rtol=1e-5)


def test_superloss_refuses_bad_hyperparameters():
    with pytest.raises(ValueError, match="regularization must be positive"):
        superloss(0.0)
    with pytest.raises(ValueError, match="threshold must lie in"):
        superloss(1.0, math.nan)
    with pytest.raises(ValueError, match="decay must lie in"):
        superloss(1.0, decay=1.0)


# --- gradient harmonizing -------------------------------------------------------------------------


def binary_batch(gradient_norms, mask=None):
    """Scores of class-1 examples for which 1 - p_y is given."""
    p = 1 - np.asarray(gradient_norms)
    logits = jnp.asarray(np.log(p / (1 - p)), jnp.float32)
    return signals(np.zeros(p.size), logits=logits, labels=jnp.ones(p.size, int), mask=mask)


def test_gradient_harmonized_by_hand():
    # bins of width 1/4: [0.05, 0.1, 0.2], [], [0.6], [0.9, 0.99]
    batch = binary_batch([0.05, 0.6, 0.1, 0.9, 0.2, 0.99])
    density = np.array([12, 4, 12, 8, 12, 8])  # 4 times the number in the bin
    native = update(gradient_harmonized(4, decay=0.0, normalize=False), batch)
    np.testing.assert_allclose(native, 6 / density, rtol=1e-6)
    # dividing by the 3 occupied bins instead of 4 averages to one
    np.testing.assert_allclose(
        update(gradient_harmonized(4, decay=0.0), batch), 6 / density * 4 / 3, rtol=1e-6
    )
    np.testing.assert_allclose(update(gradient_harmonized(1), batch), np.ones(6), rtol=1e-6)


def test_gradient_harmonized_averages_its_bins():
    mask = jnp.array([1, 1, 0, 0])
    batches = [
        binary_batch([0.1, 0.2, 0.3, 0.9]),
        binary_batch([0.1, 0.1, 0.1, 0.1], mask=jnp.zeros(4)),
        binary_batch([0.4, 0.6, 0.6, 0.6], mask=mask),
    ]
    weights = run(gradient_harmonized(2, decay=0.5, normalize=False), batches)
    np.testing.assert_allclose(weights[0], 1 / (2 * np.array([0.75, 0.75, 0.75, 0.25])), rtol=1e-6)
    np.testing.assert_array_equal(weights[1], np.zeros(4))
    # shares: (0.25 * [0.75, 0.25] + 0.5 * [0.5, 0.5]) / 0.75
    low, high = 0.4375 / 0.75, 0.3125 / 0.75
    np.testing.assert_allclose(weights[2], [1 / (2 * low), 1 / (2 * high), 0, 0], rtol=1e-6)


def test_gradient_harmonized_counts_softmax_probabilities_by_histogram():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(50, 4)).astype(np.float32) * 3
    labels = generator.integers(0, 4, 50)
    norms = 1 - special.softmax(logits.astype(float), axis=1)[np.arange(50), labels]
    counts, edges = np.histogram(norms, bins=7, range=(0, 1))
    expected = 50 / (7 * counts[np.digitize(norms, edges[1:-1])])
    batch = signals(np.zeros(50), logits=jnp.asarray(logits), labels=jnp.asarray(labels))
    native = update(gradient_harmonized(7, normalize=False), batch)
    np.testing.assert_allclose(native, expected, rtol=1e-5)


# --- small losses ---------------------------------------------------------------------------------


def test_small_losses_by_hand():
    batch = signals([3.0, 1.0, 9.0, 1.0, 2.0], mask=jnp.array([1, 1, 1, 1, 0]))
    native = loss_based.small_losses(0.5, normalize=False)
    np.testing.assert_array_equal(update(native, batch), [0, 1, 0, 1, 0])
    np.testing.assert_allclose(update(loss_based.small_losses(0.5), batch), [0, 2, 0, 2, 0])
    np.testing.assert_allclose(update(loss_based.small_losses(0.01), batch), [0, 4, 0, 0, 0])
    np.testing.assert_allclose(update(loss_based.small_losses(1.0), batch), [1, 1, 1, 1, 0])
    with pytest.raises(ValueError, match="keep_fraction must lie in"):
        loss_based.small_losses(0.0)


def test_small_losses_counts_in_spite_of_rounding():
    batch = signals(np.arange(1000.0))
    for tenths in range(1, 11):
        kept = update(loss_based.small_losses(tenths / 10, normalize=False), batch).sum()
        assert kept == 100 * tenths


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


# --- curricula ------------------------------------------------------------------------------------


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
