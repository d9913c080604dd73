"""The figures of xu2021: their data, what they ask, and that they run and resume."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.reporting.claims import answers
from experiments.reporting.experiment import Options, run
from experiments.reporting.ledger import read_ledger
from experiments.simulated.models import TwoLayerNetwork, network_score, seed_keys
from experiments.xu2021 import (
    EXPERIMENTS,
    common,
    data,
    figure1,
    figure2,
    figure2_claims,
    figure3,
    figure4_claims,
    joint_training,
)
from weighting.implicit_bias.separable_part import separable_part
from weighting.schemes.joint_weighting import LogisticModel

SUMMARIES = {1: 7, 2: 44, 3: 15, 4: 32}  # statements at the smoke preset


def shares(found):
    return [answer.count / len(answer.holds) for answer in found]


def test_unbalanced_moons_and_their_test_set_make_up_the_moons():
    training, test = data.unbalanced_moons(3, 200)
    whole = data.balanced_moons(3, 200)
    for seed in range(3):
        parts = [
            np.column_stack([points.inputs[seed], points.signs[seed]])
            for points in (training, test)
        ]
        expected = np.column_stack([whole.inputs[seed], whole.signs[seed]])
        together = np.concatenate(parts)
        order, other = np.lexsort(together.T), np.lexsort(expected.T)
        np.testing.assert_array_equal(together[order], expected[other])
        assert [np.sum(part[:, 2] > 0) for part in parts] == [80, 20]  # blue
        assert [np.sum(part[:, 2] < 0) for part in parts] == [20, 80]  # orange
    # the classes' shares in the test set over those in the training set
    np.testing.assert_allclose(
        data.density_ratio(np.array([1.0, -1.0])), [0.2 / 0.8, 0.8 / 0.2], rtol=1e-15
    )
    # which are the weights of the arm that follows it, up to a common factor
    orange, blue = figure2_claims.CLASS_ARMS[figure2_claims.RATIO_ARM]
    assert orange / blue == 4 / 0.25


def test_a_seed_does_not_depend_on_how_many_there_are():
    for draw in (
        data.separable_points,
        data.overlapping_points,
        data.balanced_moons,
        data.partly_separable,
    ):
        few, many = draw(1, 30), draw(3, 30)
        np.testing.assert_array_equal(few.inputs[0], many.inputs[0])
        np.testing.assert_array_equal(few.signs[0], many.signs[0])
        assert not np.array_equal(many.inputs[0], many.inputs[1])
    few, many = (jax.random.key_data(seed_keys(n)) for n in (1, 3))
    np.testing.assert_array_equal(few[0], many[0])


def test_separable_points_keep_the_margin_and_overlapping_ones_do_not():
    inputs, signs = data.separable_points(4, 200)
    along = signs * inputs.sum(axis=-1) / np.sqrt(2)
    assert along.min() >= 0.5 - 1e-6  # float32 points
    assert not separable_part(
        *(part[0] for part in data.overlapping_points(1, 200))
    ).is_separable.any()


@pytest.mark.parametrize("kind", figure3.PARTLY_SEPARABLE.values())
def test_half_of_the_partly_separable_points_are_separable(kind):
    inputs, signs = data.partly_separable(3, 60, **kind)
    for x, y in zip(inputs, signs, strict=True):
        found = separable_part(x, y).is_separable
        np.testing.assert_array_equal(found, np.arange(60) < 30)
        assert np.all(y[:30] * x[:30, 0] >= 0.3)
        assert np.all(x[30:, : kind["num_separable"]] == 0)
        assert np.all(x[:, -1] == 1) == kind["constant"]


def test_logged_steps_and_average_margins():
    steps = np.array([0, 1, 3, 10, 32, 100, 200])
    assert [common.index_of_step(steps, t) for t in (0, 2, 10, 99, 1000)] == [0, 1, 3, 4, 6]
    assert common.milestones(steps) == [3, 5, 6]
    assert common.milestones(steps[:-1]) == [3, 5]
    inputs, signs = jnp.array([[[1.0, 0.0], [0.0, 2.0]]]), jnp.array([[1.0, -1.0]])
    linear = common.average_margins("linear", jnp.array([[[[3.0, 4.0]]]]), inputs, signs)
    # margins 3 and -8, norm 5
    np.testing.assert_allclose(linear["raw_average_margin"], [[[-2.5]]])
    np.testing.assert_allclose(linear["average_margin"], [[[-0.5]]])
    network = TwoLayerNetwork(jnp.array([[[[[1.0], [2.0]]]]]), jnp.array([[[[2.0]]]]))
    found = common.average_margins("network", network, inputs, signs)
    # margins 2 and -8, squared norm 1 + 4 + 4
    np.testing.assert_allclose(found["raw_average_margin"], [[[-3.0]]])
    np.testing.assert_allclose(found["average_margin"], [[[-1 / 3]]], rtol=1e-6)  # float32


def test_linear_weights_by_hand(float64):
    # The hull of (3, 0) and (0, 4) is nearest to the origin at 0.64 (3, 0) + 0.36 (0, 4).
    weights, direction, margin = figure2.linear_weights(
        np.array([[3.0, 0.0], [0.0, -4.0]]), np.array([1.0, -1.0])
    )
    np.testing.assert_allclose(direction, [0.8, 0.6], rtol=1e-9)
    assert np.isclose(margin, 2.4, rtol=1e-9)
    matched = [0.8 * 2 * 0.64 + 0.2, 0.8 * 2 * 0.36 + 0.2]
    np.testing.assert_allclose(weights, [[1, 1], [1, 1], matched, [1, 1]], rtol=1e-8)


def test_errors_by_hand():
    wrong = {
        name: {model: np.array([0, 3]) for model in models}
        for name, models in figure1.MODELS_OF_SETS.items()
    }
    claims = figure1.equal_weights_claims()
    assert shares(answers(claims, wrong)) == [0.5] * 7
    wrong["separable"]["linear"] = np.array([0, 0])
    wrong["moons"]["linear"] = np.array([1, 2])
    assert shares(answers(claims, wrong)) == [1, 0.5, 1, 0.5, 0.5, 0.5, 0.5]


def test_scores_of_the_network_on_the_plane():
    network = TwoLayerNetwork(jnp.array([[1.0], [0.0], [-2.0]]), jnp.array([3.0]))
    points = np.array([[4.0, 7.0], [1.0, 0.0]])
    np.testing.assert_array_equal(network_score(network)(points), [6.0, 0.0])


def test_statements_on_the_linear_model_by_hand():
    steps = np.array([0, 10, 100])
    angles = np.ones((2, 4, 3))  # seeds, arms, steps
    angles[0, 1, 1], angles[:, 2, 2], angles[:, 3] = 0.5, 0.1, 2.0
    averages = -angles
    reached = np.array([[0.95, 0.8, 0.9, 0.9], [0.95, 0.95, 0.9, 0.2]])
    reached = np.repeat(reached[:, :, None], 3, axis=2)
    curves = {
        "angle": angles,
        "average_margin": averages,
        "raw_average_margin": angles,
        "margin_share": reached,
    }
    found = answers(figure2_claims.linear_claims(steps), curves)
    compared = [0.5, 0, 0, 1, 0, 0]  # inverse margin, matched, control; after 10 and 100 steps
    turned = [0, 0, 0, 0, 1, 1]
    assert shares(found) == [*compared, *compared, *turned, 1, 0.5, 1, 0.5]


def test_separation_lasts():
    steps = np.array([0, 1, 10, 100])
    margins = np.array([[1, 1, 1, 1], [-1, 1, -1, 1], [-1, -1, 0, 2], [1, 1, 1, -1.0]])
    np.testing.assert_array_equal(
        figure2_claims.separated_from(steps, margins), [0, 100, 100, np.inf]
    )


def test_statements_on_the_network_count_separating_seeds():
    steps = np.array([0, 10, 100, 1000])
    averages = np.ones((3, 2, 4))
    averages[0, 1] = [1, 1, 0.5, 0.95]
    averages[2] = np.nan  # is left out
    margins = np.full((3, 2, 4), 1.0)
    margins[0, 1, :2] = -1  # separates after 100 steps, the other arm at once
    margins[2, 0, -1] = -1
    curves = {"step": steps, "average_margin": averages, "margin": margins}
    found = answers(figure2_claims.margin_claims(steps), curves)
    assert [len(answer.holds) for answer in found] == [2] * 4
    # a tenth after 100, 1000 steps; half the steps; less at the end
    assert shares(found) == [0.5, 0, 1, 0.5]

    errors = np.full((3, 5, 4), 0.3)
    errors[0, 2] = [0.3, 0.1, 0.1, 0.29]  # with the density ratio, 16 : 1
    curves = {"error": errors, "margin": margins}
    found = answers(figure2_claims.error_claims(steps), curves)
    assert np.allclose(shares(found)[:6], [1, 1 / 3] * 3)
    # spread 0.2, 0.2, 0.01 of the first seed, zero of the others
    assert np.allclose(shares(found)[6:], [1 / 3, 1 / 3, 1])
    assert len(found[-1].holds) == 2


def test_statements_on_partly_separable_sets_by_hand():
    steps = np.array([1, 10, 100])
    limits = np.tile(np.arange(5.0)[None, :, None], (2, 1, 1))  # [S, A, K]
    finite = np.repeat(limits[:, :, None], 3, axis=2) + np.array([1, 0.2, 0.01])[:, None]
    finite[1, 2, 2] = 1.0  # at another one's limit, no longer increasing
    rest = np.ones((2, 5, 3, 2))
    rest[0, 0, 1] = [1, 0]
    rest[1, 0, 2] = [1, 0]
    angles = np.tile(np.linspace(0.01, 0.12, 5)[None, :, None], (2, 1, 3))
    found = {"finite": finite, "limit": limits, "rest": rest, "angle": angles}
    asked = answers(figure3.limit_claims("space", steps), found)
    assert shares(asked) == [0.5, 0.5, 0.5, 1, 1, 1, 1, 0, 0.5]
    assert len(answers(figure3.limit_claims("plane", steps), found)) == 3
    np.testing.assert_allclose(
        figure3.largest_angle(rest), np.pi / 4 * np.array([[0, 1, 0], [0, 0, 1]]), atol=1e-15
    )


def test_joint_training_is_simultaneous_descent(float64):
    """Eq. 4 with (theta, psi, b) moved by one gradient, in NumPy and from the same start."""
    inputs, signs = data.overlapping_points(1, 12)
    run = joint_training.train_jointly(
        "linear", seed_keys(1), jnp.asarray(inputs), jnp.asarray(signs), num_steps=10
    )
    theta, psi = run.params
    np.testing.assert_array_equal(psi.kernel[0, 0, 0], 0)
    x, y, steps = inputs[0], signs[0], np.asarray(run.step[0, 0])
    for arm in range(3):
        t = np.asarray(theta[0, arm, 0])
        k, b = np.asarray(psi.kernel[0, arm, 0]), float(psi.bias[0, arm, 0])
        for step in range(11):
            if step in steps:
                at = int(np.flatnonzero(steps == step)[0])
                np.testing.assert_allclose(theta[0, arm, at], t, rtol=1e-10)
                np.testing.assert_allclose(psi.kernel[0, arm, at], k, rtol=1e-10, atol=1e-14)
                np.testing.assert_allclose(psi.bias[0, arm, at], b, rtol=1e-10, atol=1e-14)
            sigmoid = 1 / (1 + np.exp(-x @ k - b))
            losses = np.exp(-y * (x @ t))
            rate = 0.1 / max(1, np.mean((1 + sigmoid) * losses))
            slopes = losses * sigmoid * (1 - sigmoid) / 12
            t = t + rate * ((1 + sigmoid) * losses * y / 12) @ x
            if arm < 2:
                k, b = k - rate * slopes @ x, b - rate * slopes.sum()
    assert np.any(np.asarray(psi.kernel[0, 1, 0]) != 0)


def test_g_and_its_correlation():
    rng = np.random.default_rng(0)
    g, margins = rng.normal(size=(2, 3, 50))
    g[1] = 0.3
    found = joint_training.correlations(g, margins)
    expected = [np.corrcoef(g[i], margins[i])[0, 1] for i in (0, 2)]
    np.testing.assert_allclose(found[[0, 2]], expected, rtol=1e-12)
    assert np.isnan(found[1])
    psi = LogisticModel(jnp.array([1.0, 2.0]), jnp.array(-3.0))
    np.testing.assert_allclose(joint_training.log_g(psi, jnp.array([[1.0, 1.0]])), [np.log(1.5)])


def test_statements_on_the_joint_model_by_hand():
    steps = np.array([0, 1, 100, 1000, 10_000])
    spreads = np.tile([0.1, 0.2, 0.4, 0.3, 0.1], (2, 3, 1))
    spreads[1] = 0.1
    correlation = np.tile([np.nan, 0.1, 0.4, 0.3, 0.1], (2, 3, 1))
    correlation[1] *= -1
    reached = np.tile([-1, 0.2, 0.5, 0.8, 0.95], (2, 3, 1))
    reached[1, 0, -1] = -0.5
    angles = np.tile([2, 1.0, 0.5, 0.2, 0.1], (2, 3, 1))
    angles[0, 0, 2] = 0.44
    curves = {"deviation": spreads, "correlation": correlation, "share": reached}
    claims = figure4_claims.joint_claims("linear", steps)
    found = answers(claims, curves | {"angle": angles})
    own = [0.5, 0.5, 0.5, 0.5, 0.5, 1]
    assert shares(found) == [0.5, 1, 1, *own, 0.5, *own, 0]
    found = answers(figure4_claims.joint_claims("network", steps), curves)
    assert shares(found) == [1, 1, 1, *own, *own]
    assert len(found[0].holds) == 1  # the seed that separates


SLOW = [pytest.param(number, marks=pytest.mark.slow) for number in (1, 3, 4)]


@pytest.mark.parametrize("number", [2, *SLOW])
def test_figures_run_and_resume(number, tmp_path):
    experiment = EXPERIMENTS[number - 1]
    assert experiment.name == f"xu2021.figure{number}"
    assert experiment.items == {f"Figure {number}": experiment.summary[len("Fig. 1: ") :]}
    table = run(experiment, Options("smoke", tmp_path / "out"))
    folder = tmp_path / "out"
    assert "verdict" in table
    assert all(line.strip().endswith(".png") for line in table.split("\n  ")[-1].splitlines())
    for path in folder.glob("*.png"):
        assert path.stat().st_size > 10_000
        assert str(path) in table
    summary = json.loads((folder / "summary.json").read_text())
    assert len(summary["statements"]) == SUMMARIES[number]
    entries = read_ledger(folder / "ledger.json")["entries"]
    assert {entry.item for entry in entries} == {f"Figure {number}"}
    with open(folder / f"figure{number}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {int(row["seed"]) for row in rows} == {0, 1}
    written = {path: path.stat().st_mtime_ns for path in folder.glob("*.npz")}
    assert run(experiment, Options("smoke", folder, resume=True)) == table
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.npz")} == written
