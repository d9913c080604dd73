"""The figures of zhou2022: their data, the arithmetic of the statements, and small runs."""

import json

import numpy as np
import pytest
import scipy.stats
from sklearn.svm import SVC

from experiments.reporting.claims import answers, source
from experiments.reporting.experiment import Options, run
from experiments.zhou2022 import curves, figure3, figure4, figure4_claims, figure5d, figure6, pull
from experiments.zhou2022.arms import EQUAL, arm_rows, multiplied, names_of
from experiments.zhou2022.data import simulate, small_class_weights
from experiments.zhou2022.figure4_settings import HEAVY_NOISE, PANELS, group_weights

STEP = np.array([0, 1, 10, 100])


def test_simulated_sets():
    sets = simulate("network", 3, (5, 50), noise_rate=0.5, num_irrelevant=2, num_test=20)
    assert sets.inputs.shape == (3, 55, 2 + 2 + 1)
    assert np.all(sets.inputs[..., -1] == 1)
    truth = np.repeat([-1.0, 1.0], [5, 50])
    np.testing.assert_array_equal(sets.signs != truth, sets.is_corrupted)
    assert 0.3 < sets.is_corrupted.mean() < 0.7  # five standard deviations are 0.19
    assert np.all(np.sum(sets.test_signs, axis=1) == 0)
    fewer = simulate("network", 2, (5, 50), noise_rate=0.5, num_irrelevant=2, num_test=20)
    for array, first in zip(sets, fewer, strict=True):
        np.testing.assert_array_equal(array[:2], first)
    assert not np.array_equal(sets.inputs[0, :20, :2], sets.test_inputs[0, :20, :2])


def test_linear_sets_are_separable_through_the_origin():
    sets = simulate("linear", 2, (20, 200))
    for inputs, signs in zip(sets.inputs, sets.signs, strict=True):
        assert (np.sum(signs < 0), np.sum(signs > 0)) == (20, 200)
        mirrored = np.concatenate([signs[:, None] * inputs, -signs[:, None] * inputs])
        halves = np.repeat([1, -1], len(signs))
        assert SVC(kernel="linear", C=1e6).fit(mirrored, halves).score(mirrored, halves) == 1


def test_comparisons_of_curves():
    low, high = np.array([9.0, 9.0, 1.0, 2.0]), np.array([0.0, 0.0, 2.0, 1.5])
    assert curves.mean_over_log_time(high, STEP) == 1.75  # of 2 and 1.5
    assert curves.is_ahead(high, low, STEP)  # 1.75 > 1.5, whatever came before step 10
    assert not curves.is_ahead(low, high, STEP)
    assert curves.never_falls(np.array([0.0, 0.0, 1.0]))
    assert not curves.never_falls(np.array([0.0, 1.0, 0.5, 2.0]))
    margin = np.array([[-1.0, 0.0], [-1.0, 0.1]])
    np.testing.assert_array_equal(curves.separated(margin), [False, True])


def test_names_and_rows_of_arms():
    arms = (EQUAL, multiplied("noisy", 0.1), multiplied("noisy", 10.0))
    assert names_of(arms).tolist() == ["equal", "noisy x 0.1", "noisy x 10"]
    assert [arm.raises for arm in arms] == [False, False, True]
    assert [arm.lowers for arm in arms] == [False, True, False]
    found = {"step": np.array([1, 5]), "error": np.array([[[0.5, 1 / 3], [0.25, 0.125]]])}
    assert arm_rows(["a", "b"], found, ["margin", "error"], digits=3) == [
        ["a", 0, 1, "nan", "0.5"],
        ["a", 0, 5, "nan", "0.333"],
        ["b", 0, 1, "nan", "0.25"],
        ["b", 0, 5, "nan", "0.125"],
    ]


def _found(equal, raised, margins):
    """Two arms of two seeds, every measure the same curve."""
    curve = np.array([[equal, raised], [equal, raised]])  # [S, A, T]
    measures = {name: curve for name in ("cosine", "average_margin")}
    margin = np.broadcast_to(np.array(margins)[:, :, None], curve.shape)
    arms = np.array(["equal", "tail x 2"])
    return measures | {"step": STEP, "arms": arms, "normalized_margin": margin}


def asked(claims, found):
    return {answer.claim.text: answer.holds.tolist() for answer in answers(claims, found)}


