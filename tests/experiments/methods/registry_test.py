"""The records: one a method, complete, true to the code they name; what derives from them."""

from pathlib import Path

import jax
import pytest

import weighting
from experiments.__main__ import main
from experiments.methods import pages
from experiments.methods.context import REFERENCES
from experiments.methods.pages import KINDS
from experiments.methods.procedures import RECIPES
from experiments.methods.records import LibraryRecord, SchemeRecord
from experiments.methods.registry import LOSSES, PROCEDURES, RECORDS, SAMPLERS, SCHEMES
from experiments.methods.specifications import parse_loss, parse_procedure, parse_scheme
from experiments.methods.tuning import tried_by, variants_of
from experiments.reporting import plotting
from experiments.studies import comparison, demo
from experiments.training.config import SAMPLERS as SAMPLER_NAMES
from experiments.training.config import RunConfig

LIBRARY_ONLY = {"class_weights", "per_example", "inverse_propensity"}  # they take arrays [C] or [N]


def names(*kinds):
    return {record.name for record in RECORDS if record.kind in kinds}


def test_every_name_of_the_command_line_has_a_record():
    assert names("scheme", "part") == set(SCHEMES) | LIBRARY_ONLY
    assert names("loss") == set(LOSSES)
    assert set(PROCEDURES) - {"plain"} <= names("procedure")
    assert set(SAMPLERS) <= names("sampler")
    assert SAMPLER_NAMES == ("shuffled", "class_balanced_indices")


def test_every_public_method_has_a_record():
    losses = set(weighting.losses.__all__)
    losses -= {"log_label_probabilities", "binary_margins", "soft_margins"}
    assert losses <= names("loss")
    schemes = {
        name
        for name in weighting.__all__
        if "Weighting"
        in str(getattr(getattr(weighting, name), "__annotations__", {}).get("return"))
    }
    assert schemes - {"stateless", "guarded", "chain", "scheduled", "fade_in"} <= names(
        "scheme", "part"
    )


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: f"{record.kind}-{record.name}")
def test_a_record_is_complete_and_names_a_function_of_the_library(record):
    assert record.kind in KINDS
    assert callable(record.function)
    assert record.function.__module__.startswith("weighting")
    assert record.family or record.kind == "part"
    assert record.source or record.kind in ("part", "difficulty")
    assert record.summary
    assert not record.summary.endswith(".")
    assert set(record.references) <= set(REFERENCES)
    if record.kind in ("scheme", "part", "weights"):
        assert record.scale


def test_a_name_has_one_record_per_kind():
    keys = [(record.name, record.kind) for record in RECORDS]
    assert len(keys) == len(set(keys))


def test_needs_are_written_in_one_way():
    known = {
        "losses",
        "logits",
        "labels",
        "features",
        "jacobian",
        "losses at other parameters",
        "inputs",
    }
    known |= {"clean", "counts", "history", "table", "noise matrix", "score", "logits or score"}
    for record in (*SCHEMES.values(), *LOSSES.values()):
        assert set(record.needs) <= known, record.name


def test_what_methods_get_beyond_the_budget():
    found = {r.name: r.beyond({}) for r in (*SCHEMES.values(), *LOSSES.values()) if r.beyond({})}
    assert (
        found.items()
        >= {
            "oracle_noise": "truth",
            "known_examples_weights": "truth",
            "forward_corrected_cross_entropy": "truth",
            "backward_corrected_cross_entropy": "truth",
            "curriculum": "reference",
            "difficulty_weights": "reference",
            "jtt_weights": "reference",
            "inverse_margin_weights": "reference",
            "small_margin_weights": "reference",
            "distillation": "reference",
            "lookahead": "clean",
            "lookahead_unrolled": "clean",
            "meta_weight_net": "clean",
            "cmw_net": "clean",
            "gradient_alignment": "clean",
            "rho_loss": "clean",
        }.items()
    )
    assert not {"uniform", "low", "mentornet", "inverse_class_frequency", "ldam"} & set(found)
    noise_layer = PROCEDURES["with_noise_layer"]
    assert noise_layer.beyond({"start": "identity"}) == ""
    assert noise_layer.beyond({"start": "confusion"}) == "reference"


def test_the_documentation_is_made_from_the_records():
    page = Path(__file__).parents[3] / "docs" / "methods.md"
    assert page.read_text() == pages.methods_as_markdown(), (
        "run `python -m experiments methods --markdown > docs/methods.md`"
    )


def test_the_page_says_how_a_method_is_asked_for():
    rows = pages.methods_as_markdown().splitlines()
    assert (
        "| active_bias | smoothing (0.1), form (variance, threshold) | history | Chang 2017 "
        "| logits, labels, history | mean one | uncertain past predictions gain, by their variance "
        "or their closeness to the threshold |"
    ) in rows
    assert any(row.startswith("| kliep_ratio | in Python: weighting.") for row in rows)
    assert any(row.startswith("| clean_only | --num-steps 0 --fine-tune-steps N |") for row in rows)


def test_the_page_says_what_released_code_counts_otherwise():
    _, section = pages.methods_as_markdown().split("\n## Coming from the authors' code\n")
    lines = [line for line in section.splitlines() if line.startswith("- ")]
    noted = [record for record in RECORDS if record.from_authors]
    assert lines == [f"- `{record.name}`: {record.from_authors}." for record in noted]
    assert {"chi_square_dro", "jtt_weights", "variance_of_gradients", "cmw_net"} <= {
        record.name for record in noted
    }
    assert not any(record.from_authors.endswith(".") for record in noted)


def test_methods_command_prints_every_line(capsys):
    assert main(["methods"]) == 0
    text = capsys.readouterr().out
    assert all(record.name in text for record in (*RECORDS, *RECIPES))


