"""What the weights of finished trainings tell: tables, figures, and a list of suspects."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.data.sets.table import class_names
from experiments.data.two_classes import read_two_classes
from experiments.explain import galleries, telescope, telescope_plots
from experiments.explain.suspects import (
    SUSPECT_COLUMNS,
    End,
    Interval,
    detection_auc,
    over_seeds,
    precision_at,
    suspect_rows,
    suspicious_end,
)
from experiments.reporting.method_rows import last_evaluation
from experiments.reporting.plotting import Runs, save
from experiments.reporting.rows import choose
from experiments.tools.files import read_arrays, write_csv
from experiments.tools.tables import align
from experiments.training.config import RunConfig
from experiments.training.driver import load_source
from experiments.training.result import Result, is_finished, load_result
from experiments.training.run_folder import RunFolderError

_PER_FIGURE = 9  # methods


class Choices(NamedTuple):
    """What may be chosen."""

    arms: tuple[str, ...] = ()  # patterns; all arms with weights, if there is none
    end: Literal["auto", "high", "low"] = "auto"
    difficulty: Path | None = None  # an .npz with index, label and measures
    measure: str = "K-fold error"
    data_dir: str | None = None


def explain(
    folders: Sequence[Path], out: Path | None = None, choices: Choices | None = None
) -> str:
    """Draws the figures and writes `suspects.csv`; returns the table and where things are.

    Args:
      folders: of trainings, or of experiments, whose arms are taken.
      out: where to write; by default `explain` in the first folder.
      choices: see there.

    Raises:
      RunFolderError: if a folder holds no finished run.
      ValueError: if no weights were recorded, if the runs have different classes, or for an
        unknown arm or measure.
    """
    if not folders:
        raise ValueError("give the folder of a finished training")
    choices = choices or Choices()
    runs = find_runs(folders, choices.arms)
    _check_comparable(runs)
    scores = _scores(runs, choices)
    out = folders[0] / "explain" if out is None else out
    ends = {method: _ends(result.configs[h], choices.end) for method, (result, h) in runs.items()}
    paths = _draw(runs, scores, out, choices)
    write_csv(out / "suspects.csv", _suspects(runs, ends))
    paths.append(out / "suspects.csv")
    return "\n".join([_table(runs, ends), "", "Written:", *(f"  {path}" for path in paths)])


def find_runs(folders: Sequence[Path], arms: Sequence[str] = ()) -> dict[str, tuple[Result, int]]:
    """The runs with weights in folders of trainings or experiments, by a short name each.

    Of configurations trained together the one is taken that is best on validation data.
    """
    found: dict[Path, str] = {}  # folder -> arm, "" for a training
    for folder in folders:
        if (folder / "experiment.json").exists() and not (folder / "config.json").exists():
            found |= _arms(folder, arms)
        else:
            found[folder] = ""
    loaded = {}
    for folder, arm in found.items():
        result = load_result(folder)
        if result.configs[0].num_steps and telescope.weighted_evaluations(result, 0).size:
            h = choose(result, "accuracy", last_evaluation(result))
            loaded[folder] = (arm or _describe(result.configs[h]), _only(result, h))
        elif not arm or arm in arms:
            raise ValueError(f"{folder} recorded no weights: it trained on the clean set alone")
    if not loaded:
        raise ValueError(f"no run in {', '.join(map(str, folders))} recorded weights")
    names = _distinct({folder: name for folder, (name, _) in loaded.items()})
    return {names[folder]: (result, 0) for folder, (_, result) in loaded.items()}


def _arms(folder: Path, patterns: Sequence[str]) -> dict[Path, str]:
    """The finished trainings below an experiment's folder that match any of the patterns."""
    paths = sorted(path.parent for path in folder.rglob("config.json"))
    known = {path.relative_to(folder).as_posix(): path for path in paths if is_finished(path)}
    if not known:
        raise RunFolderError(f"{folder} holds no finished run: no arm has a result.npz")
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise ValueError(f"no arm of {folder} is called {pattern!r}; it has {', '.join(known)}")
    return {
        path: name
        for name, path in known.items()
        if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)
    }


