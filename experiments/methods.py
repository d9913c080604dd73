"""Every method in one line: what it is called, where it comes from, what it needs."""

from collections.abc import Iterable
from typing import NamedTuple

from experiments.results import align


class Method(NamedTuple):
    """A line of the registry."""

    name: str  # on the command line, where it has one there
    kind: str  # scheme, part, loss, sampler, procedure, weights or difficulty
    family: str
    function: str  # in `weighting`, unless it starts with `experiments.`
    source: str
    needs: str  # what it reads, separated by commas; "clean" is a clean batch, "history" its own
    scale: str  # of its weights
    summary: str


KINDS = {
    "scheme": "weighting schemes: per-batch weights in the training step",
    "part": "parts to chain behind a scheme",
    "loss": "losses: their gradients weight examples by themselves",
    "sampler": "samplers: which examples are drawn",
    "procedure": "procedures: how training runs as a whole",
    "weights": "weights of a whole training set, computed once: arrays in, arrays out",
    "difficulty": "difficulty measures: one number per example, larger is harder",
}

_TABLE = """
uniform | scheme | none | uniform | all four papers | - | mean one | equal weights: empirical risk minimization (ERM)
proportion | scheme | class | inverse_class_frequency | ren2018 4.1, santiago2021 (bCE) | labels, counts | mean one over the set | inverse class frequency
random | scheme | random | random | ren2018 Eq. 16 | - | mean one | rectified Gaussian, fresh every step
focal | scheme | loss | focal | Lin 2017 Eq. 4 | logits, labels | mean one | (1 - p)^gamma, constant in the backward pass
self_paced | scheme | loss | self_paced | Kumar 2010 | losses | mean one | keeps losses below a threshold that grows every epoch
hard_mining | scheme | loss | hard_mining | ren2018 4.1 | losses, labels | mean one | the minority, and as many of the majority's highest losses
top_losses | scheme | loss | top_losses | Shrivastava 2016 | losses | mean one | keeps a fraction of the batch with the highest losses
low | scheme | gradient | low | santiago2021 Eq. 9 | logits, labels | mean one | LOW: the weights that decrease the loss most
low_osqp | scheme | gradient | low | santiago2021 Eq. 9 | logits, labels | mean one | LOW by jaxopt's OSQP
low_last_layer | scheme | gradient | low | santiago2021 Eq. 8 | logits, labels, features | mean one | LOW with gradients of the last layer
low_parameters | scheme | gradient | low | santiago2021 Eq. 8 | jacobian | mean one | LOW with gradients of all parameters
low_batch_mean | scheme | gradient | low | santiago2021, released code | logits, labels | mean one | LOW with the released code's scale of the gradients
lookahead | scheme | meta | lookahead_reweight | ren2018 Alg. 1 | jacobian, clean | mean one | one lookahead step on a clean batch, fast form
lookahead_kept | scheme | meta | lookahead_reweight | ren2018 Alg. 1 | jacobian, clean | mean one | approximation: the clean gradient is kept for some steps
lookahead_last_layer | scheme | meta | lookahead_reweight | ren2018 Alg. 1 | jacobian, clean | mean one | approximation: the last layer's gradients alone
lookahead_unrolled | scheme | meta | lookahead_reweight | ren2018 Alg. 1 | losses at other parameters, clean | mean one | differentiates through virtual SGD steps
normalize | part | - | normalize_mean | - | - | mean one | scales to mean one
clip | part | - | clip | xu2021 Sec. 2, zhou2022 Thm. 1 | - | bounded | bounds the weights
temper | part | - | temper | - | - | mean one | raises weights to a power
mix | part | - | mix_with_uniform | - | - | unchanged | mixes with uniform weights
ema | part | - | ema | - | history | unchanged | averages each example's weight over time
warm_up | part | - | warm_up | - | - | unchanged | uniform at first, the scheme after some steps
cross_entropy | loss | basic | losses.cross_entropy | all four papers | logits, labels | - | softmax cross-entropy
focal | loss | basic | losses.focal | Lin 2017 | logits, labels | - | focal loss, differentiated through its factor
logistic | loss | basic | losses.logistic | xu2021 Sec. 2 | score, labels | - | logistic loss of the margin
exponential | loss | basic | losses.exponential | xu2021 Sec. 2 | score, labels | - | exponential loss of the margin
"""


def _read(table: str) -> tuple[Method, ...]:
    return tuple(
        Method(*(cell.strip() for cell in line.split(" | "))) for line in table.strip().splitlines()
    )


METHODS = _read(_TABLE)


def find(name: str, kinds: Iterable[str]) -> Method:
    """The line of that name and kind."""
    return next(m for m in METHODS if m.name == name and m.kind in kinds)


def as_text() -> str:
    """The registry for a terminal."""
    header = ["method", "family", "source", "needs", "scale", "what it does"]
    tables = []
    for kind, title in KINDS.items():
        rows = [[m.name, m.family, m.source, m.needs, m.scale, m.summary] for m in _of_kind(kind)]
        if rows:
            tables.append(f"{title}\n\n{align([header, *rows], numbers=False)}")
    return "\n\n".join(tables)


def as_markdown() -> str:
    """The registry as a page of the documentation."""
    lines = [
        "# Methods",
        "",
        "Written by `python -m experiments methods --markdown`, from `experiments/methods.py`.",
        "`function` is a name in `weighting`; `method` is its name on the command line, if it has",
        "one there (`python -m experiments list` shows the values it takes). Needs: *clean* is a",
        "small trusted batch, *jacobian* the linearized losses, *counts* the class counts,",
        "*history* per-example state kept by data-set index, *table* an array [N] given beforehand.",
    ]
    for kind, title in KINDS.items():
        rows = _of_kind(kind)
        if not rows:
            continue
        header = ["method", "function", "family", "source", "needs", "scale", "what it does"]
        lines += ["", f"## {title[0].upper()}{title[1:]}", ""]
        lines += [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
        lines += [
            f"| {m.name} | `{m.function}` | {m.family} | {m.source} | {m.needs} | {m.scale} "
            f"| {m.summary} |"
            for m in rows
        ]
    return "\n".join(lines) + "\n"


def _of_kind(kind: str) -> list[Method]:
    return [method for method in METHODS if method.kind == kind]
