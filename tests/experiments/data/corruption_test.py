"""Label noise, class imbalance, and the texts that name them."""

import numpy as np
import pytest
from scipy.stats import binomtest, chisquare

from experiments.data import (
    background_flip,
    long_tail,
    pairwise_flip,
    parse_imbalance,
    parse_noise,
    step_imbalance,
    two_class_imbalance,
    uniform_flip,
)
from experiments.data.corruption import NOISES
from experiments.data.imbalance import IMBALANCES, halving
from experiments.data.two_classes import TwoClass

N, C = 10_000, 10
TRUTH = np.random.default_rng(0).permutation(np.arange(N) % C)
FLIPS = {
    "uniform": uniform_flip,
    "background": lambda *args: background_flip(*args, background=2),
    "pairwise": pairwise_flip,
}
SAMPLERS = [long_tail, step_imbalance]


def counts_of(kept, labels=TRUTH, num_classes=C):
    return np.bincount(labels[kept], minlength=num_classes)


# --- label noise


@pytest.mark.parametrize("flip", FLIPS.values(), ids=FLIPS)
def test_flips_are_deterministic_and_leave_the_truth_alone(flip):
    before = TRUTH.copy()
    given, is_corrupted = flip(TRUTH, C, 0.3, 1)
    np.testing.assert_array_equal(TRUTH, before)
    np.testing.assert_array_equal(is_corrupted, given != TRUTH)
    assert given.dtype == np.int32
    assert is_corrupted.dtype == bool
    np.testing.assert_array_equal(given, flip(TRUTH, C, 0.3, 1).labels)
    assert not np.array_equal(given, flip(TRUTH, C, 0.3, 2).labels)


@pytest.mark.parametrize("flip", FLIPS.values(), ids=FLIPS)
def test_rate_zero_changes_nothing_and_rate_one_everything_it_can(flip):
    assert not flip(TRUTH, C, 0.0, 0).is_corrupted.any()
    is_corrupted = flip(TRUTH, C, 1.0, 0).is_corrupted
    expected = TRUTH != 2 if flip is FLIPS["background"] else np.ones(N, bool)
    np.testing.assert_array_equal(is_corrupted, expected)


@pytest.mark.parametrize("kind", FLIPS)
def test_the_rate_is_the_probability_of_a_flip(kind):
    eligible = TRUTH != 2 if kind == "background" else np.ones(N, bool)
    wrong = FLIPS[kind](TRUTH, C, 0.4, 5).is_corrupted
    assert binomtest(int(wrong.sum()), int(eligible.sum()), 0.4).pvalue > 1e-3


def test_uniform_flips_reach_every_other_class_equally():
    given, is_corrupted = uniform_flip(TRUTH, C, 0.9, 0)
    offsets = (given - TRUTH)[is_corrupted] % C
    assert chisquare(np.bincount(offsets, minlength=C)[1:]).pvalue > 1e-3


def test_background_and_pairwise_targets():
    given, is_corrupted = background_flip(TRUTH, C, 0.5, 0, background=7)
    assert set(given[is_corrupted]) == {7}
    given, is_corrupted = pairwise_flip(TRUTH, C, 0.5, 0)
    np.testing.assert_array_equal(given[is_corrupted], (TRUTH[is_corrupted] + 1) % C)


def test_noise_on_no_labels():
    assert uniform_flip(np.zeros(0, int), C, 0.5, 0).labels.shape == (0,)


@pytest.mark.parametrize("rate", [-0.1, 1.1, np.nan])
@pytest.mark.parametrize("flip", FLIPS.values(), ids=FLIPS)
def test_rates_are_checked(flip, rate):
    with pytest.raises(ValueError, match=r"noise rate must lie in \[0, 1\]"):
        flip(TRUTH, C, rate, 0)


