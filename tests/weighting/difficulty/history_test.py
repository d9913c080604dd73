"""The history of examples and what builds on it, against a slow dictionary and Monte Carlo."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from weighting import Signals, chain, focal, random
from weighting.difficulty.history import History, read_history, record_history
from weighting.schemes.active_bias import active_bias
from weighting.schemes.infobatch import infobatch
from weighting.schemes.loss_rank import loss_rank, loss_rank_probabilities

NUM_EXAMPLES, BATCH, CLASSES = 9, 6, 3


def random_batches(num_batches, seed=0):
    """Batches with repeated indices and padding; the leading axis is the step."""
    generator = np.random.default_rng(seed)
    shape = (num_batches, BATCH)
    return {
        "losses": generator.exponential(size=shape).astype(np.float32),
        "logits": generator.normal(size=(*shape, CLASSES)).astype(np.float32),
        "labels": generator.integers(0, CLASSES, shape).astype(np.int32),
        "indices": generator.integers(0, NUM_EXAMPLES - 1, shape).astype(np.int32),
        "mask": (generator.random(shape) < 0.8).astype(np.float32),
        "weights": generator.random(shape).astype(np.float32),
    }


def visits(batches, step):
    """The last valid occurrence of every index: {index: position}."""
    indices, mask = batches["indices"][step], batches["mask"][step]
    return {int(indices[i]): i for i in range(BATCH) if mask[i]}


def probability(batches, step, i):
    powers = np.exp(batches["logits"][step, i].astype(np.float64))
    return powers[batches["labels"][step, i]] / powers.sum()


def scan(scheme, batches):
    def step(state, batch):
        weights = batch.pop("weights") * batch["mask"]
        weights, state = scheme.update(weights, state, Signals(**batch))
        return state, weights

    state = scheme.init(jax.random.key(0), None)
    return jax.jit(lambda s, b: jax.lax.scan(step, s, b))(state, dict(batches))


def test_history_against_a_dictionary():
    batches = random_batches(40)
    seen = {}
    for step in range(40):
        for index, i in visits(batches, step).items():
            p = probability(batches, step, i)
            correct = batches["logits"][step, i].argmax() == batches["labels"][step, i]
            seen.setdefault(index, []).append(
                (batches["losses"][step, i], p, correct, batches["weights"][step, i])
            )
    history, weights = scan(record_history(NUM_EXAMPLES, decay=0.8), batches)
    np.testing.assert_array_equal(weights, batches["weights"] * batches["mask"])
    assert len(seen) == NUM_EXAMPLES - 1  # the last example never comes

    for index, rows in seen.items():
        loss, p, correct, weight = (np.array(column) for column in zip(*rows, strict=True))
        average = loss[0]
        for later in loss[1:]:
            average = 0.8 * average + 0.2 * later
        assert history.count[index] == len(rows)
        np.testing.assert_allclose(history.last_loss[index], loss[-1])
        np.testing.assert_allclose(history.average_loss[index], average, rtol=1e-5)
        np.testing.assert_allclose(history.last_weight[index], weight[-1])
        assert history.last_correct[index] == correct[-1]
        assert history.ever_correct[index] == correct.any()
        forgotten = sum(a and not b for a, b in itertools.pairwise(correct))
        assert history.forgetting_events[index] == forgotten
        np.testing.assert_allclose(history.mean_probability[index], p.mean(), rtol=1e-5)
        np.testing.assert_allclose(history.variance_probability[index], p.var(), rtol=1e-4)
    for table in history:
        assert table[NUM_EXAMPLES - 1] == 0


def test_never_learned_and_unforgettable():
    right, wrong = [4.0, 0.0], [0.0, 4.0]
    scheme = record_history(5)
    state = scheme.init(None, None)
    # examples 0..3: right right; right wrong; wrong right; wrong wrong. Example 4 is not visited.
    for rows in ([right, right, wrong, wrong], [right, wrong, right, wrong]):
        signals = Signals(
            jnp.ones(4), jnp.array(rows), jnp.zeros(4, jnp.int32), indices=jnp.arange(4)
        )
        _, state = scheme.update(jnp.ones(4), state, signals)
    np.testing.assert_array_equal(state.never_learned, [False, False, False, True, False])
    np.testing.assert_array_equal(state.unforgettable, [True, False, True, False, False])
    np.testing.assert_array_equal(state.forgetting_events, [0, 1, 0, 0, 0])


def test_history_is_found_in_nested_states():
    scheme = chain(random(), chain(focal(1.0), record_history(4)))
    state = scheme.init(jax.random.key(0), None)
    assert isinstance(read_history({"weighting": state}), History)
    assert read_history(state).count.shape == (4,)
    with pytest.raises(ValueError, match="found 0"):
        read_history(random().init(jax.random.key(0), None))
    with pytest.raises(ValueError, match="found 2"):
        read_history((state, state))
    with pytest.raises(ValueError, match="decay must lie in"):
        record_history(4, decay=1.0)


# --- active bias ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["variance", "threshold"])
def test_active_bias_against_a_dictionary(form):
    batches = random_batches(12, seed=3)
    batches["weights"] = np.ones_like(batches["weights"])
    needed = {"variance": 2, "threshold": 1}[form]
    scheme = active_bias(NUM_EXAMPLES, form=form, smoothing=0.05)
    _, weights = scan(scheme, batches)
    past = {}
    for step in range(12):
        scores = []
        for i in range(BATCH):
            p = past.get(int(batches["indices"][step, i]), [])
            if not batches["mask"][step, i] or len(p) < needed:
                scores.append(None)
            elif form == "variance":
                scores.append(np.sqrt(np.var(p) + np.var(p) ** 2 / (len(p) - 1)) + 0.05)
            else:
                scores.append(np.mean(p) * (1 - np.mean(p)) + 0.05)
        known = [score for score in scores if score is not None]
        usual = np.mean(known) if known else 1.0
        expected = np.array([usual if score is None else score for score in scores])
        expected *= batches["mask"][step]
        expected /= expected.sum() / batches["mask"][step].sum()
        np.testing.assert_allclose(weights[step], expected, rtol=1e-4)
        for index, i in visits(batches, step).items():
            past.setdefault(index, []).append(probability(batches, step, i))


def test_active_bias_limits():
    batches = random_batches(10)
    batches["weights"] = np.ones_like(batches["weights"])
    batches["mask"] = np.ones_like(batches["mask"])
    _, weights = scan(active_bias(NUM_EXAMPLES, smoothing=1e4), batches)
    np.testing.assert_allclose(weights, np.ones((10, BATCH)), atol=1e-4)
    with pytest.raises(ValueError, match="form must be one of 'variance', 'threshold'"):
        active_bias(3, form="std")
    with pytest.raises(ValueError, match="smoothing must be positive"):
        active_bias(3, smoothing=0.0)


# --- selection by loss rank -------------------------------------------------------------------


def test_loss_rank_probabilities_by_hand():
    ratio = 8 ** (1 / 4)
    expected = np.array([ratio**0, ratio**3, ratio**1, ratio**2])
    probabilities = loss_rank_probabilities(jnp.array([0.1, jnp.inf, 0.2, 3.0]), 8.0)
    np.testing.assert_allclose(probabilities, expected / expected.sum(), rtol=1e-6)
    np.testing.assert_allclose(loss_rank_probabilities(jnp.arange(5.0), 1.0), np.full(5, 0.2))
    tied = loss_rank_probabilities(jnp.array([1.0, 1.0, 0.0]), 27.0)  # ranks 1/2, 1/2, 2
    np.testing.assert_allclose(tied[0], tied[1])
    np.testing.assert_allclose(tied[0] / tied[2], 27 ** (1.5 / 3), rtol=1e-5)
    masked = loss_rank_probabilities(
        jnp.array([5.0, 0.1, jnp.inf, 7.0]), 9.0, mask=jnp.array([1, 1, 0, 0])
    )
    np.testing.assert_allclose(masked, [0.75, 0.25, 0, 0], rtol=1e-6)
    with pytest.raises(ValueError, match="pressure must lie in"):
        loss_rank_probabilities(jnp.ones(2), 0.5)


def test_loss_rank_ranks_among_those_seen():
    scheme = loss_rank(6, 16.0, normalize=False)
    state = scheme.init(None, None)

    def update(state, losses, indices):
        signals = Signals(jnp.array(losses), indices=jnp.array(indices))
        return scheme.update(jnp.ones(len(losses)), state, signals)

    weights, state = update(state, [2.0, 1.0], [0, 3])  # ratio 16 ** (1/2), sum 2
    np.testing.assert_allclose(weights, [1.6, 0.4], rtol=1e-6)
    weights, state = update(state, [0.5, 9.0], [0, 5])  # losses 0.5, 1, 9 of examples 0, 3, 5
    by_rank = 16 ** (-np.arange(3) / 3)
    np.testing.assert_allclose(weights, 3 * by_rank[[2, 0]] / by_rank.sum(), rtol=1e-5)
    np.testing.assert_array_equal(state.seen, [True, False, False, True, False, True])


# --- InfoBatch --------------------------------------------------------------------------------


def pruning_state(scheme, key):
    """Examples 0..5 seen with losses 1..6, mean 3.5; example 6 not seen."""
    state = scheme.init(key, None)
    first = Signals(jnp.arange(1.0, 7.0), indices=jnp.arange(6))
    return scheme.update(jnp.ones(6), state, first)[1]


def test_infobatch_is_unbiased():
    num_draws, prune = 4000, 0.6
    scheme = infobatch(7, 1000, prune=prune)
    signals = Signals(jnp.ones(7), indices=jnp.arange(7))

    @jax.jit
    def draw(key):
        return scheme.update(jnp.ones(7), pruning_state(scheme, key), signals)[0]

    weights = np.asarray(jax.vmap(draw)(jax.random.split(jax.random.key(1), num_draws)))
    np.testing.assert_array_equal(weights[:, 3:], 1)  # 4, 5, 6 are above the mean, 7 is new
    assert set(np.unique(weights[:, :3])) == {np.float32(0), np.float32(1 / (1 - prune))}
    # the mean gradient, for arbitrary per-example gradients
    gradients = np.random.default_rng(0).normal(size=(7, 5))
    estimates = weights @ gradients / 7
    error = estimates.std(axis=0) / np.sqrt(num_draws)
    assert np.all(np.abs(estimates.mean(axis=0) - gradients.mean(axis=0)) < 4 * error)
    # drops are independent between examples
    correlations = np.corrcoef(weights[:, :3], rowvar=False)
    assert np.all(np.abs(correlations[np.triu_indices(3, 1)]) < 4 / np.sqrt(num_draws))


def test_infobatch_draws_differ_between_steps_and_repeat_on_resume():
    scheme = infobatch(7, 1000)
    update = jax.jit(scheme.update)
    state = pruning_state(scheme, jax.random.key(2))
    signals = Signals(jnp.arange(1.0, 8.0), indices=jnp.arange(7))
    rows = []
    for _ in range(8):
        weights, state = update(jnp.ones(7), state, signals)
        rows.append(np.asarray(weights))
        if len(rows) == 4:
            saved = state
    assert len({tuple(row) for row in rows}) > 1
    for row in rows[4:]:
        weights, saved = update(jnp.ones(7), saved, signals)
        np.testing.assert_array_equal(weights, row)


def test_infobatch_keeps_the_loss_of_the_dropped_and_stops_pruning():
    scheme = infobatch(7, 10, prune=0.9, anneal=0.3)
    update = jax.jit(scheme.update)
    state = pruning_state(scheme, jax.random.key(4))
    for step in range(1, 10):
        before = np.asarray(state.losses)
        signals = Signals(jnp.arange(1.0, 8.0) + 0.01 * step, indices=jnp.arange(7))
        weights, state = update(jnp.ones(7), state, signals)
        dropped = np.asarray(weights) == 0
        np.testing.assert_array_equal(state.losses[dropped], before[dropped])
        np.testing.assert_array_equal(state.losses[~dropped], signals.losses[~dropped])
        if step < 7:
            assert dropped.any()
        else:  # the last three of ten steps
            np.testing.assert_array_equal(weights, np.ones(7))


def test_infobatch_limits():
    signals = Signals(jnp.ones(6), indices=jnp.arange(6))
    for scheme in (infobatch(7, 100, prune=0.0), infobatch(7, 100, anneal=1.0)):
        state = pruning_state(scheme, jax.random.key(0))
        weights, _ = scheme.update(jnp.ones(6), state, signals)
        np.testing.assert_array_equal(weights, np.ones(6))
    with pytest.raises(ValueError, match=r"prune must lie in \[0, 1\)"):
        infobatch(7, 100, prune=1.0)
    with pytest.raises(ValueError, match="num_steps must be positive"):
        infobatch(7, 0)
    with pytest.raises(ValueError, match=r"infobatch\(\) reads `signals.indices`"):
        infobatch(7, 10).update(
            jnp.ones(1), pruning_state(infobatch(7, 10), jax.random.key(0)), Signals(jnp.ones(1))
        )
