"""How methods are written: what is read, what it means, and what is refused in which words."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.methods.context import example_context
from experiments.methods.specifications import parse_loss, parse_procedure, parse_scheme
from experiments.tools.grammar import Parameter, parse_methods, write_method


def settings(text):
    spec = parse_scheme(text)
    return spec.parsed.settings(spec.values)


def test_numbers_come_in_order_or_by_name():
    assert settings("focal:3") == settings("focal:gamma=3") == [{"gamma": 3.0}]
    assert parse_scheme("self_paced:growth=1.3").values == (1.0, 1.3)
    assert parse_scheme("self_paced:2:growth=1.3").values == (2.0, 1.3)
    assert parse_scheme("self_paced:2:growth=1.3").fixed == parse_scheme("self_paced").fixed


def test_choices_are_named_and_the_first_is_the_default():
    defaults = {"solver": "projection", "gradient": "logits", "gradient_scale": "example"}
    assert settings("low") == [{"regularization": 0.1} | defaults]
    assert settings("low:2:solver=osqp:gradient=last_layer") == [
        {"regularization": 2.0} | defaults | {"solver": "osqp", "gradient": "last_layer"}
    ]
    assert parse_scheme("low:0.1:solver=projection") == parse_scheme("low:0.1")
    assert parse_scheme("low:solver=osqp").fixed != parse_scheme("low").fixed


def test_counts_are_whole_and_fixed():
    assert settings("lookahead:refresh_every=5") == [{"refresh_every": 5, "select": "all"}]
    assert settings("lookahead:5:select=head") == [{"refresh_every": 5, "select": "head"}]
    assert parse_scheme("lookahead:5").values == ()
    assert parse_scheme("gradient_harmonized:10:0.5").values == (0.5,)


def test_chains():
    spec = parse_scheme("low:0.1:solver=osqp+clip:0:5+normalize_mean")
    assert spec.parsed.names == ("low", "clip", "normalize_mean")
    assert spec.values == (0.1, 0.0, 5.0)
    assert spec.parsed.settings(("a", "b", "c"))[1] == {"low": "b", "high": "c"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "lookhead",
            "unknown weighting 'lookhead'; known are uniform, .*; did you mean 'lookahead'",
        ),
        ("proportion", "unknown weighting 'proportion'"),
        ("low_osqp", "unknown weighting 'low_osqp'"),
        (
            "low:solvr=osqp",
            "unknown setting of low 'solvr'; known are regularization, solver, gradient, "
            r"gradient_scale; did you mean 'solver'\?",
        ),
        (
            "low:solver=osq",
            r"unknown solver of low 'osq'; known are projection, osqp; did you mean 'osqp'\?",
        ),
        ("uniform:gamma=1", "'uniform:gamma=1': uniform has no settings; got 'gamma'"),
        ("uniform:1", "'uniform:1' has too many values; uniform is written uniform"),
        (
            "low:1:2",
            "'low:1:2' has too many values; low is written low:REGULARIZATION:"
            r"solver=projection\|osqp:gradient=logits\|last_layer\|parameters:",
        ),
        ("focal:1:gamma=2", "'focal:1:gamma=2' gives 'gamma' twice; focal is written focal:GAMMA"),
        ("self_paced:threshold=1:2", "'self_paced:threshold=1:2': '2' follows a name"),
        ("focal:x", "'x' in 'focal:x' is not a number"),
        ("focal:gamma=x", "'x' in 'focal:gamma=x' is not a number"),
        ("lookahead:2.5", "refresh_every must be a whole number; got '2.5' in 'lookahead:2.5'"),
        ("focal:-1", "gamma must lie in"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_scheme(text)


def test_both_forms_of_soft_bootstrapping_can_be_asked_for():
    """At beta = 0 a constant target has no gradient, a differentiated one the entropy's."""
    logits, label = jnp.array([[1.0, 0.0]]), jnp.zeros(1, jnp.int32)

    def gradient(text):
        spec = parse_loss(text)
        loss_fn = spec.build(example_context(), spec.values)
        return jax.grad(lambda z: loss_fn(z, label)[0])(logits)

    assert parse_loss("bootstrap_soft:0:target=differentiated") == parse_loss("bootstrap_soft:0")
    p = 1 / (1 + math.exp(-1))
    slope = -p * (1 - p)  # of the entropy in the margin, which is one
    np.testing.assert_allclose(gradient("bootstrap_soft:0"), [[slope, -slope]], rtol=1e-5)
    np.testing.assert_allclose(gradient("bootstrap_soft:0:target=constant"), 0, atol=1e-7)
    with pytest.raises(ValueError, match="unknown target of bootstrap_soft 'x'; known are differ"):
        parse_loss("bootstrap_soft:target=x")


def test_losses_and_procedures():
    assert parse_loss("focal:alpha=0.5").values == (2.0, 0.5)
    with pytest.raises(ValueError, match=r"unknown setting of focal 'gama'.*did you mean 'gamma'"):
        parse_loss("focal:gama=1")
    with pytest.raises(ValueError, match="losses cannot be chained"):
        parse_loss("focal+ldam")
    with pytest.raises(ValueError, match="unknown procedure 'co_teaching'; known are plain, "):
        parse_procedure("co_teaching")
    with pytest.raises(ValueError, match="unknown start of with_noise_layer 'x'; known are identi"):
        parse_procedure("with_noise_layer:start=x")
    with pytest.raises(ValueError, match="procedures cannot be chained"):
        parse_procedure("plain+plain")


class _Entry:
    parameters = (Parameter("a", None), Parameter("b", 2.0))
    options = ()


def test_a_number_without_a_default_must_be_given():
    assert parse_methods("x:1", lambda name: _Entry()).values == (1.0, 2.0)
    assert parse_methods("x:b=3:a=1", lambda name: _Entry()).values == (1.0, 3.0)
    with pytest.raises(ValueError, match="'x:b=3' lacks 'a'; x is written x:A:B"):
        parse_methods("x:b=3", lambda name: _Entry())


def test_what_is_written_is_read_again():
    for text in ("low:0.1", "low:1:solver=osqp", "active_bias:form=threshold", "self_paced:2:1.05"):
        record = parse_scheme(text).records[0]
        own = settings(text)[0]
        choices = {o.name: own[o.name] for o in record.options}
        given = text.count(":") - text.count("=")
        numbers = {p.name: own[p.name] for p in record.parameters[:given]}
        assert write_method(record.name, record, numbers, choices) == text