@pytest.mark.parametrize(
    ("labels", "num_classes", "error", "message"),
    [
        (np.zeros(3), 2, TypeError, "integers, got dtype float64"),
        (np.array([0, 5]), 3, ValueError, r"0 \.\. 2; 1 do not, such as 5"),
        (np.array([-1, 0]), 3, ValueError, "such as -1"),
        (np.zeros((2, 2), int), 3, ValueError, r"shape \[N\], got shape \[2, 2\]"),
        (np.zeros(2, int), 1, ValueError, "num_classes must be at least 2"),
    ],
)
@pytest.mark.parametrize("function", [*FLIPS.values(), *SAMPLERS])
def test_labels_are_checked(function, labels, num_classes, error, message):
    third = 0.5 if function in FLIPS.values() else 2.0
    with pytest.raises(error, match=message):
        function(labels, num_classes, third, 0)


def test_background_is_checked():
    with pytest.raises(ValueError, match=r"background must lie in 0 \.\. 9, got 10"):
        background_flip(TRUTH, C, 0.5, 0, background=10)


# --- imbalance


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_return_sorted_positions_that_follow_the_seed(sampler):
    kept = sampler(TRUTH, C, 10, 0)
    assert np.all(np.diff(kept) > 0)
    np.testing.assert_array_equal(kept, sampler(TRUTH, C, 10, 0))
    other = sampler(TRUTH, C, 10, 1)
    assert not np.array_equal(kept, other)
    np.testing.assert_array_equal(counts_of(kept), counts_of(other))
    np.testing.assert_array_equal(sampler(TRUTH, C, 1, 0), np.arange(N))


def test_long_tail_counts_by_hand():
    labels = np.repeat(np.arange(3), 100)
    np.testing.assert_array_equal(counts_of(long_tail(labels, 3, 100, 0), labels, 3), [100, 10, 1])
    assert counts_of(long_tail(TRUTH, C, 10, 0))[[0, -1]].tolist() == [1000, 100]


def test_long_tail_takes_the_largest_feasible_head():
    available = np.array([90, 20, 50, 8])
    labels = np.repeat(np.arange(4), available)
    profile = 16.0 ** (-np.arange(4) / 3)
    largest = max(n for n in range(1, 91) if np.all(n * profile <= available))
    counts = counts_of(long_tail(labels, 4, 16, 0), labels, 4)
    np.testing.assert_array_equal(counts, np.rint(largest * profile))
    assert largest < 90


def test_long_tail_can_shuffle_the_ranks():
    shuffled = [counts_of(long_tail(TRUTH, C, 10, seed, shuffle_classes=True)) for seed in range(5)]
    assert len({tuple(counts) for counts in shuffled}) > 1
    for counts in shuffled:
        np.testing.assert_array_equal(
            np.sort(counts), np.sort(counts_of(long_tail(TRUTH, C, 10, 0)))
        )


def test_step_counts_by_hand():
    assert counts_of(step_imbalance(TRUTH, C, 10, 0)).tolist() == [1000] * 5 + [100] * 5
    labels = np.repeat(np.arange(3), 6)
    assert counts_of(step_imbalance(labels, 3, 3, 0), labels, 3).tolist() == [6, 6, 2]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_class_is_emptied(sampler):
    labels = np.repeat(np.arange(4), 5)
    with pytest.raises(ValueError, match="would be left with no example; lower the ratio"):
        sampler(labels, 4, 100, 0)
    assert counts_of(sampler(labels, 4, 100, 0, keep_one=True), labels, 4)[-1] == 1
    with pytest.raises(ValueError, match="class 4 has no example to begin with"):
        sampler(labels, 5, 1, 0)
    assert counts_of(sampler(labels, 5, 1, 0, keep_one=True), labels, 5).tolist() == [5] * 4 + [0]
    assert sampler(labels[:0], 4, 2, 0, keep_one=True).size == 0


def test_halving_is_that_of_the_paper():
    labels = np.repeat(np.arange(C), 6000)
    counts = counts_of(halving(labels, C, 0), labels)
    expected = [12, 23, 47, 94, 188, 375, 750, 1500, 3000, 6000]  # Santiago et al., section 4.1.1
    assert np.sort(counts).tolist() == expected
    assert counts.sum() == 11_989


