"""jaxopt solves LOW's program by `solver="osqp"`; where it cannot be imported all else works."""

import sys
import types
import warnings

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.__main__ import main
from experiments.tools.versions import package_versions
from weighting import low, low_weights
from weighting._jaxopt import import_jaxopt

WORDS = r'solver="osqp" needs jaxopt, which cannot be imported \(.*\); expected jaxopt 0\.8\.5 and'


@pytest.fixture
def no_jaxopt(monkeypatch):
    monkeypatch.setitem(sys.modules, "jaxopt", None)  # its import raises


@pytest.mark.usefixtures("no_jaxopt")
def test_osqp_says_that_jaxopt_is_missing_before_any_work():
    with pytest.raises(ImportError, match=WORDS):
        low(0.1, solver="osqp")
    with pytest.raises(ImportError, match=WORDS):
        low_weights(jnp.ones(3), 0.1, solver="osqp")
    norms = jnp.array([0.0, 0.25, 0.5])
    np.testing.assert_allclose(low_weights(norms, 0.25), [0.5, 1, 1.5], rtol=1e-6)


@pytest.mark.usefixtures("no_jaxopt")
def test_the_command_line_refuses_in_words(tmp_path, capsys):
    command = ["train", "--weighting", "low:0.1:solver=osqp", "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 1
    assert capsys.readouterr().err.startswith('error: solver="osqp" needs jaxopt, which cannot be')
    assert not (tmp_path / "run").exists()


def test_a_jaxopt_that_this_jax_broke_is_told_from_a_fault_of_ours(monkeypatch):
    class Broken(types.ModuleType):
        """A finder whose package fails as one does that uses what jax has dropped."""

        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "jaxopt":
                raise AttributeError("module 'jax' has no attribute 'tree_map'")

    monkeypatch.delitem(sys.modules, "jaxopt", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken("finder"), *sys.meta_path])
    with pytest.raises(ImportError, match=r"no attribute 'tree_map'\); expected jaxopt"):
        import_jaxopt()


def test_only_the_warning_that_jaxopt_is_unmaintained_is_silenced(monkeypatch):
    class Loud:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "jaxopt":
                warnings.warn("JAXopt is no longer maintained. See its page", DeprecationWarning, 2)
                warnings.warn("another thing", UserWarning, 2)

    import_jaxopt()  # whatever else it imports is imported
    monkeypatch.delitem(sys.modules, "jaxopt")
    monkeypatch.setattr(sys, "meta_path", [Loud(), *sys.meta_path])
    with pytest.warns(UserWarning, match="another thing") as caught:
        import_jaxopt()
    assert [str(warning.message) for warning in caught] == ["another thing"]


@pytest.mark.usefixtures("no_jaxopt")
def test_records_of_a_run_say_that_it_is_absent(monkeypatch):
    monkeypatch.setattr("experiments.tools.versions.PACKAGES", ("jax", "no-such-package"))
    assert package_versions()["no-such-package"] == "not installed"
