"""Santiago et al., "LOW: training deep neural networks by learning optimal sample weights".

Pattern Recognition 110, 2021.
"""

from experiments.santiago2021 import figure1, figure7, mnist, skin, table1, table2

EXPERIMENTS = (
    figure1.EXPERIMENT,
    mnist.EXPERIMENT,
    figure7.EXPERIMENT,
    table1.EXPERIMENT,
    table2.EXPERIMENT,
    *skin.EXPERIMENTS,
)
