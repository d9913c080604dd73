"""Weights of a batch from its losses, classes or predictions, as the papers print them."""

from decimal import Decimal
from fractions import Fraction
from functools import partial
from itertools import combinations

import numpy as np
from scipy.special import lambertw

from tests.oracles.formulas.differences import exact, exp, jacobian
from tests.oracles.formulas.losses import log_probability
from tests.oracles.formulas.table import row, table

LOSSES = [[0.5, 2.0, 0.125, 1.0], [3.0, 0.25, 0.25, 1.5]]
RATIONAL = "rational arithmetic: of all supports the one that satisfies the optimality conditions"
ON_SUPPORT = "; the Jacobian in closed form, (I - 1 1^T / k) / (2 lambda) on a support of size k"


def tables():
    """Tables by their file names."""
    return {**_quadratic(), **_from_losses(), **_from_classes(), **_from_predictions()}


# --- quadratic programs ---------------------------------------------------------------------------


def projection(gains, regularization):
    """(weights, support): maximizes w.g - lambda |w - 1|^2 over w >= 0 of mean one, in fractions.

    On its support w = 1 + g / (2 lambda) + t with one t, which the sum determines; off it this is
    not positive. Every support is tried. On the boundary of two the weights have no derivative.
    """
    goal = [1 + Fraction(g) / (2 * Fraction(regularization)) for g in gains]
    everyone = range(len(goal))
    for size in range(1, len(goal) + 1):
        for support in combinations(everyone, size):
            shift = (len(goal) - sum(goal[i] for i in support)) / size
            raised = [v + shift for v in goal]
            if 0 in raised:
                continue
            if all((raised[i] > 0) == (i in support) for i in everyone):
                return [max(v, Fraction(0)) for v in raised], support
    raise ArithmeticError("no support satisfies the conditions strictly")


def projection_slopes(gains, regularization):
    """The Jacobian of the weights by the gains, and their derivative by lambda."""
    _, support = projection(gains, regularization)
    size, slope = len(support), 1 / (2 * Fraction(regularization))
    mean = sum(Fraction(gains[i]) for i in support) / size
    on = [int(i in support) for i in range(len(gains))]
    by_gains = [
        [slope * ((i == j) - Fraction(1, size)) * row_on * on_too for j, on_too in enumerate(on)]
        for i, row_on in enumerate(on)
    ]
    shrink = slope / Fraction(regularization)
    by_lambda = [-shrink * (Fraction(g) - mean) * here for g, here in zip(gains, on, strict=True)]
    return by_gains, by_lambda


def _quadratic():
    gains = [[0.5, 2.0, 0.125, 1.0], [0.25, 0.25, 1.75, 0.0], [1.5, 1.5, 1.5, 1.5]]
    tolerance = (8, "sums of few terms of the weights' size, over 2 lambda", 1)
    low, chi_square = [], []
    for regularization in (2.0, 0.375, 0.01):
        for values in gains:
            weights, _ = projection(values, regularization)
            by_gains, by_lambda = projection_slopes(values, regularization)
            inputs = {"squared_gradient_norms": values, "regularization": regularization}
            slopes = {"squared_gradient_norms": by_gains, "regularization": by_lambda}
            low.append(row(inputs, weights, slopes))
            slopes = {"losses": by_gains, "regularization": by_lambda}
            arguments = {"regularization": regularization}
            chi_square.append(row({"losses": values}, weights, slopes, arguments))
    return {
        "low_weights": table(
            "low_weights",
            "function",
            "Santiago et al. 2021, Eq. (9): max w.g - lambda |w - 1|^2, w >= 0, sum w = B",
            tolerance,
            low,
            computed=RATIONAL + ON_SUPPORT,
        ),
        "chi_square_dro": table(
            "chi_square_dro",
            "scheme",
            "Namkoong and Duchi 2017 (arXiv:1610.02581); Levy et al. 2020 (arXiv:2010.05893), "
            "penalized: max mean(w l) - lambda mean((w - 1)^2), w >= 0, mean(w) = 1",
            tolerance,
            chi_square,
            computed=RATIONAL + ON_SUPPORT,
        ),
    }


# --- losses ---------------------------------------------------------------------------------------


def tilted(losses, tilt):
    factors = exp(tilt * losses)
    return factors / factors.mean()


