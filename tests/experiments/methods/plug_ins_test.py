"""Schemes, losses and networks of one's own, from a file or a package, and their mistakes."""

import json
import re
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import weighting
from experiments.__main__ import main
from experiments.methods.context import example_context
from experiments.methods.specifications import parse_loss, parse_scheme
from experiments.networks.models import make_model
from experiments.tools.plug_ins import installed
from experiments.training.config import RunConfig
from experiments.training.result import load_result

SCHEMES = '''
import jax.numpy as jnp
import weighting
from weighting import Weighting, stateless


def capped(limit, power=1.0, *, keep=True):
    """Losses up to a limit."""
    if limit <= 0:
        raise ValueError("limit must be positive")  # line 10

    def update(weights, signals, **keywords):
        return weights * jnp.minimum(signals.losses, limit) ** power

    return stateless(update)


def no_weighting(limit=1.0):
    return limit


def wrong_shape():
    return stateless(lambda weights, signals, **keywords: weights[:, None])


def fails_later():
    def update(weights, signals, **keywords):
        return weights * signals.features.mean(axis=1)  # line 28: there are none

    return stateless(update)


def forgets():
    return Weighting(lambda key, params: jnp.ones(3), lambda w, state, s, **more: (w, state[:2]))


def no_pair():
    return Weighting(lambda key, params: (), lambda w, state, s, **keywords: w)


def asks_clean():
    """Weights by the clean loss."""

    def update(weights, signals, *, clean_loss_fn, params, **keywords):
        return weights * clean_loss_fn(params)

    return stateless(update)


asks_clean.needs_clean = True
'''
LOSSES = """
import jax.numpy as jnp
from weighting import losses


def scaled(logits, labels, factor=2):
    return factor * losses.cross_entropy(logits, labels)


def mean(logits, labels):
    return losses.cross_entropy(logits, labels).mean()


def breaks(logits, labels):
    return losses.cross_entropy(labels, logits)  # line 15
"""
MODELS = """
import flax.linen as nn
from experiments.networks.models import model_from_module
from weighting import ModelOutput


class Net(nn.Module):
    num_outputs: int
    size: int

    @nn.compact
    def __call__(self, inputs, train):
        x = nn.tanh(nn.Dense(self.size)(inputs.reshape(len(inputs), -1)))
        return ModelOutput(nn.Dense(self.num_outputs, name="head")(x), x)


def tanh_net(num_outputs, size=8):
    return model_from_module(Net(num_outputs, size), "tanh_net", has_convolutions=False)


def no_model(num_outputs):
    return num_outputs


def too_wide(num_outputs):
    return tanh_net(num_outputs + 1)
"""
TINY = [
    *("--dataset", "digits", "--noise", "uniform:0.4", "--model", "mlp:8"),
    *("--num-steps", "4", "--num-evals", "2", "--seeds", "1"),
    *("--num-validation", "60", "--num-test", "100", "--num-train", "200"),
]


@pytest.fixture(name="files")
def _files(tmp_path):
    for name, text in (("schemes", SCHEMES), ("losses", LOSSES), ("models", MODELS)):
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def weights_of(scheme, losses=(0.5, 1.0, 4.0)):
    signals = weighting.Signals(jnp.array(losses), mask=jnp.ones(len(losses)))
    state = scheme.init(jax.random.key(0), None)
    return scheme.update(signals.valid, state, signals, params=None)[0]


def build(text):
    spec = parse_scheme(text)
    return spec.build(example_context(), spec.values)


def test_a_scheme_of_one_s_own(files):
    name = f"{files}/schemes.py:capped"
    np.testing.assert_allclose(weights_of(build(f"{name}:2")), [0.5, 1, 2])
    np.testing.assert_allclose(weights_of(build(f"{name}:2:power=2")), [0.25, 1, 4])
    np.testing.assert_allclose(
        weights_of(build(f"{name}:2+normalize_mean")), [3 / 7, 6 / 7, 12 / 7]
    )
    spec = parse_scheme(f"{name}:2:0.5+low:0.1")
    assert spec.values == (0.1,)  # one's own numbers are static
    assert spec.fixed[0].numbers == (("limit", 2), ("power", 0.5))
    assert [record.suspect for record in spec.records] == [None, "high"]
    assert not spec.needs_clean
    assert parse_scheme(f"{files}/schemes.py:asks_clean").needs_clean
    with pytest.raises(ValueError, match="needs a clean set"):
        RunConfig(weighting=f"{files}/schemes.py:asks_clean", task=_no_clean())


