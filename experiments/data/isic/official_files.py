"""Reads the files of the ISIC challenges as they are published."""

import csv
import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

_SUFFIXES = (".jpg", ".jpeg")


def find_images(folder: Path, name: str) -> dict[str, Callable[[], bytes]]:
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


def resize(image: str, content: bytes, size: int) -> Image.Image:
    """The picture in `content`, averaged over areas to size x size; the ratio of sides is lost."""
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


def read_indicators(
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


def read_lesions(file: Path) -> dict[str, str]:
    """Return the lesion that every image shows."""
    return {row["image"]: row["lesion_id"] for row in _read_rows(file, ("image", "lesion_id"))}
