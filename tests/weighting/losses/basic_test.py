"""The margins behind the losses."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from tests.weighting.losses.cases import LABELS, LOGITS
from weighting import losses


def test_soft_margins():
    z, y = jnp.asarray(LOGITS, jnp.float32), jnp.asarray(LABELS)
    p = scipy.special.softmax(LOGITS, axis=1)[np.arange(4), LABELS]
    soft_margins = jax.jit(losses.soft_margins)
    np.testing.assert_allclose(soft_margins(z, y), scipy.special.logit(p), rtol=1e-5)
    two, sign = z[:, :2], jnp.array([0, 1, 1, 0])
    expected = (LOGITS[:, 1] - LOGITS[:, 0]) * [-1, 1, 1, -1]
    np.testing.assert_allclose(soft_margins(two, sign), expected, rtol=1e-6)
    np.testing.assert_allclose(
        losses.soft_margins(two[:, 1] - two[:, 0], sign), expected, rtol=1e-6
    )
