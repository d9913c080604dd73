"""The methods of the paper's comparisons, with equal budgets: four settings each, but Normal.

Normal has the paper's one learning rate; `normal_tuned` is an ablation of ours, Normal with four
other rates, as many as LOW has lambdas.

The paper gives no settings of focal loss (FL), self-paced learning (SPL) and importance sampling
(IS). Here FL has four exponents; SPL starts from the median loss of the first epoch and has four
growths of its threshold; IS draws a batch from a presample three times as large, by logit
gradients, and has four thresholds from which on it does so (with the gate shut it learns from the
whole presample, which favours it). The paper's best LOW is one of lambda = 1, 0.5, 0.1, 0.01; the
settings here are those of its Figure 4.

The released code differentiates the batch mean, so that its lambda acts as lambda B^2 in the
paper's units: `low_batch_mean` has three values that act as about 0.01, 0.1 and 1 at B = 256, and
the code's default, 0.1.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from experiments.reporting.experiment import Arms
from experiments.training.config import RunConfig

LAMBDAS = (1.0, 0.1, 0.01, 0.001)  # of Figure 4
PAPER_LAMBDAS = (1.0, 0.5, 0.1, 0.01)  # of which the tables report the best
BATCH_MEAN_LAMBDAS = (1e-5, 1e-6, 1e-7, 0.1)
GAMMAS = (0.5, 1.0, 2.0, 5.0)
GROWTHS = (1.05, 1.1, 1.3, 2.0)
THRESHOLDS = (-1.0, 1.2, 1.5, 2.0)
QUANTILES = (0.6, 0.7, 0.8, 0.9)
PRESAMPLE = 3  # batches
RATE_FACTORS = (0.5, 2.0, 5.0, 10.0)


class Method(NamedTuple):
    """An arm: the paper's name of it, and its settings as changes of a configuration."""

    label: str
    settings: tuple[Mapping[str, str], ...]
    presample: int = 1  # factor of the batch size


def _weightings(*specs: str) -> tuple[Mapping[str, str], ...]:
    return tuple({"weighting": spec} for spec in specs)


METHODS: Mapping[str, Method] = {
    "normal": Method("Normal", ({},)),
    "normal_tuned": Method("Normal, rate tuned", ()),
    "low": Method("LOW", _weightings(*(f"low:{v:g}" for v in LAMBDAS))),
    "focal": Method("FL", tuple({"loss": f"focal:{v:g}"} for v in GAMMAS)),
    "self_paced": Method("SPL", _weightings(*(f"paced_self_paced:{v:g}" for v in GROWTHS))),
    "importance_sampling": Method(
        "IS", _weightings(*(f"importance_sampling:{{batch}}:{v:g}" for v in THRESHOLDS)), PRESAMPLE
    ),
    "mentornet": Method("MentorNet", _weightings(*(f"mentornet:{v:g}" for v in QUANTILES))),
    "low_batch_mean": Method(
        "LOW, batch mean",
        _weightings(*(f"low:{v:g}:gradient_scale=batch_mean" for v in BATCH_MEAN_LAMBDAS)),
    ),
}
ON_MNIST = (
    "normal",
    "low",
    "normal_tuned",
    "focal",
    "self_paced",
    "importance_sampling",
    "low_batch_mean",
)
BASELINES = {"focal": "FL", "self_paced": "SPL", "importance_sampling": "IS"}


def low_settings(lambdas: tuple[float, ...]) -> tuple[Mapping[str, str], ...]:
    """LOW with each lambda."""
    return _weightings(*(f"low:{value:g}" for value in lambdas))


def method_arms(
    base: RunConfig,
    names: tuple[str, ...],
    suffix: str = "",
    *,
    lambdas: tuple[float, ...] = LAMBDAS,
) -> Arms:
    """Every method's settings as changes of the base, by the method's name and the suffix."""
    arms = {}
    for name in names:
        method = METHODS[name]
        if name == "low":
            method = method._replace(settings=low_settings(lambdas))
        size = base.batch_size
        settings = [
            {key: value.replace("{batch}", str(size)) for key, value in setting.items()}
            for setting in method.settings
        ]
        arms[name + suffix] = [
            replace(base, batch_size=method.presample * size, **setting) for setting in settings
        ]
        if name == "normal_tuned":
            rates = [base.learning_rate * factor for factor in RATE_FACTORS]
            arms[name + suffix] = [replace(base, learning_rate=rate) for rate in rates]
    return arms
