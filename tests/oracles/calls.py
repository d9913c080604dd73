"""How the library is called with the inputs of a table's row: one way for each kind of method."""

import jax
import jax.numpy as jnp
import optax

import weighting
from weighting import Signals, linearize_losses

PER_EXAMPLE = {
    "squared": lambda scores, targets: (scores - targets) ** 2 / 2,
    "logistic": lambda scores, targets: jax.nn.softplus(-targets * scores),
}


def named(method):
    """The public function of a name such as "losses.focal"."""
    found = weighting
    for part in method.split("."):
        found = getattr(found, part)
    return found


def loss(method, arguments, logits, labels):
    """The loss of one example: logits [C] or a score, and its label."""
    return method(logits[None], labels[None], **arguments)[0]


def function(method, arguments, **inputs):
    return method(**inputs, **arguments)


def host(method, arguments, **inputs):
    """A function that runs in NumPy: its inputs must not be traced."""
    return method(**inputs, **arguments)


def scheme(method, arguments, **inputs):
    """The weights of one batch, from a new state."""
    steps = {name: jnp.asarray(part)[None] for name, part in inputs.items()}
    return scheme_steps(method, arguments, **steps)[0]


def scheme_steps(method, arguments, **inputs):
    """The weights [T, B] of T batches, one after the other; inputs are [T, B, ...]."""
    made = method(**arguments)
    state, steps = made.init(jax.random.key(0), {}), []
    for step in range(len(next(iter(inputs.values())))):
        signals = {name: jnp.asarray(part)[step] for name, part in inputs.items()}
        given = signals.get("losses", signals.get("logits", signals.get("weights")))
        losses = given if given.ndim == 1 else given[:, 0]  # only their type matters otherwise
        weights = signals.pop("weights", jnp.ones_like(losses))
        new, state = made.update(weights, state, Signals(**{"losses": losses, **signals}))
        steps.append(new)
    return jnp.stack(steps)


def lookahead(method, arguments, params, **problem):
    own = dict(arguments)
    losses_fn, clean_loss_fn = _linear_model(own.pop("loss"), **problem)
    return method(losses_fn, params, clean_loss_fn, **own)


def meta_gradient(method, arguments, psi, params, **problem):
    losses_fn, clean_loss_fn = _linear_model(arguments["loss"], **problem)
    lin = linearize_losses(losses_fn, params)
    return method(
        lambda psi: jax.nn.sigmoid(psi[0] + psi[1] * lin.values),
        psi,
        lin,
        params,
        clean_loss_fn,
        arguments["learning_rate"],
    )


def meta_weight_net(method, arguments, params, meta_rate, **inputs):
    """One step: the weights and the moved network."""
    own, optimizer = dict(arguments), optax.sgd(meta_rate)
    loss_name = own.pop("loss")
    made = method(optimizer=optimizer, hidden_size=len(inputs["hidden_kernel"]), **own)
    state = made.init(jax.random.key(0), params)
    net = state.net._replace(**{name: inputs.pop(name) for name in state.net._fields})
    losses_fn, clean_loss_fn = _linear_model(loss_name, **inputs)
    lin = linearize_losses(losses_fn, params)
    weights, state = made.update(
        jnp.ones_like(lin.values),
        state._replace(net=net),
        Signals(lin.values),
        linearized=lin,
        params=params,
        clean_loss_fn=clean_loss_fn,
    )
    return {"weights": weights, **state.net._asdict()}


def _linear_model(loss_name, inputs, targets, clean_inputs, clean_targets):
    each = PER_EXAMPLE[loss_name]
    return (
        lambda params: each(inputs @ params, targets),
        lambda params: jnp.mean(each(clean_inputs @ params, clean_targets)),
    )