def confidence(losses, threshold, regularization):
    """argmin over sigma of (l - tau) sigma + lambda log^2 sigma, by Newton's method on log sigma.

    Where (l - tau) / (2 lambda) <= -1/e there is no minimum, and the paper takes sigma = e.
    """

    def one(loss):
        ratio = (loss - threshold) / (2 * regularization)
        if ratio <= -1 / Decimal(1).exp():
            return Decimal(1).exp()
        log_sigma = Decimal(float(-lambertw(float(ratio)).real))
        for _ in range(8):
            slope = 1 + ratio * log_sigma.exp()
            log_sigma -= (log_sigma + ratio * log_sigma.exp()) / slope
        return log_sigma.exp()

    return np.frompyfunc(one, 1, 1)(losses)


def averaged_confidence(losses, regularization, decay):
    """Confidences of mean one of every step; tau is the bias-corrected average of batch means."""
    total, weight, steps = Decimal(0), Decimal(0), []
    for batch in losses:
        total = decay * total + (1 - decay) * batch.mean()
        weight = decay * weight + (1 - decay)
        sigma = confidence(batch, total / weight, regularization)
        steps.append(sigma / sigma.mean())
    return np.array(steps)


def loss_rank(losses, pressure):
    """s^(-r/N) / sum, with r the average rank of those that tie, 0 for the largest loss."""
    ranks = [
        Decimal(int(sum(losses > own))) + Decimal(int(sum(losses == own)) - 1) / 2 for own in losses
    ]
    scores = np.array([pressure ** (-rank / len(losses)) for rank in ranks])
    return scores / scores.sum()


def group_dro(losses, groups, step_size, margin, normalize):
    """Weights of every step; q starts uniform over the groups of `margin` [G]."""
    q, steps = np.full(len(margin), Decimal(1) / len(margin)), []
    for batch, group in zip(losses, groups, strict=True):
        group = np.array(group)
        gain = np.full(len(q), Decimal(0))
        for g in set(group.tolist()):
            gain[g] = step_size * (batch[group == g].mean() + margin[g])
        q = q * exp(gain)
        q = q / q.sum()
        own = np.array([q[g] * len(group) / int((group == g).sum()) for g in group])
        steps.append(own / own.mean() if normalize else own)
    return np.array(steps)


def adaboost(weights, is_error, num_classes):
    wrong = np.array(is_error)
    error = weights[wrong].sum() / weights.sum()
    vote = ((1 - error) / error).ln() + Decimal(num_classes - 1).ln()
    new = weights * np.array([vote.exp() if bad else Decimal(1) for bad in is_error])
    return {"weights": new / new.mean(), "vote": vote}


def _from_losses():
    return {
        "tilted": _tilted_table(),
        "superloss": _superloss_table(),
        "superloss_average": _superloss_average_table(),
        "loss_rank_probabilities": _loss_rank_table(),
        "group_dro": _group_dro_table(),
        "adaboost_weights": _adaboost_table(),
    }


def _tilted_table():
    rows = []
    for tilt in (1.0, -0.5, 0.0, 4.0):
        for losses in LOSSES:
            point, number = exact(losses), Decimal(tilt)
            slopes = {
                "losses": jacobian(partial(tilted, tilt=number), point),
                "tilt": jacobian(partial(tilted, point), number),
            }
            rows.append(row({"losses": losses}, tilted(point, number), slopes, {"tilt": tilt}))
    source = "Li et al. 2021 (arXiv:2007.01162): w_i = exp(t l_i) / mean_j exp(t l_j)"
    why = "an exponential of a number of up to 12, whose own rounding it multiplies"
    return table("tilted", "scheme", source, (32, why, 1), rows)


def _superloss_table():
    rows = []
    for regularization, threshold in ((1.0, 1.0), (0.25, 0.75), (4.0, 0.0)):
        for losses in LOSSES:
            ratios = (np.array(losses) - threshold) / (2 * regularization)
            inside = ratios > -np.exp(-1)  # elsewhere the maximum with -2/e is active, and W = -1
            sigma = np.exp(np.where(inside, -lambertw(np.where(inside, ratios, 0)).real, 1))
            point, lam, tau = exact(losses), Decimal(regularization), Decimal(threshold)
            slopes = {
                "losses": jacobian(lambda x, t=tau, r=lam: confidence(x, t, r), point),
                "threshold": jacobian(lambda t, x=point, r=lam: confidence(x, t, r), tau),
                "regularization": jacobian(lambda r, x=point, t=tau: confidence(x, t, r), lam),
            }
            arguments = {"regularization": regularization, "threshold": threshold}
            arguments["normalize"] = False
            rows.append(row({"losses": losses}, sigma, slopes, arguments))
    source = (
        "Castells et al. 2020, the confidence exp(-W(max(-2/e, (l - tau) / lambda) / 2)), the "
        "minimum of (l - tau) sigma + lambda log^2 sigma"
    )
    computed = (
        "values by scipy.special.lambertw; derivatives by central differences of the minimum, "
        "found by Newton's method in 160-digit decimal arithmetic"
    )
    why = "Lambert's W to a few roundings in SciPy and here; derivatives divide by 1 + W"
    return table("superloss", "scheme", source, (16, why, 1), rows, computed=computed)


