"""Dermoscopy images of the ISIC challenges of 2017 (part 3) and 2018 (task 3), prepared for tfds.

The files must be fetched by hand; preparing them needs neither TensorFlow nor a network:

    python -m experiments.data.isic prepare --set isic2018 --size 64 --manual-dir DIR

Every image becomes SIZE x SIZE pixels by averaging over areas; the ratio of its sides is lost.
"""

import csv
import dataclasses
import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
import tyro
from etils import epath
from PIL import Image

DEFAULT_SIZE = 64
_HOME = "https://challenge.isic-archive.com/data"
_SUFFIXES = (".jpg", ".jpeg")

TABLE_1 = {
    "isic2017": {"benign": 1372, "melanoma": 374, "seborrheic_keratosis": 254},
    "isic2018": {
        "MEL": 1119,
        "NV": 6741,
        "BCC": 517,
        "AKIEC": 331,
        "BKL": 1101,
        "DF": 116,
        "VASC": None,
    },
}
"""Training images by class in Santiago et al. (2021), Table 1; None where it prints no number."""

OFFICIAL = {
    "isic2017": TABLE_1["isic2017"],
    "isic2018": {
        "MEL": 1113,
        "NV": 6705,
        "BCC": 514,
        "AKIEC": 327,
        "BKL": 1099,
        "DF": 115,
        "VASC": 142,
    },
}
"""Training images by class in the published sets (2018: HAM10000, Tschandl et al., 2018)."""

_TABLE_1_NOTES = {
    "isic2018": (
        "The six numbers that Table 1 prints sum to 9925, which leaves 90 of 10015 for VASC; "
        "HAM10000 has the official ones, which do sum to 10015."
    )
}


@dataclasses.dataclass(eq=False)
class IsicConfig(tfds.core.BuilderConfig):
    """Sides of the images, and whether labelled images may be missing (a subset is prepared)."""

    size: int = DEFAULT_SIZE
    allow_missing: bool = False


class _Isic(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """What the two challenges share. Subclasses say where a split's images and labels are.

    Wants `config=IsicConfig(...)`, named by its size.
    """

    VERSION = tfds.core.Version("1.0.0")
    code_path = epath.Path(__file__)  # otherwise tfds asks importlib_resources, maybe not installed
    pkg_dir_path = epath.Path(__file__).parent

    # Classes in official order; (images, labels) of every split; whether lesions are known.
    classes: tuple[str, ...]
    files: Mapping[str, tuple[str, str]]
    lesion_file: str | None = None

    @property
    def _config(self) -> IsicConfig:
        if not isinstance(self.builder_config, IsicConfig):
            raise TypeError(f"{self.name} is made with config=IsicConfig(...)")
        return self.builder_config

    def _info(self) -> tfds.core.DatasetInfo:
        size = self._config.size
        features: dict[str, Any] = {
            "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=list(self.classes)),
        }
        if self.lesion_file is not None:
            features["lesion"] = tfds.features.Text()
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), homepage=_HOME
        )

    def _split_generators(self, dl_manager) -> dict:
        folder = Path(dl_manager.manual_dir)
        return {
            split: self._generate_examples(folder, *files) for split, files in self.files.items()
        }

    def _generate_examples(self, folder: Path, images: str, labels: str) -> Iterator:
        label_of = self.read_labels(folder / labels)
        lesion_of = {} if self.lesion_file is None else _read_lesions(folder / self.lesion_file)
        read_of = _find_images(folder, images)
        missing = [image for image in label_of if image not in read_of]
        if len(missing) == len(label_of):
            raise FileNotFoundError(
                f"{images} in {folder} has none of the images listed in {labels}"
            )
        if missing and not self._config.allow_missing:
            raise FileNotFoundError(
                f"{labels} lists {len(label_of)} images and {images} in {folder} lacks "
                f"{len(missing)} of them, such as {missing[0]}; complete the files, or prepare a "
                "subset on purpose with --allow-missing"
            )
        for image, label in label_of.items():
            if image not in read_of:
                continue
            picture = _resize(image, read_of[image](), self._config.size)
            example: dict[str, Any] = {"image": picture, "label": label}
            if self.lesion_file is not None:
                if image not in lesion_of:
                    raise ValueError(f"{self.lesion_file} does not list image {image}")
                example["lesion"] = lesion_of[image]
            yield image, example

    @classmethod
    def read_labels(cls, file: Path) -> dict[str, str]:
        """Return the class of every image that a file of labels lists."""
        raise NotImplementedError


