"""Dermoscopy images of the ISIC challenges, prepared by `python -m experiments.data.isic`."""

from experiments.data.sets.image_sets import UnknownTfdsSetError, load_tfds
from experiments.data.sets.record import DatasetRecord, Load
from experiments.data.sets.types import Source

DEFAULT_SIZE = 64
HOME = "https://challenge.isic-archive.com/data"


def _loader(name: str) -> Load:
    def load(size: str | None, data_dir: str | None) -> Source:
        size = size or str(DEFAULT_SIZE)
        try:
            return load_tfds(f"{name}/{size}", data_dir)
        except UnknownTfdsSetError:
            raise FileNotFoundError(_how_to_prepare(name, size, data_dir)) from None

    return load


def _how_to_prepare(name: str, size: str, data_dir: str | None) -> str:
    where = "" if data_dir is None else f" --data-dir {data_dir}"
    return (
        f"dataset '{name}/{size}' is not prepared in {data_dir or 'the default tfds folder'}. "
        f"Fetch its files from {HOME} and prepare it once:\n"
        f"  python -m experiments.data.isic prepare --set {name} --size {size} "
        f"--manual-dir DIR{where}\n"
        "or point --data-dir or TFDS_DATA_DIR to a tfds folder that holds it."
    )


def _record(name: str, summary: str, source: str, class_names: tuple[str, ...]) -> DatasetRecord:
    return DatasetRecord(
        name,
        _loader(name),
        summary=f"{summary}, {DEFAULT_SIZE} pixels a side by default",
        source=source,
        access="python -m experiments.data.isic",
        num_classes=len(class_names),
        input_shape=(DEFAULT_SIZE, DEFAULT_SIZE, 3),
        class_names=class_names,
        suffix=r"(?:/([1-9]\d*))?",
        suffix_text="[/SIZE]",
    )


ISIC2017 = _record(
    "isic2017",
    "2,600 images of skin lesions (part 3)",
    "Codella et al., 2018",
    ("benign", "melanoma", "seborrheic_keratosis"),
)

ISIC2018 = _record(
    "isic2018",
    "10,015 images of skin lesions (task 3)",
    "Tschandl et al., 2018 (HAM10000)",
    ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"),
)
