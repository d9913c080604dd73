"""Figure 4: higher weights on hard examples, and how soon the max-margin solution comes near.

Panels (a, b) linear and (c, d) nonlinear with inverse-margin weights, (e, f) wrong labels up,
nonlinear, (g, h) the small class up, linear; and Sec. 5 (Fig. A-5): wrong labels *down* when they
are many, 40 %. The paper gives neither weights nor sizes nor times. All arms of a seed share data
and initial parameters, and their weights have mean one.

The direction of reference is the max-margin solution for the linear predictor. For the network it
is where the run with equal weights ends if it is continued by 10,000 steps of length 0.01, so that
the cosine of this arm tends to one by construction; the cosine to every arm's own end is beside it,
and the normalized margin needs no reference. Only seeds on which the training set gets separated
have a margin to speak of. Five units cannot separate wrong labels of moons in the plane: that set
is small and has six irrelevant inputs.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from experiments.reporting import plotting
from experiments.reporting.experiment import Experiment, Options
from experiments.reporting.ledger import stored_statements
from experiments.reporting.statements import Statement, statements_as_json, statements_table
from experiments.simulated.models import scores
from experiments.simulated.plots import Panel, bands
from experiments.tools.files import write_arrays, write_csv, write_json
from experiments.tools.tables import align
from experiments.zhou2022 import curves, pull
from experiments.zhou2022.data import Sets, simulate
from weighting.implicit_bias.max_margin import max_margin
from weighting.schemes.margin_based import inverse_margin_weights, kl_matched_weights

EQUAL = "equal"
INVERSE = "inverse margin"
MATCHED = "dual-matched"
STEPS = {"smoke": (300, 300), "cpu": (10_000, 20_000), "paper": (100_000, 200_000)}
SEEDS = {"smoke": 2, "cpu": 40, "paper": 100}
MEASURES = {
    "cosine": "cosine to the reference",
    "own_cosine": "cosine to its own end",
    "average_margin": "average margin / norm^order",
    "raw_average_margin": "average margin",
    "normalized_margin": "normalized margin",
}
_UP = (2.0, 5.0, 10.0)
_TINY = 1e-12  # what logarithmic axes show of zero
_HEAVY = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)


class Setting(NamedTuple):
    """One of the figure's pairs of panels."""

    title: str
    source: str
    model: str
    counts: tuple[int, int]
    hard: str  # "small margin", "noisy" or "tail"
    noise_rate: float = 0.0
    num_irrelevant: int = 0


SETTINGS = {
    "linear_clean": Setting(
        "linear, clean", "zhou2022, Fig. 4a-b", "linear", (100, 100), "small margin"
    ),
    "network_clean": Setting(
        "network, clean", "zhou2022, Fig. 4c-d", "network", (50, 50), "small margin"
    ),
    "network_noisy": Setting(
        "network, 10 % wrong labels",
        "zhou2022, Fig. 4e-f",
        "network",
        (20, 20),
        "noisy",
        noise_rate=0.1,
        num_irrelevant=6,
    ),
    "linear_imbalanced": Setting(
        "linear, imbalanced 10:1", "zhou2022, Fig. 4g-h", "linear", (20, 200), "tail"
    ),
}
HEAVY = {
    f"{model}_heavy_noise": Setting(
        f"{model}, 40 % wrong labels",
        "zhou2022, Sec. 5 (Fig. A-5)",
        model,
        (100, 100),
        "noisy",
        noise_rate=0.4,
    )
    for model in ("linear", "network")
}


SMOKE = ("linear_imbalanced", "network_clean", "linear_heavy_noise")


def _settings(preset: str) -> dict[str, Setting]:
    everything = SETTINGS | HEAVY
    return {name: everything[name] for name in SMOKE} if preset == "smoke" else everything


def raised(is_hard: np.ndarray, factors: tuple[float, ...], name: str) -> dict[str, np.ndarray]:
    """Weights [S, N] by arm: a factor on the hard examples, one on the others."""
    arms = {f"{name} x {factor:g}": np.where(is_hard, factor, 1.0) for factor in factors}
    return {EQUAL if key.endswith(" x 1") else key: value for key, value in arms.items()}


def _compute_heavy(setting: Setting, num_seeds: int, num_steps: int) -> dict[str, np.ndarray]:
    sets = _sets(setting, num_seeds)
    arms = raised(sets.is_corrupted, _HEAVY, "noisy")
    run = curves.train(setting.model, sets, _stack(arms), num_steps=num_steps)
    end = jax.tree.map(lambda leaf: leaf[:, list(arms).index(EQUAL), -1], run.params)
    return curves.measure(setting.model, sets, run, end) | {"arms": np.array(list(arms))}


