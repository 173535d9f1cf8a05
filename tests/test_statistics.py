"""Intervals, tests, power and agreement: against scipy and statsmodels, and by brute force."""

from __future__ import annotations

import importlib.util
import math
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from scipy.stats._resampling import BootstrapResult
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import normal_sample_size_one_tail
from statsmodels.stats.proportion import proportion_confint

from understudy.statistics import (
    bootstrap,
    difference_interval,
    holm,
    items_needed,
    kappa,
    mcnemar_exact,
    mean_interval,
    more_items,
    paired_shares,
    ppi,
    sign_flip,
    smallest_difference,
    wilson,
    wilson_mean,
)
from understudy.statistics.resampling import bca, kinds_of, percentile, resampled_means, widened
from understudy.statistics.student import t_cdf, t_quantile

NEAR = {"rel": 1e-9, "abs": 1e-9}
counts = st.integers(0, 400)
tables = st.tuples(counts, counts)
levels = st.sampled_from([0.8, 0.9, 0.95, 0.99])
scores = st.lists(st.integers(0, 8).map(lambda eighths: eighths / 8), min_size=3, max_size=60)


# -- equal to scipy and statsmodels ------------------------------------------------------------


@given(tables, levels)
def test_wilson_is_that_of_statsmodels(table, confidence):
    right, wrong = table
    if right + wrong:
        theirs = proportion_confint(right, right + wrong, 1 - confidence, method="wilson")
        assert wilson(right, right + wrong, confidence) == pytest.approx(theirs, **NEAR)


@given(tables)
def test_mcnemar_is_that_of_statsmodels_and_of_the_binomial_test(table):
    b, c = table
    theirs = mcnemar([[0, b], [c, 0]], exact=True).pvalue if b + c else 1.0
    assert mcnemar_exact(b, c) == pytest.approx(theirs, **NEAR)
    if b + c:
        assert mcnemar_exact(b, c) == pytest.approx(stats.binomtest(b, b + c).pvalue, **NEAR)


@given(st.floats(-30, 30), st.integers(1, 2000), st.floats(0.5, 0.9999))
def test_students_t_is_that_of_scipy(t, freedom, share):
    assert t_cdf(t, freedom) == pytest.approx(stats.t.cdf(t, freedom), **NEAR)
    assert t_quantile(share, freedom) == pytest.approx(stats.t.ppf(share, freedom), **NEAR)


@given(scores, levels)
@settings(max_examples=40)
def test_bootstrap_intervals_are_those_of_scipy_for_the_same_resamples(values, confidence):
    if len(set(values)) < 2:
        return
    kinds = kinds_of(values)
    means = resampled_means(kinds, resamples=999)
    drawn = BootstrapResult(None, means, None)
    for method, ours in (("percentile", percentile), ("BCa", None)):
        theirs = stats.bootstrap(
            (values,),
            np.mean,
            n_resamples=0,
            confidence_level=confidence,
            method=method,
            bootstrap_result=drawn,
        ).confidence_interval
        found = (
            ours(means, confidence=confidence) if ours else bca(means, kinds, confidence=confidence)
        )
        assert found == pytest.approx((theirs.low, theirs.high), **NEAR)


@given(st.lists(st.integers(-4, 4).map(lambda quarters: quarters / 4), min_size=2, max_size=10))
@settings(max_examples=40)
def test_the_sign_flip_test_is_scipys_exact_permutation_test(differences):
    theirs = stats.permutation_test(
        (differences, np.zeros(len(differences))),
        lambda one, two: one.mean() - two.mean(),
        permutation_type="samples",
        n_resamples=np.inf,
    ).pvalue
    assert sign_flip(differences) == pytest.approx(theirs, **NEAR)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(max_examples=6)  # statsmodels collects garbage in each
def test_holm_is_that_of_statsmodels(p_values):
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1], **NEAR)


