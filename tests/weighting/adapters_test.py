"""The adapters that docs/adapters.md shows: short, and every network trains through them."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "adapters.md").read_text()
BLOCKS = dict(re.findall(r"## (.*?)\n.*?```python\n(.*?)```", PAGE, re.DOTALL))
USE = BLOCKS.pop("Then, for each of them")


def lines_of_code(block):
    body = [line for line in block.splitlines() if line.strip()]
    return len([line for line in body if not line.startswith(("import", "from"))])


def problem():
    key = jax.random.key(0)
    inputs = jax.random.normal(key, (64, 20))
    labels = jnp.argmax(inputs[:, :10], axis=1).astype(jnp.int32)
    return {"key": key, "inputs": inputs, "labels": labels, "jax": jax}


def run(name):
    names = problem()
    exec(compile(BLOCKS[name], f"docs/adapters.md, {name}", "exec"), names)
    exec(compile(USE, "docs/adapters.md, use", "exec"), names)
    return names


@pytest.mark.parametrize("name", BLOCKS)
def test_is_short_and_trains(name):
    assert lines_of_code(BLOCKS[name]) < 15
    names = run(name)
    state, first, before = names["state"], names["metrics"], names["model_state"]
    assert np.isclose(np.mean(first.weights), 1, atol=1e-5)
    if jax.tree.leaves(before):
        moved = [
            np.any(np.asarray(a) != np.asarray(b))
            for a, b in zip(
                jax.tree.leaves(before), jax.tree.leaves(state.model_state), strict=True
            )
            if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key)
        ]
        assert any(moved)
    clean = names["Batch"](names["inputs"], names["labels"])
    batch = names["Batch"](names["inputs"], names["labels"], clean=clean)
    for _ in range(30):
        state, metrics = names["train_step"](state, batch)
    assert metrics.loss < first.loss
    logits, _ = names["apply_fn"](
        state.params, state.model_state, names["inputs"], train=False, key=None
    )
    assert logits.shape == (64, 10)


def test_all_frameworks_are_shown():
    assert list(BLOCKS) == ["A bare function", "flax.linen", "flax.nnx", "equinox", "haiku"]
