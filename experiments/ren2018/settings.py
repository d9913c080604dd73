"""How each preset learns the data sets of the noise experiments (Sec. 4.2).

At `cpu` the learning rate is 0.03, of 0.01, 0.03 and 0.1, and all methods share it: BASELINE's
accuracy on the noisy validation set ends highest there. On CIFAR-10 that is the accuracy under
uniform flips, mean over three seeds (0.01 ties with it). Background flips, and the mean over both,
would choose 0.01, but there noisy accuracy misleads: who calls every image background is right on
46 %, who calls a share a of the images by their true classes on about 64 % of a, and no network
here has an a of 0.7. Test results were known when this was settled; `ren2018.table2.rates` shows
four rates side by side. That of fine-tuning was chosen on MNIST.
"""

from dataclasses import replace
from typing import NamedTuple

from experiments.data import TaskConfig
from experiments.ren2018.noise import Setting, with_drops
from experiments.training.config import RunConfig

_CPU_RATE = 0.03


class _Small(NamedTuple):
    num_images: int  # training, validation and clean ones together
    num_validation: int
    num_steps: int
    augmentation: str


_CPU = {
    "cifar10": _Small(10_000, 1000, 1800, "signed"),
    "mnist": _Small(5_000, 500, 1500, "none"),
}


def paper_base(dataset: str, model: str, num_clean: int) -> RunConfig:
    """The paper's, on CIFAR; weight decay, augmentation and scaling are the released code's."""
    return RunConfig(
        TaskConfig(dataset, num_clean=num_clean, num_validation=5000),
        model=model,
        learning_rate=0.1,
        momentum=0.9,
        weight_decay=2e-4,
        batch_size=100,
        clean_batch_size=100,
        num_steps=80_000,
        num_evals=40,
        reference_steps=20_000,
        reference_learning_rate=0.1,
        augmentation="crop:2+flip+signed",
    )


def cpu_base(dataset: str, num_clean: int) -> RunConfig:
    """LeNet-5 on a part of the images: clean, validation and training images are all of them."""
    small = _CPU[dataset]
    task = TaskConfig(dataset, num_clean=num_clean, num_validation=small.num_validation)
    return RunConfig(
        replace(task, num_train=small.num_images - small.num_validation - num_clean),
        model="lenet5",
        learning_rate=_CPU_RATE,
        momentum=0.9,
        weight_decay=2e-4,
        batch_size=100,
        clean_batch_size=100,
        num_steps=small.num_steps,
        num_evals=12,
        reference_steps=small.num_steps // 3,
        reference_learning_rate=_CPU_RATE,
        augmentation=small.augmentation,
    )


def cpu_setting(base: RunConfig, *drops: float) -> Setting:
    """The preset's base with drops at these shares of the steps, three trials."""
    return Setting(with_drops(base, base.num_steps, *drops), 500, 500, 3, 0.003)


def smoke_setting() -> Setting:
    """A small network on scikit-learn's digits; the same for all, which share what is compiled."""
    base = RunConfig(
        TaskConfig(num_clean=50, num_validation=200),
        model="mlp:32",
        learning_rate=0.1,
        batch_size=50,
        num_steps=240,
        num_evals=4,
        reference_steps=80,
        reference_learning_rate=0.1,
    )
    return Setting(with_drops(base, 240, 1 / 2, 3 / 4), 40, 40, 2)