@given(st.lists(st.tuples(*[st.sampled_from("abc")] * 2), min_size=3, max_size=80))
def test_kappa_is_that_of_statsmodels(pairs):
    first, second = zip(*pairs, strict=True)
    found = kappa(first, second)
    table = np.zeros((3, 3))
    for one, two in pairs:
        table["abc".index(one), "abc".index(two)] += 1
    assert found.agreement == pytest.approx(np.trace(table) / len(pairs))
    if len({*first, *second}) == 1:
        assert found[:3] == (0, -1, 1)
        return
    with np.errstate(invalid="ignore"):  # where it gives no standard error: rounding below 0
        theirs = cohens_kappa(table)
    assert found.value == pytest.approx(theirs.kappa, **NEAR)
    near = 1e-9 if theirs.var_kappa > 1e-9 else 1e-7  # the root of a rounding error
    for confidence in (0.95, 0.99):
        wide = stats.norm.ppf((1 + confidence) / 2) * math.sqrt(max(0, theirs.var_kappa))
        ends = max(-1, theirs.kappa - wide), min(1, theirs.kappa + wide)
        assert kappa(first, second, confidence)[1:3] == pytest.approx(ends, rel=1e-9, abs=near)


@given(st.floats(0.01, 0.4), st.floats(0.01, 1.0), st.sampled_from([0.8, 0.9]))
def test_items_needed_are_those_of_statsmodels(difference, spread, power):
    spread = max(spread, difference)
    deviation = math.sqrt(spread - difference**2)
    theirs = normal_sample_size_one_tail(
        difference, power, 0.025, std_null=math.sqrt(spread), std_alternative=deviation
    )
    assert items_needed(difference, spread, power=power) == pytest.approx(theirs, **NEAR)


@given(counts, counts, counts, levels)
def test_tangos_ends_are_where_the_score_test_just_refuses(b, c, same, confidence):
    """With the variance found by maximising the likelihood of the difference, by brute force."""
    n, z = b + c + same, stats.norm.ppf((1 + confidence) / 2)
    if n == 0:
        return
    low, high = paired_shares(b, c, n, confidence)
    assert -1 <= low <= (b - c) / n <= high <= 1
    if b == c == 0:
        assert (low, high) == pytest.approx((-(z**2) / (n + z**2), z**2 / (n + z**2)), **NEAR)
    assert paired_shares(c, b, n, confidence) == pytest.approx((-high, -low), **NEAR)
    for end, sign in ((low, 1), (high, -1)):
        if abs(end) > 0.999:
            continue

        def likelihood(q21: float, end: float = end) -> float:
            q12 = q21 + end
            parts = ((b, q12), (c, q21), (same, 1 - q12 - q21))
            return -sum(k * math.log(max(q, 1e-300)) for k, q in parts if k)

        most = optimize.minimize_scalar(
            likelihood,
            bounds=(max(0, -end), (1 - end) / 2),
            method="bounded",
            options={"xatol": 1e-13},
        ).x
        error = math.sqrt(max(2 * most + end * (1 - end), 1e-300) / n)
        assert sign * ((b - c) / n - end) / error == pytest.approx(z, rel=2e-3)


# -- blocks ------------------------------------------------------------------------------------


@given(scores, st.integers(2, 4))
@settings(max_examples=30)
def test_an_item_repeated_is_no_more_evidence(values, times):
    """Every item so often over, in blocks, is worth what it was worth alone, and never more."""
    repeated = [value for value in values for _ in range(times)]
    blocks = [at for at in range(len(values)) for _ in range(times)]
    alone = mean_interval(values)
    together = wilson_mean(repeated, blocks)
    if alone.method != "Wilson":  # which knows the variance of right and wrong without a t
        assert together == pytest.approx(alone[:2], abs=1e-9)
    else:
        assert together[1] - together[0] > alone.high - alone.low - 1e-9
    differences = [value - 0.5 for value in values]
    twice = [value - 0.5 for value in repeated]
    assert sign_flip(twice, blocks) == pytest.approx(sign_flip(differences), abs=1e-9)
    kinds, of_blocks = kinds_of(differences), kinds_of(twice, blocks)
    assert of_blocks.counts.tolist() == kinds.counts.tolist()
    assert bootstrap(twice, blocks) == pytest.approx(bootstrap(differences), abs=1e-9)