def _superloss_average_table():
    losses = [[0.5, 2.0, 0.125], [1.0, 0.25, 3.0], [0.75, 0.5, 0.25]]
    rows = []
    decay = 0.9
    for regularization in (1.0, 2.0):
        formula = partial(averaged_confidence, decay=Decimal(decay))
        point, number = exact(losses), Decimal(regularization)
        slopes = {
            "losses": jacobian(partial(formula, regularization=number), point),
            "regularization": jacobian(partial(formula, point), number),
        }
        arguments = {"regularization": regularization, "decay": decay}
        rows.append(row({"losses": losses}, formula(point, number), slopes, arguments))
    source = (
        "Castells et al. 2020; tau the exponential average of the batches' mean losses over the "
        "total weight of its terms, and weights of mean one, as our docstring says"
    )
    why = "an average, Lambert's W and a mean"
    return table("superloss", "scheme_steps", source, (24, why, 1), rows)


def _loss_rank_table():
    rows = []
    for losses, pressure in (
        ([0.5, 2.0, 0.125, 1.0], 100.0),
        ([0.5, 2.0, 0.5, 0.5], 100.0),
        ([1.0, 3.0, 1.0, 3.0], 4.0),
        ([1.0, 2.0, 3.0, 4.0], 1.0),
    ):
        point, number = exact(losses), Decimal(pressure)
        slopes = {
            "losses": np.zeros((len(losses), len(losses))),
            "pressure": jacobian(partial(loss_rank, point), number),
        }
        inputs = {"losses": losses, "pressure": pressure}
        rows.append(row(inputs, loss_rank(point, number), slopes))
    source = (
        "Loshchilov and Hutter 2015 (arXiv:1511.06343), Sec. 3: p_i ~ s^(-r_i / N), the largest "
        "loss first (r = 0); equal losses share their average rank, as our docstring says"
    )
    why = "an exponential of a logarithm, and a sum"
    return table("loss_rank_probabilities", "function", source, (8, why, 0), rows)


def _group_dro_table():
    losses = [[0.5, 2.0, 0.25, 1.0], [3.0, 0.25, 0.75, 1.5]]
    labels = [[0, 1, 1, 2], [2, 0, 0, 2]]
    counts = [64, 16, 4]
    rows = []
    for step_size, adjustment, normalize in (
        (0.5, 0.0, False),
        (0.5, 2.0, False),
        (2.0, 0.0, True),
    ):
        margin = Decimal(adjustment) / exact(counts) ** Decimal("0.5")
        formula = partial(
            group_dro,
            groups=labels,
            step_size=Decimal(step_size),
            margin=margin,
            normalize=normalize,
        )
        arguments = {"num_groups": 3, "step_size": step_size, "adjustment": adjustment}
        arguments |= {"group_counts": counts, "normalize": normalize}
        slopes = {"losses": jacobian(formula, exact(losses))}
        inputs = {"losses": losses, "labels": labels}
        rows.append(row(inputs, formula(exact(losses)), slopes, arguments))
    source = (
        "Sagawa et al. 2020 (arXiv:1911.08731), Algorithm 1: q_g ~ q_g exp(eta (mean loss of g + "
        "C / sqrt(N_g))) for the groups of the batch, and their risk sum_g q_g (mean loss of g)"
    )
    return table("group_dro", "scheme_steps", source, (12, "a softmax of three, twice", 1), rows)


