"""Losses of one example as their papers print them: logits [C] (or one score) and a label."""

from decimal import Decimal
from functools import partial

from tests.oracles.formulas.differences import exact, exp, jacobian, log, softmax
from tests.oracles.formulas.table import row, table

THREE = [1.5, -0.5, 0.25]
WRONG = [-2.0, 3.5, 1.0]
SURE = [9.0, -4.0, 2.0]
EQUAL = [0.75, 0.75, 0.75]
OTHER = [0.5, 2.0, -1.25]
SCORES = [(1.25, 1), (1.25, 0), (-3.0, 1), (0.0, 0), (20.0, 1), (20.0, 0)]
LOGITS = [(THREE, 0), (THREE, 1), (WRONG, 0), (SURE, 0), (SURE, 1), (EQUAL, 2), (OTHER, 2)]
SOFTMAX = "a log-sum-exp minus a logit, or probabilities: a few roundings of numbers of order one"


def cross_entropy(z, y):
    return -log(softmax(z)[y])


def logistic(u):
    return log(1 + exp(-u))


def log_probability(z, y):
    """log p_y from several logits, or from the score of class 1 against class 0."""
    return log(softmax(z)[y]) if getattr(z, "ndim", 0) else -logistic((2 * y - 1) * z)


def focal(z, y, gamma=2.0, alpha=1.0):
    p = exp(log_probability(z, y))
    scale = exact(alpha)[y] if isinstance(alpha, list) else Decimal(alpha)
    return -scale * (1 - p) ** Decimal(gamma) * log(p)


def generalized_cross_entropy(z, y, q=0.7):
    if q == 0:
        return -log_probability(z, y)
    return (1 - exp(log_probability(z, y)) ** Decimal(q)) / Decimal(q)


def bootstrap_soft(z, y, beta=0.95, target=None, constant=None):
    """`constant` are the logits that make the network's part of the target, None for z itself."""
    q = softmax(z)
    predicted = q if target != "constant" else softmax(constant)
    is_label = exact([float(c == y) for c in range(len(z))])
    mixed = Decimal(beta) * is_label + (1 - Decimal(beta)) * predicted
    return -(mixed * log(q)).sum()


def bootstrap_hard(z, y, beta=0.8):
    q = softmax(z)
    return -Decimal(beta) * log(q[y]) - (1 - Decimal(beta)) * log(max(q))


def forward_corrected(z, y, transition):
    return -log((softmax(z) * exact(transition)[:, y]).sum())


def logit_adjusted(z, y, class_counts, tau=1.0):
    counts = exact(class_counts)
    return cross_entropy(z + Decimal(tau) * log(counts / counts.sum()), y)


def ldam(z, y, class_counts, max_margin=0.5, scale=1.0):
    """Margins C / n^(1/4), with the C that gives the rarest class max_margin."""
    counts = exact(class_counts)
    margins = counts ** Decimal("-0.25")
    z = z.copy()
    z[y] -= Decimal(max_margin) / max(margins) * margins[y]
    return cross_entropy(Decimal(scale) * z, y)


def smoothed(z, y, smoothing=0.1):
    s, num_classes = Decimal(smoothing), len(z)
    target = [(1 - s) * (c == y) + s / num_classes for c in range(num_classes)]
    return -(target * log(softmax(z))).sum()


def polynomial_tailed(z, y, alpha=2.0, beta=1.0, smooth=True):
    alpha, beta = Decimal(alpha), Decimal(beta)
    if getattr(z, "ndim", 0):
        others = sum(exp(z[c]) for c in range(len(z)) if c != y)
        u = z[y] - log(others)
    else:
        u = (2 * y - 1) * z
    if u >= beta:
        return 1 / (1 + u - beta) ** alpha
    if smooth:
        return log(1 + 4 ** (alpha * (beta - u))) / log(Decimal(2))
    return logistic(u) / logistic(beta)


def tables():
    """Every loss's table by its file name."""
    return {**_plain(), **_robust(), **_corrected(), **_by_class_counts()}


def _plain():
    scores = [(score, label, {}) for score, label in SCORES]
    relative = "an exp, or softplus of the margin: relative to the value, however small"
    return {
        "cross_entropy": _table(
            "cross_entropy",
            cross_entropy,
            "log sum_c exp(z_c) - z_y, the negative log-likelihood of a softmax",
            [(*pair, {}) for pair in LOGITS],
        ),
        "logistic": _table(
            "logistic",
            lambda z, y: logistic((2 * y - 1) * z),
            "log(1 + exp(-u)), u = y f(x) with y in {-1, 1}: xu2021 (arXiv:2103.15209), Sec. 2",
            scores,
            tolerance=(6, relative, 0),
        ),
        "exponential": _table(
            "exponential",
            lambda z, y: exp(-(2 * y - 1) * z),
            "exp(-u), u = y f(x) with y in {-1, 1}: xu2021 (arXiv:2103.15209), Sec. 2",
            scores,
            tolerance=(4, relative, 0),
        ),
        "focal": _table(
            "focal",
            focal,
            "Lin et al. 2017 (arXiv:1708.02002), Eqs. (4), (5): -alpha_y (1 - p_y)^gamma log p_y",
            [
                *((*pair, {}) for pair in LOGITS[:5]),
                (THREE, 1, {"gamma": 0.5, "alpha": 0.25}),
                (THREE, 2, {"gamma": 3.0, "alpha": [1.0, 2.0, 0.5]}),
                (OTHER, 2, {"gamma": 0.0}),
                (1.25, 1, {"gamma": 1.5}),
                (-3.0, 1, {"gamma": 1.5}),
            ],
        ),
    }


