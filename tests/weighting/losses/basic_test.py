"""Focal loss by hand, and the margins behind the losses."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from tests.weighting.losses.cases import LABELS, LOGITS, values_and_gradient
from weighting import losses


def test_soft_margins():
    z, y = jnp.asarray(LOGITS, jnp.float32), jnp.asarray(LABELS)
    p = scipy.special.softmax(LOGITS, axis=1)[np.arange(4), LABELS]
    soft_margins = jax.jit(losses.soft_margins)
    np.testing.assert_allclose(soft_margins(z, y), scipy.special.logit(p), rtol=1e-5)
    two, sign = z[:, :2], jnp.array([0, 1, 1, 0])
    expected = (LOGITS[:, 1] - LOGITS[:, 0]) * [-1, 1, 1, -1]
    np.testing.assert_allclose(soft_margins(two, sign), expected, rtol=1e-6)
    np.testing.assert_allclose(
        losses.soft_margins(two[:, 1] - two[:, 0], sign), expected, rtol=1e-6
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("alpha", [0.25, np.array([0.2, 0.3, 0.5])])
def test_focal_loss_and_its_gradient_by_hand(float64, gamma, alpha):
    p = scipy.special.softmax(LOGITS, axis=1)
    own, scale = p[np.arange(4), LABELS], np.broadcast_to(alpha, 3)[LABELS]
    run = values_and_gradient(lambda z: losses.focal(z, LABELS, gamma=gamma, alpha=alpha))
    values, gradient = run(jnp.asarray(LOGITS))
    np.testing.assert_allclose(values, -scale * (1 - own) ** gamma * np.log(own), rtol=1e-12)
    # d/dp of it, times p_y (e_y - p), the derivative of p_y by the logits
    slope = gamma * (1 - own) ** (gamma - 1) * np.log(own) - (1 - own) ** gamma / own
    expected = (scale * slope * own)[:, None] * (np.eye(3)[LABELS] - p)
    np.testing.assert_allclose(gradient, expected, rtol=1e-10)


def test_focal_loss_of_a_single_score(float64):
    scores, labels = jnp.array([1.5, -0.5]), jnp.array([1, 0])
    p = [1 / (1 + math.exp(-1.5)), 1 / (1 + math.exp(-0.5))]
    expected = [-((1 - x) ** 2) * math.log(x) for x in p]
    np.testing.assert_allclose(losses.focal(scores, labels), expected, rtol=1e-12)
