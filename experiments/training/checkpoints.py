"""Checkpoints of a run, by orbax: the one file that imports it."""

import hashlib
import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from experiments.tools.files import write_json

PyTree = Any
_MARGIN = 2**20  # bytes beside the arrays: descriptions, and blocks of the disk
_DIGESTS = "sha256.json"  # in each checkpoint: orbax itself does not notice every changed byte


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, or none in the folder can be read."""


class Checkpoints:
    """The last two checkpoints of a run; each is complete or absent, whenever the run is killed."""

    def __init__(self, folder: Path):
        self.folder = folder.absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def save(self, step: int, tree: PyTree) -> None:
        """Saves a pytree of arrays and returns when it is on disk."""
        folder, hook = self.folder / str(step), sys.excepthook
        _check_space(folder, tree)
        sys.excepthook = _without_closed_loops
        try:
            self._manager.save(step, args=ocp.args.StandardSave(tree))
            self._manager.wait_until_finished()
        except Exception as error:  # orbax raises many types for a disk that is full
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # it says the same, at length
            raise CheckpointError(
                f"checkpoint {folder} cannot be written ({_first_line(error)}); earlier ones are "
                "kept: free space there, or mend the folder, and go on with --resume"
            ) from error
        sys.excepthook = hook  # after a failure, threads may go on for a while
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        digests = {str(path.relative_to(folder)): _sha256(path) for path in files}
        write_json(folder / _DIGESTS, digests)

    def latest(self) -> int | None:
        """The number of the last checkpoint, or None."""
        return self._manager.latest_step()

    def restore(self, template: PyTree) -> tuple[int, PyTree] | None:
        """The last readable checkpoint and its number, or None if there is none.

        A damaged checkpoint is passed over for the one before it; it stays on disk.

        Raises:
          CheckpointError: if there are checkpoints but none can be read.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        errors = []
        for step in steps:
            try:
                _check_digests(self.folder / str(step))
                return step, self._manager.restore(step, args=ocp.args.StandardRestore(template))
            except Exception as error:  # orbax raises many types for damaged files
                errors.append(f"  {self.folder / str(step)}: {type(error).__name__}: {error}")
        if not steps:
            return None
        raise CheckpointError(
            "none of the checkpoints can be read:\n"
            + "\n".join(errors)
            + f"\nRestore {self.folder} from a copy, or start again with another --out."
        )

    def discard_after(self, step: int) -> None:
        """Deletes checkpoints later than `step`: damaged ones that `restore` passed over."""
        for later in self._manager.all_steps():
            if later > step:
                self._manager.delete(later)

    def close(self) -> None:
        """Releases the folder."""
        self._manager.close()


def _check_space(folder: Path, tree: PyTree) -> None:
    """Refuses to begin a checkpoint for which there is no space."""
    sizes = [getattr(leaf, "nbytes", 0) for leaf in jax.tree.leaves(tree)]
    needed, free = sum(sizes) + _MARGIN, shutil.disk_usage(folder.parent).free
    if free < needed:
        raise CheckpointError(
            f"checkpoint {folder} cannot be written: the disk is full ({free / 1e6:.1f} MB are "
            f"free, {needed / 1e6:.1f} needed); earlier ones are kept: free space there, and go on "
            "with --resume"
        )


def _without_closed_loops(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Leaves out what threads of a failed write print; the failure itself is raised."""
    if "Event loop is closed" not in str(error):
        sys.__excepthook__(kind, error, trace)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def _check_digests(folder: Path) -> None:
    """Raises if a file was changed. A kill may leave a complete checkpoint without digests."""
    if not (folder / _DIGESTS).exists():
        return
    for name, digest in json.loads((folder / _DIGESTS).read_text()).items():
        if _sha256(folder / name) != digest:
            raise ValueError(f"{name} is damaged")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
