"""The registry: one line per method, complete, and true to the code it names."""

import importlib
from functools import reduce
from pathlib import Path

import pytest

import weighting
from experiments.__main__ import main
from experiments.methods import table
from experiments.methods.losses import LOSSES, parse_loss
from experiments.methods.procedures import PROCEDURES
from experiments.methods.schemes import SCHEMES, parse_scheme
from experiments.methods.table import KINDS, METHODS
from experiments.studies import comparison
from experiments.training.config import SAMPLERS, RunConfig

LIBRARY_ONLY = {"class_weights", "per_example", "inverse_propensity"}  # they take arrays [C] or [N]


def names(*kinds):
    return {method.name for method in METHODS if method.kind in kinds}


def test_every_name_of_the_command_line_has_a_line():
    assert names("scheme", "part") == set(SCHEMES) | LIBRARY_ONLY
    assert names("loss") == set(LOSSES)
    assert set(PROCEDURES) - {"plain"} <= names("procedure")
    assert set(SAMPLERS) - {"shuffled"} <= names("sampler")


def test_every_public_method_has_a_line():
    functions = {method.function for method in METHODS}
    losses = {f"losses.{name}" for name in weighting.losses.__all__}
    helpers = {"log_label_probabilities", "binary_margins", "soft_margins"}
    assert losses - {f"losses.{name}" for name in helpers} <= functions
    schemes = {
        name
        for name in weighting.__all__
        if "Weighting"
        in str(getattr(getattr(weighting, name), "__annotations__", {}).get("return"))
    }
    assert schemes - {"stateless", "chain", "scheduled", "fade_in"} <= functions


@pytest.mark.parametrize("method", METHODS, ids=lambda m: f"{m.kind}-{m.name}")
def test_a_line_is_complete_and_its_function_exists(method):
    assert method.kind in KINDS
    assert all(method)
    assert not method.summary.endswith(".")
    if method.function.startswith("experiments."):
        importlib.import_module(method.function)
    else:
        function = reduce(getattr, method.function.split("."), weighting)
        assert callable(function)


def test_a_name_has_one_line_per_kind():
    keys = [(method.name, method.kind) for method in METHODS]
    assert len(keys) == len(set(keys))


def test_the_documentation_is_made_from_the_registry():
    page = Path(__file__).parents[3] / "docs" / "methods.md"
    assert page.read_text() == table.as_markdown(), (
        "run `python -m experiments methods --markdown > docs/methods.md`"
    )


def test_methods_command_prints_every_line(capsys):
    assert main(["methods"]) == 0
    text = capsys.readouterr().out
    assert all(method.name in text for method in METHODS)


@pytest.mark.parametrize("name", SCHEMES)
def test_defaults_build(name):
    assert parse_scheme(name).parsed.names == (name,)


@pytest.mark.parametrize("name", LOSSES)
def test_default_losses_build(name):
    assert parse_loss(name).parsed.names == (name,)


def test_the_comparison_covers_the_registry():
    """Every scheme, loss, procedure and sampler of the command line is in the fair table."""
    configs = [
        config for configs in comparison.EXPERIMENTS[0].arms("cpu").values() for config in configs
    ]
    schemes = {name for config in configs for name in config.scheme.parsed.names}
    losses = {config.loss_spec.parsed.names[0] for config in configs}
    variants = {name for name in SCHEMES if name.startswith(("low_", "lookahead_"))}
    parts = names("part") - {"deferred"}
    assert set(SCHEMES) - variants - parts == schemes
    two_classes, as_weights = {"logistic", "exponential"}, {"balanced_cross_entropy"}  # proportion
    assert set(LOSSES) - two_classes - as_weights == losses
    assert {config.procedure for config in configs} == set(PROCEDURES)
    assert {config.sampler for config in configs} == set(SAMPLERS)


def test_the_budget_is_the_same():
    for name, configs in comparison.EXPERIMENTS[0].arms("cpu").items():
        assert len(configs) == 6, name
        for config in configs:
            assert (config.batch_size, config.seeds) == (50, 5), name
            assert config.num_steps == (0 if "clean_only" in name else 600), name
        assert len({config.learning_rate for config in configs}) == 3, name


def test_bad_references_are_refused():
    with pytest.raises(ValueError, match="reference_steps"):
        RunConfig(reference_steps=0)