def _only(result: Result, h: int) -> Result:
    """The result of one of its configurations alone."""
    history = {
        name: values[h : h + 1].copy() if values.ndim > 1 else values
        for name, values in result.history.items()
    }
    return replace(result, configs=(result.configs[h],), history=history)


def _describe(config: RunConfig) -> str:
    """The method of a training: its weighting, and what else is not plain."""
    plain = RunConfig()
    others = [
        getattr(config, name)
        for name in ("loss", "sampler", "procedure")
        if getattr(config, name) != getattr(plain, name)
    ]
    return ", ".join([config.label, *others])


def _distinct(names: dict[Path, str]) -> dict[Path, str]:
    """Names with the folder added where several are equal."""
    count = Counter(names.values())
    short = Counter((name, folder.name) for folder, name in names.items())
    return {
        folder: name
        if count[name] == 1
        else f"{name} ({folder.name if short[name, folder.name] == 1 else folder})"
        for folder, name in names.items()
    }


def _check_comparable(runs: Runs) -> None:
    classes = {}
    for method, (result, h) in runs.items():
        task = result.configs[h].task
        pair = read_two_classes(task.imbalance)
        chosen = f"{pair.minority}v{pair.majority}" if pair else ""
        classes[method] = (task.dataset, chosen, telescope.num_classes(result))
    if len(set(classes.values())) > 1:
        texts = [f"{m}: {d} {p}({c} classes)" for m, (d, p, c) in classes.items()]
        raise ValueError(
            "only runs with the same classes can be compared; these have different ones: "
            + "; ".join(texts)
        )


def _class_names(config: RunConfig) -> Sequence[str] | None:
    pair = read_two_classes(config.task.imbalance)
    names = class_names(config.task.dataset)
    if pair:
        return [names[c] if names else str(c) for c in (pair.minority, pair.majority)]
    return names


def _ends(config: RunConfig, end: Literal["auto", "high", "low"]) -> list[End]:
    """The ends to report: one if it is known, both if not."""
    if end != "auto":
        return [end]
    known = suspicious_end(config)
    return ["high", "low"] if known is None else [known]


def _scores(runs: Runs, choices: Choices) -> dict[str, np.ndarray] | None:
    """The difficulty [S, N] of every run's examples, if a file of it was given."""
    path = choices.difficulty
    if path is None:
        return None
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    stored = read_arrays(path)
    known = [name for name in stored if name not in ("index", "label", "true_label")]
    if choices.measure not in known or not {"index", "label"} <= stored.keys():
        raise ValueError(f"{path} has no {choices.measure!r}; it has {', '.join(known)}")
    table = [stored[name] for name in ("index", "label", choices.measure)]
    scores = {m: telescope.match_scores(result, *table) for m, (result, _) in runs.items()}
    for method, values in scores.items():
        if not np.isfinite(values).any():
            raise ValueError(
                f"{path} measures none of the examples of {method}; it must be of the same dataset"
            )
    return scores


def _draw(
    runs: Runs, scores: dict[str, np.ndarray] | None, out: Path, choices: Choices
) -> list[Path]:
    """All figures; the paths."""
    paths: list[Path] = []

    def keep(figure: Figure, name: str) -> None:
        paths.append(out / f"{name}.png")
        save(figure, paths[-1])

    first = next(iter(runs.values()))[0].configs[0]
    names, data = _class_names(first), first.task.dataset
    corrupted = {m: (r, h) for m, (r, h) in runs.items() if np.any(r.labels != r.true_labels)}
    for part, number in _pages(runs):
        title = f"Weights by class along training, {data}"
        figure = telescope_plots.weights_by_class(part, title=title, names=names)
        keep(figure, f"weights_by_class{number}")
        if scores is not None:
            figure = telescope_plots.weights_by_difficulty(
                part,
                {method: scores[method] for method in part},
                measure=choices.measure,
                title=f"Weights by difficulty along training, {data}",
            )
            keep(figure, f"weights_by_difficulty{number}")
        title = f"Confusion matrices of the test set, {data}"
        keep(
            telescope_plots.confusion_matrices(part, title=title, names=names),
            f"confusion{number}",
        )
    for part, number in _pages(corrupted):
        title = f"Weights by class of the true label, {data}"
        keep(
            telescope_plots.weights_by_class(part, title=title, true_labels=True, names=names),
            f"weights_by_true_class{number}",
        )
        title = f"Weights of right and wrong labels along training, {data}"
        keep(
            telescope_plots.weights_by_corruption(part, title=title),
            f"weights_by_corruption{number}",
        )
        title = f"Weights of right and wrong labels, {data}"
        keep(
            telescope_plots.weight_histograms(part, title=title, whole=True),
            f"weight_histograms{number}",
        )
    task = (
        first.task if choices.data_dir is None else replace(first.task, data_dir=choices.data_dir)
    )
    images = load_source(replace(first, task=task)).train.inputs
    for method, (result, h) in runs.items():
        seed = result.configs[h].first_seed
        title = f"Weights of all training examples: {method}, {data}, seed {seed}"
        keep(telescope_plots.heat_map(result, h, 0, title=title), f"telescope_{_slug(method)}")
        if images.ndim == 4:
            title = f"Lightest and heaviest images: {method}, {data}, seed {seed}"
            keep(
                galleries.class_gallery(result, h, 0, images, names=names, title=title),
                f"gallery_{_slug(method)}",
            )
    return paths


