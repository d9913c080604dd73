"""Ren, Zeng, Yang, Urtasun, "Learning to Reweight Examples for Robust Deep Learning", ICML 2018."""

from experiments.ren2018 import figure2, figure4, figure5, rates, table1, table2

EXPERIMENTS = (
    figure2.EXPERIMENT,
    figure4.EXPERIMENT,
    figure5.EXPERIMENT,
    table1.EXPERIMENT,
    table2.EXPERIMENT,
    rates.EXPERIMENT,
)