def _no_clean():
    from experiments.data import TaskConfig

    return TaskConfig(num_clean=0)


def test_figures_call_it_without_its_folder(files):
    config = RunConfig(weighting=f"{files}/schemes.py:capped:2+clip")
    assert config.label == "schemes.py:capped:2+clip"


def test_a_loss_of_one_s_own(files):
    spec = parse_loss(f"{files}/losses.py:scaled:3")
    loss_fn = spec.build(example_context(), spec.values)
    logits, labels = jnp.array([[0.0, 1.0], [2.0, 0.0]]), jnp.array([0, 0])
    np.testing.assert_allclose(
        loss_fn(logits, labels), 3 * weighting.losses.cross_entropy(logits, labels)
    )


def test_a_network_of_one_s_own(files):
    model = make_model(f"{files}/models.py:tanh_net:size=5", 3)
    params, state = model.init(jax.random.key(0), jnp.zeros((1, 2)))
    output, _ = model.apply(params, state, jnp.zeros((4, 2)), train=True)
    assert output.logits.shape == (4, 3)
    assert output.features.shape == (4, 5)


@pytest.mark.slow
def test_a_run_with_plug_ins_trains_resumes_and_is_reported(files, monkeypatch, capsys):
    monkeypatch.chdir(files)
    folder = files / "run"
    scheme = "schemes.py:capped:2:power=0.5+clip:0:5"
    command = ["train", *TINY, "--weighting", scheme, "--loss", "losses.py:scaled:0.5"]
    command += ["--model", "models.py:tanh_net:6", "--out", str(folder)]
    assert main(command) == 0
    stored = json.loads((folder / "config.json").read_text())["configs"][0]
    assert stored["weighting"] == scheme
    assert (stored["loss"], stored["model"]) == ("losses.py:scaled:0.5", "models.py:tanh_net:6")
    before = load_result(folder)
    (folder / "result.npz").unlink()  # as if the end had not been written
    assert main([*command, "--resume"]) == 0
    after = load_result(folder)
    for name, values in before.history.items():
        np.testing.assert_array_equal(after.history[name], values)
    assert main(["report", str(folder)]) == 0
    assert "test_accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FILES/none.py:f", "'FILES/none.py:f': there is no file FILES/none.py"),
        ("FILES/schemes.py", "names no function; write FILES/schemes.py:FUNCTION"),
        (
            "FILES/schemes.py:caped",
            "unknown function of FILES/schemes.py 'caped'; known are capped, no_weighting, "
            "wrong_shape, fails_later, forgets, no_pair, asks_clean; did you mean 'capped'?",
        ),
        ("FILES/schemes.py:capped", "lacks 'limit'; FILES/schemes.py:capped is written"),
        ("FILES/schemes.py:capped:1:1:1", "has too many values"),
        (
            "FILES/schemes.py:capped:1:pwer=2",
            "unknown setting of FILES/schemes.py:capped 'pwer'; known are limit, power; did you "
            "mean 'power'?",
        ),
        (
            "FILES/schemes.py:capped:-1",
            "FILES/schemes.py:10: FILES/schemes.py:capped raised ValueError: limit must be "
            "positive",
        ),
        (
            "FILES/schemes.py:no_weighting",
            "FILES/schemes.py:18: FILES/schemes.py:no_weighting must return a Weighting "
            "(`weighting.stateless` makes one); got a float",
        ),
    ],
)
def test_what_is_wrong_in_a_factory_is_said_with_its_line(text, message, files):
    with pytest.raises(ValueError, match=re.escape(message.replace("FILES", str(files)))):
        parse_scheme(text.replace("FILES", str(files)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "wrong_shape",
            "FILES/schemes.py:22: FILES/schemes.py:wrong_shape raised ValueError: a scheme must "
            "give weights of shape (3,), one for every example of the batch; got shape (3, 1)",
        ),
        (
            "fails_later",
            "FILES/schemes.py:28: FILES/schemes.py:fails_later raised AttributeError: "
            "'NoneType' object has no attribute 'mean'",
        ),
        (
            "forgets",
            "FILES/schemes.py:33: FILES/schemes.py:forgets must keep its state as it is, "
            "float32[3]; got float32[2]",
        ),
        (
            "no_pair",
            "FILES/schemes.py:37: FILES/schemes.py:no_pair must update to (weights, state); "
            "got float32[3]",
        ),
    ],
)
def test_what_is_wrong_in_an_update_is_said_with_its_line(name, message, files):
    scheme = build(f"{files}/schemes.py:{name}")
    with pytest.raises(ValueError, match=re.escape(message.replace("FILES", str(files)))):
        weights_of(scheme)


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (
            parse_loss,
            "FILES/losses.py:mean",
            "FILES/losses.py:10: FILES/losses.py:mean must give losses of shape (1,), one for "
            "every example of the batch; got float32[]",
        ),
        (
            parse_loss,
            "FILES/losses.py:breaks",
            "FILES/losses.py:15: FILES/losses.py:breaks raised ",
        ),
        (
            lambda text: make_model(text, 2),
            "FILES/models.py:no_model",
            "FILES/models.py:21: FILES/models.py:no_model must return a Model of "
            "experiments.networks.models (`model_from_module` makes one); got a int",
        ),
        (
            lambda text: _apply(make_model(text, 2)),
            "FILES/models.py:too_wide",
            "FILES/models.py:25: FILES/models.py:too_wide must give logits of shape (4, 2); "
            "got (4, 3)",
        ),
    ],
    ids=["loss of another shape", "loss that raises", "no model", "model of another width"],
)
def test_what_is_wrong_in_a_loss_or_a_network_is_said_with_its_line(parse, text, message, files):
    with pytest.raises(ValueError, match=re.escape(message.replace("FILES", str(files)))):
        parse(text.replace("FILES", str(files)))


