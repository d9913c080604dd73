"""Whatever is written for a method, noise, imbalance, schedule, augmentation or network is read, or
refused in words.

What is read is printed and read again as the same. A refusal is a `ValueError` that quotes a part
of what was written, and nothing of Python's.
"""

import functools
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.data.augmentation import (
    AUGMENTATIONS,
    STATISTICS,
    Augmentation,
    parse_augmentation,
)
from experiments.data.corruption import NOISES, parse_noise
from experiments.data.imbalance import IMBALANCES, parse_imbalance
from experiments.data.two_classes import TWO_CLASSES, TwoClass
from experiments.methods.registry import LOSSES, PROCEDURES, SCHEMES
from experiments.methods.specifications import parse_loss, parse_procedure, parse_scheme
from experiments.networks.models import MODELS, make_model
from experiments.tools.grammar import write_method
from experiments.training.schedule import Schedule, parse_schedule

FUZZ = settings(max_examples=80, deadline=None, derandomize=True, database=None)
PYTHONS_OWN = re.compile(
    r"Traceback|<class|<function|object at 0x|invalid literal|could not convert|NoneType|"
    r"not supported between|positional argument|has no attribute|Traced|unpack|out of range"
)
NUMBERS = st.one_of(
    st.floats(1e-3, 0.999),
    st.floats(),
    st.integers(-3, 10**20),
    st.sampled_from(
        ["1e-3", ".5", "5.", "1e400", "-0", "nan", "inf", "0x1", "1_0", " 1", "\u0661", ""]
    ),
).map(str)


def show_methods(find, parsed):
    """The text of a chain."""
    parts = []
    for name, own in zip(parsed.names, parsed.settings(parsed.values), strict=True):
        record = find[name]
        numbers = {p.name: own[p.name] for p in record.parameters}
        choices = {o.name: own[o.name] for o in record.options}
        parts.append(write_method(name, record, numbers, choices))
    return "+".join(parts)


def show_spec(spec):
    """The text of noise or imbalance."""
    if isinstance(spec, TwoClass):
        return f"{spec.minority}v{spec.majority}:{spec.majority_share!r}"
    return ":".join([spec.kind.name, *(repr(spec.values[v.name]) for v in spec.kind.values)])


def show_schedule(schedule):
    """The text of a schedule."""
    if schedule == Schedule():
        return "constant"
    return f"drops:{','.join(map(str, schedule.drops))}:{schedule.factor!r}"


class Grammar:
    """One kind of text: how it is read and printed, and strategies for texts that are well formed.

    `shown` gives the text of what was read; `texts` are mostly right, and may have bad values.
    """

    def __init__(self, read, shown, texts):
        self.read, self.shown, self.texts = read, shown, texts


@st.composite
def methods(draw, records, longest):
    """Chains of known names, with numbers by place or by name, and choices."""
    parts = []
    for _ in range(draw(st.integers(1, longest))):
        name = draw(st.sampled_from(sorted(records)))
        record = records[name]
        by_place = draw(st.integers(0, len(record.parameters)))
        settings = [draw(number_of(p)) for p in record.parameters[:by_place]]
        for p in record.parameters[by_place:]:
            if p.default is None or draw(st.booleans()):
                settings.append(f"{p.name}={draw(number_of(p))}")
        for o in record.options:
            if draw(st.booleans()):
                settings.append(f"{o.name}={draw(st.sampled_from(o.choices))}")
        parts.append(":".join([name, *settings]))
    return "+".join(parts)


def number_of(parameter):
    usual = [n for n in (parameter.default, *parameter.tried) if n is not None]
    usual = st.sampled_from(usual).map(str) if usual else st.just("1")
    return st.one_of(usual, usual, NUMBERS)


@st.composite
def specs(draw, kinds):
    kind = draw(st.sampled_from([*kinds.values()]))
    if kind is TWO_CLASSES:
        digits = st.integers(0, 12)
        return f"{draw(digits)}v{draw(digits)}:{draw(NUMBERS)}"
    least = sum(value.default is None for value in kind.values)
    count = draw(st.integers(least, len(kind.values)))
    return ":".join([kind.name, *(draw(NUMBERS) for _ in range(count))])


@st.composite
def schedules(draw):
    drops = draw(st.lists(st.integers(0, 10**6).map(str), min_size=1, max_size=4))
    factor = draw(st.one_of(st.just(""), NUMBERS.map(":{}".format)))
    return draw(st.sampled_from(["constant", f"drops:{','.join(drops)}{factor}"]))


