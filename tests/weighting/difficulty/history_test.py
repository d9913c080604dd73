"""The history of examples against a slow dictionary."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.weighting.visits import NUM_EXAMPLES, probability, random_batches, scan, visits
from weighting import Signals, chain, focal, random
from weighting.difficulty.history import History, read_history, record_history


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
