"""The figures of zhou2022 on simulated data (4, 5d, 6, and heavy noise of Sec. 5), and Figure 3.

Zhou, Wu et al., "Understanding Difficulty-Based Sample Weighting with a Universal Difficulty
Measure", ECML-PKDD 2022, arXiv:2301.04850.
"""

from experiments.zhou2022 import figure3, figure4, figure5d, figure6

EXPERIMENTS = (
    figure3.EXPERIMENT,
    figure4.EXPERIMENT,
    figure5d.EXPERIMENT,
    figure6.EXPERIMENT,
)
