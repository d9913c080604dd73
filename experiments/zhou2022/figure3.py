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
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jax import Array
from matplotlib.figure import Figure

from experiments.data import Dataset, load
from experiments.networks.models import mlp
from experiments.reporting.claims import Claim, answers
from experiments.reporting.experiment import Experiment, Options
from experiments.reporting.page import Page, Picture, Table
from experiments.reporting.plotting import titled_figure
from experiments.tools.parts import compute_parts, read_numbered_parts
from experiments.training.fitting import last, make_fit, make_predict
from experiments.zhou2022.claims import added_claim
from weighting import losses
from weighting.metrics import margins

Labelled = tuple[Array, Array]
_BOUND = 1.96
_SCALES = ("logits", "probabilities")
_SOURCES = ("training sets alone", "and initial parameters")
_GAUSSIAN = "Gaussian draws"
_SEEDS = {"smoke": 2, "cpu": 10, "paper": 30}
_NETWORKS = {"smoke": 30, "cpu": 60, "paper": 300}
_STEPS = {"smoke": 50, "cpu": 300, "paper": 1000}
_SHARE, _HELD_OUT, _MOST_IMAGES = 0.8, 600, 3000
_BATCH, _RATE = 32, 0.1
_ITEM = "Figure 3"


def _name(source: str, scale: str) -> str:
    return f"{scale}, {source}"


_KEYS = {  # of the stored margins, by name
    _name(source, scale): f"{source}/{scale}" for source in _SOURCES for scale in _SCALES
}
_SHOWN = _name(_SOURCES[0], "logits")


def gaussian_claims(names: Iterable[str]) -> list[Claim]:
    """The paper's claim about the margins, and whether Gaussian draws do as well.

    Asked of the shares of images [S] with a Z-score beyond the bounds, by name of the margins.
    """
    claims = []
    for name in names:
        claims += [_is_within_bounds(name), _is_like_gaussian_draws(name)]
    control = _is_within_bounds(_GAUSSIAN)
    return [*claims, control._replace(place="", cause="", is_control=True)]


def _is_within_bounds(name: str) -> Claim:
    return Claim(
        f"{name}: both Z-scores of every image within 1.96",
        _ITEM,
        "Fig. 3",
        lambda shares: shares[name] == 0,
        cause="a test at 5 % rejects one true hypothesis in twenty: with as many images, draws "
        "from a Gaussian fail, too (control)",
    )


def _is_like_gaussian_draws(name: str) -> Claim:
    return added_claim(
        f"{name}: at most twice the Gaussian draws' share outside",
        _ITEM,
        lambda shares: shares[name] <= 2 * shares[_GAUSSIAN],
    )


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
    outside = {name: np.abs(z) > _BOUND for name, z in scores.items()}
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
    count, size = _NETWORKS[preset], len(rest)
    kept = np.argsort(rng.random((count, size)), axis=1) < _SHARE * size
    sets = [(jnp.asarray(data.inputs[i]), jnp.asarray(data.labels[i])) for i in (rest, held)]
    train = _trainer(_STEPS[preset], data.num_classes)
    keys = jax.random.split(jax.random.key(seed), count)
    same = keys[jnp.zeros(count, int)]
    found: dict[str, np.ndarray] = {"index": held, "label": data.labels[held]}
    for source, own_keys in zip(_SOURCES, (same, keys), strict=True):
        values = train(own_keys, jnp.asarray(kept, jnp.float32), *sets)
        found |= {f"{source}/{s}": np.asarray(v) for s, v in zip(_SCALES, values, strict=True)}
    return found


def _present(folder: Path, preset: str) -> Page:
    stored = read_numbered_parts(folder, "seed")
    drawn = [
        {name: found[key].astype(np.float64) for name, key in _KEYS.items()} for found in stored
    ]
    scores = [{name: z_scores(values) for name, values in own.items()} for own in drawn]
    shares = {name: [shares_outside(own[name]) for own in scores] for name in _KEYS}
    shape = drawn[0][_SHOWN].shape
    shares[_GAUSSIAN] = [
        shares_outside(z_scores(np.random.default_rng(seed).standard_normal(shape)))
        for seed in range(len(drawn))
    ]
    means = {
        name: {test: float(np.mean([share[test] for share in of_seeds])) for test in of_seeds[0]}
        for name, of_seeds in shares.items()
    }
    either = {
        name: np.array([share["either"] for share in of_seeds]) for name, of_seeds in shares.items()
    }
    return Page(
        tables=[_share_table(means, _NETWORKS[preset], len(drawn))],
        claims=answers(gaussian_claims(_KEYS), either),
        figures=[
            Picture("margins", _histograms(drawn[0][_SHOWN])),
            Picture("z_scores", _score_histograms(drawn[0])),
        ],
        notes=["The figures show seed 0."],
        files={"figure3.csv": _rows(stored, drawn, scores)},
        summary={"preset": preset, "outside": means},
    )


