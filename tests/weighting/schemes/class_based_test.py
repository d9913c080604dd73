"""Class weights: by hand, in exact rational arithmetic, and against simulated label noise."""

import decimal
from decimal import Decimal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weighting import Signals
from weighting.schemes import class_based

COUNTS = np.array([6, 4, 2])


def weights_of_classes(scheme, num_classes=3):
    """The weight of one example of every class."""
    labels = jnp.arange(num_classes)
    batch = Signals(jnp.zeros(num_classes), labels=labels)
    return scheme.update(jnp.ones(num_classes), scheme.init(None, None), batch)[0]


def exact_effective_number_weights(counts, beta):
    """Cui et al.'s weights scaled to mean one over the training set, to fifty digits."""
    with decimal.localcontext(prec=50):
        beta = Decimal(beta)
        raw = [(1 - beta) / (1 - beta ** int(n)) for n in counts]
        mean = sum(n * w for n, w in zip(map(int, counts), raw, strict=True)) / sum(
            map(int, counts)
        )
        return [float(w / mean) for w in raw]


# --- by hand ------------------------------------------------------------------------------------


def test_class_weights_by_hand():
    values = np.array([1.0, 2.0, 8.0])
    np.testing.assert_array_equal(weights_of_classes(class_based.class_weights(values)), values)
    # (6 * 1 + 4 * 2 + 2 * 8) / 12 = 2.5
    scaled = class_based.class_weights(values, COUNTS)
    np.testing.assert_allclose(weights_of_classes(scaled), [0.4, 0.8, 3.2], rtol=1e-6)
    dropped = class_based.class_weights([0, 0, 3], COUNTS)
    np.testing.assert_allclose(weights_of_classes(dropped), [0, 0, 6], rtol=1e-6)


def test_class_weights_that_make_no_sense_are_refused():
    for values in ([1.0, -1.0], [0.0, 0.0], [np.nan, 1.0], [[1.0, 2.0]], 3.0):
        with pytest.raises(ValueError, match=r"vector \[C\] of finite weights"):
            class_based.class_weights(np.array(values))
    with pytest.raises(ValueError, match="one entry for each of the 2 weights"):
        class_based.class_weights(np.array([1.0, 2.0]), COUNTS)
    scheme = class_based.class_weights(np.array([1.0, 2.0]))
    with pytest.raises(ValueError, match=r"class_weights\(\) reads `signals.labels`"):
        scheme.update(jnp.ones(2), (), Signals(jnp.ones(2)))


# --- effective number -----------------------------------------------------------------------------


@pytest.mark.parametrize("beta", ["0.9", "0.99", "0.999", "0.9999", "0.99999999"])
def test_effective_number_is_accurate_in_float32(beta):
    counts = np.array([1, 2, 10, 500, 10_000, 1_000_000])
    scheme = class_based.effective_number(counts, float(beta))
    expected = exact_effective_number_weights(counts, beta)
    np.testing.assert_allclose(weights_of_classes(scheme, 6), expected, rtol=1e-6)


def test_effective_number_with_a_traced_beta_is_accurate_at_its_float32_value():
    counts, beta = np.array([1, 30, 1_000_000]), np.float32(0.9999)
    weights = jax.jit(lambda beta: weights_of_classes(class_based.effective_number(counts, beta)))(
        beta
    )
    expected = exact_effective_number_weights(counts, float(beta))
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_effective_number_between_uniform_and_inverse_frequency():
    np.testing.assert_allclose(
        weights_of_classes(class_based.effective_number(COUNTS, 0.0)), np.ones(3), rtol=1e-6
    )
    inverse = [12 / 18, 12 / 12, 12 / 6]
    for beta in (1.0, jnp.float32(1.0), 1 - 1e-9):
        np.testing.assert_allclose(
            weights_of_classes(class_based.effective_number(COUNTS, beta)), inverse, rtol=1e-6
        )


def test_effective_number_is_the_native_scale_up_to_a_factor():
    # beta = 1/2: (1 - b) / (1 - b^n) for n = 1, 2 is 1, 2/3; scaled to sum C = 2: 6/5, 4/5.
    weights = weights_of_classes(class_based.effective_number(np.array([1, 2]), 0.5), 2)
    native = np.array([6 / 5, 4 / 5])
    np.testing.assert_allclose(weights / native, np.full(2, 3 / (1 * 6 / 5 + 2 * 4 / 5)), rtol=1e-6)


def test_effective_number_refuses_other_betas():
    for beta in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="beta must lie in"):
            class_based.effective_number(COUNTS, beta)
    with pytest.raises(ValueError, match="positive counts"):
        class_based.effective_number(np.array([3, 0]), 0.9)


# --- powers of the frequency ----------------------------------------------------------------------


