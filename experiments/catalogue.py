"""The experiments by name."""

from experiments import comparison, demo, difficulty, sensitivity, xu2021, zhou2022
from experiments.experiment import Experiment
from experiments.ren2018 import figure2

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        demo.EXPERIMENT,
        *comparison.EXPERIMENTS,
        *difficulty.EXPERIMENTS,
        sensitivity.EXPERIMENT,
        figure2.EXPERIMENT,
        *xu2021.EXPERIMENTS,
        *zhou2022.EXPERIMENTS,
    )
}