def _compute_linear(setting: Setting, num_seeds: int, num_steps: int) -> dict[str, np.ndarray]:
    sets = _sets(setting, num_seeds)
    solutions = [max_margin(x, y) for x, y in zip(sets.inputs, sets.signs, strict=True)]
    direction = np.stack([solution.direction for solution in solutions])
    dual = np.stack([solution.dual for solution in solutions])
    arms = {EQUAL: np.ones(sets.signs.shape)}
    if setting.hard == "small margin":
        margins = sets.signs * np.einsum("snd,sd->sn", sets.inputs, direction)
        arms[INVERSE] = _inverse(margins)
    else:
        arms |= raised(sets.signs < 0, _UP, "tail")
    matched = jax.vmap(lambda dual: kl_matched_weights(dual, 0.2, form="mixture"))
    arms[MATCHED] = np.asarray(matched(jnp.asarray(dual)))
    weights = _stack(arms)
    run = curves.train(setting.model, sets, weights, num_steps=num_steps)
    found = curves.measure(setting.model, sets, run, jnp.asarray(direction))
    params = np.asarray(run.params)[:, list(arms).index(EQUAL)]
    return found | {
        "arms": np.array(list(arms)),
        "largest_margin": np.stack([solution.margin for solution in solutions]),
        "pulls_more": pull.pulls_more(params, sets, weights, direction),
    }


def _compute_network(setting: Setting, num_seeds: int, num_steps: int) -> dict[str, np.ndarray]:
    sets = _sets(setting, num_seeds)
    equal = np.ones((num_seeds, 1, sets.signs.shape[1]))
    far_steps = max(num_steps // 2, 1)

    def run_far(weights: np.ndarray):
        run = curves.train(setting.model, sets, weights, num_steps=num_steps)
        return run, curves.far_end(setting.model, sets, weights, run, far_steps)

    if setting.hard == "small margin":
        first, ends = run_far(equal)
        end = jax.tree.map(lambda leaf: leaf[:, 0], ends)
        margins = sets.signs * np.asarray(jax.vmap(scores)(end, jnp.asarray(sets.inputs)))
        arms = {EQUAL: equal[:, 0], INVERSE: _inverse(margins)}
        second, others = run_far(_stack(arms)[:, 1:])
        run, own = (
            jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), *pair)
            for pair in ((first, second), (ends, others))
        )
    else:
        arms = {EQUAL: equal[:, 0]} | raised(sets.is_corrupted, _UP, "noisy")
        run, own = run_far(_stack(arms))
        end = jax.tree.map(lambda leaf: leaf[:, 0], own)
    found = curves.measure(setting.model, sets, run, end, own)
    return found | {"arms": np.array(list(arms))}


def _sets(setting: Setting, num_seeds: int) -> Sets:
    return simulate(
        setting.model,
        num_seeds,
        setting.counts,
        noise_rate=setting.noise_rate,
        num_irrelevant=setting.num_irrelevant,
    )


def _inverse(margins: np.ndarray) -> np.ndarray:
    return np.asarray(jax.vmap(inverse_margin_weights)(jnp.asarray(margins)))


def _stack(arms: Mapping[str, np.ndarray]) -> np.ndarray:
    """[S, A, N], of mean one."""
    weights = np.stack(list(arms.values()), axis=1)
    return weights / weights.mean(axis=2, keepdims=True)


def _compute(options: Options) -> None:
    num_seeds = options.seeds or SEEDS[options.preset]
    linear_steps, network_steps = STEPS[options.preset]
    for name, setting in tqdm(_settings(options.preset).items(), desc="figure 4", unit="setting"):
        path = options.folder / f"{name}.npz"
        if path.exists():
            continue
        num_steps = linear_steps if setting.model == "linear" else network_steps
        work: Callable[[Setting, int, int], dict[str, np.ndarray]] = _compute_heavy
        if name in SETTINGS:
            work = _compute_linear if setting.model == "linear" else _compute_network
        with jax.enable_x64(True):
            write_arrays(path, work(setting, num_seeds, num_steps))


