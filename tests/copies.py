"""Parts of the clone, copied for tests that change what they copy."""

import shutil
from collections.abc import Iterable
from pathlib import Path


def copy_parts(root: Path, folder: Path, names: Iterable[str]) -> Path:
    """Copies files and folders of the clone, without bytecode; returns the folder, made if new."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (root / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(root / name, folder / name, ignore=ignored)
        else:
            shutil.copy(root / name, folder / name)
    return folder
