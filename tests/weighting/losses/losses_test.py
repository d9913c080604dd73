"""The losses by hand, by SciPy and PyTorch, at their limits, and by finite differences."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

from weighting import losses, make_train_step
from weighting.base import uniform
from weighting.train_step import Batch, ModelOutput, init_train_state, without_state
from weighting.training import noise_layer

LOGITS = np.array([[2.0, 0.0, -1.0], [0.5, 0.7, 0.2], [-3.0, 1.0, 4.0], [0.1, -0.4, 0.3]])
LABELS = np.array([0, 2, 1, 1])
TEACHER = np.array([[1.0, 0.5, 0.0], [-1.0, 0.0, 2.0], [0.3, 0.2, 0.1], [5.0, -5.0, 0.0]])
COUNTS = np.array([16, 1, 81])
TRANSITION = np.array([[0.8, 0.2, 0.0], [0.1, 0.6, 0.3], [0.25, 0.05, 0.7]])


def halved(z):
    """The probabilities at temperature 2."""
    odds = np.exp(np.asarray(z) / 2)
    return odds / odds.sum()


def teacher_of(z):
    return TEACHER[np.argmin(np.abs(LOGITS - z).sum(axis=1))]


# name -> (loss, hyperparameters, the same from one row's probabilities p, logits z and label y)
CASES = {
    "generalized": (
        losses.generalized_cross_entropy,
        dict(q=0.7),
        lambda p, z, y: (1 - p[y] ** 0.7) / 0.7,
    ),
    "truncated_generalized": (
        losses.truncated_generalized_cross_entropy,
        dict(q=0.7, threshold=0.3),
        lambda p, z, y: (1 - max(p[y], 0.3) ** 0.7) / 0.7,
    ),
    "truncated": (
        losses.truncated_cross_entropy,
        dict(cutoff=1.3),
        lambda p, z, y: -math.log(p[y]) if -math.log(p[y]) <= 1.3 else 0.0,
    ),
    "smoothed": (
        losses.smoothed_cross_entropy,
        dict(smoothing=0.3),
        lambda p, z, y: -sum(((c == y) * 0.7 + 0.1) * math.log(p[c]) for c in range(3)),
    ),
    "bootstrap_soft": (
        functools.partial(losses.bootstrap_soft, through_target=True),
        dict(beta=0.9),
        lambda p, z, y: -sum(((c == y) * 0.9 + 0.1 * p[c]) * math.log(p[c]) for c in range(3)),
    ),
    "bootstrap_hard": (
        losses.bootstrap_hard,
        dict(beta=0.6),
        lambda p, z, y: -0.6 * math.log(p[y]) - 0.4 * math.log(max(p)),
    ),
    "balanced_cross_entropy": (
        losses.balanced_cross_entropy,
        dict(class_counts=COUNTS),
        lambda p, z, y: -math.log(p[y]) * (98 / 48, 98 / 3, 98 / 243)[y],
    ),
    "logit_adjusted": (
        losses.logit_adjusted,
        dict(class_counts=COUNTS, tau=1.0),
        # tau = 1: probabilities times counts, the balanced softmax
        lambda p, z, y: -math.log(p[y] * COUNTS[y] / (p[0] * 16 + p[1] * 1 + p[2] * 81)),
    ),
    "class_dependent_temperatures": (
        losses.class_dependent_temperatures,
        dict(class_counts=COUNTS, gamma=0.5),
        lambda p, z, y: (
            math.log(math.exp(z[0] * 4 / 9) + math.exp(z[1] / 9) + math.exp(z[2]))
            - z[y] * (4 / 9, 1 / 9, 1)[y]
        ),
    ),
    "vector_scaling": (
        losses.vector_scaling,
        dict(class_counts=COUNTS, gamma=0.25, tau=2.0),
        lambda p, z, y: (
            -math.log(
                (256 * math.exp(2 / 3 * z[0]), math.exp(z[1] / 3), 6561 * math.exp(z[2]))[y]
                / (256 * math.exp(2 / 3 * z[0]) + math.exp(z[1] / 3) + 6561 * math.exp(z[2]))
            )
        ),
    ),
    "ldam": (
        losses.ldam,
        dict(class_counts=COUNTS, max_margin=0.6, scale=3.0),
        # fourth roots of the counts: 2, 1, 3
        lambda p, z, y: math.log(
            1 + sum(math.exp(3 * (z[c] - z[y] + (0.3, 0.6, 0.2)[y])) for c in range(3) if c != y)
        ),
    ),
    "polynomial_tailed": (
        losses.polynomial_tailed,
        dict(alpha=1.5, beta=0.5),
        lambda p, z, y: (
            (0.5 + math.log(p[y] / (1 - p[y]))) ** -1.5
            if math.log(p[y] / (1 - p[y])) >= 0.5
            else math.log2(1 + 8 ** (0.5 - math.log(p[y] / (1 - p[y]))))
        ),
    ),
    "polynomial_tailed_released": (
        functools.partial(losses.polynomial_tailed, smooth=False),
        dict(alpha=2.0, beta=1.0),
        # log(1 + e^-u) is -log p, and the tail is u^-2
        lambda p, z, y: (
            math.log(p[y] / (1 - p[y])) ** -2
            if math.log(p[y] / (1 - p[y])) >= 1
            else -math.log(p[y]) / math.log(1 + math.exp(-1))
        ),
    ),
    "distillation": (
        losses.distillation,
        dict(teacher_logits=TEACHER, alpha=0.3, temperature=2.0),
        lambda p, z, y: (
            -0.3 * math.log(p[y])
            + 0.7 * 4 * np.sum(scipy.special.rel_entr(halved(teacher_of(z)), halved(z)))
        ),
    ),
    "forward": (
        losses.forward_corrected_cross_entropy,
        dict(transition=TRANSITION),
        lambda p, z, y: -math.log(sum(p[i] * TRANSITION[i][y] for i in range(3))),
    ),
    "backward": (
        losses.backward_corrected_cross_entropy,
        dict(transition=TRANSITION),
        lambda p, z, y: -sum(np.linalg.inv(TRANSITION)[y, c] * math.log(p[c]) for c in range(3)),
    ),
}


def call(name, logits, labels):
    loss_fn, hyperparameters, _ = CASES[name]
    return loss_fn(logits, labels, **hyperparameters)


def values_and_gradient(loss_fn):
    """Compiles (logits, *more) -> (losses [B], gradient of each with respect to its logits)."""

    def run(logits, *more):
        values, pullback = jax.vjp(lambda z: loss_fn(z, *more), logits)
        return values, pullback(jnp.ones_like(values))[0]

    return jax.jit(run)


def value_by_hand(name, row, label):
    odds = [math.exp(z) for z in row]
    return CASES[name][2]([o / sum(odds) for o in odds], row, label)


@pytest.mark.parametrize("name", CASES)
def test_by_hand_with_traced_hyperparameters(name, float64):
    """The values, and the gradient by central differences of the formula typed out above."""
    loss_fn, hyperparameters, _ = CASES[name]
    step = 1e-6 * np.eye(3)
    expected, slopes = [], []
    for z, y in zip(LOGITS, LABELS, strict=True):
        expected.append(value_by_hand(name, z, y))
        rise = [value_by_hand(name, z + d, y) - value_by_hand(name, z - d, y) for d in step]
        slopes.append(np.array(rise) / 2e-6)

    run = values_and_gradient(lambda z, y, traced: loss_fn(z, y, **traced))
    values, gradient = run(jnp.asarray(LOGITS), LABELS, hyperparameters)
    np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", CASES)
def test_finite_at_extreme_logits_and_of_their_dtype(name):
    logits = jnp.array([[1e4, -1e4, 0], [-1e4, 1e4, 0], [0, 0, 0], [1e4, 1e4, 1e4]])
    loss_fn = functools.partial(call, name)
    run = values_and_gradient(loss_fn)
    for label in range(3):
        for array in run(logits, np.full(4, label)):
            assert np.isfinite(array).all(), label
    for dtype in (jnp.float32, jnp.bfloat16):
        assert jax.eval_shape(loss_fn, logits.astype(dtype), LABELS).dtype == dtype


@pytest.mark.parametrize(
    ("name", "loss_fn"),
    {
        "q": lambda z, y: losses.generalized_cross_entropy(z, y, q=0.0),
        "tiny q": lambda z, y: losses.generalized_cross_entropy(z, y, q=1e-13),
        "q, truncated": lambda z, y: losses.truncated_generalized_cross_entropy(
            z, y, q=0.0, threshold=0.0
        ),
        "cutoff": lambda z, y: losses.truncated_cross_entropy(z, y, cutoff=math.inf),
        "smoothing": lambda z, y: losses.smoothed_cross_entropy(z, y, smoothing=0.0),
        "soft": lambda z, y: losses.bootstrap_soft(z, y, beta=1.0),
        "hard": lambda z, y: losses.bootstrap_hard(z, y, beta=1.0),
        "tau": lambda z, y: losses.logit_adjusted(z, y, class_counts=COUNTS, tau=0.0),
        "equal counts": lambda z, y: losses.vector_scaling(z, y, class_counts=np.full(3, 7)),
        "gamma": lambda z, y: losses.class_dependent_temperatures(
            z, y, class_counts=COUNTS, gamma=0.0
        ),
        "margin": lambda z, y: losses.ldam(z, y, class_counts=COUNTS, max_margin=0.0, scale=1.0),
        "alpha": lambda z, y: losses.distillation(z, y, teacher_logits=TEACHER, alpha=1.0),
        "forward": lambda z, y: losses.forward_corrected_cross_entropy(z, y, transition=np.eye(3)),
        "backward": lambda z, y: losses.backward_corrected_cross_entropy(
            z, y, transition=np.eye(3)
        ),
        "margins": lambda z, y: jax.nn.softplus(-losses.soft_margins(z, y)),
    }.items(),
)
def test_limits_are_cross_entropy(name, loss_fn, float64):
    expected = -scipy.special.log_softmax(LOGITS, axis=1)[np.arange(4), LABELS]
    gradient = scipy.special.softmax(LOGITS, axis=1) - np.eye(3)[LABELS]
    actual = values_and_gradient(loss_fn)(jnp.asarray(LOGITS), LABELS)
    np.testing.assert_allclose(actual[0], expected, rtol=1e-12, err_msg=name)
    np.testing.assert_allclose(actual[1], gradient, atol=1e-12, err_msg=name)


def test_losses_may_be_swept_over_hyperparameters(float64):
    z, y = jnp.asarray(LOGITS), jnp.asarray(LABELS)
    swept = jax.vmap(lambda q: losses.generalized_cross_entropy(z, y, q=q))(
        jnp.array([0.0, 0.4, 1.0])
    )
    p = scipy.special.softmax(LOGITS, axis=1)[np.arange(4), LABELS]
    np.testing.assert_allclose(swept, [-np.log(p), (1 - p**0.4) / 0.4, 1 - p], rtol=1e-12)


# --- robust -----------------------------------------------------------------------------------


def test_generalized_cross_entropy_scales_the_gradient_by_a_power_of_the_probability(float64):
    p = scipy.special.softmax(LOGITS, axis=1)
    expected = (p - np.eye(3)[LABELS]) * p[np.arange(4), LABELS][:, None] ** 0.3
    run = values_and_gradient(functools.partial(losses.generalized_cross_entropy, q=0.3))
    _, gradient = run(jnp.asarray(LOGITS), LABELS)
    np.testing.assert_allclose(gradient, expected, rtol=1e-10)


def test_generalized_cross_entropy_takes_a_single_score(float64):
    scores, labels = jnp.array([1.5, -0.5, 0.0]), jnp.array([1, 1, 0])
    p = [1 / (1 + math.exp(-1.5)), 1 / (1 + math.exp(0.5)), 0.5]
    np.testing.assert_allclose(
        losses.generalized_cross_entropy(scores, labels, q=1.0), [1 - x for x in p], rtol=1e-12
    )
    np.testing.assert_allclose(
        losses.truncated_cross_entropy(scores[:, None], labels, cutoff=0.9),
        [-math.log(p[0]), 0.0, math.log(2)],
        rtol=1e-12,
    )


@pytest.mark.parametrize("name", ["truncated", "truncated_generalized"])
def test_truncated_examples_have_no_gradient(name):
    z, y = jnp.asarray(LOGITS, jnp.float32), jnp.asarray(LABELS)
    gradient = jax.jit(jax.grad(lambda z: jnp.sum(call(name, z, y))))(z)
    p = scipy.special.softmax(LOGITS, axis=1)[np.arange(4), LABELS]
    kept = p > 0.3 if name == "truncated_generalized" else -np.log(p) <= 1.3
    assert 0 < kept.sum() < 4
    np.testing.assert_array_equal(np.any(np.asarray(gradient) != 0, axis=1), kept)


# --- soft targets -----------------------------------------------------------------------------


def test_bootstrap_soft_holds_its_target_constant(float64):
    p = scipy.special.softmax(LOGITS, axis=1)
    target = 0.9 * np.eye(3)[LABELS] + 0.1 * p
    z, y = jnp.asarray(LOGITS), jnp.asarray(LABELS)
    constant = jax.grad(lambda z: jnp.sum(losses.bootstrap_soft(z, y, beta=0.9)))(z)
    np.testing.assert_allclose(constant, p - target, atol=1e-12)
    np.testing.assert_allclose(
        losses.bootstrap_soft(z, y, beta=0.9), call("bootstrap_soft", z, y), rtol=1e-12
    )
    through = jax.grad(lambda z: jnp.sum(call("bootstrap_soft", z, y)))(z)
    assert np.abs(through - constant).max() > 1e-3


def test_distillation_at_high_temperature_compares_centered_logits(float64):
    def distance(temperature):
        return losses.distillation(
            jnp.asarray(LOGITS),
            jnp.asarray(LABELS),
            teacher_logits=TEACHER,
            alpha=0.0,
            temperature=temperature,
        )

    apart = LOGITS - TEACHER
    expected = np.sum((apart - apart.mean(axis=1, keepdims=True)) ** 2, axis=1) / 6
    errors = [np.abs(distance(t) - expected).max() for t in (1e3, 1e4)]
    assert errors[0] < 2e-3
    assert errors[1] == pytest.approx(errors[0] / 10, rel=0.05)  # order 1 / T


def test_the_teacher_gets_no_gradient():
    z, y = jnp.asarray(LOGITS, jnp.float32), jnp.asarray(LABELS)
    risk = jax.jit(lambda teacher: jnp.sum(losses.distillation(z, y, teacher_logits=teacher)))
    gradient = jax.grad(risk)(z + 1)
    np.testing.assert_array_equal(gradient, 0)


def test_against_torch():
    torch = pytest.importorskip("torch")
    z, y, teacher = torch.tensor(LOGITS), torch.tensor(LABELS), torch.tensor(TEACHER)
    smoothed = torch.nn.functional.cross_entropy(z, y, label_smoothing=0.3, reduction="none")
    divergence = torch.nn.functional.kl_div(
        torch.log_softmax(z / 2, 1), torch.softmax(teacher / 2, 1), reduction="none"
    ).sum(1)
    hard = torch.nn.functional.cross_entropy(z, y, reduction="none")
    logits, labels = jnp.asarray(LOGITS, jnp.float32), jnp.asarray(LABELS)
    np.testing.assert_allclose(
        losses.smoothed_cross_entropy(logits, labels, smoothing=0.3), smoothed.numpy(), rtol=1e-5
    )
    np.testing.assert_allclose(
        call("distillation", logits, labels),
        (0.3 * hard + 0.7 * 4 * divergence).numpy(),
        rtol=1e-5,
    )


# --- imbalance --------------------------------------------------------------------------------


def test_logit_adjustment_removes_the_prior(float64):
    """The training posterior is fitted by logits that carry no prior: those of balanced data."""
    likelihood = np.array([0.5, 0.3, 0.9])  # p(x | y) at one x
    joint = likelihood * COUNTS / COUNTS.sum()
    posterior, balanced = joint / joint.sum(), likelihood / likelihood.sum()

    @jax.jit
    def expected_loss(z):
        values = losses.logit_adjusted(
            jnp.broadcast_to(z, (3, 3)), jnp.arange(3), class_counts=COUNTS
        )
        return jnp.sum(posterior * values)

    gradient = jax.grad(expected_loss)(jnp.log(jnp.asarray(balanced)))
    np.testing.assert_allclose(gradient, 0, atol=1e-14)


def test_only_the_ratios_of_class_counts_matter(float64):
    z, y = jnp.asarray(LOGITS), jnp.asarray(LABELS)
    for name in ("balanced_cross_entropy", "logit_adjusted", "vector_scaling", "ldam"):
        loss_fn = getattr(losses, name)
        np.testing.assert_allclose(
            loss_fn(z, y, class_counts=100 * COUNTS), loss_fn(z, y, class_counts=COUNTS), rtol=1e-12
        )


# --- heavy tails ------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0])
def test_polynomial_tail_is_smooth_and_convex(alpha, float64):
    def loss(margin):
        return losses.polynomial_tailed(margin[None], jnp.ones(1, int), alpha=alpha, beta=0.7)[0]

    run = jax.jit(jax.vmap(jax.value_and_grad(loss)))
    values, slopes = run(0.7 + jnp.array([-1e-9, 0.0, 1e-9]))
    np.testing.assert_allclose(values, 1, atol=1e-8)
    np.testing.assert_allclose(slopes, -alpha, rtol=1e-7)
    _, slopes = run(jnp.linspace(-6, 12, 301))
    assert np.all(np.diff(slopes) > 0)


def test_soft_margins():
    z, y = jnp.asarray(LOGITS, jnp.float32), jnp.asarray(LABELS)
    p = scipy.special.softmax(LOGITS, axis=1)[np.arange(4), LABELS]
    soft_margins = jax.jit(losses.soft_margins)
    np.testing.assert_allclose(soft_margins(z, y), scipy.special.logit(p), rtol=1e-5)
    two, sign = z[:, :2], jnp.array([0, 1, 1, 0])
    expected = (LOGITS[:, 1] - LOGITS[:, 0]) * [-1, 1, 1, -1]
    np.testing.assert_allclose(soft_margins(two, sign), expected, rtol=1e-6)
    np.testing.assert_allclose(
        losses.soft_margins(two[:, 1] - two[:, 0], sign), expected, rtol=1e-6
    )


def test_importance_weights_move_the_limit_under_a_polynomial_tail_only(float64):
    """Two orthonormal inputs, weights 16 and 1: margins w^(1/4) for alpha = 2, else equal."""
    weights, labels = jnp.array([16.0, 1.0]), jnp.ones(2, int)

    def limit(loss_fn, num_steps):
        def step(params, _):
            risk, gradient = jax.value_and_grad(lambda f: weights @ loss_fn(f, labels))(params)
            return params - 0.1 / risk * gradient, None

        params, _ = jax.lax.scan(step, jnp.ones(2), length=num_steps)
        return float(params[0] / params[1])

    polynomial = functools.partial(losses.polynomial_tailed, alpha=2.0)
    assert limit(polynomial, 400) == pytest.approx(2.0, rel=1e-3)
    assert limit(losses.logistic, 4000) == pytest.approx(1.0, abs=0.03)


# --- known noise ------------------------------------------------------------------------------


def test_backward_correction_is_unbiased(float64):
    for true_class in range(3):
        z = jnp.asarray(LOGITS)
        noisy = jnp.stack(
            [
                losses.backward_corrected_cross_entropy(z, jnp.full(4, c), transition=TRANSITION)
                for c in range(3)
            ]
        )
        clean = -scipy.special.log_softmax(LOGITS, axis=1)[:, true_class]
        np.testing.assert_allclose(TRANSITION[true_class] @ np.asarray(noisy), clean, rtol=1e-12)


def test_forward_correction_is_minimized_by_the_clean_posterior(float64):
    posterior = np.array([0.2, 0.7, 0.1])

    @jax.jit
    def expected_loss(z):
        values = losses.forward_corrected_cross_entropy(
            jnp.broadcast_to(z, (3, 3)), jnp.arange(3), transition=TRANSITION
        )
        return jnp.sum(posterior @ TRANSITION * values)

    best = jnp.log(jnp.asarray(posterior))
    np.testing.assert_allclose(jax.grad(expected_loss)(best), 0, atol=1e-14)
    shifts = np.random.default_rng(0).normal(0, 0.3, (20, 3))
    assert all(expected_loss(best + shift) > expected_loss(best) for shift in shifts)


def test_an_impossible_transition_gives_no_nan():
    """Entries of zero are exact: their logarithm must not reach the gradients."""

    @jax.jit
    def risk(z, transition):
        return jnp.sum(
            losses.forward_corrected_cross_entropy(z, jnp.asarray(LABELS), transition=transition)
        )

    gradients = jax.grad(risk, argnums=(0, 1))(
        jnp.asarray(LOGITS, jnp.float32), jnp.asarray(TRANSITION, jnp.float32)
    )
    assert all(np.isfinite(g).all() for g in gradients)


# --- learned noise ----------------------------------------------------------------------------


def test_initial_transitions(float64):
    start = scipy.special.softmax(noise_layer.identity_transition(4, 0.01), axis=1)
    np.testing.assert_allclose(np.diag(start), 1.01 / 1.04, rtol=1e-12)
    np.testing.assert_allclose(start[0, 1], 0.01 / 1.04, rtol=1e-12)
    confusion = jnp.array([[6, 2, 2], [0, 5, 0], [0, 0, 0]])
    start = scipy.special.softmax(noise_layer.confusion_transition(confusion, 0.1), axis=1)
    np.testing.assert_allclose(start[0], np.array([0.7, 0.3, 0.3]) / 1.3, rtol=1e-12)
    np.testing.assert_allclose(start[1], np.array([0.1, 1.1, 0.1]) / 1.3, rtol=1e-12)
    np.testing.assert_allclose(start[2], 1 / 3, rtol=1e-12)


def test_noise_layer_by_numpy(float64):
    b = np.random.default_rng(1).normal(size=(3, 3))
    expected = scipy.special.softmax(LOGITS, axis=1) @ scipy.special.softmax(b, axis=1)
    noisy = noise_layer.transition_log_probabilities(jnp.asarray(LOGITS), jnp.asarray(b))
    np.testing.assert_allclose(np.exp(noisy), expected, rtol=1e-12)
    np.testing.assert_allclose(
        losses.cross_entropy(noisy, jnp.asarray(LABELS)),
        -np.log(expected[np.arange(4), LABELS]),
        rtol=1e-12,
    )


def test_noise_layer_is_finite_at_extremes():
    logits = 1e4 * jnp.array([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]])
    transition = 1e3 * jnp.array([[0.0, 1.0, 2.0], [0.0, 0.0, 0.0], [-1.0, 0.0, 1.0]])

    @jax.jit
    def risk(z, b):
        noisy = noise_layer.transition_log_probabilities(z, b)
        return jnp.sum(losses.cross_entropy(noisy, jnp.array([0, 2])))

    value, gradients = jax.value_and_grad(risk, argnums=(0, 1))(logits, transition)
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in gradients)


def test_the_true_noise_is_stationary(float64):
    """Over labels drawn from q T, the gradient in b vanishes at log T."""
    q = scipy.special.softmax(LOGITS, axis=1)
    transition = np.array([[0.8, 0.15, 0.05], [0.1, 0.6, 0.3], [0.25, 0.05, 0.7]])

    @jax.jit
    def expected_loss(b):
        noisy = noise_layer.transition_log_probabilities(jnp.asarray(LOGITS), b)
        return -jnp.sum((q @ transition) * noisy)

    np.testing.assert_allclose(
        jax.grad(expected_loss)(jnp.log(jnp.asarray(transition))), 0, atol=1e-13
    )


def test_the_noise_layer_is_there_in_training_only():
    def apply_fn(params, model_state, inputs, *, train, key):
        features = jnp.tanh(inputs @ params)
        return ModelOutput(features, features), {"calls": model_state["calls"] + train}

    noisy_apply = noise_layer.with_noise_layer(apply_fn)
    params = {"network": jnp.eye(3), "transition": noise_layer.identity_transition(3, 0.1)}
    inputs = jnp.asarray(LOGITS, jnp.float32)
    train, state = noisy_apply(params, {"calls": 0}, inputs, train=True, key=None)
    test, _ = noisy_apply(params, state, inputs, train=False, key=None)
    assert state == {"calls": 1}
    np.testing.assert_allclose(test.logits, np.tanh(LOGITS), rtol=1e-6)
    for output in (train, test):
        np.testing.assert_allclose(output.features, np.tanh(LOGITS), rtol=1e-6)
    mixed = scipy.special.softmax(np.tanh(LOGITS), axis=1) @ (np.eye(3) + 0.1) / 1.3
    np.testing.assert_allclose(train.logits, np.log(mixed), rtol=1e-5)


def test_the_noise_layer_learns_which_class_is_mislabeled():
    """A third of class 0 is labelled 1; training on those labels finds it in the transition."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, 600)
    inputs = jnp.asarray(4 * np.eye(3)[classes] + rng.normal(0, 0.5, (600, 3)), jnp.float32)
    flipped = (classes == 0) & (rng.random(600) < 1 / 3)
    labels = jnp.asarray(np.where(flipped, 1, classes))
    apply_fn = noise_layer.with_noise_layer(without_state(lambda params, x: x @ params))
    params = {
        "network": jnp.zeros((3, 3)),
        "transition": noise_layer.identity_transition(3, 0.1),
    }
    optimizer = optax.adam(0.05)
    step = make_train_step(apply_fn, losses.cross_entropy, uniform(), optimizer)
    state = init_train_state(jax.random.key(0), params, uniform(), optimizer)
    state, _ = jax.lax.scan(
        lambda state, _: (step(state, Batch(inputs, labels))[0], None), state, length=300
    )
    learned = scipy.special.softmax(state.params["transition"], axis=1)
    share = flipped.sum() / (classes == 0).sum()
    np.testing.assert_allclose(learned[0], [1 - share, share, 0], atol=0.05)
    assert learned[1, 1] > 0.95
    assert learned[2, 2] > 0.95


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z, y: losses.generalized_cross_entropy(z, y, q=1.5), "q must lie"),
        (
            lambda z, y: losses.truncated_generalized_cross_entropy(z, y, threshold=1.0),
            r"threshold must lie in \[0, 1\)",
        ),
        (lambda z, y: losses.truncated_cross_entropy(z, y, cutoff=0.0), "cutoff must lie"),
        (lambda z, y: losses.smoothed_cross_entropy(z, y, smoothing=-0.1), "smoothing must lie"),
        (lambda z, y: losses.bootstrap_soft(z, y, beta=1.1), "beta must lie"),
        (lambda z, y: losses.bootstrap_hard(z, y, beta=math.nan), "beta must lie"),
        (lambda z, y: losses.logit_adjusted(z, y, class_counts=np.ones(4)), "each column"),
        (lambda z, y: losses.ldam(z, y, class_counts=np.array([1, 0, 2])), "must be positive"),
        (lambda z, y: losses.ldam(z, y, class_counts=COUNTS, scale=0.0), "scale must be positive"),
        (lambda z, y: losses.polynomial_tailed(z, y, alpha=0.0), "alpha must be positive"),
        (lambda z, y: losses.polynomial_tailed(z, y, beta=math.inf), "beta must lie"),
        (lambda z, y: losses.distillation(z, y, teacher_logits=z[:2]), "same examples"),
        (
            lambda z, y: losses.distillation(z, y, teacher_logits=z, temperature=0.0),
            "temperature must be positive",
        ),
        (
            lambda z, y: losses.forward_corrected_cross_entropy(z, y, transition=TRANSITION.T),
            "needs transposing",
        ),
        (
            lambda z, y: losses.forward_corrected_cross_entropy(z, y, transition=np.eye(2)),
            "must be a matrix",
        ),
        (
            lambda z, y: losses.forward_corrected_cross_entropy(
                z, y, transition=np.eye(3)[[0, 1, 1]]
            ),
            "every label must be possible",
        ),
        (
            lambda z, y: losses.backward_corrected_cross_entropy(
                z, y, transition=np.full((3, 3), 1 / 3)
            ),
            "must be invertible",
        ),
        (lambda z, y: noise_layer.identity_transition(3, 0.0), "smoothing must be positive"),
        (lambda z, y: noise_layer.confusion_transition(z), "square matrix"),
        (lambda z, y: noise_layer.confusion_transition(-jnp.ones((2, 2))), "not negative"),
        (
            lambda z, y: noise_layer.transition_log_probabilities(z, jnp.eye(2)),
            "the noise layer needs",
        ),
        (lambda z, y: losses.smoothed_cross_entropy(z[:, 0], y), "use `logistic`"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.asarray(LOGITS, jnp.float32), jnp.asarray(LABELS))