@st.composite
def augmentations(draw):
    values = st.one_of(st.integers(-1, 40).map(str), st.sampled_from(sorted(STATISTICS)))
    parts = []
    for name in draw(st.lists(st.sampled_from(sorted(AUGMENTATIONS)), min_size=1, max_size=3)):
        takes_value = AUGMENTATIONS[name].value is not None
        parts.append(f"{name}:{draw(values)}" if takes_value else name)
    return "+".join(parts)


networks = st.builds(
    lambda name, sizes: ":".join([name, *sizes]),
    st.sampled_from(sorted(MODELS)),
    st.lists(st.lists(st.integers(-1, 99).map(str)).map(",".join), max_size=1),
)

GRAMMARS = {
    "weighting": Grammar(
        parse_scheme, lambda s: show_methods(SCHEMES, s.parsed), methods(SCHEMES, 3)
    ),
    "loss": Grammar(parse_loss, lambda s: show_methods(LOSSES, s.parsed), methods(LOSSES, 1)),
    "procedure": Grammar(
        parse_procedure, lambda s: show_methods(PROCEDURES, s.parsed), methods(PROCEDURES, 1)
    ),
    "noise": Grammar(parse_noise, show_spec, specs(NOISES)),
    "imbalance": Grammar(parse_imbalance, show_spec, specs(IMBALANCES)),
    "schedule": Grammar(parse_schedule, show_schedule, schedules()),
    "augmentation": Grammar(parse_augmentation, lambda a: a.spec, augmentations()),
    "model": Grammar(functools.partial(make_model, num_outputs=2), None, networks),
}
SIGNS = st.sampled_from([*":=+,.|v/- e0123456789", "::", "nan", "none", "py", "é", "\n"])


@st.composite
def mutated(draw, texts):
    """A text with a few places changed: characters put in, taken out, doubled, or parts swapped."""
    text = draw(texts)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        end = min(len(text), at + draw(st.integers(0, 3)))
        piece = draw(st.one_of(SIGNS, st.just(text[at:end] * 2), st.just("")))
        text = text[:at] + piece + text[end:]
    return text


def check(grammar, text):
    """Reads the text; what comes of it must be as the module says. Returns whether it was read."""
    try:
        value = grammar.read(text)
    except ValueError as error:
        message = str(error)
        pieces = [text, *re.split(r"[:+]", text), *re.split(r"[:+=,v]", text)]
        assert any(quoted(piece) in message for piece in pieces), message
        assert not PYTHONS_OWN.search(message), message
        return False
    if grammar.shown is not None:
        shown = grammar.shown(value)
        again = grammar.read(shown)
        assert grammar.shown(again) == shown
        assert same(again, value), (text, shown)
    return True


def quoted(piece):
    """A part of the text as it stands within a message."""
    return repr(piece)[1:-1] or "''"


def same(a, b):
    if isinstance(a, Augmentation):  # holds functions
        return a.spec == b.spec
    return a == b or repr(a) == repr(b)  # what is not a number equals nothing


@pytest.mark.parametrize("kind", GRAMMARS)
def test_well_formed_texts(kind):
    grammar, num_read = GRAMMARS[kind], 0

    @FUZZ
    @given(grammar.texts)
    def run(text):
        nonlocal num_read
        num_read += check(grammar, text)

    run()
    assert num_read >= 5  # refusals alone would show nothing


@pytest.mark.parametrize("kind", GRAMMARS)
def test_mutated_texts(kind):
    grammar = GRAMMARS[kind]

    @FUZZ
    @given(mutated(grammar.texts))
    def run(text):
        check(grammar, text)

    run()


@pytest.mark.parametrize("kind", GRAMMARS)
def test_any_text(kind):
    grammar = GRAMMARS[kind]
    characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")

    @FUZZ
    @given(st.text(characters, max_size=30))
    def run(text):
        check(grammar, text)

    run()


@FUZZ
@given(st.floats(allow_nan=False))
def test_numbers_are_written_to_the_last_digit(number):
    text = write_method("focal", SCHEMES["focal"], {"gamma": number}, {})
    assert float(text.removeprefix("focal:")) == number
    assert math.copysign(1, float(text.removeprefix("focal:"))) == math.copysign(1, number)
