"""Xu, Ye, Ruan, "Understanding the Role of Importance Weighting for Deep Learning", ICLR 2021."""

from experiments.xu2021 import figure1, figure2, figure3, figure4

EXPERIMENTS = (figure1.EXPERIMENT, figure2.EXPERIMENT, figure3.EXPERIMENT, figure4.EXPERIMENT)
