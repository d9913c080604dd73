"""Which tests ought to see a fault in a file of `weighting/`: those of its name, or of this table.

The tests are run in stages, and end with the first failure: the file's own, then the rows of the
contract of every scheme for what the file exports.
"""

import ast
from pathlib import Path
from typing import NamedTuple

CONTRACT = "tests/weighting/contract_test.py"
PARTS = "experiments/methods/schemes_test.py"  # the simple schemes, losses and parts by hand
LOSSES = "weighting/losses/losses_test.py"
GRADIENTS = "weighting/losses/gradients_test.py"
MASKED = "weighting/losses/masked_classes_test.py"
INTEGERS = "weighting/integers_test.py"
UNKNOWN = "weighting/unknown_classes_test.py"
MISSING = "weighting/missing_values_test.py"
RANGES = "tests/weighting/ranges_test.py"  # of hyperparameters, where a file has any
SHIFT = ["weighting/shift/label_shift_test.py", "weighting/shift/density_ratio_test.py"]
# Files without a test file of their name, or with more than that one; names below tests/.
MATCHING = {
    "_arrays.py": ["weighting/arrays_test.py", "weighting/difficulty/history_test.py", PARTS],
    "_checks.py": ["weighting/schemes/low_test.py", "weighting/schemes/lookahead_test.py", PARTS],
    "_jaxopt.py": ["weighting/without_jaxopt_test.py", "weighting/schemes/low_test.py"],
    "_layers.py": ["weighting/layerwise_test.py"],
    "_numbers.py": [UNKNOWN, INTEGERS, MISSING],
    "base.py": ["weighting/train_step_test.py", PARTS, MISSING],
    "gradient_norms.py": [
        "weighting/schemes/low_test.py",
        "weighting/difficulty/one_network_test.py",
    ],
    "implicit_bias/_simplex_qp.py": ["weighting/implicit_bias/max_margin_test.py"],
    "implicit_bias/multiclass_margin.py": ["weighting/implicit_bias/max_margin_test.py"],
    "linearize.py": [
        "weighting/schemes/lookahead_unrolled_test.py",
        "weighting/train_step_test.py",
    ],
    "losses/_shapes.py": ["weighting/losses/imbalance_test.py", LOSSES, MASKED, PARTS],
    "losses/basic.py": ["weighting/losses/basic_test.py", LOSSES, GRADIENTS, MASKED, PARTS],
    "losses/corrected.py": ["weighting/losses/corrected_test.py", LOSSES, GRADIENTS, MASKED],
    "losses/heavy_tailed.py": ["weighting/losses/heavy_tailed_test.py", LOSSES, GRADIENTS, MASKED],
    "losses/imbalance.py": ["weighting/losses/imbalance_test.py", LOSSES, GRADIENTS, MASKED],
    "losses/robust.py": ["weighting/losses/robust_test.py", LOSSES, GRADIENTS, MASKED],
    "losses/soft_targets.py": ["weighting/losses/soft_targets_test.py", LOSSES, GRADIENTS, MASKED],
    "schemes/class_based.py": ["weighting/schemes/class_based_test.py", PARTS],
    "schemes/importance_sampling.py": ["weighting/training/selective_step_test.py"],
    "schemes/loss_based.py": ["weighting/schemes/loss_based_test.py", PARTS],
    "schemes/parts.py": [PARTS],
    "schemes/random_weights.py": [PARTS],
    "shift/_mixture.py": SHIFT,
    "shift/label_shift.py": [SHIFT[0], "weighting/shift/prior_correction_test.py"],
}
WHOLE_CONTRACT = {"_arrays.py", "base.py"}  # every scheme goes through them


class Stage(NamedTuple):
    """Test files, and the schemes to which the contract is restricted (empty: all)."""

    files: tuple[str, ...]
    schemes: tuple[str, ...] = ()


def stages(root: Path, file: str) -> list[Stage]:
    """The stages for a file, its path relative to the root.

    Raises:
      ValueError: if there is no test file.
    """
    own = file.removeprefix("weighting/")
    tests = [f"tests/{name}" for name in MATCHING.get(own, ())] or _of_its_name(root, own)
    if tests and "check_range(" in (root / file).read_text():
        tests.append(RANGES)
    found = [Stage(tuple(tests))] if tests else []
    if own in WHOLE_CONTRACT:
        found.append(Stage((CONTRACT,)))
    elif own.startswith("schemes/"):
        found.append(Stage((CONTRACT,), _public_functions(root / file)))
    if not found:
        raise ValueError(f"no test file is named after {file}: give it one, or a row in MATCHING")
    return found


def _of_its_name(root: Path, own: str) -> list[str]:
    """The test file in the folder of the same name, or in the one above it."""
    place = Path("tests", "weighting", own)
    name = f"{place.stem.removeprefix('_')}_test.py"
    for folder in (place.parent, place.parent.parent):
        if (root / folder / name).exists():
            return [str(folder / name)]
    return []


def _public_functions(path: Path) -> tuple[str, ...]:
    return tuple(
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    )