def test_claims_of_figure_4_are_about_separated_seeds():
    setting = PANELS["linear_imbalanced"]
    assert [arm.name for arm in setting.arms] == [
        "equal",
        "tail x 2",
        "tail x 5",
        "tail x 10",
        "dual-matched",
    ]
    setting = setting._replace(arms=setting.arms[:2])
    found = _found([0, 1, 2, 3], [0, 1, 3, 2.5], [[0.1, 0.2], [0.1, -0.2]])
    held = asked(figure4_claims.max_margin_claims(setting), found)
    ahead = f"{setting.title}: tail x 2 ahead of equal in cosine to the reference, over time"
    assert held[ahead] == [True]  # 2.75 > 2.5; the second seed is not separated
    assert held[f"{setting.title}: cosine to the reference never falls, in any arm"] == [False]
    assert len(held) == 2 * 3 + 3  # of three measures; nothing is known of the others, or of pulls


def test_what_the_paper_does_not_say_of_figure_4_is_no_claim_of_it():
    claims = figure4_claims.max_margin_claims(PANELS["linear_clean"])
    sources = {claim.text: source(claim, "zhou2022") for claim in claims}
    pulls = "leads in cosine (1,000 steps) just where it pulls more"
    ahead = "ahead of equal in normalized margin, at the end"
    assert sources[f"linear, clean: inverse margin {pulls}"] == "ablation"
    assert sources[f"linear, clean: inverse margin {ahead}"] == "zhou2022, Fig. 4a-b"
    assert sources[f"linear, clean: dual-matched {pulls}"] == "ablation"
    assert sources[f"linear, clean: dual-matched {ahead}"] == "added here"


def test_causes_of_figure_4():
    starts = {
        "linear_clean": "not which examples are raised decides",
        "network_noisy": "perhaps: wrong labels pull the direction away",
        "linear_imbalanced": "not which examples are raised decides",
    }
    for name, start in starts.items():
        for claim in figure4_claims.max_margin_claims(PANELS[name]):
            falls = claim.text.endswith("never falls, in any arm")
            if not claim.is_control:
                assert claim.cause.startswith("the cosine overshoots" if falls else start)


def test_claims_about_heavy_noise():
    setting = HEAVY_NOISE["linear_heavy_noise"]
    arms = (multiplied("noisy", 0.1), EQUAL, multiplied("noisy", 5.0))
    error = np.array([[[0.2], [0.3], [0.4]], [[0.3], [0.3], [0.2]]])  # [S, A, T]
    found = {"arms": names_of(arms), "test_error": error}
    error[0, 1] = 0.2  # a tie for the lowest, on the first seed
    claims = figure4_claims.heavy_noise_claims(setting._replace(arms=arms))
    lowest, down, up = answers(claims, found)
    assert lowest.holds.tolist() == [True, False]
    assert "lower with noisy x 0.1" in down.claim.text
    assert down.holds.tolist() == [False, False]  # a tie is not lower
    assert "higher with noisy x 5" in up.claim.text
    assert up.holds.tolist() == [True, False]


def test_weights_of_the_small_class():
    signs = np.array([[-1.0, 1.0, 1.0, 1.0]])
    weights = small_class_weights(signs, (1.0, 5.0))
    np.testing.assert_allclose(weights, [[[1, 1, 1, 1], [2.5, 0.5, 0.5, 0.5]]], rtol=1e-15)
    sets = simulate("linear", 1, (1, 3), noise_rate=0.5)
    tail = group_weights(multiplied("tail", 10.0), sets)
    np.testing.assert_array_equal(tail, np.where(sets.signs < 0, 10, 1))
    noisy = group_weights(multiplied("noisy", 0.0), sets)
    np.testing.assert_array_equal(noisy, np.where(sets.is_corrupted, 0, 1))
    np.testing.assert_array_equal(group_weights(EQUAL, sets), np.ones((1, 4)))


def test_claims_of_figure_5d():
    ends = np.array([[0.5, 0.4, 0.3, 0.2, 0.1], [0.5, 0.4, 0.6, 0.2, 0.1]])  # [S, A]
    error = np.repeat(ends[:, :, None], len(STEP), axis=2)
    found = {"test_error": error, "small_error": error, "large_error": 1 - error, "step": STEP}
    held = asked(figure5d.small_class_claims("here"), found)
    assert held["moons here: small class x 5 lowers the test error at the end"] == [True, False]
    assert held["moons here: no weight worse than the next lower, at the end"] == [True, False]


def test_claims_of_figure_6():
    shape = (1, 2, len(figure6.EPOCHS))
    error = np.full(shape, 0.5)
    error[:, 1, 1:] = 0.4  # higher weights help from the second epoch shown on
    names = ("test_error", "small_error", "large_error", "region")
    found = answers(figure6.region_claims(), {name: error for name in names})
    held = [bool(answer.holds[0]) for answer in found]
    assert held == [False, *[True] * 6, False, True, False]


