"""Classes masked by logits of -inf, and labels that are no class."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from tests.weighting.losses.cases import COUNTS, LOGITS, TEACHER, TRANSITION, values_and_gradient
from tests.weighting.losses.published_gradients import GRADIENTS, SLOPES
from weighting import losses

LABELS = np.array(
    [1, 2, 1, 2]
)  # class 0 is masked; it has neither the most nor the fewest examples
WITHOUT = {"class_counts": COUNTS[1:], "teacher_logits": TEACHER[:, 1:]}

# Losses of which class 0 is part even if nobody is in it: as many classes, or what it is taken for.
WITH_ALL_CLASSES = {"smoothed", "forward", "backward", "balanced_cross_entropy"}
SHARED = [name for name in GRADIENTS if name not in WITH_ALL_CLASSES]


def masked(logits, *classes):
    return jnp.asarray(logits).at[:, np.array(classes)].set(-jnp.inf)


def reduced(loss_fn):
    """The loss on the classes that are left."""
    if not isinstance(loss_fn, functools.partial):
        return loss_fn
    settings = {key: WITHOUT.get(key, value) for key, value in loss_fn.keywords.items()}
    if np.ndim(settings.get("alpha", 0)):
        settings["alpha"] = settings["alpha"][1:]
    return functools.partial(loss_fn.func, **settings)


def with_masked_teacher(loss_fn):
    if "teacher_logits" not in getattr(loss_fn, "keywords", {}):
        return loss_fn
    return functools.partial(loss_fn, teacher_logits=masked(TEACHER, 0))


@pytest.mark.parametrize("name", SHARED)
def test_a_masked_class_is_as_good_as_gone(name, float64):
    loss_fn = GRADIENTS[name][0]
    expected = values_and_gradient(reduced(loss_fn))(jnp.asarray(LOGITS[:, 1:]), LABELS - 1)
    run = values_and_gradient(with_masked_teacher(loss_fn))
    values, gradient = run(masked(LOGITS, 0), LABELS)
    np.testing.assert_allclose(values, expected[0], rtol=1e-12)
    np.testing.assert_allclose(gradient[:, 1:], expected[1], rtol=1e-11, atol=1e-15)
    np.testing.assert_array_equal(gradient[:, 0], 0)


@pytest.mark.parametrize("name", SHARED)
def test_with_one_class_left_there_is_nothing_to_learn(name, float64):
    loss_fn = GRADIENTS[name][0]
    if name == "distillation":
        loss_fn = functools.partial(loss_fn, teacher_logits=masked(TEACHER, 0, 1))
    values, gradient = values_and_gradient(loss_fn)(masked(LOGITS, 0, 1), np.full(4, 2))
    np.testing.assert_array_equal(np.abs(values), 0)
    np.testing.assert_array_equal(np.abs(gradient), 0)


@pytest.mark.parametrize("classes", [(0,), (0, 1)])
def test_a_balanced_loss_has_the_factor_of_all_classes(classes, float64):
    balanced = functools.partial(losses.balanced_cross_entropy, class_counts=COUNTS)
    labels = np.full(4, 2)
    plain = values_and_gradient(losses.cross_entropy)(masked(LOGITS, *classes), labels)
    found = values_and_gradient(balanced)(masked(LOGITS, *classes), labels)
    for one, other in zip(found, plain, strict=True):
        np.testing.assert_allclose(one, other * 98 / 243, rtol=1e-14)


@pytest.mark.parametrize("classes", [(0,), (0, 1)])
def test_forward_correction_mixes_the_classes_left(classes, float64):
    """-log sum of p_i T_iy over them; the posterior of the true class is on them alone."""
    forward = functools.partial(losses.forward_corrected_cross_entropy, transition=TRANSITION)
    values, gradient = values_and_gradient(forward)(masked(LOGITS, *classes), np.full(4, 2))
    odds = np.exp(LOGITS)
    odds[:, classes] = 0
    p = odds / odds.sum(axis=1, keepdims=True)
    joint = p * TRANSITION[:, 2]
    np.testing.assert_allclose(values, -np.log(joint.sum(axis=1)), rtol=1e-13)
    expected = p - joint / joint.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-15)


def test_an_impossible_noisy_label_is_infinite_and_poisons_nothing():
    """Class 0 alone is left, and never called 2."""
    forward = functools.partial(losses.forward_corrected_cross_entropy, transition=TRANSITION)
    values, gradient = values_and_gradient(forward)(masked(LOGITS, 1, 2), np.full(4, 2))
    np.testing.assert_array_equal(values, np.inf)
    assert np.isfinite(gradient).all()


def test_smoothing_towards_a_masked_class_is_infinite_and_says_so(float64):
    smoothed = functools.partial(losses.smoothed_cross_entropy, smoothing=0.3)
    values, gradient = values_and_gradient(smoothed)(masked(LOGITS, 0), LABELS)
    np.testing.assert_array_equal(values, np.inf)
    p = np.exp(LOGITS) * [0, 1, 1]
    expected = p / p.sum(axis=1, keepdims=True) - 0.7 * np.eye(3)[LABELS] - 0.1
    np.testing.assert_allclose(gradient, expected, rtol=1e-12)
    plain = functools.partial(losses.smoothed_cross_entropy, smoothing=0.0)
    for one, other in zip(
        values_and_gradient(plain)(masked(LOGITS, 0), LABELS),
        values_and_gradient(losses.cross_entropy)(masked(LOGITS, 0), LABELS),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-14)


def test_distillation_from_a_teacher_that_knows_the_masked_class_is_infinite():
    labels_alone, both = (
        functools.partial(losses.distillation, teacher_logits=TEACHER, alpha=alpha)
        for alpha in (1.0, 0.5)
    )
    values, gradient = values_and_gradient(both)(masked(LOGITS, 0), LABELS)
    np.testing.assert_array_equal(values, np.inf)
    assert np.isfinite(gradient).all()
    values, _ = values_and_gradient(labels_alone)(masked(LOGITS, 0), LABELS)
    np.testing.assert_allclose(values, losses.cross_entropy(masked(LOGITS, 0), LABELS), rtol=1e-6)


def test_backward_correction_of_a_masked_class_has_the_sign_of_its_coefficient(float64):
    backward = functools.partial(losses.backward_corrected_cross_entropy, transition=TRANSITION)
    values, gradient = values_and_gradient(backward)(masked(LOGITS, 0), LABELS)
    signs = np.sign(np.linalg.inv(TRANSITION)[LABELS, 0])
    np.testing.assert_array_equal(values, signs * np.inf)
    assert np.isfinite(gradient).all()
    apart = np.array([[1.0, 0, 0], [0, 0.8, 0.2], [0, 0.3, 0.7]])  # class 0 is never mistaken
    found, alone = (
        values_and_gradient(
            functools.partial(losses.backward_corrected_cross_entropy, transition=matrix)
        )(logits, labels)
        for matrix, logits, labels in (
            (apart, masked(LOGITS, 0), LABELS),
            (apart[1:, 1:], jnp.asarray(LOGITS[:, 1:]), LABELS - 1),
        )
    )
    np.testing.assert_allclose(found[0], alone[0], rtol=1e-12)
    np.testing.assert_allclose(found[1][:, 1:], alone[1], rtol=1e-12)


@pytest.mark.parametrize("name", GRADIENTS)
def test_a_label_that_is_no_class_is_nan(name):
    """Never another class's number: indices below zero would count from the end."""
    run = values_and_gradient(GRADIENTS[name][0])
    logits = jnp.asarray(LOGITS, jnp.float32)
    values, gradient = run(logits, np.array([-1, -100, 3, 100]))
    np.testing.assert_array_equal(values, np.nan)
    # A row of weight zero, such as padding, must not spoil the others' gradient.
    assert np.isfinite(gradient).all()