def setting_statements(setting: Setting, found: Mapping[str, np.ndarray]) -> list[Statement]:
    """Whether arms are ahead of equal weights, and whether curves rise, on separated seeds."""
    step, arms = found["step"], found["arms"].tolist()
    done = curves.separated(found["normalized_margin"])  # [S, A]
    equal, statements = arms.index(EQUAL), []
    for a, arm in enumerate(arms):
        both = done[:, a] & done[:, equal]
        for measure, name in MEASURES.items():
            if arm == EQUAL or measure not in found:
                continue
            own, other = (found[measure][both][:, i] for i in (a, equal))
            source = "added here" if arm == MATCHED else setting.source
            text = f"{setting.title}: {arm} ahead of equal in {name}"
            over_time = curves.is_ahead(own, other, step)
            statements.append(Statement(f"{text}, over time", over_time, source))
            statements.append(Statement(f"{text}, at the end", own[:, -1] > other[:, -1], source))
        if "pulls_more" in found and arm != EQUAL:
            ahead = found["cosine"][:, a] > found["cosine"][:, equal]
            explained = pull.is_explained(ahead, found["pulls_more"][:, a], step)
            text = f"{setting.title}: {arm} leads in cosine (1,000 steps) just where it pulls more"
            statements.append(Statement(text, explained, "ablation"))
    everywhere = done.min(axis=1)
    for measure, name in MEASURES.items():
        if measure in found:
            holds = curves.never_falls(found[measure][everywhere]).min(axis=1)
            text = f"{setting.title}: {name} never falls, in any arm"
            statements.append(Statement(text, holds, setting.source))
    return statements


def _ahead_table(setting: Setting, arms: list[str], statements: list[Statement]) -> list[list[str]]:
    """A row for every arm: the seeds on which it is ahead of equal weights."""
    counts = {s.text: f"{int(s.holds.sum())}" for s in statements}
    sizes = {s.text: f"{len(s.holds)}" for s in statements}
    rows = []
    for arm in arms:
        leads = {m: f"{setting.title}: {arm} ahead of equal in {n}" for m, n in MEASURES.items()}
        if arm != EQUAL:
            cells = [
                f"{counts[f'{lead}, over time']}, {counts[f'{lead}, at the end']}"
                if f"{lead}, over time" in counts
                else ""
                for lead in leads.values()
            ]
            rows.append([setting.title, arm, *cells, sizes[f"{leads['cosine']}, over time"]])
    return rows


def heavy_statements(setting: Setting, found: Mapping[str, np.ndarray]) -> list[Statement]:
    """Whether decreasing the weights of wrong labels lowers the test error at the end."""
    arms = found["arms"].tolist()
    errors = {arm: found["test_error"][:, a, -1] for a, arm in enumerate(arms)}
    factors = {arm: 1.0 if arm == EQUAL else float(arm.split(" x ")[1]) for arm in arms}
    down = np.min([errors[arm] for arm in arms if factors[arm] < 1], axis=0)
    rest = np.min([errors[arm] for arm in arms if factors[arm] >= 1], axis=0)
    lead = f"{setting.title}: test error at the end"
    statements = [
        Statement(f"{lead} lowest with noisy down (or a tie)", down <= rest, setting.source)
    ]
    for arm in arms:
        if arm != EQUAL:
            lower = factors[arm] < 1
            holds = errors[arm] < errors[EQUAL] if lower else errors[arm] > errors[EQUAL]
            text = f"{lead} {'lower' if lower else 'higher'} with {arm} than equal"
            statements.append(Statement(text, holds, setting.source))
    return statements


def _present(folder: Path, preset: str) -> str:
    statements, others, figures = [], [], []
    rows: list[list] = [["setting", "arm", "seed", "step", *MEASURES, "test_error"]]
    ahead = [["setting", "arm", *MEASURES.values(), "seeds"]]
    header = ["setting", "arm", "1 - cosine", "1 - own cosine", "average margin"]
    ends = [[*header, "normalized margin", "test error %", "separated"]]
    for name, setting in _settings(preset).items():
        with np.load(folder / f"{name}.npz") as stored:
            found = {key: stored[key] for key in stored.files}
        if name in SETTINGS:
            own = setting_statements(setting, found)
            ahead += _ahead_table(setting, found["arms"].tolist(), own)
            others += [s for s in own if " ahead of " not in s.text]
        else:
            own = heavy_statements(setting, found)
            others += own
        statements += own
        rows += _rows(name, found)
        ends += _ends(setting, found)
        figures.append(folder / f"{name}.png")
        plotting.save(_figure(setting, found, heavy=name in HEAVY), figures[-1])
    write_csv(folder / "figure4.csv", rows)
    write_json(
        folder / "summary.json", {"preset": preset, "statements": statements_as_json(statements)}
    )
    title = (
        "Statement: the arm is ahead of equal weights. Seeds on which it is, on average over the\n"
        "logarithm of the steps from 10 on, and at the end; of the seeds that both separate:"
    )
    note = "Medians at the end, of the seeds that the arm and equal weights separate (or of all):"
    listed = "\n".join(f"  {path}" for path in figures)
    tables = f"{title}\n\n{align(ahead)}\n\n{statements_table(others)}\n\n{note}\n\n{align(ends)}"
    return f"{tables}\nFigures:\n{listed}"