def test_z_scores():
    values = np.random.default_rng(0).gamma(2.0, size=(40, 3))
    n, moments = 40, [np.mean((values - values.mean(0)) ** k, axis=0) for k in (2, 3, 4)]
    skew = moments[1] / moments[0] ** 1.5 * np.sqrt(n * (n - 1)) / (n - 2)
    excess = moments[2] / moments[0] ** 2 - 3
    kurtosis = ((n + 1) * excess + 6) * (n - 1) / ((n - 2) * (n - 3))
    scores = figure3.z_scores(values)
    # Standard errors for N = 40 as SPSS prints them: .374 and .733.
    np.testing.assert_allclose(skew / scores["skewness"], 0.374, atol=5e-4)
    np.testing.assert_allclose(kurtosis / scores["kurtosis"], 0.733, atol=5e-4)
    np.testing.assert_allclose(scores["skewtest"], scipy.stats.skewtest(values).statistic)


def test_gaussian_margins_pass_as_often_as_the_level_says():
    values = np.random.default_rng(1).standard_normal((200, 4000))
    shares = figure3.shares_outside(figure3.z_scores(values))
    # 0.05 within five binomial standard errors, and what the approximation is known to lack
    assert 0.03 < shares["skewness"] < 0.07
    assert 0.03 < shares["kurtosis"] < 0.07
    by_hand = {"skewness": np.array([3.0, 0, 0, 0]), "kurtosis": np.array([3.0, -2, 0, 0])}
    counted = figure3.shares_outside(by_hand)
    assert counted == {"skewness": 0.25, "kurtosis": 0.5, "either": 0.5}


def test_claims_of_figure_3():
    shares = {"some": np.array([0.0, 0.3]), "Gaussian draws": np.array([0.1, 0.1])}
    assert asked(figure3.gaussian_claims(["some"]), shares) == {
        "some: both Z-scores of every image within 1.96": [True, False],
        "some: at most twice the Gaussian draws' share outside": [True, False],
        "Gaussian draws: both Z-scores of every image within 1.96": [False, False],
    }
    claims = figure3.gaussian_claims(["some"])
    assert [claim.is_control for claim in claims] == [False, True, True]


def test_weights_that_pull_more_turn_the_direction_faster():
    """Against tiny steps of descent themselves."""
    sets = simulate("linear", 3, (5, 20))
    rng = np.random.default_rng(0)
    params = rng.normal(size=(3, 4, 2))
    weights = rng.exponential(size=(3, 2, 25))
    weights /= weights.mean(axis=2, keepdims=True)
    direction = rng.normal(size=(3, 2))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)

    def cosine_after_a_step(s, t, w):
        theta, signed = params[s, t], sets.signs[s][:, None] * sets.inputs[s]
        theta = theta + 1e-6 * (w * np.exp(-signed @ theta)) @ signed / len(w)
        return direction[s] @ theta / np.linalg.norm(theta)

    found = pull.pulls_more(params, sets, weights, direction)
    assert 0 < found.mean() < 1
    for s, a, t in np.ndindex(3, 2, 4):
        faster = cosine_after_a_step(s, t, weights[s, a]) > cosine_after_a_step(s, t, np.ones(25))
        assert found[s, a, t] == faster
    ahead = np.array([[True, True, False], [False, True, True]])
    gains = np.array([[False, True, False], [False, False, False]])
    explained = pull.is_explained(ahead, gains, np.array([1, 900, 5000]))
    assert explained.tolist() == [True, False]


@pytest.mark.parametrize(
    "module",
    [figure5d, *(pytest.param(m, marks=pytest.mark.slow) for m in (figure3, figure4, figure6))],
    ids=lambda module: module.EXPERIMENT.name,
)
def test_small_run_and_resume(module, tmp_path):
    experiment = module.EXPERIMENT
    options = Options("smoke", tmp_path / "run", seeds=2)
    first = run(experiment, options)
    assert "statement" in first
    computed = {path: path.stat().st_mtime_ns for path in options.folder.glob("*.npz")}
    assert computed
    again = run(experiment, options._replace(resume=True))
    assert again == first
    assert computed == {path: path.stat().st_mtime_ns for path in options.folder.glob("*.npz")}
    assert list(options.folder.glob("*.png"))
    assert list(options.folder.glob("*.csv"))
    summary = json.loads((options.folder / "summary.json").read_text())
    assert {"statement", "source", "holds", "seeds", "verdict"} == set(summary["statements"][0])
