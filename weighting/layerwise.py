r"""The Jacobian of the losses, layer by layer: cheaper lookahead, and exact gradient norms.

A network uses its parameters in layers :math:`z = x \star W`: products, convolutions, biases. The
loss of example i depends on its own rows of every z. Backpropagate to the z alone, once, and keep
the signals :math:`g_i = \partial \ell_i / \partial z_i`. Then, summed over the layers,

.. math:: \langle \nabla \ell_i, v \rangle = \sum \langle g_i,\, x_i \star V \rangle, \qquad
          \sum_i w_i \nabla \ell_i = \sum_{\text{layers}} \sum_i x_i \otimes w_i g_i, \qquad
          \|\nabla \ell_i\|^2 = \sum \| x_i \otimes g_i \|^2 .

Each is one product per layer, where differentiating the network as a whole takes two; the norms
need no per-example gradients. (The first formula, with the mean clean gradient for v, is ren2018's
Eq. 12. The last is known as ghost norms: Goodfellow, "Efficient per-example gradient computations",
2015, for dense layers.)

Nothing has to be declared: layers are found in the traced computation, as the operations that
combine something made of parameters alone with something that depends on the batch. Two
conditions: the batch is the leading axis of what these operations return (checked), and no
example's loss depends on another example, as it does with batch norm in training mode (not checked
here; `make_train_step` refuses a model with state).
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from weighting._layers import Layer, trace
from weighting._types import PyTree
from weighting.linearize import LinearizedLosses

_CHUNK = 16  # examples whose gradients of one layer are in memory at once


def linearize_layers(
    losses_fn: Callable[[PyTree, PyTree], Any],
    params: PyTree,
    batch: PyTree,
    *,
    has_aux: bool = False,
) -> LinearizedLosses:
    r"""Runs the forward pass and one backward pass to the layers' outputs; see the module.

    Args:
      losses_fn: (params, batch) -> losses [B], or -> (losses, aux) with `has_aux`. Loss i may
        depend on example i alone.
      params: pytree of floating-point arrays.
      batch: pytree of arrays whose leading axis is the batch.
      has_aux: whether `losses_fn` returns a pair.

    Returns:
      `LinearizedLosses`; takes the place of `linearize_losses`, and agrees with it to rounding.
      Cost, in forward passes: 2 at once, 1 for every `jvp` and 1 for every `vjp` (there 1, 2 and
      2). `squared_row_norms` takes, for a dense layer, nothing to speak of; for a convolution
      with T positions, K inputs per position and C channels the smaller of T^2 (K + C) and
      T K C per example, and memory for 16 examples at a time.

    Raises:
      ValueError: if an operation on parameters returns something whose leading axis is not the
        batch, or is a loop over layers.

    Example:
      >>> import jax.numpy as jnp
      >>> inputs = jnp.array([[1.0, 0.0], [0.0, 2.0]])
      >>> lin = linearize_layers(lambda w, x: (x @ w) ** 2, jnp.array([1.0, 1.0]), inputs)
      >>> lin.jvp(jnp.array([1.0, 0.0]))
      Array([2., 0.], dtype=float32)
      >>> lin.squared_row_norms()
      Array([ 4., 64.], dtype=float32)
    """
    traced_fn = losses_fn if has_aux else lambda params, batch: (losses_fn(params, batch), None)
    network, aux_shapes = trace(traced_fn, params, batch)
    leaves, treedef = jax.tree.flatten(params)
    found = network.layers(leaves)
    zeros = [jnp.zeros(x.output.shape, x.output.dtype) for x in found]

    def forward(perturbations: list[Array]) -> tuple[Array, Any]:
        outputs, operands = network.run(leaves, jax.tree.leaves(batch), perturbations)
        return outputs[0], (outputs[1:], operands)

    values, pullback, (aux, operands) = jax.vjp(forward, zeros, has_aux=True)
    signals = pullback(jnp.ones_like(values))[0]  # of every layer [B, ...]
    layers = [
        layer._replace(
            operands=tuple(x._replace(number=n) for x, n in zip(layer.operands, own, strict=True))
        )
        for layer, own in zip(found, operands, strict=True)
    ]

    def make(leaves: list[Array]) -> list[tuple[Array, ...]]:
        """All that enters the layers and is made of parameters."""
        return [layer.made for layer in network.layers(leaves)]

    def jvp(tangent: PyTree) -> Array:
        _, moved = jax.jvp(make, (leaves,), (jax.tree.leaves(tangent),))
        total = jnp.zeros_like(values)
        for layer, signal, direction in zip(layers, signals, moved, strict=True):
            _, change = jax.jvp(layer.apply, (layer.made,), (direction,))
            total += _sum_rows(signal * change)
        return total

    def vjp(weights: Array) -> PyTree:
        own, cotangents = weights.astype(values.dtype), []
        for layer, signal in zip(layers, signals, strict=True):
            _, pull = jax.vjp(layer.apply, layer.made)
            (cotangent,) = pull(signal * jnp.expand_dims(own, range(1, signal.ndim)))
            cotangents.append(cotangent)
        _, pull = jax.vjp(make, leaves)
        return jax.tree.unflatten(treedef, pull(cotangents)[0])

    def squared_row_norms() -> Array:
        return _squared_row_norms(layers, signals, make, leaves)

    aux = jax.tree.unflatten(jax.tree.structure(aux_shapes), aux)
    return LinearizedLosses(values, jvp, vjp, aux, squared_row_norms)


def _squared_row_norms(
    layers: list[Layer],
    signals: list[Array],
    make: Callable[[list[Array]], list[tuple[Array, ...]]],
    leaves: list[Array],
) -> Array:
    """By a formula for leaves that one layer uses as they are; the others by rows of J."""
    size = signals[0].shape[0]
    entries = Counter(i for layer in layers for x in layer.operands for i in x.leaves)
    total, others = jnp.zeros(size, signals[0].dtype), []
    for number, (layer, signal) in enumerate(zip(layers, signals, strict=True)):
        made = [x for x in layer.operands if x.leaves]
        is_plain = len(made) == 1 and made[0].is_rearranged and len(made[0].leaves) == 1
        is_alone = all(entries[i] == 1 for x in made for i in x.leaves)
        norms = _norms_of_layer(layer, signal) if is_plain and is_alone else None
        if norms is None:
            others.append(number)
        else:
            total += norms
    if not others:
        return total
    _, pull = jax.vjp(make, leaves)
    made = [jax.tree.map(jnp.zeros_like, layer.made) for layer in layers]

    def squared_norm(index: Array) -> Array:
        cotangents = list(made)
        for number in others:
            cotangents[number] = _cotangent_of_example(layers[number], signals[number], index)
        return optax.tree.norm(pull(cotangents)[0], squared=True)

    return total + lax.map(squared_norm, jnp.arange(size), batch_size=_CHUNK)


def _cotangent_of_example(layer: Layer, signal: Array, index: Array) -> tuple[Array, ...]:
    """What one example contributes to the gradient with respect to what is made of parameters."""
    data = _data_of_product(layer)
    if data is not None:
        return (_positions(data)[index].T @ _positions(signal)[index],)
    _, pull = jax.vjp(layer.apply, layer.made)
    return pull(jnp.where(_batch_axis(signal) == index, signal, 0))[0]


def _data_of_product(layer: Layer) -> Array | None:
    """X [B, ..., K] if the layer is a product X W with a matrix W [K, C] made of parameters."""
    if layer.equation.primitive.name != "dot_general" or not layer.operands[1].leaves:
        return None
    data, made = (x.number for x in layer.operands)
    contracted, batched = layer.equation.params["dimension_numbers"]
    is_product = made.ndim == 2 and contracted == ((data.ndim - 1,), (0,)) and not any(batched)
    return data if is_product else None


def _norms_of_layer(layer: Layer, signal: Array) -> Array | None:
    """Squared norms of each example's gradient for one product, convolution, bias or scale."""
    name = layer.equation.primitive.name
    if len(layer.operands) != 2:
        return None
    position = next(i for i, x in enumerate(layer.operands) if x.leaves)
    made, data = layer.operands[position].number, layer.operands[1 - position].number
    params = layer.equation.params
    if name == "dot_general":
        data = _data_of_product(layer)
        return None if data is None else _norms_of_products(_positions(data), _positions(signal))
    if isinstance(params.get("dimension_numbers"), lax.ConvDimensionNumbers):  # of any primitive
        return _norms_of_convolution(data, signal, made, params) if position == 1 else None
    if name in ("add", "sub", "mul") and made.shape[:1] == (1,) and made.ndim == signal.ndim:
        signal = signal * data if name == "mul" else signal
        axes = tuple(i for i in range(1, made.ndim) if made.shape[i] == 1)
        return _sum_rows(jnp.sum(signal, axis=axes, keepdims=True) ** 2)
    return None


