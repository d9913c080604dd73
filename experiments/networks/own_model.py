"""Networks of one's own: in a file, or in an installed package."""

from typing import Any

from experiments.networks.model_boundary import Model
from experiments.tools.grammar import parse_methods, split_settings
from experiments.tools.plug_ins import PlugIn, find_plug_in

MODEL_GROUP = "sample_weighting.models"


def own_model(name: str, num_outputs: int) -> Model | None:
    """The network of a factory `(num_outputs, numbers...) -> Model`, if there is one of that name.

    `name` is `FILE.py:FUNCTION[:VALUE...][:KEY=VALUE...]`, or the name of an entry point with the
    same numbers.
    """
    plug_in = find_plug_in(split_settings(name)[0], MODEL_GROUP, given=1)
    if plug_in is None:
        return None
    parsed = parse_methods(name, lambda _: plug_in)
    if len(parsed.terms) > 1:
        raise ValueError(f"networks cannot be chained; got {name!r}")
    return _checked(plug_in, num_outputs, parsed.settings(parsed.values)[0])


def _checked(plug_in: PlugIn, num_outputs: int, numbers: dict[str, Any]) -> Model:
    own = plug_in.call(num_outputs, **numbers)
    if not isinstance(own, Model):
        raise plug_in.refuse(
            "must return a Model of experiments.networks.models (`model_from_module` makes one); "
            f"got a {type(own).__name__}"
        )

    def init(key, example_inputs):
        with plug_in.pointing_at():
            return own.init(key, example_inputs)

    def apply(params, model_state, inputs, *, train, key=None):
        with plug_in.pointing_at():
            output, model_state = own.apply(params, model_state, inputs, train=train, key=key)
        if output.logits.shape != (len(inputs), num_outputs):
            raise plug_in.refuse(
                f"must give logits of shape {(len(inputs), num_outputs)}; got {output.logits.shape}"
            )
        return output, model_state

    return own._replace(init=init, apply=apply)