def _share_table(
    means: Mapping[str, Mapping[str, float]], num_networks: int, num_seeds: int
) -> Table:
    return Table(
        ["% outside +-1.96", *means[_GAUSSIAN]],
        [[name, *(f"{100 * x:.1f}" for x in share.values())] for name, share in means.items()],
        note=f"{num_networks} networks, {_HELD_OUT} held-out digits, {num_seeds} seeds. Skewness "
        "and kurtosis: over their\nstandard errors; either: one of these two; skewtest and "
        "kurtosistest: SciPy's.",
    )


def _rows(
    stored: Sequence[Mapping[str, np.ndarray]],
    drawn: Sequence[Mapping[str, np.ndarray]],
    scores: Sequence[Mapping[str, Mapping[str, np.ndarray]]],
) -> list[list]:
    """A row for every seed, kind of margin and image: moments of the margin, and Z-scores."""
    tests = list(scores[0][_SHOWN])
    rows: list[list] = [["seed", "source", "scale", "index", "label", "mean", "deviation", *tests]]
    for seed, found in enumerate(stored):
        for source, scale in itertools.product(_SOURCES, _SCALES):
            name = _name(source, scale)
            values = drawn[seed][name]
            numbers = (values.mean(0), values.std(0, ddof=1), *scores[seed][name].values())
            for index, label, *row in zip(found["index"], found["label"], *numbers, strict=True):
                rows.append([seed, source, scale, index, label, *(f"{x:.6g}" for x in row)])
    return rows


def _histograms(values: np.ndarray, count: int = 8) -> Figure:
    """Margins of some images, from the hardest to the easiest, with Gaussians of their moments."""
    chosen = np.argsort(values.mean(axis=0))[np.linspace(0, values.shape[1] - 1, count).astype(int)]
    scores = z_scores(values)
    title = "Margins of held-out digits over networks, hardest to easiest, and Gaussian densities"
    figure = titled_figure(title, 11.5, 5.2)
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
    title = "Z-scores of all held-out digits, cut off at 8; dashed: 1.96; line: standard normal"
    figure = titled_figure(title, 11.5, 5.2)
    panels = figure.subplots(2, len(drawn), sharex=True, squeeze=False)
    points = np.linspace(-8, 8, 200)
    for (name, values), column in zip(drawn.items(), panels.T, strict=True):
        scores = z_scores(values)
        for ax, test in zip(column, ("skewness", "kurtosis"), strict=True):
            shown = np.clip(scores[test], -8, 8)
            ax.hist(shown, bins=np.linspace(-8, 8, 33), density=True, color="#9CC5E0")
            ax.plot(points, scipy.stats.norm.pdf(points), color="#333333", lw=1.5)
            for bound in (-_BOUND, _BOUND):
                ax.axvline(bound, color="#CC0000", lw=1, ls="--")
            ax.set_title(name.replace(", ", ",\n") if test == "skewness" else "", fontsize=9)
            ax.set_xlabel(f"Z of {test}")
            ax.set_yticks([])
            ax.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _experiment(name: str, dataset: str, summary: str, presets: dict[str, str]) -> Experiment:
    def compute(options: Options) -> None:
        source = "digits" if options.preset == "smoke" else dataset
        data = load(source, data_dir=options.data_dir).train
        parts = {
            f"seed{seed}": functools.partial(_held_out_margins, data, options.preset, seed)
            for seed in range(options.seeds or _SEEDS[options.preset])
        }
        compute_parts(options.folder, parts, name)

    return Experiment(
        name=name,
        summary=summary,
        presets=presets,
        compute=compute,
        present=_present,
        items={_ITEM: "margins of single examples over random training sets: are they Gaussian?"},
    )


EXPERIMENT = _experiment(
    "zhou2022.figure3",
    "digits",
    "are margins over networks trained on random sets Gaussian?",
    {
        "smoke": "30 networks of 50 steps, 2 seeds; some seconds",
        "cpu": "60 networks of 300 steps, 10 seeds; a minute or two",
        "paper": "300 networks of 1,000 steps, 30 seeds; a GPU or an hour",
    },
)
MNIST = _experiment(
    "zhou2022.figure3.mnist",
    "mnist",
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