def _norms_of_convolution(
    inputs: Array, signal: Array, kernel: Array, params: dict[str, Any]
) -> Array | None:
    numbers = params["dimension_numbers"]
    if params["feature_group_count"] != 1 or params["batch_group_count"] != 1:
        return None
    inputs = jnp.transpose(
        inputs, (numbers.lhs_spec[0], *numbers.lhs_spec[2:], numbers.lhs_spec[1])
    )
    signal = jnp.transpose(
        signal, (numbers.out_spec[0], *numbers.out_spec[2:], numbers.out_spec[1])
    )
    window = [kernel.shape[i] for i in numbers.rhs_spec[2:]]
    sizes, strides = signal.shape[1:-1], params["window_strides"]
    pads = [
        (low, high, dilation - 1)
        for (low, high), dilation in zip(params["padding"], params["lhs_dilation"], strict=True)
    ]

    def patches(x: Array) -> Array:
        """What the kernel sees of one example [..., I] at each position, [T, K]: slices, because a
        convolution is slow in a loop on XLA's CPU backend."""
        x = lax.pad(x, jnp.zeros((), x.dtype), [*pads, (0, 0, 0)])
        slices = []
        for offset in np.ndindex(*window):
            starts = [i * step for i, step in zip(offset, params["rhs_dilation"], strict=True)]
            ends = [a + (n - 1) * s + 1 for a, n, s in zip(starts, sizes, strides, strict=True)]
            slices.append(lax.slice(x, (*starts, 0), (*ends, x.shape[-1]), (*strides, 1)))
        return jnp.concatenate(slices, axis=-1).reshape(-1, len(slices) * x.shape[-1])

    return _norms_of_products(inputs, _positions(signal), patches)