def _robust():
    beta = [(*pair, {}) for pair in LOGITS] + [(WRONG, 0, {"beta": b}) for b in (0.0, 0.5, 1.0)]
    reed = "Reed et al. 2015 (arXiv:1412.6596): "
    held = {"target": "constant"}
    return {
        "generalized_cross_entropy": _table(
            "generalized_cross_entropy",
            generalized_cross_entropy,
            "Zhang and Sabuncu 2018 (arXiv:1805.07836), Eq. (6): (1 - p_y^q) / q",
            [
                *((*pair, {}) for pair in LOGITS),
                *((WRONG, 0, {"q": q}) for q in (0.0, 0.125, 1.0)),
                (-3.0, 1, {"q": 0.5}),
            ],
        ),
        "bootstrap_soft": _table(
            "bootstrap_soft",
            bootstrap_soft,
            reed + "soft, -sum_c (beta y_c + (1 - beta) q_c) log q_c",
            beta,
        ),
        "bootstrap_soft_constant": _table(
            "bootstrap_soft",
            bootstrap_soft,
            reed + "soft; the prediction in the target held constant, as TensorFlow 1's "
            "softmax_cross_entropy_with_logits does in the code of ren2018",
            [(z, y, held | arguments) for z, y, arguments in beta],
            held=True,
        ),
        "bootstrap_hard": _table(
            "bootstrap_hard",
            bootstrap_hard,
            reed + "hard, -beta log q_y - (1 - beta) log max_c q_c (no ties here)",
            [entry for entry in beta if entry[0] is not EQUAL],
        ),
        "smoothed_cross_entropy": _table(
            "smoothed_cross_entropy",
            smoothed,
            "Szegedy et al. 2016 (arXiv:1512.00567), Sec. 7: cross-entropy to (1 - s) y + s / C",
            [(*pair, {}) for pair in LOGITS]
            + [(WRONG, 0, {"smoothing": s}) for s in (0.0, 0.5, 1.0)],
        ),
        "polynomial_tailed": _table(
            "polynomial_tailed",
            polynomial_tailed,
            "Wang et al. 2022 (arXiv:2112.12986), tail (1 + u - beta)^-alpha; left of beta the "
            "piece of our docstring, log2(1 + 4^(alpha (beta - u))), or with smooth = False that "
            "of the released code, log(1 + e^-u) / log(1 + e^-beta); u the log-odds of the label",
            [
                *((score, label, {}) for score, label in SCORES),
                (1.25, 0, {"smooth": False}),
                (0.5, 1, {"smooth": False, "alpha": 1.0}),
                (4.0, 1, {"alpha": 0.5, "beta": -1.0}),
                (-4.0, 1, {"alpha": 0.5, "beta": -1.0}),
                (THREE, 0, {"beta": 0.5}),
                (THREE, 1, {}),
                (SURE, 0, {"alpha": 3.0}),
            ],
            tolerance=(12, "a log-sum-exp, a power and a softplus, each a few roundings", 1),
        ),
    }


def _corrected():
    mixed = [[0.75, 0.25, 0.0], [0.125, 0.75, 0.125], [0.0, 0.5, 0.5]]
    identity = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    cases = [(z, y, {"transition": mixed}) for z in (THREE, WRONG, SURE) for y in (0, 1, 2)]
    return {
        "forward_corrected_cross_entropy": _table(
            "forward_corrected_cross_entropy",
            forward_corrected,
            "Patrini et al. 2017 (arXiv:1609.03683), Theorem 2: -log (q^T T)_y",
            [*cases, (WRONG, 0, {"transition": identity})],
        )
    }


def _by_class_counts():
    counts = {"class_counts": [100, 10, 1]}
    others = {"class_counts": [7, 500, 3]}
    return {
        "logit_adjusted": _table(
            "logit_adjusted",
            logit_adjusted,
            "Menon et al. 2021 (arXiv:2007.07314), logit adjusted softmax cross-entropy: the "
            "cross-entropy of z_c + tau log(n_c / N)",
            [
                *((z, y, counts) for z in (THREE, WRONG) for y in (0, 1, 2)),
                (OTHER, 2, others | {"tau": 0.5}),
                (OTHER, 1, others | {"tau": 2.0}),
                (OTHER, 0, others | {"tau": 0.0}),
            ],
        ),
        "ldam": _table(
            "ldam",
            ldam,
            "Cao et al. 2019 (arXiv:1906.07413): the label's logit less "
            "C / n_y^(1/4), C such that the largest margin is max_margin; times s as in the code",
            [
                *((z, y, counts) for z in (THREE, WRONG) for y in (0, 1, 2)),
                (OTHER, 2, others | {"max_margin": 1.0}),
                (OTHER, 1, others | {"scale": 4.0}),
                (OTHER, 0, others | {"max_margin": 0.0}),
            ],
        ),
    }


def _table(method, formula, source, cases, tolerance=(8, SOFTMAX, 1), *, held=False):
    """`held` formulas take the logits once more, as the constant in their target."""
    rows = []
    for logits, label, arguments in cases:
        z = exact(logits)
        own = arguments | {"constant": z} if held else arguments
        gradient = jacobian(partial(formula, y=label, **own), z)
        inputs = {"logits": logits, "labels": label}
        rows.append(row(inputs, formula(z, y=label, **own), {"logits": gradient}, arguments))
    return table(f"losses.{method}", "loss", source, tolerance, rows)
