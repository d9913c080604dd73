"""Measures of predictions, of weights and of margins."""

from functools import partial

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.svm import SVC

from tests.oracles.formulas.differences import exact, jacobian, root, softmax
from tests.oracles.formulas.table import row, table


def tables():
    """Tables by their file names."""
    return {
        "area_under_roc": _area_under_roc(),
        "effective_sample_size": _effective_sample_size(),
        "el2n": _el2n(),
        "max_margin_with_intercept": _max_margin(),
    }


def _area_under_roc():
    ties = np.random.default_rng(0).integers(0, 8, size=(2, 40))
    rows = []
    for name, scores, positives in (
        ("in order", [0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]),
        ("one tie across the classes", [1.0, 2.0, 2.0, 3.0], [0, 1, 0, 1]),
        ("all scores equal", [0.5, 0.5, 0.5, 0.5], [1, 0, 1, 0]),
        ("forty scores of eight values", ties[0].astype(float), ties[1] % 3 == 0),
    ):
        value = roc_auc_score(np.asarray(positives), np.asarray(scores))
        positives = np.asarray(positives, dtype=bool)
        rows.append(row({"scores": scores, "positives": positives}, value, None, None, name))
    return table(
        "area_under_roc",
        "function",
        "the Mann-Whitney statistic over the pairs, ties one half",
        (4, "counts are exact; a division and a mean", 1),
        rows,
        computed="sklearn.metrics.roc_auc_score",
        no_gradient="piecewise constant in the scores",
    )


def effective_sample_size(weights):
    return weights.sum() ** 2 / (weights**2).sum()


def _effective_sample_size():
    rows = []
    for weights in (
        [1.0, 1.0, 1.0, 1.0],
        [0.5, 2.0, 0.25, 0.0],
        [0.0, 1.0, 0.0, 0.0],
        [1e-20, 3e-20, 0.0, 0.0],
    ):
        point = exact(weights)
        slopes = {"weights": jacobian(effective_sample_size, point)}
        rows.append(row({"weights": weights}, effective_sample_size(point), slopes))
    source = "Kish 1965: (sum w)^2 / sum w^2"
    return table("effective_sample_size", "function", source, (8, "two sums and a ratio", 1), rows)


def el2n(logits, labels):
    """The mean over networks of |p - e_y|."""
    one_hot = exact(np.eye(logits.shape[2])[labels])
    return root(((softmax(logits) - one_hot[None]) ** 2).sum(axis=2)).mean(axis=0)


def _el2n():
    rows = []
    one = [[[1.5, -0.5, 0.25], [-2.0, 3.5, 1.0]]]
    two = [*one, [[0.0, 0.5, -1.0], [0.25, 4.0, 1.5]]]
    for logits, labels in ((one, [0, 0]), (two, [1, 1]), (two, [2, 0])):
        formula, point = partial(el2n, labels=labels), exact(logits)
        inputs = {"logits": logits, "labels": labels}
        rows.append(row(inputs, formula(point), {"logits": jacobian(formula, point)}))
    source = "Paul et al. 2021 (arXiv:2107.07075): the mean over networks of |p - e_y|_2"
    return table("el2n", "function", source, (8, "a softmax, a norm and a mean", 1), rows)


def _max_margin():
    generator = np.random.default_rng(1)
    rows = []
    for size, dimension in ((6, 2), (12, 3), (20, 2)):
        labels = np.where(np.arange(size) % 2 == 0, 1, -1)
        inputs = generator.integers(-8, 9, size=(size, dimension)) / 4 + 2.5 * labels[:, None]
        machine = SVC(kernel="linear", C=1e8, tol=1e-10).fit(inputs, labels)
        norm = np.linalg.norm(machine.coef_[0])
        value = {
            "direction": machine.coef_[0] / norm,
            "intercept": machine.intercept_[0] / norm,
            "margin": 1 / norm,
            "separable": True,
        }
        name = f"{size} points in {dimension} dimensions"
        rows.append(
            row({"inputs": inputs, "labels": labels}, value, None, {"intercept": True}, name)
        )
    return table(
        "max_margin",
        "host",
        "the hard-margin support vector machine, f(x) = w.x + b with the smallest |w| for which "
        "y f(x) >= 1: direction w / |w|, intercept b / |w| and margin 1 / |w|",
        (2**20, "libsvm stops at a violation of 1e-10", 1),
        rows,
        computed="sklearn.svm.SVC(kernel='linear', C=1e8, tol=1e-10)",
        no_gradient="solved on the host, in NumPy",
    )
