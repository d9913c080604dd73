"""Gradient harmonizing by hand and by a histogram."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from tests.weighting.schemes.one_batch import run, signals, update
from weighting.schemes.gradient_harmonized import EMPTY_BINS, gradient_harmonized


def binary_batch(gradient_norms, dtype=jnp.float32, mask=None):
    """Scores of class-1 examples for which 1 - p_y is given."""
    p = 1 - np.asarray(gradient_norms)
    logits = jnp.asarray(np.log(p / (1 - p)), dtype)
    return signals(np.zeros(p.size), logits=logits, labels=jnp.ones(p.size, int), mask=mask)


def test_gradient_harmonized_by_hand():
    # bins of width 1/4: [0.05, 0.1, 0.2], [], [0.6], [0.9, 0.99]
    batch = binary_batch([0.05, 0.6, 0.1, 0.9, 0.2, 0.99])
    density = np.array([12, 4, 12, 8, 12, 8])  # 4 times the number in the bin
    native = update(gradient_harmonized(4, decay=0.0, normalize=False), batch)
    np.testing.assert_allclose(native, 6 / density, rtol=1e-6)
    # dividing by the 3 occupied bins instead of 4 averages to one
    np.testing.assert_allclose(
        update(gradient_harmonized(4, decay=0.0), batch), 6 / density * 4 / 3, rtol=1e-6
    )
    np.testing.assert_allclose(update(gradient_harmonized(1), batch), np.ones(6), rtol=1e-6)


def test_gradient_harmonized_averages_its_bins():
    mask = jnp.array([1, 1, 0, 0])
    batches = [
        binary_batch([0.1, 0.2, 0.3, 0.9]),
        binary_batch([0.1, 0.1, 0.1, 0.1], mask=jnp.zeros(4)),
        binary_batch([0.4, 0.6, 0.6, 0.6], mask=mask),
    ]
    weights = run(gradient_harmonized(2, decay=0.5, normalize=False), batches)
    np.testing.assert_allclose(weights[0], 1 / (2 * np.array([0.75, 0.75, 0.75, 0.25])), rtol=1e-6)
    np.testing.assert_array_equal(weights[1], np.zeros(4))
    # shares: (0.25 * [0.75, 0.25] + 0.5 * [0.5, 0.5]) / 0.75
    low, high = 0.4375 / 0.75, 0.3125 / 0.75
    np.testing.assert_allclose(weights[2], [1 / (2 * low), 1 / (2 * high), 0, 0], rtol=1e-6)


def test_gradient_harmonized_counts_softmax_probabilities_by_histogram():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(50, 4)).astype(np.float32) * 3
    labels = generator.integers(0, 4, 50)
    norms = 1 - special.softmax(logits.astype(float), axis=1)[np.arange(50), labels]
    counts, edges = np.histogram(norms, bins=7, range=(0, 1))
    expected = 50 / (7 * counts[np.digitize(norms, edges[1:-1])])
    batch = signals(np.zeros(50), logits=jnp.asarray(logits), labels=jnp.asarray(labels))
    native = update(gradient_harmonized(7, normalize=False), batch)
    np.testing.assert_allclose(native, expected, rtol=1e-5)


def averaged_bins(batches, decay, keeps):
    """N / GD by loops over batches and bins, with averages corrected for their start at zero."""
    sums, steps = np.zeros(30), np.zeros(30)
    for norms in batches:
        shares = np.histogram(norms, bins=30, range=(0, 1))[0] / len(norms)
        for j, share in enumerate(shares):
            if share > 0 or not keeps:
                sums[j] = decay * sums[j] + (1 - decay) * share
                steps[j] += 1
        averages = sums / (1 - decay ** np.maximum(steps, 1))
        native = 1 / (30 * averages[np.minimum((norms * 30).astype(int), 29)])
        yield native / native.mean()


def test_empty_bins_that_keep_their_average_weigh_otherwise(float64):
    generator = np.random.default_rng(0)
    batches = [generator.beta(0.5, 2, 128) for _ in range(200)]  # a stationary stream
    weights = {}
    for empty_bins in ("decay", "keep"):
        scheme = gradient_harmonized(empty_bins=empty_bins)
        weights[empty_bins] = run(scheme, [binary_batch(norms, float) for norms in batches])
        expected = list(averaged_bins(batches, 0.75, keeps=empty_bins == "keep"))
        np.testing.assert_allclose(weights[empty_bins], expected, rtol=1e-9)
    decayed, kept = (np.array(weights[name]) for name in ("decay", "keep"))
    # the docstring's numbers
    assert round(np.abs(decayed - kept).mean(), 2) == 0.18
    assert round((decayed / kept).max(), 1) == 3.9


def test_without_empty_bins_nothing_is_kept():
    batches = [binary_batch([0.1, 0.2, 0.3, 0.9]), binary_batch([0.4, 0.6, 0.6, 0.6])]
    decayed, kept = (run(gradient_harmonized(2, empty_bins=name), batches) for name in EMPTY_BINS)
    np.testing.assert_allclose(decayed, kept, rtol=1e-6)
    with pytest.raises(ValueError, match="empty_bins must be one of 'decay', 'keep'; got 'drop'"):
        gradient_harmonized(empty_bins="drop")