def test_list_shows_the_settings(capsys):
    assert main(["list"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert (
        "low regularization (0.1), solver (projection, osqp), gradient (logits, last_layer, "
        "parameters), gradient_scale (example, batch_mean) "
        "LOW: the weights that decrease the loss most"
    ) in lines
    assert any(line.startswith("with_noise_layer start (identity, confusion)") for line in lines)


@pytest.mark.parametrize("name", SCHEMES)
def test_defaults_build(name):
    assert parse_scheme(name).parsed.names == (name,)


@pytest.mark.parametrize("name", LOSSES)
def test_default_losses_build(name):
    assert parse_loss(name).parsed.names == (name,)


@pytest.mark.parametrize("name", SCHEMES)
def test_numbers_that_vary_may_be_traced(name):
    spec = parse_scheme(name)
    from experiments.methods.context import example_context

    def build(values):
        spec.build(example_context(), list(values))

    jax.eval_shape(build, jax.numpy.asarray(spec.values, jax.numpy.float32))


def test_the_library_s_names_are_taken_from_the_functions():
    for record in RECORDS:
        if isinstance(record, SchemeRecord | LibraryRecord):
            module = weighting.losses if hasattr(weighting.losses, record.name) else weighting
            found = getattr(module, record.name, record.function)
            assert found.__name__ == record.function.__name__ == record.name


# --- what derives from the records ------------------------------------------------------------


def test_what_a_budget_tries():
    assert tried_by(SCHEMES["low"]) == ["low:0.1", "low:1"]
    assert tried_by(SCHEMES["self_paced"]) == ["self_paced:2.5:1.05", "self_paced:4:1.05"]
    assert tried_by(SCHEMES["importance_sampling"]) == [
        "importance_sampling:25:1.2",
        "importance_sampling:25:1.5",
    ]
    assert tried_by(SCHEMES["lookahead"]) == ["lookahead"]
    variants = dict(variants_of(SCHEMES["active_bias"]))
    assert list(variants) == ["active_bias", "active_bias:form=threshold"]
    assert tried_by(SCHEMES["active_bias"], variants["active_bias:form=threshold"]) == [
        "active_bias:0.02:form=threshold",
        "active_bias:0.1:form=threshold",
    ]
    assert list(dict(variants_of(SCHEMES["low"]))) == ["low"]


def test_the_arms_of_the_comparison():
    methods = comparison.METHODS
    assert len(methods) >= 63
    assert methods["low"] == ({}, [{"weighting": "low:0.1"}, {"weighting": "low:1"}], "")
    assert methods["losses.ldam with inverse_class_frequency+deferred:0.5"] == (
        {"weighting": "inverse_class_frequency+deferred:0.5"},
        [{"loss": "ldam:0.5:1"}, {"loss": "ldam:0.5:10"}],
        "",
    )
    assert methods["make_co_teaching_step"] == (
        {"procedure": "make_co_teaching_step"},
        [{"weighting": "small_losses:0.2"}, {"weighting": "small_losses:0.4"}],
        "",
    )
    assert methods["mentornet_curriculum"].variants == [
        {"weighting": "mentornet_curriculum:0.6+deferred:0.2"},
        {"weighting": "mentornet_curriculum:0.75+deferred:0.2"},
    ]
    assert methods["clean_only"].changes == {"num_steps": 0, "fine_tune_steps": 120}
    assert methods["with_noise_layer:start=confusion"].beyond == "reference"


def test_the_comparison_covers_the_registry():
    """Every scheme, loss, procedure and sampler of the command line is in the fair table."""
    configs = [
        config for configs in comparison.EXPERIMENTS[0].arms("cpu").values() for config in configs
    ]
    schemes = {name for config in configs for name in config.scheme.parsed.names}
    losses = {config.loss_spec.parsed.names[0] for config in configs}
    parts = names("part") - {"deferred"}
    assert set(SCHEMES) - {"lookahead_unrolled"} - parts == schemes
    two_classes = {"logistic", "exponential"}
    as_weights = {"balanced_cross_entropy"}  # inverse_class_frequency
    assert set(LOSSES) - two_classes - as_weights == losses
    assert {config.procedure_spec.record for config in configs} == set(PROCEDURES.values())
    assert {config.sampler for config in configs} == {"shuffled", *SAMPLERS}


def test_the_budget_is_the_same():
    for name, configs in comparison.EXPERIMENTS[0].arms("cpu").items():
        assert len(configs) == 6, name
        for config in configs:
            assert (config.batch_size, config.seeds) == (50, 5), name
            assert config.num_steps == (0 if "clean_only" in name else 600), name
        assert len({config.learning_rate for config in configs}) == 3, name


def test_the_demo_names_methods():
    assert list(demo.METHODS) == [
        *("uniform", "random", "inverse_class_frequency", "focal", "self_paced", "top_losses"),
        *("low", "lookahead", "clean_only"),
    ]
    assert demo.METHODS["focal"].variants == [{"weighting": "focal:1"}, {"weighting": "focal:3"}]


def test_colours_are_the_records():
    assert plotting._color("low:0.1:solver=osqp") == "#0072B2"
    assert plotting._color("lookahead+clip:0:5") == "#009E73"
    assert plotting._color("class_balanced_indices") == "#8C6D1F"
    assert plotting._color("clean_only") == "#B8A100"
    assert plotting._color("tilted") in plotting._OTHER_COLORS


def test_bad_references_are_refused():
    with pytest.raises(ValueError, match="reference_steps"):
        RunConfig(reference_steps=0)


def test_the_procedure_s_choice_asks_for_its_reference():
    assert parse_procedure("with_noise_layer").references == ()
    assert RunConfig(procedure="with_noise_layer:start=confusion").references == {"confusion"}
