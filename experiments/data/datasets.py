"""Datasets by name."""

import re

import numpy as np
from sklearn.datasets import load_digits

from experiments.data import toy
from experiments.data.image_sets import load_tfds
from experiments.data.types import Dataset, Source
from experiments.tools.names import unknown_name

__all__ = ["Dataset", "Source", "load"]

_TOY_SIZE = 2000
_TOYS = {"separable": toy.separable, "overlapping": toy.overlapping, "moons": toy.moons}
_IMAGE_SETS = ("mnist", "fashion_mnist", "kmnist", "cifar10", "cifar100")
_ISIC_SETS = ("isic2017", "isic2018")
_ISIC_SIZE = 64


def load(name: str, *, data_dir: str | None = None) -> Source:
    """Load a dataset.

    Args:
      name: "digits" (8x8 images, shipped with scikit-learn); "separable", "overlapping" or
        "moons" (2000 points of a toy set); a tfds image set ("mnist", "cifar10", ...);
        "isic2017" or "isic2018", with sides of 64 unless another size that was prepared is added
        ("isic2018/128", see `experiments.data.isic`); or "tfds:NAME" for any other tfds image set.
      data_dir: folder of prepared tfds sets; None leaves it to tfds. Other sets ignore it.

    Returns:
      A `Source`; its `test` is None for digits, toy sets and ISIC 2018, which has none with labels.
    """
    if name == "digits":
        return Source(_digits(), test=None)
    if name in _TOYS:
        return Source(_TOYS[name](_TOY_SIZE, seed=0), test=None)
    if name in _IMAGE_SETS:
        return load_tfds(name, data_dir)
    if match := re.fullmatch(rf"({'|'.join(_ISIC_SETS)})(?:/([1-9]\d*))?", name):
        return load_tfds(f"{match[1]}/{match[2] or _ISIC_SIZE}", data_dir)
    if name.startswith("tfds:"):
        return load_tfds(name.removeprefix("tfds:"), data_dir)
    isic_sets = [f"{isic}[/SIZE]" for isic in _ISIC_SETS]
    known = ["digits", *_TOYS, *_IMAGE_SETS, *isic_sets, "tfds:NAME"]
    raise unknown_name(name, known, "dataset")


def _digits() -> Dataset:
    """Handwritten digits of UCI's optdigits test set; ink 0 .. 16 becomes 0 .. 255."""
    images, labels = load_digits(return_X_y=True)
    inputs = np.rint(images * 255 / 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    return Dataset(inputs, labels.astype(np.int32), num_classes=10, name="digits")
