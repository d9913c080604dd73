"""Weights that a clean set decides, of linear models: every gradient is a difference of a loss."""

from decimal import Decimal
from functools import partial

import numpy as np

from tests.oracles.formulas.differences import exact, exp, jacobian, log
from tests.oracles.formulas.table import row, table

TARGETS = [1.0, -1.0, 1.0, -1.0]
PROBLEM = {
    "params": [0.5, -0.25],
    "inputs": [[1.0, 0.5], [2.0, -1.0], [-0.5, 1.5], [0.25, 1.0]],
    "targets": TARGETS,
    "clean_inputs": [[1.0, -1.0], [0.5, 2.0], [-1.5, 0.25]],
    "clean_targets": [1.0, -1.0, -1.0],
}
LOSSES = {
    "squared": lambda scores, targets: (scores - targets) ** 2 / 2,
    "logistic": lambda scores, targets: log(1 + exp(-targets * scores)),
}
NET = {
    "hidden_kernel": [1.5, -1.0],
    "hidden_bias": [-0.25, 0.75],
    "output_kernel": [[0.5, -1.25]],
    "output_bias": [0.125],
}
VIRTUAL = (
    "the virtual step in 160-digit decimal arithmetic: the examples' gradients, and what the clean "
    "loss gains from it, are central differences"
)
WHY = "inner products of a few terms, a softplus and a mean"


def losses_of(problem, loss):
    """params -> the losses [B], and params -> the mean loss of the clean set."""
    p = {key: exact(part) for key, part in problem.items()}
    each = LOSSES[loss]
    return (
        lambda params: each(p["inputs"] @ params, p["targets"]),
        lambda params: each(p["clean_inputs"] @ params, p["clean_targets"]).mean(),
    )


def after_virtual_step(weights, params, losses_fn, clean_fn, rate):
    """The clean loss at theta - rate mean_i(w_i grad f_i)."""
    gradients = jacobian(losses_fn, params)
    return clean_fn(params - rate * (weights @ gradients) / len(weights))


def lookahead(params, losses_fn, clean_fn, normalize):
    """The positive part of minus the clean loss's derivative by the weights, at weights zero."""
    start = np.full(len(TARGETS), Decimal(0))
    step = partial(
        after_virtual_step, params=params, losses_fn=losses_fn, clean_fn=clean_fn, rate=Decimal(1)
    )
    weights = np.maximum(-jacobian(step, start), Decimal(0))
    return weights / weights.mean() if normalize else weights


def sigmoid_of(psi, losses):
    return 1 / (1 + exp(-(psi[0] + psi[1] * losses)))


def weight_net(flat, losses):
    """One hidden layer of two ReLUs and a sigmoid, from its seven parameters in NET's order."""
    hidden = np.maximum(losses[:, None] * flat[None, 0:2] + flat[None, 2:4], Decimal(0))
    return 1 / (1 + exp(-(hidden @ flat[4:6] + flat[6])))


def clean_loss_of(psi, weigh, losses_fn, clean_fn, params, rate):
    weights = weigh(psi, losses_fn(params))
    return after_virtual_step(weights, params, losses_fn, clean_fn, rate)


def tables():
    """Tables by their file names."""
    return {
        "lookahead_weights": _lookahead(),
        "meta_gradient": _meta_gradient(),
        "meta_weight_net": _meta_weight_net(),
    }


def _lookahead():
    rows = []
    for loss in LOSSES:
        losses_fn, clean_fn = losses_of(PROBLEM, loss)
        for normalize in (True, False):
            formula = partial(
                lookahead, losses_fn=losses_fn, clean_fn=clean_fn, normalize=normalize
            )
            params = exact(PROBLEM["params"])
            slopes = {"params": jacobian(formula, params)}
            arguments = {"loss": loss, "normalize": normalize}
            name = f"{loss} losses, normalize {normalize}"
            rows.append(row(PROBLEM, formula(params), slopes, arguments, name))
    source = (
        "Ren et al. 2018 (arXiv:1803.09050), Algorithm 1 and Eqs. (7)-(9), (30): the derivative "
        "of the clean loss by the weights of one SGD step, from zero weights; rate one"
    )
    return table("lookahead_weights", "lookahead", source, (16, WHY, 1), rows, computed=VIRTUAL)


def _meta_gradient():
    rows, psi, params = [], [0.25, -1.5], exact(PROBLEM["params"])
    for loss in LOSSES:
        losses_fn, clean_fn = losses_of(PROBLEM, loss)
        for rate in (0.125, 2.0):
            formula = partial(
                clean_loss_of,
                weigh=sigmoid_of,
                losses_fn=losses_fn,
                clean_fn=clean_fn,
                params=params,
            )

            def gradient(psi, rate, formula=formula):
                return jacobian(partial(formula, rate=rate), psi)

            point, number = exact(psi), Decimal(rate)
            slopes = {
                "psi": jacobian(partial(gradient, rate=number), point),
                "learning_rate": jacobian(partial(gradient, point), number),
            }
            arguments = {"loss": loss, "learning_rate": rate}
            name = f"{loss} losses, rate {rate}, weights sigmoid(psi_0 + psi_1 loss)"
            inputs = {**PROBLEM, "psi": psi}
            rows.append(row(inputs, gradient(point, number), slopes, arguments, name))
    source = (
        "Shu et al. 2019 (arXiv:1902.07379): d/d psi of G(theta - alpha mean(w_i(psi) grad f_i))"
    )
    return table("meta_gradient", "meta_gradient", source, (16, WHY, 1), rows, computed=VIRTUAL)


def _meta_weight_net():
    rows, params, meta_rate = [], exact(PROBLEM["params"]), Decimal("0.5")
    flat = np.concatenate([exact(part).ravel() for part in NET.values()])
    for loss, normalize in (("squared", False), ("logistic", False), ("squared", True)):
        losses_fn, clean_fn = losses_of(PROBLEM, loss)

        def weigh(psi, losses, normalize=normalize):
            weights = weight_net(psi, losses)
            return weights / weights.mean() if normalize else weights

        step = partial(
            clean_loss_of,
            weigh=weigh,
            losses_fn=losses_fn,
            clean_fn=clean_fn,
            params=params,
            rate=Decimal("0.25"),
        )
        moved = flat - meta_rate * jacobian(step, flat)
        value = {"weights": weigh(moved, losses_fn(params)), **_as_net(moved)}
        arguments = {"loss": loss, "learning_rate": 0.25, "normalize": normalize}
        name = f"{loss} losses, normalize {normalize}, two hidden units moved by SGD at rate 0.5"
        inputs = {**PROBLEM, "meta_rate": 0.5, **NET}
        rows.append(row(inputs, value, None, arguments, name))
    source = (
        "Shu et al. 2019 (arXiv:1902.07379), Eqs. (3)-(5), Algorithm 1: a virtual step, a step of "
        "the weight network on the clean loss, the weights of the moved network"
    )
    why = "a step of training: its weights are constants of the step"
    return table(
        "meta_weight_net",
        "meta_weight_net",
        source,
        (16, WHY, 1),
        rows,
        computed=VIRTUAL,
        no_gradient=why,
    )


def _as_net(flat):
    return {
        "hidden_kernel": flat[0:2],
        "hidden_bias": flat[2:4],
        "output_kernel": flat[None, 4:6],
        "output_bias": flat[6:7],
    }