def _adaboost_table():
    rows = []
    for weights, is_error, num_classes in (
        ([1.0, 1.0, 1.0, 1.0], [True, False, False, False], 2),
        ([0.5, 2.0, 0.25, 1.25], [True, False, True, False], 2),
        ([0.5, 2.0, 0.25, 1.25], [True, False, True, False], 5),
        ([4.0, 1.0, 1.0, 0.5], [True, False, False, False], 3),
    ):
        formula = partial(adaboost, is_error=is_error, num_classes=num_classes)
        point = exact(weights)
        slopes = {
            name: jacobian(lambda x, n=name, f=formula: f(x)[n], point)
            for name in ("weights", "vote")
        }
        inputs = {"weights": weights, "is_error": is_error}
        arguments = {"num_classes": num_classes}
        rows.append(row(inputs, formula(point), {"weights": slopes}, arguments))
    source = (
        "Freund and Schapire 1997; Zhu et al. 2009, Algorithm 2 (SAMME): a = log((1 - e) / e) + "
        "log(C - 1), w_i <- w_i exp(a 1[error_i]), here scaled to mean one"
    )
    why = "two logarithms, an exponential and a mean"
    return table("adaboost_weights", "function", source, (8, why, 1), rows)


# --- classes --------------------------------------------------------------------------------------


def effective_number(beta, class_counts, labels):
    """(1 - beta) / (1 - beta^n), scaled to mean one over the training set."""
    counts = exact(class_counts)
    inverse = 1 / counts if beta == 1 else (1 - beta) / (1 - beta**counts)
    return (inverse * counts.sum() / (inverse * counts).sum())[labels]


def _from_classes():
    counts, labels, own = [5000, 500, 50, 1], [3, 0, 1, 2, 0], [1.0, 0.5, 2.0, 1.0, 0.25]
    number, frequency = [], []
    for beta in (0.0, 0.9, 0.999, 0.9999, 1.0):
        weights = effective_number(Decimal(beta), counts, labels)
        slopes = {"weights": np.diag(weights)}
        if beta in (0.9, 0.999):
            by_beta = jacobian(
                partial(effective_number, class_counts=counts, labels=labels), Decimal(beta)
            )
            slopes["beta"] = by_beta * exact(own)
        arguments = {"class_counts": counts, "beta": beta}
        inputs = {"weights": own, "labels": labels}
        number.append(row(inputs, weights * exact(own), slopes, arguments))
    for class_counts in (counts, [7, 7, 7, 7], [1, 2, 3, 4]):
        weights = [Fraction(sum(class_counts), 4 * class_counts[y]) for y in labels]
        slopes = {"weights": [[w * (i == j) for j in range(5)] for i, w in enumerate(weights)]}
        value = [w * Fraction(v) for w, v in zip(weights, own, strict=True)]
        inputs = {"weights": own, "labels": labels}
        frequency.append(row(inputs, value, slopes, {"class_counts": class_counts}))
    return {
        "effective_number": table(
            "effective_number",
            "scheme",
            "Cui et al. 2019 (arXiv:1901.05555), Eq. (2): w ~ (1 - beta) / (1 - beta^n), here with "
            "mean one over the training set; times the weights that come in",
            (16, "a power and a mean; the derivative by beta divides by 1 - beta", 1),
            number,
        ),
        "inverse_class_frequency": table(
            "inverse_class_frequency",
            "scheme",
            "N / (C n_y): PROPORTION of ren2018 (arXiv:1803.09050), Sec. 4.1; times the weights "
            "that come in",
            (4, "a division and two products", 1),
            frequency,
            computed="rational arithmetic",
        ),
    }


# --- predictions ----------------------------------------------------------------------------------


def focal(logits, labels, gamma, normalize):
    """(1 - p_y)^gamma of every row of logits, or score."""
    rest = [1 - log_probability(z, y).exp() for z, y in zip(logits, labels, strict=True)]
    weights = np.array([one**gamma for one in rest])
    return weights / weights.mean() if normalize else weights


def _from_predictions():
    several = [[1.5, -0.5, 0.25], [-2.0, 3.5, 1.0], [4.0, -1.0, 0.5]]
    scores = [1.25, -2.0, 0.5]
    rows = []
    for logits, labels, gamma, normalize in (
        (several, [0, 0, 0], 2.0, False),
        (several, [0, 1, 2], 2.0, True),
        (several, [2, 1, 0], 0.5, False),
        (scores, [1, 1, 0], 1.5, False),
        (scores, [0, 1, 1], 3.0, True),
    ):
        formula = partial(focal, labels=labels, gamma=Decimal(gamma), normalize=normalize)
        point = exact(logits)
        slopes = {"logits": jacobian(formula, point)}
        arguments = {"gamma": gamma, "normalize": normalize}
        rows.append(row({"logits": logits, "labels": labels}, formula(point), slopes, arguments))
    source = "Lin et al. 2017 (arXiv:1708.02002), Eq. (4): the factor (1 - p_y)^gamma"
    why = "a softmax, a power and a mean"
    return {"focal": table("focal", "scheme", source, (16, why, 1), rows)}
