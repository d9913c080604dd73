"""Every loss's gradient against the published formula, by softmax and by sigmoid."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.weighting.losses.cases import CASES, LABELS, LOGITS, values_and_gradient
from tests.weighting.losses.published_gradients import GRADIENTS, SLOPES
from weighting import losses


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradient_is_the_published_one(name, float64):
    loss_fn, formula = GRADIENTS[name]
    for labels in (LABELS, (LABELS + 1) % 3):
        expected = [formula(z, y) for z, y in zip(LOGITS, labels, strict=True)]
        _, gradient = values_and_gradient(loss_fn)(jnp.asarray(LOGITS), labels)
        np.testing.assert_allclose(gradient, expected, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("name", SLOPES)
def test_slope_of_a_single_score_is_the_published_one(name, float64):
    loss_fn, slope = SLOPES[name]
    scores = np.array([-3.0, -0.9, -0.2, 0.4, 0.7, 2.5])
    for labels in (np.zeros(6, int), np.ones(6, int)):
        signs = 2 * labels - 1
        expected = [s * slope(s * z) for s, z in zip(signs, scores, strict=True)]
        for shape in ((6,), (6, 1)):
            _, gradient = values_and_gradient(loss_fn)(jnp.asarray(scores).reshape(shape), labels)
            np.testing.assert_allclose(np.ravel(gradient), expected, rtol=1e-11, atol=1e-14)


def test_no_loss_is_forgotten():
    others = {"binary_margins", "log_label_probabilities", "soft_margins"}
    tested = {loss_of(loss_fn) for loss_fn, _ in (*GRADIENTS.values(), *SLOPES.values())}
    assert tested == set(losses.__all__) - others
    assert {loss_of(case[0]) for case in CASES.values()} <= tested


def loss_of(function):
    return getattr(function, "func", function).__name__
