"""Any other image classification set of TensorFlow Datasets."""

from experiments.data.sets.image_sets import load_tfds
from experiments.data.sets.record import FROM_TFDS, DatasetRecord

ANY_TFDS = DatasetRecord(
    "tfds",
    lambda name, data_dir: load_tfds(name or "", data_dir),
    summary="any other image set of tensorflow_datasets",
    source="see its catalog",
    access=FROM_TFDS,
    suffix=r":(.+)",
    suffix_text=":NAME",
)
