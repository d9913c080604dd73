"""What is computed whole on every device of a mesh; scale_out_test.py has the devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from weighting import cvar_weights, low_weights
from weighting._whole_batch import on_whole_batch
from weighting.training.scale_out import data_mesh

NORMS = jnp.array([0.3, 1.7, 0.1, 0.9])


def under(mesh, function):
    """The function, traced under the mesh as `parallel_step` does."""

    def traced(*args):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*args)

    return jax.jit(traced)


def programs(function, *args):
    return str(under(data_mesh(1), function).trace(*args).jaxpr)


@pytest.mark.parametrize("function", [low_weights, cvar_weights])
def test_a_mesh_changes_no_number(function):
    parameter = 0.3
    expected = function(NORMS, parameter)
    found = under(data_mesh(1), lambda norms: function(norms, parameter))(NORMS)
    np.testing.assert_array_equal(found, expected)
    traced = under(data_mesh(1), function)(NORMS, jnp.asarray(parameter))
    np.testing.assert_allclose(traced, expected, rtol=1e-6)


def test_only_under_a_mesh_is_there_a_program_for_each_device():
    assert "shard_map" in programs(lambda norms: low_weights(norms, 0.3), NORMS)
    assert "shard_map" not in str(jax.make_jaxpr(lambda norms: low_weights(norms, 0.3))(NORMS))


def test_a_mesh_that_was_set_is_seen():
    with jax.set_mesh(data_mesh(1)):
        traced = jax.jit(lambda norms: low_weights(norms, 0.3)).trace(NORMS)
    assert "shard_map" in str(traced.jaxpr)


def test_one_within_another_is_not_split_again():
    outer = on_whole_batch(lambda norms: low_weights(norms, 0.3))
    assert programs(outer, NORMS).count("shard_map[") == 1


@pytest.mark.parametrize("other", [AxisType.Explicit, AxisType.Auto])
def test_axes_that_are_not_automatic_are_left_to_their_owner(other):
    mesh = jax.make_mesh((1, 1), ("data", "model"), axis_types=(AxisType.Explicit, other))
    traced = under(mesh, lambda norms: low_weights(norms, 0.3)).trace(NORMS)
    assert "shard_map" not in str(traced.jaxpr)


def test_what_is_no_array_stays_what_it_is():
    seen = {}

    @on_whole_batch
    def function(values, power, *, name, mask=None):
        seen.update(power=power, name=name, mask=mask)
        return {"sum": jnp.sum(values["a"] ** power), "values": values}

    result = under(data_mesh(1), functools.partial(function, power=2, name="x"))({"a": NORMS})
    assert seen == {"power": 2, "name": "x", "mask": None}
    np.testing.assert_allclose(result["sum"], np.sum(np.asarray(NORMS) ** 2), rtol=1e-6)
    np.testing.assert_array_equal(result["values"]["a"], NORMS)


def test_derivatives_and_vmap_go_through():
    def risk(norms, regularization):
        return low_weights(norms, regularization) @ jnp.arange(4.0)

    def everything(norms):
        gradients = jax.grad(risk, argnums=(0, 1))(norms, jnp.asarray(2.0))
        _, tangent = jax.jvp(lambda norms: risk(norms, 2.0), (norms,), (norms,))
        rows = jax.vmap(low_weights, in_axes=(None, 0))(norms, jnp.array([0.2, 2.0]))
        return gradients, tangent, rows

    expected = jax.jit(everything)(NORMS)
    found = under(data_mesh(1), everything)(NORMS)
    # lambda = 2 clips nothing: w = 1 + (g - mean g) / (2 lambda), by hand
    np.testing.assert_allclose(found[0][0], (np.arange(4) - 1.5) / 4, rtol=1e-6)
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-6), found, expected
    )