def test_halving_follows_its_seeds():
    kept = halving(TRUTH, C, 0)
    assert np.all(np.diff(kept) > 0)
    np.testing.assert_array_equal(kept, halving(TRUTH, C, 0))
    assert len({tuple(counts_of(halving(TRUTH, C, seed))) for seed in range(5)}) == 5
    one, other = (halving(TRUTH, C, seed, order_seed=7) for seed in (0, 1))
    np.testing.assert_array_equal(counts_of(one), counts_of(other))
    assert not np.array_equal(one, other)
    first = [np.argmax(counts_of(halving(TRUTH, C, 0, order_seed=seed))) for seed in range(200)]
    assert chisquare(np.bincount(first, minlength=C)).pvalue > 1e-3


def test_halving_starts_at_the_smallest_class_so_that_all_orders_keep_equally_many():
    available = np.array([40, 20, 90, 33])
    labels = np.repeat(np.arange(4), available)
    for seed in range(10):
        counts = counts_of(halving(labels, 4, seed), labels, 4)
        assert np.sort(counts).tolist() == [2, 5, 10, 20]


def test_halving_and_classes_that_are_small_or_absent():
    labels = np.repeat(np.arange(4), 4)
    with pytest.raises(ValueError, match="left with no example; 4 classes need larger ones"):
        halving(labels, 4, 0)
    counts = counts_of(halving(labels, 4, 0, keep_one=True), labels, 4)
    assert np.sort(counts).tolist() == [1, 1, 2, 4]
    with pytest.raises(ValueError, match="class 4 has no example to begin with"):
        halving(np.repeat(np.arange(4), 9), 5, 0)
    without = np.repeat([0, 1, 3], 8)  # class 2 takes no rank, and the others keep their order
    for seed in range(10):
        labels_of_all = np.repeat(np.arange(4), 16)
        whole = counts_of(halving(labels_of_all, 4, 0, order_seed=seed), labels_of_all, 4)
        counts = counts_of(halving(without, 4, 0, order_seed=seed, keep_one=True), without, 4)
        assert np.sort(counts).tolist() == [0, 2, 4, 8]
        np.testing.assert_array_equal(np.argsort(counts[[0, 1, 3]]), np.argsort(whole[[0, 1, 3]]))
    assert halving(labels[:0], 4, 0, keep_one=True).size == 0


@pytest.mark.parametrize("ratio", [0.5, np.nan, np.inf])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_ratios_are_checked(sampler, ratio):
    with pytest.raises(ValueError, match=r"imbalance ratio .* is >= 1"):
        sampler(TRUTH, C, ratio, 0)


@pytest.mark.parametrize(("share", "expected"), [(0.9, (100, 900)), (0.995, (5, 995))])
def test_two_class_counts(share, expected):
    kept = two_class_imbalance(TRUTH, 0, num_examples=1000, majority_share=share)
    counts = counts_of(kept)
    assert (counts[4], counts[9]) == expected
    assert counts.sum() == 1000
    assert np.all(np.diff(kept) > 0)


def test_two_class_counts_of_the_paper():
    labels = np.repeat([4, 9], 5842)
    counts = counts_of(two_class_imbalance(labels, 0, majority_share=0.995), labels)
    assert (counts[4], counts[9]) == (25, 4975)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"majority_share": 0.9}, "500 of class 4 and 4500 of class 9; there are 1000 and 1000"),
        ({"majority_share": 1.0}, r"strictly in \(0, 1\), got 1.0"),
        ({"majority_share": np.nan}, r"strictly in \(0, 1\), got nan"),
        ({"majority_share": 0.999, "num_examples": 10}, "leave one class with no example"),
        ({"majority_share": 0.9, "minority": 9}, "two different classes"),
        ({"majority_share": 0.9, "minority": 12}, "class 12 .* there are 0"),
    ],
)
def test_two_class_arguments_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        two_class_imbalance(TRUTH, 0, **options)


# --- specs


