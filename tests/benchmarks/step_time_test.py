"""The benchmark's arithmetic, a quick run, and the operation counts it relies on."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import weighting
from benchmarks import step_time
from experiments.networks.convolution import convolve_plainly
from experiments.networks.models import lenet5, make_model
from experiments.training.timing import Candidate, StepTable
from weighting import losses

LENET = lenet5(10, convolve=convolve_plainly)  # each direction as many operations as another


def lenet_flops(scheme, num_clean=0, batch_size=100):
    optimizer = optax.sgd(0.1, momentum=0.9)
    table = StepTable("", LENET, losses.cross_entropy, optimizer, batch_size, {})
    return step_time.compile_candidate(table, Candidate(scheme, num_clean)).flops


def tiny_table():
    return StepTable(
        "tiny",
        make_model("mlp:4", 3),
        losses.cross_entropy,
        optax.sgd(0.1),
        8,
        {
            "value_and_grad": Candidate(None),
            "uniform": Candidate(weighting.uniform(), max_flop_ratio=1.5),
            "lookahead": Candidate(weighting.lookahead(), num_clean=2, max_ratio=0.0),
        },
    )


def test_interleave_rotates_and_drops_the_warm_up():
    calls = []
    functions = {name: lambda name=name: calls.append(name) for name in "abc"}
    seconds = step_time.interleave(functions, rounds=2, warm_up=1)
    assert "".join(calls) == "abcbcacab"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2, "c": 2}


def test_ratio_is_paired_within_rounds():
    assert step_time.paired_ratio([2.0, 20.0, 3.0], [1.0, 10.0, 1.0]) == (2.0, 2.0, 2.5)


def test_records_of_a_tiny_table():
    records = step_time.time_steps(tiny_table(), rounds=2, warm_up=1)
    assert [record["reference"] for record in records] == ["value_and_grad"] * 2 + ["uniform"]
    assert records[0]["ratio"] == 1.0
    assert all(record["median_ms"] > 0 and record["flops"] > 0 for record in records)
    text = step_time.format_records(records)
    assert "FLOP <= 1.5: met" in text
    assert "time <= 0: missed" in text


def test_main_writes_json(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(step_time, "tables", lambda: [tiny_table()])
    step_time.main(quick=True, out=tmp_path / "benchmarks.json")
    written = json.loads((tmp_path / "benchmarks.json").read_text())
    assert written["rounds"] == 2
    assert written["machine"]["packages"]["jax"]
    assert written["tables"][0]["records"][2]["num_clean"] == 2
    assert "tiny" in capsys.readouterr().out


def test_operation_counts_on_lenet5():
    plain = lenet_flops(None)
    assert lenet_flops(weighting.uniform()) == pytest.approx(plain, rel=3e-4)
    # A pass over the parameters' tangents multiplies twice per layer (x dW and dx W), so lookahead
    # costs at most 3 + 2 forward passes of the batch and 3 of the clean one; 2 % for the rest.
    num_clean, batch_size = 10, 100
    bound = (5 + 3 * num_clean / batch_size) / 3
    lookahead = lenet_flops(weighting.lookahead(), num_clean, batch_size)
    assert lookahead <= 1.02 * bound * plain


def test_peers_do_the_same_work():
    torch = pytest.importorskip("torch")
    from benchmarks import pytorch_peers

    norms = np.random.default_rng(0).uniform(size=20)
    weights = pytorch_peers.low_weights_cvxopt(norms, 0.1)
    ours = weighting.low_weights(jnp.array(norms), 0.1)
    np.testing.assert_allclose(weights, ours, atol=0.1)  # its tolerance of 1e-4 leaves 0.05
    for table in step_time.tables():
        steps = pytorch_peers.peers(table.title, 8, (2,))
        assert set(steps) == {"uniform", "low:0.1", "lookahead, 2 clean"}, table.title
        assert {"uniform", "low:0.1"} <= set(table.candidates)
        for step in steps.values():
            step()
    # The same network: as many parameters as ours.
    for theirs, name, num_outputs, (height, width, channels) in (
        (pytorch_peers.torch_lenet5, "lenet5", 10, (28, 28, 1)),
        (pytorch_peers.torch_ren2018_net, "ren2018_net", 1, (28, 28, 1)),
        (pytorch_peers.torch_resnet32, "resnet32", 10, (32, 32, 3)),
    ):
        network, model = theirs(num_outputs), make_model(name, num_outputs)
        params, _ = model.init(jax.random.key(0), jnp.zeros((1, height, width, channels)))
        count = sum(p.numel() for p in network.parameters())
        assert count == sum(p.size for p in jax.tree.leaves(params))
        assert network(torch.zeros(3, channels, height, width)).shape == (3, num_outputs)


def test_steps_in_a_scan_are_the_steps_one_by_one():
    table = tiny_table()
    calls = [
        step_time.compile_candidate(table, Candidate(weighting.uniform(), 0, 3, in_scan)).call
        for in_scan in (False, True)
    ]
    one_by_one, in_scan = (call() for call in calls)
    assert one_by_one.step == in_scan.step == 3
    for a, b in zip(*map(jax.tree.leaves, (one_by_one.params, in_scan.params)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_torch_lookahead_weights_are_ours():
    """On a linear model with known gradients: the update is that of the weighted examples."""
    torch = pytest.importorskip("torch")
    from benchmarks.pytorch_peers import Peer

    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 3))
    peer = Peer(network, 3, 6, momentum=0.0)
    start = {n: p.detach().numpy().copy() for n, p in network.named_parameters()}
    clean = torch.rand(4, 1, 28, 28), torch.tensor([0, 1, 2, 0])
    peer._draw = lambda *_: clean
    inputs, labels = jnp.array(peer.inputs.reshape(6, -1).numpy()), jnp.array(peer.labels.numpy())
    params = {"w": jnp.array(start["1.weight"]).T, "b": jnp.array(start["1.bias"])}

    def losses_of(params, x, y):
        return losses.cross_entropy(x @ params["w"] + params["b"][None], y)

    x, y = jnp.array(clean[0].reshape(4, -1).numpy()), jnp.array(clean[1].numpy())
    weights = weighting.lookahead_weights(
        lambda p: losses_of(p, inputs, labels), params, lambda p: losses_of(p, x, y).mean()
    )
    gradient = jax.grad(lambda p: jnp.mean(weights * losses_of(p, inputs, labels)))(params)
    peer.lookahead(4)()
    moved = dict(network.named_parameters())["1.weight"].detach().numpy()
    expected = start["1.weight"] - 1e-3 * np.asarray(gradient["w"]).T
    np.testing.assert_allclose(moved, expected, atol=1e-6)
