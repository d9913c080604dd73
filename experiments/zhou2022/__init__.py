"""Zhou, Wu et al., "Understanding Difficulty-Based Sample Weighting with a Universal Difficulty
Measure", ECML-PKDD 2022, arXiv:2301.04850.

Networks on images: Figures 1 and 2 (`difficulty`), 3 and 5a-c. Simulated data: Figures 4, 5d and 6,
and heavy noise of Sec. 5.
"""

from experiments.zhou2022 import difficulty, figure3, figure4, figure5, figure5d, figure6

EXPERIMENTS = (
    difficulty.EXPERIMENT,
    figure3.EXPERIMENT,
    figure3.MNIST,
    figure4.EXPERIMENT,
    *figure5.EXPERIMENTS,
    figure5d.EXPERIMENT,
    figure6.EXPERIMENT,
)
