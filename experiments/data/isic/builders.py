"""Dermoscopy images of the ISIC challenges of 2017 (part 3) and 2018 (task 3), as tfds builders.

Every image becomes SIZE x SIZE pixels by averaging over areas; the ratio of its sides is lost.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow_datasets as tfds
from etils import epath

from experiments.data.isic.official_files import (
    find_images,
    read_indicators,
    read_lesions,
    resize,
)
from experiments.data.sets.isic import DEFAULT_SIZE, HOME, ISIC2017, ISIC2018


@dataclass(eq=False)
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
            builder=self, features=tfds.features.FeaturesDict(features), homepage=HOME
        )

    def _split_generators(self, dl_manager) -> dict:
        folder = Path(dl_manager.manual_dir)
        return {
            split: self._generate_examples(folder, *files) for split, files in self.files.items()
        }

    def _generate_examples(self, folder: Path, images: str, labels: str) -> Iterator:
        label_of = self.read_labels(folder / labels)
        lesion_of = {} if self.lesion_file is None else read_lesions(folder / self.lesion_file)
        read_of = find_images(folder, images)
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
            picture = resize(image, read_of[image](), self._config.size)
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
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""From {HOME} (2017, part 3), as archives or unpacked:
    ISIC-2017_Training_Data.zip, ISIC-2017_Training_Part3_GroundTruth.csv,
    ISIC-2017_Test_v2_Data.zip, ISIC-2017_Test_v2_Part3_GroundTruth.csv."""

    classes = ISIC2017.class_names or ()
    files = {  # noqa: RUF012 - read only
        "train": ("ISIC-2017_Training_Data", "ISIC-2017_Training_Part3_GroundTruth.csv"),
        "test": ("ISIC-2017_Test_v2_Data", "ISIC-2017_Test_v2_Part3_GroundTruth.csv"),
    }

    @classmethod
    def read_labels(cls, file: Path) -> dict[str, str]:
        """Read two indicator columns; an image with neither is benign, one with both an error."""
        return read_indicators(file, "image_id", cls.classes[1:], neither=cls.classes[0])


class Isic2018(_Isic, skip_registration=True):
    """ISIC 2018, task 3: the 10,015 images of HAM10000 in seven classes, with their lesions.

    Labels of the official test images are not public, so there is a split "train" alone.
    """

    name = "isic2018"
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""From {HOME} (2018, task 3), the first packed or unpacked:
    ISIC2018_Task3_Training_Input.zip, ISIC2018_Task3_Training_GroundTruth.csv,
    ISIC2018_Task3_Training_LesionGroupings.csv."""

    classes = ISIC2018.class_names or ()
    files = {  # noqa: RUF012 - read only
        "train": ("ISIC2018_Task3_Training_Input", "ISIC2018_Task3_Training_GroundTruth.csv")
    }
    lesion_file = "ISIC2018_Task3_Training_LesionGroupings.csv"

    @classmethod
    def read_labels(cls, file: Path) -> dict[str, str]:
        """Read one-hot rows."""
        return read_indicators(file, "image", cls.classes)


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