class Isic2017(_Isic, skip_registration=True):
    """ISIC 2017, part 3: benign lesions, melanoma, seborrheic keratosis; 2,000 and 600 images."""

    name = "isic2017"
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""From {_HOME} (2017, part 3), as archives or unpacked:
    ISIC-2017_Training_Data.zip, ISIC-2017_Training_Part3_GroundTruth.csv,
    ISIC-2017_Test_v2_Data.zip, ISIC-2017_Test_v2_Part3_GroundTruth.csv."""

    classes = ("benign", "melanoma", "seborrheic_keratosis")
    files = {  # noqa: RUF012 - read only
        "train": ("ISIC-2017_Training_Data", "ISIC-2017_Training_Part3_GroundTruth.csv"),
        "test": ("ISIC-2017_Test_v2_Data", "ISIC-2017_Test_v2_Part3_GroundTruth.csv"),
    }

    @classmethod
    def read_labels(cls, file: Path) -> dict[str, str]:
        """Read two indicator columns; an image with neither is benign, one with both an error."""
        return _read_indicators(file, "image_id", cls.classes[1:], neither=cls.classes[0])


class Isic2018(_Isic, skip_registration=True):
    """ISIC 2018, task 3: the 10,015 images of HAM10000 in seven classes, with their lesions.

    Labels of the official test images are not public, so there is a split "train" alone.
    """

    name = "isic2018"
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""From {_HOME} (2018, task 3), the first packed or unpacked:
    ISIC2018_Task3_Training_Input.zip, ISIC2018_Task3_Training_GroundTruth.csv,
    ISIC2018_Task3_Training_LesionGroupings.csv."""

    classes = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
    files = {  # noqa: RUF012 - read only
        "train": ("ISIC2018_Task3_Training_Input", "ISIC2018_Task3_Training_GroundTruth.csv")
    }
    lesion_file = "ISIC2018_Task3_Training_LesionGroupings.csv"

    @classmethod
    def read_labels(cls, file: Path) -> dict[str, str]:
        """Read one-hot rows."""
        return _read_indicators(file, "image", cls.classes)


BUILDERS: dict[str, type[_Isic]] = {"isic2017": Isic2017, "isic2018": Isic2018}


class Prepared(NamedTuple):
    """A tfds builder, whose `data_path` holds the set, and whether it wrote it just now."""

    builder: _Isic
    is_new: bool


def prepare(
    name: str,
    manual_dir: Path,
    *,
    size: int = DEFAULT_SIZE,
    data_dir: Path | None = None,
    allow_missing: bool = False,
) -> Prepared:
    """Prepare a set in the array_record format, unless it is there already.

    Args:
      name: "isic2017" or "isic2018".
      manual_dir: folder of the official files; images may lie in a folder or in a zip archive.
        Images without a label (super-pixels, say) are passed over.
      size: sides of the prepared images, in pixels.
      data_dir: tfds folder to write to; None leaves it to tfds.
      allow_missing: prepare the images there are, though the labels list more.

    Raises:
      FileNotFoundError: a file or a listed image is missing.
      ValueError: labels that are not one class, an image listed twice, or one that cannot be read.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    manual_dir = manual_dir.expanduser()
    if not manual_dir.is_dir():
        raise FileNotFoundError(f"there is no folder {manual_dir}")
    builder = BUILDERS[name](
        data_dir=None if data_dir is None else str(data_dir.expanduser()),
        config=IsicConfig(name=str(size), size=size, allow_missing=allow_missing),
        file_format="array_record",
    )
    is_new = not builder.is_prepared()
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=str(manual_dir))
    )
    return Prepared(builder, is_new)


def class_counts(builder: Any) -> dict[str, list[int]]:
    """Count the images of every class in every split of a prepared set."""
    counts = {}
    for split in builder.info.splits:
        examples = builder.as_data_source(
            split=split, decoders={"image": tfds.decode.SkipDecoding()}
        )
        labels = [int(examples[i]["label"]) for i in range(len(examples))]
        counts[split] = np.bincount(labels, minlength=len(builder.classes)).tolist()
    return counts


def _find_images(folder: Path, name: str) -> dict[str, Callable[[], bytes]]:
    """Return how to read every JPEG of folder/name or folder/name.zip, by the name of its image."""
    unpacked, archive = folder / name, folder / f"{name}.zip"
    if unpacked.is_dir():
        files = [file for file in unpacked.rglob("*") if file.suffix.lower() in _SUFFIXES]
        return {file.stem: file.read_bytes for file in files}
    if not archive.exists():
        raise FileNotFoundError(f"{folder} has neither a folder {name} nor {name}.zip")
    try:
        packed = zipfile.ZipFile(archive)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive} is damaged or incomplete: {error}") from None
    members = [Path(member) for member in packed.namelist()]
    members = [member for member in members if member.suffix.lower() in _SUFFIXES]
    return {member.stem: _reader(packed, str(member)) for member in members}


def _reader(packed: zipfile.ZipFile, member: str) -> Callable[[], bytes]:
    return lambda: packed.read(member)


def _resize(image: str, content: bytes, size: int) -> Image.Image:
    try:
        with Image.open(io.BytesIO(content)) as picture:
            return picture.convert("RGB").resize((size, size), Image.Resampling.BOX)
    except (OSError, SyntaxError) as error:  # what Pillow raises for damaged files
        raise ValueError(f"image {image} cannot be read: {error}") from None


def _read_rows(file: Path, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    if not file.exists():
        raise FileNotFoundError(f"{file.parent} has no {file.name}")
    with open(file, newline="", encoding="utf-8-sig") as lines:
        rows = csv.DictReader(lines)
        absent = [column for column in columns if column not in (rows.fieldnames or ())]
        if absent:
            raise ValueError(f"{file.name} has no column {absent[0]!r}; it has {rows.fieldnames}")
        yield from rows


def _read_indicators(
    file: Path, image_column: str, classes: tuple[str, ...], *, neither: str | None = None
) -> dict[str, str]:
    """Return every image's class: the one whose column is 1, or `neither` where none is."""
    label_of = {}
    for row in _read_rows(file, (image_column, *classes)):
        image = row[image_column]
        if image in label_of:
            raise ValueError(f"{file.name} lists image {image} twice")
        values = [row[name] for name in classes]
        try:
            indicators = [float(value) for value in values]
        except (TypeError, ValueError):
            raise ValueError(f"{file.name}: image {image} has values {values}") from None
        total = sum(indicators)
        if set(indicators) <= {0, 1} and total == 1:
            label_of[image] = classes[indicators.index(1)]
        elif neither is not None and set(indicators) == {0}:
            label_of[image] = neither
        else:
            allowed = "1" if neither is None else "0 or 1"
            raise ValueError(
                f"{file.name}: the columns {', '.join(classes)} of image {image} are 0 or 1 and "
                f"sum to {allowed}, but they are {', '.join(values)}"
            )
    if not label_of:
        raise ValueError(f"{file.name} lists no image")
    return label_of


