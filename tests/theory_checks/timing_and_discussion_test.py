"""The checks of lookahead's cost and of zhou2022's discussion, and that they can fail."""

import jax
import numpy as np
import pytest

from experiments.networks.models import make_model
from theory_checks.ren2018 import timing
from theory_checks.zhou2022 import discussion

pytestmark = pytest.mark.slow


def test_step_costs_are_the_derived_ones():
    for check in timing.checks("smoke"):
        assert check.passed, check.report()
        assert check.control
        assert all(type(row.value) in (int, float) for row in (*check.rows, *check.control))


def test_derived_costs_by_hand():
    # no first layer to speak of: 3 passes; forward, J v, J^T w; the virtual step's backward; again
    assert timing.derived_costs(0.0, 1.0) == (3, 5 + 3, 7 + 3, 8 + 3)
    # one layer only: no gradient by inputs anywhere
    assert timing.derived_costs(1.0, 0.5) == (2, 3 + 1, 4 + 1, 5 + 1)


@pytest.mark.parametrize("name", list(timing.PRODUCTS))
def test_products_by_the_shapes_of_the_layers(name):
    model = make_model(name, 10)
    params, _ = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 28, 28, 1), np.float32))
    kernels = [leaf.shape for leaf in jax.tree.leaves(params) if len(leaf.shape) > 1]
    dense = sorted(np.prod(shape) for shape in kernels if len(shape) == 2)
    convolutions = sorted(np.prod(shape[2:]) for shape in kernels if len(shape) == 4)
    count = len(convolutions)
    products = timing.PRODUCTS[name]
    assert sorted(products[count:]) == dense
    # what a convolution is applied to, padded ones by counting the taps inside axis by axis
    sizes = {"lenet5": ((28, 2), (14, 0)), "ren2018_net": ((28, 2), (14, 2), (7, 2))}.get(name, ())
    for product, channels, (size, padding) in zip(products, convolutions, sizes, strict=False):
        starts = range(-padding, size + padding - 4)
        taps = sum(0 <= start + k < size for start in starts for k in range(5))
        assert product == taps**2 * channels


def test_a_pass_more_or_less_fails(monkeypatch):
    right = timing.derived_costs

    def one_more(first, share):
        return right(first, share)._replace(linearized=right(first, share).linearized + 1)

    monkeypatch.setattr(timing, "derived_costs", one_more)
    wrong = timing.step_costs(networks=("mlp:512,512",), clean_counts=(10,), rounds=1)
    assert wrong.failing == ["mlp:512,512, m/n = 0.1: linearized, distance from the derived count"]


def test_discussion_holds_as_far_as_it_is_asserted():
    results = discussion.checks("smoke")
    assert [check.id for check in results] == ["Z-S5 noise", "Z-S5 imbalance", "Z-S5 absent"]
    for check in results:
        assert check.passed, check.report()
        # both the clean balanced data and the swapped pairing leave their bounds
        assert all(row.margin < 0 for row in check.control), check.report()
        assert all(type(row.value) in (int, float) for row in (*check.rows, *check.control))


def test_training_sets_have_their_flaws():
    rng = np.random.default_rng(0)
    for kind in discussion.MODELS:
        sets = {task: discussion.draw(task, kind, rng) for task in discussion.TASKS}
        assert sets["clean"].class_counts.tolist() == [50, 50]
        assert sets["imbalance"].class_counts.tolist() == [91, 9]
        assert sets["one-sided noise"].class_counts.tolist() == [30, 70]
        assert [int(data.is_noisy.sum()) for data in sets.values()] == [20, 20, 0, 0]
        symmetric = sets["symmetric noise"]
        wrong = symmetric.labels != np.repeat([0, 1], 50)
        assert np.array_equal(symmetric.is_noisy, wrong)


def test_uniform_training_is_logistic_regression_by_descent():
    data = discussion.draw("imbalance", "linear", np.random.default_rng(0))
    stacked = type(data)(*(np.asarray(column)[None] for column in data))
    keys = jax.random.split(jax.random.key(0), 1)
    uniform = discussion._SCHEMES["uniform"]
    (accuracy,) = discussion.accuracies("linear", uniform, stacked, keys)
    params, _ = make_model("linear", 1).init(keys[0], data.inputs[:1])
    theta = np.asarray(params["head"]["kernel"])[:, 0].astype(float)
    for _ in range(discussion.NUM_STEPS):
        probabilities = 1 / (1 + np.exp(-data.inputs @ theta))
        theta -= 0.5 * data.inputs.T @ (probabilities - data.labels) / len(data.labels)
    right = (data.test_inputs @ theta > 0) == np.repeat([False, True], 500)
    # float32: at most one of a thousand test points lies so near the boundary
    assert abs(accuracy - right.mean()) <= 1.5e-3