def _apply(model):
    params, state = model.init(jax.random.key(0), jnp.zeros((1, 2)))
    model.apply(params, state, jnp.zeros((4, 2)), train=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(:\n", "broken.py:1: SyntaxError: "),
        ("import weighting\n\nweighting.no_such_name\n", "broken.py:3: AttributeError: "),
    ],
)
def test_a_file_that_cannot_be_read_is_said_with_its_line(text, message, tmp_path):
    (tmp_path / "broken.py").write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_scheme(f"{tmp_path}/broken.py:f")


def test_the_command_line_shows_the_error(files, capsys):
    command = ["train", *TINY, "--weighting", f"{files}/schemes.py:capped:-1"]
    with pytest.raises(SystemExit):
        main([*command, "--out", str(files / "new")])
    error = re.sub(r"[│\s]+", "", capsys.readouterr().err)
    assert "schemes.py:10:" in error
    command = ["train", *TINY, "--weighting", f"{files}/schemes.py:wrong_shape"]
    assert main([*command, "--out", str(files / "new")]) == 2
    assert "schemes.py:22: " in capsys.readouterr().err


def test_an_installed_package_adds_names(tmp_path, monkeypatch, capsys):
    (tmp_path / "their_package.py").write_text(
        textwrap.dedent(
            '''
            from weighting import focal, losses
            from experiments.networks.models import mlp

            def their_scheme(gamma=1.0):
                """Their weights."""
                return focal(gamma)

            def their_loss(logits, labels, gamma=1.0):
                return losses.focal(logits, labels, gamma=gamma)

            def their_network(num_outputs, size=4):
                return mlp(num_outputs, hidden=(size,))
            '''
        )
    )
    info = tmp_path / "their_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[sample_weighting.schemes]\ntheirs = their_package:their_scheme\n"
        "[sample_weighting.losses]\ntheirs = their_package:their_loss\n"
        "[sample_weighting.models]\ntheirs = their_package:their_network\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert installed("sample_weighting.schemes") == ["theirs"]
    assert main(["list"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "theirs gamma (1) Their weights" in lines
    spec = parse_scheme("theirs:gamma=2+clip")
    assert spec.fixed[0].numbers == (("gamma", 2),)
    assert parse_loss("theirs:0.5").fixed[0].numbers == (("gamma", 0.5),)
    assert make_model("theirs:7", 3).name == "mlp:7"
    with pytest.raises(ValueError, match="unknown model 'their'"):
        make_model("their", 3)