def _pages(runs: Runs) -> list[tuple[Runs, str]]:
    """Parts of at most so many methods as a figure holds, and what tells their files apart."""
    items = list(runs.items())
    parts = [dict(items[i : i + _PER_FIGURE]) for i in range(0, len(items), _PER_FIGURE)]
    return [(p, f"_{i}" if len(parts) > 1 else "") for i, p in enumerate(parts, start=1)]


def _slug(method: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "_", method).strip("_")


def _suspects(runs: Runs, ends: dict[str, list[End]]) -> list[tuple]:
    """The rows of `suspects.csv`, of the first seed: the dataset positions to look at first."""
    rows: list[tuple] = [("method", "suspicious_end", *SUSPECT_COLUMNS)]
    for method, (result, h) in runs.items():
        for end in ends[method]:
            rows += [(method, end, *row) for row in suspect_rows(result, h, 0, end)]
    return rows


def _table(runs: Runs, ends: dict[str, list[End]]) -> str:
    lines = [
        [
            "method",
            "zero %",
            "effective %",
            "largest class weight",
            "smallest class weight",
            "AUC of suspects",
            "precision %",
            "seeds",
        ]
    ]
    for method, (result, h) in runs.items():
        names = _class_names(result.configs[h])
        times, unit = telescope.time_axis(result, h)

        def place(extreme: telescope.Extreme, names=names, times=times, unit=unit) -> str:
            name = extreme.group if names is None else names[extreme.group]
            time = f"{unit.removesuffix('s').split()[-1]} {times[extreme.evaluation]:.3g}"
            return f"{extreme.weight:.2f} ({name}, {time})"

        curves = telescope.class_curves(result, h)
        aucs = [over_seeds(result, h, end, detection_auc) for end in ends[method]]
        precisions = [over_seeds(result, h, end, precision_at) for end in ends[method]]
        lines.append(
            [
                method,
                f"{100 * telescope.share_of_zeros(result, h):.1f}",
                f"{100 * telescope.effective_share(result, h):.1f}",
                *map(place, telescope.extremes(curves)),
                _by_end(ends[method], [_interval(auc) for auc in aucs]),
                _by_end(
                    ends[method],
                    [f"{100 * p.mean:.0f}" if p.count else "unknown" for p in precisions],
                ),
                str(len(result.labels)),
            ]
        )
    notes = (
        "zero: of the recorded weights; effective: effective sample size of the examples' mean "
        "weights;\nclasses by given label, with the number or name and the time; suspects: by high "
        "or low mean weight,\nAUC with its 95 % interval over seeds, precision among as many as "
        "there are wrong labels."
    )
    return f"{align(lines)}\n{notes}"


def _interval(auc: Interval) -> str:
    if not auc.count:
        return "unknown"
    return f"{auc.mean:.3f}" + (f" ± {auc.half_width:.3f}" if auc.count > 1 else "")


def _by_end(ends: list[End], texts: list[str]) -> str:
    if set(texts) == {"unknown"}:
        return "no known wrong labels"
    return ", ".join(f"{end} {text}" for end, text in zip(ends, texts, strict=True))
