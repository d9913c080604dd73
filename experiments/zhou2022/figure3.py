r"""Figure 3: are the margins of one example, over networks trained on random sets, Gaussian?

The paper finds skewness and kurtosis of every example with Z-scores in [-1.96, 1.96]. It prints no
formula; the bounds are those of statistics over their standard errors, for N networks

.. math:: Z_s = G_1 / SE_s, \quad SE_s = \sqrt{\tfrac{6N(N-1)}{(N-2)(N+1)(N+3)}}, \qquad
          Z_k = G_2 / SE_k, \quad SE_k = 2\,SE_s \sqrt{\tfrac{N^2-1}{(N-3)(N+5)}}

with the bias-corrected skewness G_1 and excess kurtosis G_2. The tests of D'Agostino and of
Anscombe and Glynn, `scipy.stats.skewtest` and `kurtosistest`, are nearer to normal and stand beside
them. Even Gaussian margins leave about 5 % of the scores of one test outside; the row "Gaussian
draws" measures it.

Data: scikit-learn's digits, or 3,000 images of MNIST drawn anew for every seed. A seed holds out
600 images; each network is trained on a random 80 % of the rest, so every network counts for every
held-out image. The margin is the
logit of the true class less the largest other, or the same of probabilities. Networks of a seed
share initial parameters ("training sets alone") or do not.
"""

import functools
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jax import Array
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from experiments.data import Dataset, load
from experiments.networks.models import mlp
from experiments.reporting import plotting
from experiments.reporting.experiment import Experiment, Options
from experiments.reporting.ledger import stored_statements
from experiments.reporting.statements import Statement, statements_as_json, statements_table
from experiments.tools.files import write_arrays, write_csv, write_json
from experiments.tools.tables import align
from experiments.training.fitting import last, make_fit, make_predict
from weighting import losses
from weighting.metrics import margins

Labelled = tuple[Array, Array]
BOUND = 1.96
SCALES = ("logits", "probabilities")
SOURCES = ("training sets alone", "and initial parameters")
SEEDS = {"smoke": 2, "cpu": 10, "paper": 30}
NETWORKS = {"smoke": 30, "cpu": 60, "paper": 300}
STEPS = {"smoke": 50, "cpu": 300, "paper": 1000}
SOURCE = "zhou2022, Fig. 3"
DATASETS = {"zhou2022.figure3": "digits", "zhou2022.figure3.mnist": "mnist"}
_SHARE, _HELD_OUT, _MOST_IMAGES = 0.8, 600, 3000
_BATCH, _RATE = 32, 0.1


def z_scores(values: np.ndarray) -> dict[str, np.ndarray]:
    """Z-scores of skewness and excess kurtosis of values [R, N] over R networks; each [N]."""
    n = len(values)
    skew_error = np.sqrt(6 * n * (n - 1) / ((n - 2) * (n + 1) * (n + 3)))
    kurtosis_error = 2 * skew_error * np.sqrt((n**2 - 1) / ((n - 3) * (n + 5)))
    skew = scipy.stats.skew(values, axis=0, bias=False)
    kurtosis = scipy.stats.kurtosis(values, axis=0, bias=False)
    return {
        "skewness": skew / skew_error,
        "kurtosis": kurtosis / kurtosis_error,
        "skewtest": scipy.stats.skewtest(values, axis=0).statistic,
        "kurtosistest": scipy.stats.kurtosistest(values, axis=0).statistic,
    }


