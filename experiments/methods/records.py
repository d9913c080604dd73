"""One record a method: all that the project says of it, said once.

The command line, the list of methods, the comparison, the suspects, the colours of figures and the
conformance tests derive from the records; `registry` collects them. A method's name is that of its
function, everywhere.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

from jax import Array

from experiments.methods.context import REFERENCES, Beyond, Context
from experiments.tools.grammar import Option, Parameter
from weighting import Weighting

LossFn = Callable[[Array, Array], Array]
End = Literal["high", "low"]
Kind = Literal["scheme", "part", "loss", "sampler", "procedure", "weights", "difficulty"]


@dataclass(frozen=True, eq=False)
class Record:
    """What is said of every method."""

    function: Callable[..., Any]
    """The library's function, whose name is the method's."""
    _: KW_ONLY
    kind: Kind
    family: str
    source: str
    """Authors and year or the paper's short name, with the equation; empty if it has none."""
    needs: tuple[str, ...] = ()
    """What it reads: "clean" is a clean batch, "jacobian" the linearized losses, "counts" the class
    counts, "history" per-example state of its own, "table" an array [N] given beforehand."""
    scale: str = ""
    """Of its weights, or of its measure."""
    parameters: tuple[Parameter, ...] = ()
    """Numbers, called as the function's where they are the same."""
    options: tuple[Option, ...] = ()
    """Choices among variants, called as the function's where they are the same."""
    references: tuple[str, ...] = ()
    """What must be known before training, see `context.REFERENCES`."""
    color: str | None = None
    """In figures; others have one by chance."""
    from_authors: str = ""
    """Which number of the authors' released code means something else here, and what to give."""
    summary: str
    """One sentence, without its full stop."""

    @property
    def name(self) -> str:
        """The function's."""
        return self.function.__name__

    @property
    def needs_clean(self) -> bool:
        """Whether a clean set must be given."""
        return "clean" in self.needs

    def known_before(self, settings: Mapping[str, Any]) -> tuple[str, ...]:
        """The references that it asks for with these settings."""
        del settings
        return self.references

    def beyond(self, settings: Mapping[str, Any]) -> Beyond:
        """What it gets that others do not: clean examples, a reference network, or the truth."""
        found = {REFERENCES[name].beyond for name in self.known_before(settings)}
        if self.needs_clean:
            found.add("clean")
        order: tuple[Beyond, ...] = ("truth", "reference", "clean")
        for beyond in order:
            if beyond in found:
                return beyond
        return ""


@dataclass(frozen=True, eq=False)
class SchemeRecord(Record):
    """A weighting scheme of the command line."""

    _: KW_ONLY
    kind: Kind = "scheme"
    build: Callable[..., Weighting] | None = None
    """(context, **settings) -> scheme; by default the function of the settings."""
    suspect: End | Callable[..., float] | None
    """Which weights make a label suspect, by the scheme's definition: high ones if it favours large
    losses, large gradients or small margins, low ones if it favours small losses or what agrees
    with clean or held-out data; or a function of the settings that is positive for high ones and
    negative for low ones. None if it tells nothing of the label, or either end may."""
    keeps_order: bool = False
    """Whether it leaves the order of the weights that it is given as it is."""
    is_compared: bool = True
    """Whether the comparison of all methods has it; an approximation of another may be left out."""

    def make(self, context: Context, settings: Mapping[str, Any]) -> Weighting:
        """The scheme with these settings, whose numbers may be traced."""
        if self.build is None:
            return self.function(**settings)
        return self.build(context, **settings)


@dataclass(frozen=True, eq=False)
class PartRecord(SchemeRecord):
    """A part to chain behind a scheme."""

    _: KW_ONLY
    kind: Kind = "part"
    family: str = ""
    suspect: End | Callable[..., float] | None = None
    keeps_order: bool = True
    is_compared: bool = False


@dataclass(frozen=True, eq=False)
class LossRecord(Record):
    """A loss of the command line."""

    _: KW_ONLY
    kind: Kind = "loss"
    build: Callable[..., LossFn] | None = None
    """(context, **settings) -> loss; by default the function with the settings."""
    is_multiclass: bool = True
    """One logit per class; if not, one score, for two classes."""
    is_compared: bool = True

    def make(self, context: Context, settings: Mapping[str, Any]) -> LossFn:
        """The loss with these settings, whose numbers may be traced."""
        if self.build is None:
            return functools.partial(self.function, **settings)
        return self.build(context, **settings)


@dataclass(frozen=True, eq=False)
class SamplerRecord(Record):
    """How the command line may draw batches; `training/streams.py` does it."""

    _: KW_ONLY
    kind: Kind = "sampler"


@dataclass(frozen=True, eq=False)
class LibraryRecord(Record):
    """A method that is called in Python: it takes arrays or functions."""


@dataclass(frozen=True, eq=False)
class RecipeRecord:
    """A way of training that is a setting, not a function."""

    name: str
    _: KW_ONLY
    settings: str
    """How it is asked for."""
    source: str
    needs: tuple[str, ...]
    color: str | None = None
    summary: str