@pytest.mark.parametrize(
    ("spec", "direct"),
    [
        ("uniform:0.4", lambda: uniform_flip(TRUTH, C, 0.4, 3)),
        ("background:0.4", lambda: background_flip(TRUTH, C, 0.4, 3, background=0)),
        ("background:0.4:3", lambda: background_flip(TRUTH, C, 0.4, 3, background=3)),
        ("pairwise:0.3", lambda: pairwise_flip(TRUTH, C, 0.3, 3)),
        ("none", lambda: uniform_flip(TRUTH, C, 0.0, 3)),
    ],
)
def test_noise_specs(spec, direct):
    for parsed, expected in zip(parse_noise(spec)(TRUTH, C, 3), direct(), strict=True):
        np.testing.assert_array_equal(parsed, expected)


@pytest.mark.parametrize(
    ("spec", "direct"),
    [
        ("long_tail:10", lambda: long_tail(TRUTH, C, 10, 3)),
        ("step:10", lambda: step_imbalance(TRUTH, C, 10, 3)),
        ("halving", lambda: halving(TRUTH, C, 3)),
        ("none", lambda: np.arange(N)),
    ],
)
def test_imbalance_specs(spec, direct):
    np.testing.assert_array_equal(parse_imbalance(spec)(TRUTH, C, 3), direct())


def test_specs_are_readable_and_comparable():
    assert parse_noise("background:0.4:3") == (NOISES["background"], {"rate": 0.4, "background": 3})
    assert parse_noise("background:0.4").values == {"rate": 0.4, "background": 0}
    assert parse_imbalance("long_tail:10") == (IMBALANCES["long_tail"], {"ratio": 10.0})
    assert parse_imbalance("halving") == (IMBALANCES["halving"], {})
    assert parse_imbalance("4v9:0.995") == TwoClass(4, 9, 0.995)
    assert repr(parse_imbalance("4v9:0.995")) == (
        "TwoClass(minority=4, majority=9, majority_share=0.995)"
    )
    assert parse_imbalance("3v8:0.9").relabel(np.array([8, 3, 0])).tolist() == [1, 0, -1]


def test_how_specs_are_written():
    assert [kind.syntax for kind in NOISES.values()] == [
        *("none", "uniform:RATE", "background:RATE[:CLASS]", "pairwise:RATE")
    ]
    assert [kind.syntax for kind in IMBALANCES.values()] == [
        *("none", "long_tail:RATIO", "step:RATIO", "halving", "4v9:SHARE")
    ]


@pytest.mark.parametrize(
    ("parse", "spec", "message"),
    [
        (parse_noise, "gaussian:1", "unknown noise 'gaussian:1'; known are none, uniform:RATE"),
        (parse_noise, "uniform", "unknown noise 'uniform'; .*did you mean 'uniform:RATE'"),
        (parse_noise, "uniform:0.4:1", "unknown noise 'uniform:0.4:1'"),
        (parse_imbalance, "4v9", "unknown imbalance '4v9'; .*, 4v9:SHARE"),
        (parse_imbalance, "4v9:x", "'x' in '4v9:x' is not a number"),
        (parse_noise, "uniform:x", "'x' in 'uniform:x' is not a number"),
        (parse_noise, "uniform:1.5", r"lie in \[0, 1\]"),
        (parse_noise, "background:0.4:2.5", "'2.5' in 'background:0.4:2.5' is not an integer"),
        (
            parse_imbalance,
            "tail:10",
            "unknown imbalance 'tail:10'; known are none, long_tail:RAT",
        ),
        (parse_imbalance, "halving:2", "unknown imbalance 'halving:2'; .* halving, 4v9:SHARE"),
        (parse_imbalance, "long_tail:0.1", "ratio .* is >= 1, got 0.1"),
        (parse_imbalance, "4v4:0.9", "two different classes"),
        (parse_imbalance, "4v9:1", r"strictly in \(0, 1\)"),
    ],
)
def test_bad_specs(parse, spec, message):
    with pytest.raises(ValueError, match=message):
        parse(spec)
