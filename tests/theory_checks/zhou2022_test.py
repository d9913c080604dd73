"""zhou2022's claims at reduced size, and that the checks see a wrong quantity."""

import jax
import pytest

from theory_checks.zhou2022 import (
    bias_variance,
    class_densities,
    expected_duals,
    feature_noise,
    imbalance,
    label_noise,
    margin,
    mean_error,
    noise,
    retraining,
    theorem1,
    uncertainty,
)
from weighting.difficulty.bias_variance import cross_entropy_bias_variance, squared_bias_variance
from weighting.difficulty.several_networks import predictive_variance

SLOW = [pytest.param(module, marks=pytest.mark.slow) for module in (noise, theorem1)]


@pytest.mark.parametrize(
    "module",
    [bias_variance, imbalance, margin, uncertainty, *SLOW],
    ids=lambda module: module.__name__.rpartition(".")[2],
)
def test_claims_hold(module):
    outcomes = module.checks("smoke")
    for check in outcomes:
        assert check.passed, check.report()
        assert check.control, check.id
    assert len({check.id for check in outcomes}) == len(outcomes)


def test_a_perturbed_split_is_seen():
    def squared(predictions, targets, **options):
        own = squared_bias_variance(predictions, targets, **options)
        return own._replace(variance=own.variance * (1 + 1e-8))

    def entropy(logits, labels, **options):
        own = cross_entropy_bias_variance(logits, labels, **options)
        return own._replace(bias=own.bias * (1 + 1e-8))

    check = bias_variance.decomposition(
        squared=squared, entropy=entropy, num_networks=10, num_seeds=1
    )
    wrong = check.failing
    assert "squared, ridge regression: variance against NumPy" in wrong
    assert "cross-entropy, networks: bias against NumPy" in wrong
    assert "squared, ridge regression: error against NumPy" not in wrong


def test_the_printed_rule_of_feature_noise_fails():
    check = feature_noise.directional_derivative(
        rule=feature_noise.printed_rule, num_networks=10, num_pairs=40, num_seeds=1
    )
    assert any(name.startswith("corrected rule: wrong signs") for name in check.failing)


def test_a_shifted_error_under_label_noise_is_seen():
    check = label_noise.flipped_labels(shift=1e-9, num_draws=100)
    assert check.failing == ["zero-one error against (1 - p) + pi (p - (1 - p) / (C - 1))"]


def test_a_posterior_with_other_priors_is_seen():
    check = imbalance.two_classes(
        posterior=lambda log_p, priors: class_densities.bayes(log_p, priors[::-1]),
        ratios=(2.0,),
        num_seeds=20,
    )
    assert len(check.failing) >= 3


def test_a_score_that_does_not_minimize_the_exponential_loss_is_seen():
    check = mean_error.mean_error(score_scale=0.4, ratios=(2.0,))
    assert check.failing == [check.rows[0].quantity]


def test_another_closed_form_is_seen():
    check = margin.gaussian_margins(
        log_error=lambda mu, variance: -mu + 0.51 * variance, num_draws=50_000, num_pairs=20
    )
    assert check.rows[0].quantity in check.failing


def test_constants_of_their_own_are_seen():
    check = expected_duals.expected_duals(slope_noise=1.0, num_draws=1000, num_pairs=30)
    assert check.failing == [row.quantity for row in check.rows[:3]]


def test_the_other_divisor_is_seen():
    def unbiased(predictions, **options):
        return predictive_variance(predictions, **{"ddof": 1} | options)

    check = uncertainty.estimate(variance=unbiased, num_problems=3, num_repeats=20)
    assert "relative distance from NumPy's variance over K" in check.failing
    with jax.enable_x64(True):
        scaled = retraining.equal_distributions(
            variance=lambda f: 1.2 * predictive_variance(f), num_networks=2000
        )
    assert len(scaled.failing) >= 4


def test_a_smaller_margin_is_seen():
    check = theorem1.weak_regularization(sizes=(3,), num_seeds=1, num_tilts=1, margin_scale=0.5)
    wrong = check.failing
    assert check.rows[0].quantity in wrong
    assert "relative gap at lambda = 1e-12" in wrong
