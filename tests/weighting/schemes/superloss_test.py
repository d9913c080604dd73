"""SuperLoss: Lambert's W to forty digits, its objective by SciPy, its limits."""

import decimal
import math
from decimal import Decimal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special

from tests.weighting.schemes.one_batch import run, signals, update
from weighting.schemes.superloss import lambert_w, superloss


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
