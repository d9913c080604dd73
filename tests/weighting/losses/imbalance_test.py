"""What class counts do: the prior is removed, and only ratios matter."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.weighting.losses.cases import COUNTS, LABELS, LOGITS
from weighting import losses


def test_logit_adjustment_removes_the_prior(float64):
    """The training posterior is fitted by logits that carry no prior: those of balanced data."""
    likelihood = np.array([0.5, 0.3, 0.9])  # p(x | y) at one x
    joint = likelihood * COUNTS / COUNTS.sum()
    posterior, balanced = joint / joint.sum(), likelihood / likelihood.sum()

    @jax.jit
    def expected_loss(z):
        values = losses.logit_adjusted(
            jnp.broadcast_to(z, (3, 3)), jnp.arange(3), class_counts=COUNTS
        )
        return jnp.sum(posterior * values)

    gradient = jax.grad(expected_loss)(jnp.log(jnp.asarray(balanced)))
    np.testing.assert_allclose(gradient, 0, atol=1e-14)


def test_only_the_ratios_of_class_counts_matter(float64):
    z, y = jnp.asarray(LOGITS), jnp.asarray(LABELS)
    for name in ("balanced_cross_entropy", "logit_adjusted", "vector_scaling", "ldam"):
        loss_fn = getattr(losses, name)
        np.testing.assert_allclose(
            loss_fn(z, y, class_counts=100 * COUNTS), loss_fn(z, y, class_counts=COUNTS), rtol=1e-12
        )