def test_blocks_that_agree_widen_the_interval_and_those_that_do_not_leave_it():
    right = [1.0] * 60 + [0.0] * 40
    alike = [at // 5 for at in range(100)]
    mixed = np.random.default_rng(0).permutation(alike)
    low, high = wilson(60, 100)
    wide = wilson_mean(right, alike)
    assert wide[0] < low - 0.05
    assert wide[1] > high + 0.05
    assert wilson_mean(right, mixed) == pytest.approx((low, high), abs=0.03)
    assert mean_interval(right, alike).method == "Wilson, by blocks"
    assert mean_interval(right, range(100)) == (low, high, "Wilson")


def test_where_all_are_right_each_block_counts_once():
    assert wilson_mean([1.0] * 40, [at // 4 for at in range(40)]) == wilson(10, 10)
    assert wilson_mean([], []) == (0, 1)


# -- where there is little to go by ------------------------------------------------------------


def test_agreement_on_all_of_few_items_is_not_certainty():
    low, high, method = difference_interval([0.0] * 30)
    assert method == "Tango"
    assert low == pytest.approx(-high)
    assert 0.05 < high < 0.15
    low, high, _ = mean_interval([0.5] * 30)
    assert (low < 0.4, high > 0.6) == (True, True)
    low, high, _ = difference_interval([0.0] * 29 + [0.5])
    assert low < -0.03
    assert sign_flip([0.0] * 30) == 1
    assert mean_interval([])[:2] == (0, 1)
    assert paired_shares(0, 0, 0) == (-1, 1)
    with pytest.raises(ValueError, match="no values"):
        bootstrap([])


def test_a_larger_sample_gives_a_narrower_interval_around_the_mean():
    widths = []
    for n in (30, 300, 3000):
        values = [((at * 7) % 10) / 9 for at in range(n)]
        low, high, _ = mean_interval(values)
        assert low < np.mean(values) < high
        widths.append(high - low)
    assert widths[0] > 2.5 * widths[1] > 6 * widths[2]
    assert widened(0.95, 30) > widened(0.95, 300) > 0.95


def test_many_different_values_are_put_together_without_moving_the_mean():
    values = np.random.default_rng(3).random(5000) ** 2
    kinds = kinds_of(values)
    assert len(kinds.counts) <= 64
    assert kinds.mean == pytest.approx(values.mean(), rel=1e-12)
    low, high = bootstrap(values)
    error = values.std(ddof=1) / math.sqrt(5000)
    assert (high - low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.04)


def test_monte_carlo_agrees_with_counting_every_flip():
    few = [0.25, -0.5, 0.75, 0.5, 0.25, -0.25, 1.0, 0.5, -0.75, 0.25, 0.5, 0.25, -0.25, 0.5]
    exact = sign_flip(few)
    from understudy.statistics import paired

    sizes = paired.EXACT
    try:
        paired.EXACT = 0
        assert sign_flip(few) == pytest.approx(exact, abs=0.02)
        assert sign_flip(few) == sign_flip(few), "the seed is fixed"
        assert sign_flip([0.1, 0.2] * 500) == pytest.approx(1 / 10_001)
    finally:
        paired.EXACT = sizes


# -- power -------------------------------------------------------------------------------------


@given(st.integers(10, 5000), st.floats(0, 1))
def test_the_smallest_difference_needs_just_these_items(n, spread):
    smallest = smallest_difference(n, spread)
    assert 0 < smallest <= 1
    if smallest < 1:
        assert items_needed(smallest, spread) == pytest.approx(n, rel=1e-6)
        assert smallest_difference(2 * n, spread) < smallest


def test_the_power_is_what_it_says():
    """Of sets with just the smallest difference, about 80 % are significant by McNemar's test."""
    n, spread = 200, 0.2
    difference = smallest_difference(n, spread)
    chance = np.random.default_rng(0)
    shares = [(spread + difference) / 2, (spread - difference) / 2, 1 - spread]
    drawn = chance.multinomial(n, shares, size=2000)
    found = np.mean([mcnemar_exact(int(b), int(c)) < 0.05 for b, c, _ in drawn])
    assert 0.72 < found < 0.84  # the exact test is a little careful


def test_how_many_more_items_would_tell():
    assert more_items(100, 0.05, 0.1) == math.ceil(items_needed(0.05, 0.1) - 100) > 0
    assert more_items(1000, 0.3, 0.3) == 0
    assert more_items(30, 0.0, 0.2) is None
    assert more_items(30, 0.0001, 0.2) is None
    assert smallest_difference(0, 0.5) == smallest_difference(3, 0.5) == 1


# -- agreement ---------------------------------------------------------------------------------


def test_kappa_needs_two_lists_of_the_same_items():
    assert kappa("aabb", "aabb").value == 1
    assert kappa([True, False], [False, True]).value < 0
    for first, second in (([], []), ("ab", "a")):
        with pytest.raises(ValueError, match="two lists"):
            kappa(first, second)


def test_a_judge_that_knows_narrows_the_interval_and_one_that_guesses_is_ignored():
    chance = np.random.default_rng(5)
    truth = (chance.random(400) < 0.7).astype(float)
    labels, rest = truth[:30], truth[30:]
    alone = ppi(labels, labels, [])
    good = ppi(labels, labels, rest)
    assert alone.weight == 0
    assert good.weight > 0.8
    assert good.high - good.low < 0.45 * (alone.high - alone.low)
    guessed = (chance.random(400) < 0.5).astype(float)
    noise = ppi(labels, guessed[:30], guessed[30:])
    assert noise.weight < 0.3
    assert alone.value == pytest.approx(labels.mean())
    assert noise.high - noise.low < 1.05 * (alone.high - alone.low)
    with pytest.raises(ValueError, match="two labels"):
        ppi([1], [1], [1, 0])


def test_a_judge_that_flatters_is_corrected():
    """It calls everything right that is, and half of what is wrong: its own mean is far off."""
    chance = np.random.default_rng(11)
    held = []
    for _ in range(400):
        truth = (chance.random(600) < 0.5).astype(float)
        judged = np.maximum(truth, chance.random(600) < 0.5)
        found = ppi(truth[:100], judged[:100], judged[100:])
        held.append(found.low <= 0.5 <= found.high)
        assert judged.mean() > 0.65
    assert 0.915 < np.mean(held) < 0.985


# -- small simulations; the long ones are in bench/coverage.py ---------------------------------


def test_wilson_covers_on_average_over_the_rates():
    """Exactly, by the binomial distribution: 95 % intervals cover 93.5 to 97 % on average."""
    for n in (30, 100, 500):
        ends = np.array([wilson(right, n) for right in range(n + 1)])
        covered = []
        for rate in np.arange(0.05, 0.951, 0.05):
            inside = (ends[:, 0] <= rate) & (rate <= ends[:, 1])
            covered.append(stats.binom.pmf(np.arange(n + 1), n, rate)[inside].sum())
        assert 0.935 <= np.mean(covered) <= 0.97


def test_no_test_finds_more_than_one_in_twenty_where_there_is_nothing():
    chance = np.random.default_rng(2)
    alarms = []
    for _ in range(1500):
        differences = chance.integers(-4, 5, size=40) / 4
        alarms.append(sign_flip(differences, draws=999) < 0.05)
    assert np.mean(alarms) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1500)


def test_ten_thousand_resamples_of_500_items_take_milliseconds():
    values = np.random.default_rng(1).integers(0, 2, size=500).astype(float)
    bootstrap(values)
    started = time.perf_counter()
    bootstrap(values)
    assert time.perf_counter() - started < 0.1  # measured: 0.0014 s


@pytest.mark.sweep
def test_intervals_cover_and_verdicts_do_not_cry_wolf():
    """The trials of bench/coverage.py: those of the report, on 1,000 sets for each rate."""
    place = Path(__file__).parent.parent / "bench" / "coverage.py"
    found = importlib.util.spec_from_file_location("coverage_bench", place)
    bench = importlib.util.module_from_spec(found)
    sys.modules["coverage_bench"] = bench
    found.loader.exec_module(bench)
    for trial in bench.TRIALS:
        if trial.name.startswith("(not used)"):
            continue
        for n in bench.SIZES:
            average, _, _ = bench.coverage(trial, n, 53 if trial.slow else 1000, seed=1)
            few_blocks = "blocks" in trial.name and n == 30  # ten blocks, the careful side
            assert 0.935 - 0.01 * trial.slow <= average, (trial.name, n)
            assert average <= (0.98 if few_blocks or trial.slow else 0.97), (trial.name, n)
    for alarm in bench.ALARMS:
        assert bench.false_alarms(alarm, 100, 400, seed=1) <= 0.05 + 3 * 0.011, alarm.name