def test_class_power_by_hand():
    equal = class_based.class_power(COUNTS, 0.0)
    np.testing.assert_allclose(weights_of_classes(equal), np.ones(3), rtol=1e-6)
    # 1 / sqrt(9), 1 / sqrt(4), 1 / sqrt(1) = 1/3, 1/2, 1 with mean (3 + 2 + 1) / 14 = 3/7
    root = class_based.class_power(np.array([9, 4, 1]), 0.5)
    np.testing.assert_allclose(weights_of_classes(root), [7 / 9, 7 / 6, 7 / 3], rtol=1e-6)
    inverse = class_based.class_power(COUNTS, 1.0)
    np.testing.assert_allclose(weights_of_classes(inverse), [2 / 3, 1, 2], rtol=1e-6)


def test_class_power_survives_large_powers():
    rarest = class_based.class_power(np.array([1_000_000, 1000, 10]), 80.0)
    np.testing.assert_allclose(weights_of_classes(rarest), [0, 0, 1_001_010 / 10], rtol=1e-5)
    for rho in (-1.0, np.inf):
        with pytest.raises(ValueError, match="rho must lie in"):
            class_based.class_power(COUNTS, rho)


# --- known noise ----------------------------------------------------------------------------------


def background_flip(num_classes, rate):
    """Every class but the last turns into the last."""
    transition = (1 - rate) * np.eye(num_classes)
    transition[:, -1] += rate
    return transition


@pytest.mark.parametrize(("num_classes", "expected"), [(10, 0.217391), (100, 0.024631)])
def test_the_background_weighs_what_the_paper_implies(num_classes, expected):
    priors = np.full(num_classes, 1 / num_classes)
    probability = class_based.clean_label_probability(background_flip(num_classes, 0.4), priors)
    np.testing.assert_allclose(probability[-1], expected, rtol=1e-4)
    np.testing.assert_allclose(probability[:-1], np.ones(num_classes - 1), rtol=1e-6)


def test_clean_label_probability_against_simulated_noise():
    generator = np.random.default_rng(0)
    transition = np.array([[0.7, 0.2, 0.1], [0.0, 0.9, 0.1], [0.3, 0.3, 0.4]])
    priors = np.array([0.5, 0.3, 0.2])
    true = generator.choice(3, size=200_000, p=priors)
    given = (generator.random(true.size)[:, None] > transition.cumsum(axis=1)[true]).sum(axis=1)
    probability = np.asarray(class_based.clean_label_probability(transition, priors))
    for label in range(3):
        clean = true[given == label] == label
        error = np.sqrt(probability[label] * (1 - probability[label]) / clean.size)
        assert abs(clean.mean() - probability[label]) < 4 * error


def test_a_label_that_is_never_given_has_probability_zero():
    transition = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.5, 0.0]])
    probability = class_based.clean_label_probability(transition, np.array([0.25, 0.25, 0.5]))
    np.testing.assert_allclose(probability, [0.5, 0.5, 0.0], rtol=1e-6)


def test_a_label_that_is_never_given_leaves_the_derivatives_finite():
    transition = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.5, 0.0]])
    derivatives = jax.grad(lambda p: class_based.clean_label_probability(transition, p)[0])(
        jnp.array([0.25, 0.25, 0.5])
    )
    # of p / (p + q / 2), p and q the first and last prior: (q / 2, -p / 2) / (p + q / 2)^2
    np.testing.assert_allclose(derivatives, [1.0, 0.0, -0.5], atol=1e-6)


def test_oracle_noise_averages_to_one_over_the_batch():
    scheme = class_based.oracle_noise(background_flip(10, 0.4), np.full(10, 0.1))
    batch = Signals(jnp.zeros(3), labels=jnp.array([9, 0, 0]), mask=jnp.array([1, 1, 0]))
    weights, _ = scheme.update(batch.valid, scheme.init(None, None), batch)
    background = 0.1 / 0.46
    np.testing.assert_allclose(
        weights, np.array([background, 1, 0]) * 2 / (1 + background), rtol=1e-6
    )
    native = class_based.oracle_noise(background_flip(3, 0.0), np.full(3, 1 / 3), normalize=False)
    np.testing.assert_allclose(weights_of_classes(native), np.ones(3))


def test_noise_that_is_no_distribution_is_refused():
    with pytest.raises(ValueError, match="each row of transition must be probabilities"):
        class_based.clean_label_probability(background_flip(3, 0.4).T, np.full(3, 1 / 3))
    with pytest.raises(ValueError, match="each row of transition must be probabilities"):
        class_based.clean_label_probability(np.array([[1.5, -0.5], [0, 1]]), np.full(2, 0.5))
    with pytest.raises(ValueError, match="priors must be probabilities"):
        class_based.clean_label_probability(np.eye(3), np.array([5, 3, 2]))
    with pytest.raises(ValueError, match="for the same C classes"):
        class_based.clean_label_probability(np.eye(3), np.full(2, 0.5))
