"""Every loss by hand, by PyTorch, at its limits, and by finite differences."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from tests.weighting.losses.cases import (
    CASES,
    COUNTS,
    LABELS,
    LOGITS,
    TEACHER,
    TRANSITION,
    call,
    values_and_gradient,
)
from weighting import losses


def value_by_hand(name, row, label):
    odds = [math.exp(z) for z in row]
    return CASES[name][2]([o / sum(odds) for o in odds], row, label)


@pytest.mark.parametrize("name", CASES)
def test_by_hand_with_traced_hyperparameters(name, float64):
    """The values, and the gradient by central differences of the formula typed out above."""
    loss_fn, hyperparameters, _ = CASES[name]
    step = 1e-6 * np.eye(3)
    expected, slopes = [], []
    for z, y in zip(LOGITS, LABELS, strict=True):
        expected.append(value_by_hand(name, z, y))
        rise = [value_by_hand(name, z + d, y) - value_by_hand(name, z - d, y) for d in step]
        slopes.append(np.array(rise) / 2e-6)

    run = values_and_gradient(lambda z, y, traced: loss_fn(z, y, **traced))
    values, gradient = run(jnp.asarray(LOGITS), LABELS, hyperparameters)
    np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", CASES)
def test_finite_at_extreme_logits_and_of_their_dtype(name):
    logits = jnp.array([[1e4, -1e4, 0], [-1e4, 1e4, 0], [0, 0, 0], [1e4, 1e4, 1e4]])
    loss_fn = functools.partial(call, name)
    run = values_and_gradient(loss_fn)
    for label in range(3):
        for array in run(logits, np.full(4, label)):
            assert np.isfinite(array).all(), label
    for dtype in (jnp.float32, jnp.bfloat16):
        assert jax.eval_shape(loss_fn, logits.astype(dtype), LABELS).dtype == dtype


@pytest.mark.parametrize(
    ("name", "loss_fn"),
    {
        "q": lambda z, y: losses.generalized_cross_entropy(z, y, q=0.0),
        "tiny q": lambda z, y: losses.generalized_cross_entropy(z, y, q=1e-13),
        "q, truncated": lambda z, y: losses.truncated_generalized_cross_entropy(
            z, y, q=0.0, threshold=0.0
        ),
        "cutoff": lambda z, y: losses.truncated_cross_entropy(z, y, cutoff=math.inf),
        "smoothing": lambda z, y: losses.smoothed_cross_entropy(z, y, smoothing=0.0),
        "soft": lambda z, y: losses.bootstrap_soft(z, y, beta=1.0),
        "hard": lambda z, y: losses.bootstrap_hard(z, y, beta=1.0),
        "tau": lambda z, y: losses.logit_adjusted(z, y, class_counts=COUNTS, tau=0.0),
        "equal counts": lambda z, y: losses.vector_scaling(z, y, class_counts=np.full(3, 7)),
        "gamma": lambda z, y: losses.class_dependent_temperatures(
            z, y, class_counts=COUNTS, gamma=0.0
        ),
        "margin": lambda z, y: losses.ldam(z, y, class_counts=COUNTS, max_margin=0.0, scale=1.0),
        "alpha": lambda z, y: losses.distillation(z, y, teacher_logits=TEACHER, alpha=1.0),
        "forward": lambda z, y: losses.forward_corrected_cross_entropy(z, y, transition=np.eye(3)),
        "backward": lambda z, y: losses.backward_corrected_cross_entropy(
            z, y, transition=np.eye(3)
        ),
        "margins": lambda z, y: jax.nn.softplus(-losses.soft_margins(z, y)),
    }.items(),
)
def test_limits_are_cross_entropy(name, loss_fn, float64):
    expected = -scipy.special.log_softmax(LOGITS, axis=1)[np.arange(4), LABELS]
    gradient = scipy.special.softmax(LOGITS, axis=1) - np.eye(3)[LABELS]
    actual = values_and_gradient(loss_fn)(jnp.asarray(LOGITS), LABELS)
    np.testing.assert_allclose(actual[0], expected, rtol=1e-12, err_msg=name)
    np.testing.assert_allclose(actual[1], gradient, atol=1e-12, err_msg=name)


def test_losses_may_be_swept_over_hyperparameters(float64):
    z, y = jnp.asarray(LOGITS), jnp.asarray(LABELS)
    swept = jax.vmap(lambda q: losses.generalized_cross_entropy(z, y, q=q))(
        jnp.array([0.0, 0.4, 1.0])
    )
    p = scipy.special.softmax(LOGITS, axis=1)[np.arange(4), LABELS]
    np.testing.assert_allclose(swept, [-np.log(p), (1 - p**0.4) / 0.4, 1 - p], rtol=1e-12)


def test_against_torch():
    torch = pytest.importorskip("torch")
    z, y, teacher = torch.tensor(LOGITS), torch.tensor(LABELS), torch.tensor(TEACHER)
    smoothed = torch.nn.functional.cross_entropy(z, y, label_smoothing=0.3, reduction="none")
    divergence = torch.nn.functional.kl_div(
        torch.log_softmax(z / 2, 1), torch.softmax(teacher / 2, 1), reduction="none"
    ).sum(1)
    hard = torch.nn.functional.cross_entropy(z, y, reduction="none")
    logits, labels = jnp.asarray(LOGITS, jnp.float32), jnp.asarray(LABELS)
    np.testing.assert_allclose(
        losses.smoothed_cross_entropy(logits, labels, smoothing=0.3), smoothed.numpy(), rtol=1e-5
    )
    np.testing.assert_allclose(
        call("distillation", logits, labels),
        (0.3 * hard + 0.7 * 4 * divergence).numpy(),
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z, y: losses.generalized_cross_entropy(z, y, q=1.5), "q must lie"),
        (
            lambda z, y: losses.truncated_generalized_cross_entropy(z, y, threshold=1.0),
            r"threshold must lie in \[0, 1\)",
        ),
        (lambda z, y: losses.truncated_cross_entropy(z, y, cutoff=0.0), "cutoff must lie"),
        (lambda z, y: losses.smoothed_cross_entropy(z, y, smoothing=-0.1), "smoothing must lie"),
        (lambda z, y: losses.bootstrap_soft(z, y, beta=1.1), "beta must lie"),
        (lambda z, y: losses.bootstrap_soft(z, y, target="held"), "target must be one of"),
        (lambda z, y: losses.bootstrap_hard(z, y, beta=math.nan), "beta must lie"),
        (lambda z, y: losses.focal(z, y, alpha=np.ones(2)), "a vector of 3 scales"),
        (lambda z, y: losses.logit_adjusted(z, y, class_counts=np.ones(4)), "each column"),
        (lambda z, y: losses.ldam(z, y, class_counts=np.array([1, 0, 2])), "must be positive"),
        (lambda z, y: losses.ldam(z, y, class_counts=COUNTS, scale=0.0), "scale must be positive"),
        (lambda z, y: losses.polynomial_tailed(z, y, alpha=0.0), "alpha must be positive"),
        (lambda z, y: losses.polynomial_tailed(z, y, beta=math.inf), "beta must lie"),
        (lambda z, y: losses.distillation(z, y, teacher_logits=z[:2]), "same examples"),
        (
            lambda z, y: losses.distillation(z, y, teacher_logits=z, temperature=0.0),
            "temperature must be positive",
        ),
        (
            lambda z, y: losses.forward_corrected_cross_entropy(z, y, transition=TRANSITION.T),
            "needs transposing",
        ),
        (
            lambda z, y: losses.forward_corrected_cross_entropy(
                z, y, transition=np.array([[1.5, -0.5, 0], [0, 1, 0], [0, 0, 1]])
            ),
            "a smallest entry of -0.5",
        ),
        (
            lambda z, y: losses.forward_corrected_cross_entropy(z, y, transition=np.eye(2)),
            "must be a matrix",
        ),
        (
            lambda z, y: losses.forward_corrected_cross_entropy(
                z, y, transition=np.eye(3)[[0, 1, 1]]
            ),
            "every label must be possible",
        ),
        (
            lambda z, y: losses.backward_corrected_cross_entropy(
                z, y, transition=np.full((3, 3), 1 / 3)
            ),
            "must be invertible",
        ),
        (lambda z, y: losses.smoothed_cross_entropy(z[:, 0], y), "use `logistic`"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.asarray(LOGITS, jnp.float32), jnp.asarray(LABELS))