def _norms_of_products(
    inputs: Array, signals: Array, rows_fn: Callable[[Array], Array] = lambda x: x
) -> Array:
    """Of sum_t x_t g_t^T for signals [B, T, C]; by the cheaper of two ways, a chunk at a time.

    `rows_fn` turns an example of the inputs into x [T, K], so that only a chunk's are in memory.
    """
    num_positions, num_outputs = signals.shape[1:]
    num_inputs = jax.eval_shape(rows_fn, inputs[0]).shape[1]
    if num_positions == 1:
        return _sum_rows(jax.vmap(rows_fn)(inputs) ** 2) * _sum_rows(signals**2)
    is_gram = num_positions * (num_inputs + num_outputs) < num_inputs * num_outputs

    def norm(example: tuple[Array, Array]) -> Array:
        x, g = rows_fn(example[0]), example[1]
        return jnp.sum((x @ x.T) * (g @ g.T)) if is_gram else jnp.sum((x.T @ g) ** 2)

    return lax.map(norm, (inputs, signals), batch_size=_CHUNK)


def _positions(values: Array) -> Array:
    """[B, ..., K] as [B, T, K]."""
    return values.reshape(values.shape[0], -1, values.shape[-1])


def _batch_axis(values: Array) -> Array:
    """Numbers of the examples, along the first of the axes of `values`."""
    return jnp.expand_dims(jnp.arange(values.shape[0]), range(1, values.ndim))


def _sum_rows(values: Array) -> Array:
    return jnp.sum(values.reshape(values.shape[0], -1), axis=1)
