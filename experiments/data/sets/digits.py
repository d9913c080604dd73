"""Handwritten digits that are shipped with scikit-learn."""

import numpy as np
from sklearn.datasets import load_digits

from experiments.data.sets.record import EMBEDDED, DatasetRecord
from experiments.data.sets.types import Dataset, Source


def _load(suffix: str | None, data_dir: str | None) -> Source:
    """The digits of UCI's optdigits test set; ink 0 .. 16 becomes 0 .. 255."""
    del suffix, data_dir
    images, labels = load_digits(return_X_y=True)
    inputs = np.rint(images * 255 / 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    digits = Dataset(inputs, labels.astype(np.int32), num_classes=10, name="digits")
    return Source(digits, test=None)


DIGITS = DatasetRecord(
    "digits",
    _load,
    summary="1,797 handwritten digits",
    source="Alpaydin and Kaynak, 1998 (UCI optdigits)",
    access=EMBEDDED,
    num_classes=10,
    input_shape=(8, 8, 1),
)
