"""Active bias against a slow dictionary, and at its limits."""

import numpy as np
import pytest

from tests.weighting.visits import BATCH, NUM_EXAMPLES, probability, random_batches, scan, visits
from weighting.schemes.active_bias import active_bias


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