def test_labels_of_few_bits_do_not_wrap():
    labels = jnp.array([127, -1, -128], jnp.int8)
    values = losses.cross_entropy(jnp.zeros((3, 200)).at[:, 127].set(5.0), labels)
    assert values[0] < 1
    assert np.isnan(values[1:]).all()


@pytest.mark.parametrize("name", SLOPES)
def test_a_binary_label_other_than_zero_and_one_is_nan(name):
    scores, labels = jnp.array([0.3, -0.2, 0.5, 0.1]), jnp.array([-1, 2, -100, 1])
    values, gradient = values_and_gradient(SLOPES[name][0])(scores, labels)
    np.testing.assert_array_equal(np.isnan(values), [True, True, True, False])
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["logistic", "focal", "generalized", "polynomial_tailed"])
def test_extreme_scores_are_finite(name):
    scores = jnp.array([1e4, -1e4, 1e4, -1e4])
    values, slopes = values_and_gradient(SLOPES[name][0])(scores, jnp.array([1, 1, 0, 0]))
    assert np.isfinite(values).all()
    assert np.isfinite(slopes).all()
    assert values[0] == values[3] < values[1] == values[2]


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "focal, alpha per class"])
def test_extreme_logits_are_finite(name):
    logits = jnp.array([[1e4, -1e4, 0], [-1e4, 1e4, 0], [0, 0, 0], [1e4, 1e4, 1e4]])
    for label in range(3):
        for array in values_and_gradient(GRADIENTS[name][0])(logits, np.full(4, label)):
            assert np.isfinite(array).all(), label
