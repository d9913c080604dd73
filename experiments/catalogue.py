"""The experiments by name."""

from experiments import ren2018, santiago2021, xu2021, zhou2022
from experiments.reporting.experiment import Experiment
from experiments.studies import comparison, demo, difficulty, sensitivity

_ALL: tuple[Experiment, ...] = (
    demo.EXPERIMENT,
    *comparison.EXPERIMENTS,
    *difficulty.EXPERIMENTS,
    sensitivity.EXPERIMENT,
    *ren2018.EXPERIMENTS,
    *santiago2021.EXPERIMENTS,
    *xu2021.EXPERIMENTS,
    *zhou2022.EXPERIMENTS,
)

EXPERIMENTS: dict[str, Experiment] = {experiment.name: experiment for experiment in _ALL}

# A figure or table that a larger experiment makes is another name of it.
NAMES: dict[str, Experiment] = EXPERIMENTS | {
    name: experiment
    for experiment in _ALL
    for name in experiment.other_names
    if name not in EXPERIMENTS
}
