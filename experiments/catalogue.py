"""The experiments by name."""

from experiments import demo, difficulty
from experiments.experiment import Experiment
from experiments.ren2018 import figure2

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (demo.EXPERIMENT, *difficulty.EXPERIMENTS, figure2.EXPERIMENT)
}