def shares_outside(scores: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Share of examples with a score beyond the bounds, by test, and by either of the first two."""
    outside = {name: np.abs(z) > BOUND for name, z in scores.items()}
    shares = {name: float(found.mean()) for name, found in outside.items()}
    return shares | {"either": float((outside["skewness"] | outside["kurtosis"]).mean())}


@functools.cache  # compiled once for all seeds
def _trainer(num_steps: int, num_classes: int):
    """(keys [R], masks [R, P], (inputs, labels) of the pool, of the held-out) -> margins [R, N]."""
    model = mlp(num_classes, hidden=(32,))
    fit = make_fit(
        model,
        losses.cross_entropy,
        num_steps=num_steps,
        batch_size=_BATCH,
        learning_rate=_RATE,
    )
    predict = make_predict(model)

    @jax.jit
    def train(keys: Array, masks: Array, pool: Labelled, held: Labelled) -> tuple[Array, Array]:
        networks = jax.vmap(lambda key, mask: last(fit(key, *pool, mask)))(keys, masks)
        logits = jax.vmap(predict, (0, None))(networks, held[0])
        of_label = jax.vmap(margins, (0, None))
        return of_label(logits, held[1]), of_label(jax.nn.softmax(logits), held[1])

    return train


def _held_out_margins(data: Dataset, preset: str, seed: int) -> dict[str, np.ndarray]:
    """Margins [R, N] of held-out images by source and scale, and their labels and positions."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(data.labels))[:_MOST_IMAGES]
    held, rest = order[:_HELD_OUT], order[_HELD_OUT:]
    count, size = NETWORKS[preset], len(rest)
    kept = np.argsort(rng.random((count, size)), axis=1) < _SHARE * size
    sets = [(jnp.asarray(data.inputs[i]), jnp.asarray(data.labels[i])) for i in (rest, held)]
    train = _trainer(STEPS[preset], data.num_classes)
    keys = jax.random.split(jax.random.key(seed), count)
    same = keys[jnp.zeros(count, int)]
    found: dict[str, np.ndarray] = {"index": held, "label": data.labels[held]}
    for source, own_keys in zip(SOURCES, (same, keys), strict=True):
        values = train(own_keys, jnp.asarray(kept, jnp.float32), *sets)
        found |= {f"{source}/{s}": np.asarray(v) for s, v in zip(SCALES, values, strict=True)}
    return found


def _compute(name: str, options: Options) -> None:
    num_seeds = options.seeds or SEEDS[options.preset]
    dataset = "digits" if options.preset == "smoke" else DATASETS[name]
    data = load(dataset, data_dir=options.data_dir).train
    for seed in tqdm(range(num_seeds), desc="figure 3", unit="seed"):
        path = options.folder / f"seed{seed}.npz"
        if not path.exists():
            write_arrays(path, _held_out_margins(data, options.preset, seed))


def statements_of(shares: Mapping[str, list[dict[str, float]]]) -> list[Statement]:
    """The paper's claim, and whether the shares are those of Gaussian draws; one share a seed."""
    control = np.array([share["either"] for share in shares["Gaussian draws"]])
    statements = []
    for name, of_seeds in shares.items():
        either = np.array([share["either"] for share in of_seeds])
        is_control = name == "Gaussian draws"
        text = f"{name}: both Z-scores of every image within 1.96"
        statements.append(Statement(text, either == 0, "control" if is_control else SOURCE))
        if not is_control:
            text = f"{name}: at most twice the Gaussian draws' share outside"
            statements.append(Statement(text, either <= 2 * control, "added here"))
    return statements


def _present(folder: Path, preset: str) -> str:
    shares: dict[str, list[dict[str, float]]] = {}
    rows: list[list] = [["seed", "source", "scale", "index", "label", "mean", "deviation"]]
    paths = sorted(folder.glob("seed*.npz"), key=lambda path: int(path.stem[4:]))
    drawn: dict[str, np.ndarray] = {}
    for seed, path in enumerate(paths):
        with np.load(path) as stored:
            found = {key: stored[key] for key in stored.files}
        for source in SOURCES:
            for scale in SCALES:
                values = found[f"{source}/{scale}"].astype(np.float64)
                scores = z_scores(values)
                shares.setdefault(f"{scale}, {source}", []).append(shares_outside(scores))
                if seed == 0:
                    drawn[f"{scale}, {source}"] = values
                    rows[0] = [*rows[0][:7], *scores]
                columns = [found["index"], found["label"], values.mean(0), values.std(0, ddof=1)]
                for row in zip(*columns, *scores.values(), strict=True):
                    rows.append([seed, source, scale, *row[:2], *(f"{x:.6g}" for x in row[2:])])
        normal = np.random.default_rng(seed).standard_normal(values.shape)
        shares.setdefault("Gaussian draws", []).append(shares_outside(z_scores(normal)))
    write_csv(folder / "figure3.csv", rows)
    statements = statements_of(shares)
    means = {
        name: {test: float(np.mean([s[test] for s in of_seeds])) for test in of_seeds[0]}
        for name, of_seeds in shares.items()
    }
    summary = {"preset": preset, "statements": statements_as_json(statements), "outside": means}
    write_json(folder / "summary.json", summary)
    plotting.save(_histograms(drawn[f"logits, {SOURCES[0]}"]), folder / "margins.png")
    plotting.save(_score_histograms(drawn), folder / "z_scores.png")
    header = ["% outside +-1.96", *next(iter(means.values()))]
    body = [[name, *(f"{100 * x:.1f}" for x in share.values())] for name, share in means.items()]
    note = (
        f"{NETWORKS[preset]} networks, {_HELD_OUT} held-out digits, {len(paths)} seeds. Skewness "
        "and kurtosis: over their\nstandard errors; either: one of these two; skewtest and "
        "kurtosistest: SciPy's."
    )
    figures = f"Figures (seed 0):\n  {folder}/margins.png\n  {folder}/z_scores.png"
    return f"{statements_table(statements)}\n\n{align([header, *body])}\n{note}\n{figures}"


def _histograms(values: np.ndarray, count: int = 8) -> Figure:
    """Margins of some images, from the hardest to the easiest, with Gaussians of their moments."""
    chosen = np.argsort(values.mean(axis=0))[np.linspace(0, values.shape[1] - 1, count).astype(int)]
    scores = z_scores(values)
    figure = Figure(figsize=(11.5, 5.2), layout="constrained")
    title = "Margins of held-out digits over networks, hardest to easiest, and Gaussian densities"
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    for ax, i in zip(figure.subplots(2, count // 2).ravel(), chosen, strict=True):
        own = values[:, i]
        ax.hist(own, bins=10, density=True, color="#9CC5E0")
        points = np.linspace(own.min(), own.max(), 200)
        density = scipy.stats.norm.pdf(points, own.mean(), own.std(ddof=1))
        ax.plot(points, density, color="#333333", lw=1.5)
        z = f"Z: skewness {scores['skewness'][i]:.1f}, kurtosis {scores['kurtosis'][i]:.1f}"
        ax.set_title(z, fontsize=9)
        ax.set_yticks([])
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.set_xlabel("margin")
    return figure


def _score_histograms(drawn: Mapping[str, np.ndarray]) -> Figure:
    """Z-scores of all images against the standard normal density; scores beyond 8 at 8."""
    figure = Figure(figsize=(11.5, 5.2), layout="constrained")
    title = "Z-scores of all held-out digits, cut off at 8; dashed: 1.96; line: standard normal"
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=11)
    panels = figure.subplots(2, len(drawn), sharex=True, squeeze=False)
    points = np.linspace(-8, 8, 200)
    for (name, values), column in zip(drawn.items(), panels.T, strict=True):
        scores = z_scores(values)
        for ax, test in zip(column, ("skewness", "kurtosis"), strict=True):
            shown = np.clip(scores[test], -8, 8)
            ax.hist(shown, bins=np.linspace(-8, 8, 33), density=True, color="#9CC5E0")
            ax.plot(points, scipy.stats.norm.pdf(points), color="#333333", lw=1.5)
            for bound in (-BOUND, BOUND):
                ax.axvline(bound, color="#CC0000", lw=1, ls="--")
            ax.set_title(name.replace(", ", ",\n") if test == "skewness" else "", fontsize=9)
            ax.set_xlabel(f"Z of {test}")
            ax.set_yticks([])
            ax.spines[["top", "right", "left"]].set_visible(False)
    return figure


ITEMS = {
    "Figure 3": "margins of single examples over random training sets: are they Gaussian?",
}
_CAUSES = {
    "Z-scores": (
        "a test at 5 % rejects one true hypothesis in twenty: with as many images, draws from a "
        "Gaussian fail, too (control)"
    ),
}


def _experiment(name: str, summary: str, presets: dict[str, str]) -> Experiment:
    return Experiment(
        name=name,
        summary=summary,
        presets=presets,
        compute=lambda options: _compute(name, options),
        present=_present,
        items=ITEMS,
        entries=stored_statements("zhou2022", ITEMS),
        causes=_CAUSES,
    )


EXPERIMENT = _experiment(
    "zhou2022.figure3",
    "are margins over networks trained on random sets Gaussian?",
    {
        "smoke": "30 networks of 50 steps, 2 seeds; some seconds",
        "cpu": "60 networks of 300 steps, 10 seeds; a minute or two",
        "paper": "300 networks of 1,000 steps, 30 seeds; a GPU or an hour",
    },
)
MNIST = _experiment(
    "zhou2022.figure3.mnist",
    "the same with images of MNIST",
    {
        "smoke": "scikit-learn's digits, 30 networks of 50 steps, 2 seeds; some seconds",
        "cpu": (
            "3,000 images, networks with 32 hidden units (the paper: CIFAR-10, ResNet-32), 60 of "
            "300 steps, 10 seeds; some minutes"
        ),
        "paper": "300 networks with 32 hidden units of 1,000 steps, 30 seeds; a GPU or hours",
    },
)