def _read_lesions(file: Path) -> dict[str, str]:
    return {row["image"]: row["lesion_id"] for row in _read_rows(file, ("image", "lesion_id"))}


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Prepare a set from its official files, and compare its classes with the published counts."""

    set: Literal["isic2017", "isic2018"]
    """Which challenge."""
    manual_dir: Path
    """Folder of the official files."""
    size: int = DEFAULT_SIZE
    """Sides of the prepared images."""
    data_dir: Path | None = None
    """tfds folder to write to; by default TFDS_DATA_DIR or ~/tensorflow_datasets."""
    allow_missing: bool = False
    """Prepare the images there are, though the labels list more."""


def main(arguments: list[str] | None = None) -> int:
    """Read the arguments, prepare the set, print its class counts; return the exit status."""
    options = tyro.extras.subcommand_cli_from_dict(
        {"prepare": Prepare}, args=arguments, prog="python -m experiments.data.isic"
    )
    try:
        prepared = prepare(
            options.set,
            options.manual_dir,
            size=options.size,
            data_dir=options.data_dir,
            allow_missing=options.allow_missing,
        )
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}")
        return 1
    print(_report(options.set, prepared))
    return 0


def _report(name: str, prepared: Prepared) -> str:
    counts = class_counts(prepared.builder)
    lines = [f"{'class':<22}{'paper':>8}{'official':>10}" + "".join(f"{s:>8}" for s in counts)]
    for c, label in enumerate(BUILDERS[name].classes):
        printed = TABLE_1[name][label]
        lines.append(
            f"{label:<22}{'-' if printed is None else printed:>8}{OFFICIAL[name][label]:>10}"
            + "".join(f"{split[c]:>8}" for split in counts.values())
        )
    official = sum(OFFICIAL[name].values())
    lines.append(
        f"{'all':<22}{'':>8}{official:>10}" + "".join(f"{sum(c):>8}" for c in counts.values())
    )
    lines.append("paper: Santiago et al. (2021), Table 1; paper and official: training images")
    if name in _TABLE_1_NOTES:
        lines.append(_TABLE_1_NOTES[name])
    if (found := sum(counts["train"])) != official:
        lines.append(f"This is a subset: {found} of {official} training images.")
    path = prepared.builder.data_path
    lines.append(
        f"written to {path}"
        if prepared.is_new
        else f"found in {path}, prepared before; remove that folder to prepare it again"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
