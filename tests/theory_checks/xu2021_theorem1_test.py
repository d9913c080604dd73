"""The margin bound's checks, that they fail where they must, and their ingredients by hand."""

import numpy as np
import pytest
import scipy.integrate

from theory_checks.common import shifted_disc as disc
from theory_checks.xu2021 import theorem1, theorem1_lemma

pytestmark = pytest.mark.slow


def test_claims_hold():
    outcomes = theorem1.checks("smoke")
    for check in outcomes:
        assert check.passed, check.report()
        assert check.control, check.id
        assert all(type(row.value) in (int, float) for row in (*check.rows, *check.control))
    assert len({check.id for check in outcomes}) == len(outcomes)


def test_a_bound_without_the_deviation_fails():
    wrong = theorem1_lemma.lemma(num_problems=2, num_repeats=100, max_ratio_scale=0.0)
    assert "largest failure rate of 100 samples, over delta" in wrong.failing


def test_heavy_tail_by_hand():
    # n = 10000, q = 1/2000: an example in A counts 1000 / n; log log_2(8) = log 3
    bound = theorem1_lemma.heavy_tail_bounds(np.array([0, 4, 5]), 10_000, 5e-4, 1.0, 0.01)
    deviation = (np.sqrt(np.log(3)) + np.sqrt(np.log(100) / 2)) / 100
    np.testing.assert_allclose(bound, np.array([0, 0.4, 0.5]) + deviation, rtol=1e-12)
    assert bound[1] < 0.5 < bound[2]  # so up to four of the five expected examples are too few


def test_least_bound_of_a_finite_class_by_hand():
    problem = theorem1_lemma.FiniteProblem(
        functions=np.array([[0.5, -0.25]]),
        source=np.zeros((2, 2)),
        target=np.zeros((2, 2)),
        eta=np.array([0.5, 2.0]),
    )
    # shares of (input, label): margins 0.5, -0.5, -0.25, 0.25; terms at gamma 0.25, 0.5, 2
    shares = np.array([[[0.4, 0.1], [0.2, 0.3]]])
    least = theorem1_lemma.least_bounds(shares, problem, 0.01, 2.0, 100, 0.05)
    scales = [np.sqrt(np.log(np.log2(4 / gamma))) for gamma in (0.25, 0.5, 2.0)]
    deviation = 0.2 * (np.array(scales) + np.sqrt(np.log(20) / 2))
    first = [0.05 + 0.4, 0.05 + 0.4 + 0.6, 0.05 + 0.4 + 0.6 + 0.2]
    np.testing.assert_allclose(least, [[np.min(first + deviation + [0.16, 0.08, 0.02])]])


def test_divergence_and_ratio_of_the_shifted_disc():
    shift, inner, gap = 0.2, disc.INNER, disc.GAP

    def mass(power):
        def density(phi, r):
            first = r * np.cos(phi)
            gauss = np.exp(-(r**2 + 2 * shift * first + shift**2) / (2 * disc.SIGMA**2))
            return r * gauss * np.exp(2 * power * shift * first / disc.SIGMA**2)

        return scipy.integrate.dblquad(density, inner, 1, gap, np.pi - gap, epsabs=1e-12)[0]

    assert mass(1) == pytest.approx(mass(0), rel=1e-10)  # eta has mean one without a constant
    rule = disc.angles(shift)
    assert rule.divergence == pytest.approx(mass(2) / mass(0) - 1, rel=1e-6)  # midpoint rule
    inputs = disc.draw(np.random.default_rng(0), -shift, 1, 20_000).inputs[0]
    norms = np.linalg.norm(inputs, axis=1)
    assert norms.min() >= inner
    assert norms.max() <= 1
    assert disc.density_ratio(inputs, shift).max() <= disc.largest_ratio(shift)


def test_target_error_against_a_sample_of_the_target():
    rng = np.random.default_rng(0)
    params = disc.initial(rng, 3, 2)
    exact = disc.target_errors(params, disc.angles(0.2), 0.1)
    sample = disc.draw(rng, 0.2, 1, 200_000, noise=0.1)
    drawn = np.mean(sample.labels * disc.outputs(params, sample.inputs) <= 0, axis=1)
    deviation = np.sqrt(exact * (1 - exact) / 200_000)
    assert np.all(np.abs(drawn - exact) <= 4 * deviation + 1e-3)  # 1e-3: the rule at a jump


def test_gradient_against_differences():
    rng = np.random.default_rng(0)
    params = disc.initial(rng, 2, 3)
    sample = disc.draw(rng, 0.0, 2, 5, noise=0.3)
    data = np.concatenate([sample.inputs, sample.labels[..., None]], axis=-1)
    weights = rng.uniform(0.5, 2, (2, 5))

    def risk(params):
        margins = sample.labels * disc.outputs(params, sample.inputs)
        return np.sum(np.mean(weights * np.logaddexp(0, -margins), axis=1))

    slopes = disc.gradient(params, data, weights)
    for index, layer in enumerate(params):
        move = rng.normal(size=layer.shape)
        ends = [
            risk((*params[:index], layer + step * move, *params[index + 1 :]))
            for step in (1e-6, -1e-6)
        ]
        # Central differences: rounding 1e-16 / 1e-6 and a truncation of 1e-12
        along = np.sum(slopes[index] * move)
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(along, rel=1e-7, abs=1e-8)
