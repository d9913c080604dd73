r"""The noise adaptation layer, or S-model: a transition matrix trained with the network.

A softmax layer behind the network models how labels are corrupted (Goldberger & Ben-Reuven, 2017):

.. math:: P(\tilde y = j \mid x) = \sum_i q_i(x)\, T_{ij}, \qquad
          T = \text{softmax of each row of } b,

with q the network's clean prediction. Network and b are trained by cross-entropy on noisy labels;
at test time the layer is removed. Nothing is held constant: both get the gradient of the noisy
label's cross-entropy. Nothing but the start of b ties class i of the network to label i, hence the
two initializations.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from weighting._checks import check_positive
from weighting.train_step import ApplyFn, as_output


def identity_transition(num_classes: int, smoothing: float | Array = 1e-3) -> Array:
    """The start of S-MODEL in ren2018 (Sec. 4.1): b = log(I + smoothing); [C, C].

    Args:
      num_classes: C.
      smoothing: > 0; a small value starts near noiseless labels, a large one near labels that say
        nothing. As it tends to 0 the transition stops learning, since its softmax saturates.
    """
    check_positive("smoothing", smoothing)
    return jnp.log(jnp.eye(num_classes) + smoothing)


def confusion_transition(confusion: Array, smoothing: float | Array = 1e-3) -> Array:
    """The start of S-MODEL +CONF: b = log(confusion with rows scaled to one + smoothing); [C, C].

    The confusion is that of a baseline trained on the noisy labels, and stands in for the noise.

    Args:
      confusion: [C, C] counts by predicted class (row) and *noisy label* (column), for instance
        `metrics.confusion_matrix(predictions, noisy_labels, C)`; note the order. Sums of predicted
        probabilities in the place of counts work too. A class never predicted starts uniform.
      smoothing: > 0.

    References:
      Goldberger, Ben-Reuven, "Training Deep Neural-Networks Using a Noise Adaptation Layer", ICLR
      2017; ren2018, Sec. 4.1. The smoothing is that of ren2018's code at commit 7d6e16f of
      github.com/uber-research/learning-to-reweight-examples, in a file since removed,
      `models/noise_adapt_resnet_model.py`.
    """
    check_positive("smoothing", smoothing)
    if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1]:
        raise ValueError(f"confusion must be a square matrix [C, C]; got shape {confusion.shape}")
    if not isinstance(confusion, Tracer) and not np.all(np.asarray(confusion) >= 0):
        raise ValueError("confusion must hold counts, which are not negative")
    totals = jnp.sum(confusion, axis=1, keepdims=True)
    return jnp.log(confusion / jnp.where(totals > 0, totals, 1) + smoothing)


def transition_log_probabilities(logits: Array, transition: Array) -> Array:
    """Log-probabilities of the noisy labels, log sum_i q_i T_ij with T = softmax(b); [B, C].

    Computed with logarithms throughout, in O(B C^2) time and memory.

    Args:
      logits: [B, C] of the clean classes.
      transition: b [C, C], the logarithm of T up to a constant in each row.
    """
    if logits.ndim != 2 or transition.shape != (logits.shape[1], logits.shape[1]):
        raise ValueError(
            "the noise layer needs logits [B, C] and a transition [C, C]; got logits "
            f"{logits.shape} and transition {transition.shape}"
        )
    log_transition = jax.nn.log_softmax(transition.astype(logits.dtype), axis=1)
    joint = jax.nn.log_softmax(logits)[:, :, None] + log_transition[None]
    return jax.nn.logsumexp(joint, axis=1)


def with_noise_layer(apply_fn: ApplyFn) -> ApplyFn:
    r"""Puts the noise layer behind a model, for training only.

    With train=True the outputs are the log-probabilities of the noisy labels, a fixed point of
    log-softmax: as logits of any loss they stand for :math:`q^\top T`, and `losses.cross_entropy`
    of them is the S-model's loss. Schemes then see the noisy prediction as well, and so does a
    clean batch, whose labels are not noisy. With train=False the outputs are the network's.

    Weight decay on b pulls T towards uniform, and b may want a learning rate of its own: both are
    the optimizer's business (`optax.partition` over the two entries of the parameters).

    Args:
      apply_fn: the model, with logits [B, C].

    Returns:
      An `ApplyFn` whose parameters are {"network": parameters of the model, "transition": b [C,
      C]}, b from `identity_transition` or `confusion_transition`. It returns a `ModelOutput` that
      keeps the features.

    References:
      Goldberger, Ben-Reuven, "Training Deep Neural-Networks Using a Noise Adaptation Layer", ICLR
      2017, the simple model; S-MODEL in Ren et al., "Learning to Reweight Examples", ICML 2018.

    Example:
      >>> import jax.numpy as jnp
      >>> from weighting import without_state
      >>> apply_fn = with_noise_layer(without_state(lambda params, inputs: inputs @ params))
      >>> transition = jnp.log(jnp.array([[0.9, 0.1], [0.5, 0.5]]))
      >>> params = {"network": jnp.eye(2), "transition": transition}
      >>> output, _ = apply_fn(params, {}, 100 * jnp.eye(2), train=True, key=None)
      >>> bool(jnp.allclose(jnp.exp(output.logits), jnp.array([[0.9, 0.1], [0.5, 0.5]])))
      True
    """

    def noisy_apply(params, model_state, inputs, *, train, key):
        output, model_state = apply_fn(params["network"], model_state, inputs, train=train, key=key)
        output = as_output(output)
        if train:
            noisy = transition_log_probabilities(output.logits, params["transition"])
            output = output._replace(logits=noisy)
        return output, model_state

    return noisy_apply