def _rows(name: str, found: Mapping[str, np.ndarray]) -> list[list]:
    measures = [*MEASURES, "test_error"]
    rows = []
    for a, arm in enumerate(found["arms"].tolist()):
        for s in range(len(found["cosine"])):
            for t, step in enumerate(found["step"].tolist()):
                values = [found[m][s, a, t] if m in found else np.nan for m in measures]
                rows.append([name, arm, s, step, *(f"{value:.8g}" for value in values)])
    return rows


def _ends(setting: Setting, found: Mapping[str, np.ndarray]) -> list[list[str]]:
    """Medians at the last step, of the seeds that equal weights separate too, or of all if none."""
    done = curves.separated(found["normalized_margin"])
    arms = found["arms"].tolist()
    rows = []
    for a, arm in enumerate(arms):
        both = done[:, a] & done[:, arms.index(EQUAL)]
        chosen = both if both.any() else np.ones_like(both)
        last = {m: v[chosen, a, -1] for m, v in found.items() if v.ndim == 3}
        median = {m: float(np.median(v)) for m, v in last.items()}
        is_direction = both.any()
        own = 1 - median.get("own_cosine", np.nan)
        rows.append(
            [
                setting.title,
                arm,
                f"{1 - median['cosine']:.2g}" if is_direction else "",
                f"{own:.2g}" if np.isfinite(own) and is_direction else "",
                f"{median['average_margin']:.4f}",
                f"{median['normalized_margin']:.4f}",
                f"{100 * median['test_error']:.1f}",
                f"{done[:, a].sum()} of {len(done)}" + ("" if both.any() else " (all shown)"),
            ]
        )
    return rows


def _figure(setting: Setting, found: Mapping[str, np.ndarray], *, heavy: bool) -> Figure:
    """Panels of the measures; seeds that are not separated are left out of all but test errors."""
    done = curves.separated(found["normalized_margin"]).min(axis=1)
    if heavy:
        measures = {
            "test_error": "test error",
            "raw_average_margin": MEASURES["raw_average_margin"],
        }
        done = np.ones_like(done)
    else:
        measures = {m: name for m, name in MEASURES.items() if m in found}
    everyone = heavy or not done.any()
    done = done if done.any() else np.ones_like(done)
    panels, arms = [], found["arms"].tolist()
    for measure, name in measures.items():
        values, title, log_y = found[measure], name, False
        if measure in ("cosine", "own_cosine"):
            values, title, log_y = np.maximum(1 - values, _TINY), f"1 - {name}", True
        elif measure == "normalized_margin" and "largest_margin" in found:
            shortfall = found["largest_margin"][:, None, None] - values
            values, title, log_y = np.maximum(shortfall, _TINY), f"largest - {name}", True
        values = np.where(done[:, None, None], values, np.nan)
        by_arm = {arm: values[:, arms.index(arm)] for arm in dict.fromkeys([EQUAL, *arms])}
        panels.append(Panel(title, "", found["step"], by_arm, log_y))
    seeds = (
        f"all {len(done)} seeds" if everyone else f"the {done.sum()} of {len(done)} seeds separated"
    )
    columns = 2 if heavy else 3 if len(panels) > 4 else 4
    return bands(panels, title=f"{setting.title} ({seeds})", num_columns=columns)


ITEMS = {
    "Figure 4": "do higher weights on hard examples speed up the way to the max margin?",
}
_PULL = (
    "not which examples are raised decides, but whether the weights make the gradient point more "
    "to the max-margin direction (ablation in table.txt); on many data sets they do not"
)
_CAUSES = {
    "never falls": (
        "the cosine overshoots and the normalized margin falls while the starting point is "
        "forgotten"
    ),
    "inverse margin": _PULL,
    "noisy x": (
        "perhaps: wrong labels pull the direction away from the margin of the others as long as "
        "they are not yet fitted; only a factor of two helps at times"
    ),
    "tail x": _PULL,
}

EXPERIMENT = Experiment(
    name="zhou2022.figure4",
    summary="do higher weights on hard examples speed up the way to the max margin?",
    presets={
        "smoke": "2 seeds, 300 steps, three of the six settings; half a minute",
        "cpu": "40 seeds, 10,000 steps (linear) and 20,000 (network); two or three minutes",
        "paper": "100 seeds, ten times the steps; an hour",
    },
    compute=_compute,
    present=_present,
    items=ITEMS,
    entries=stored_statements("zhou2022", ITEMS),
    causes=_CAUSES,
)
