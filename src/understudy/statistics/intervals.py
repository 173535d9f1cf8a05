"""Intervals of a share, of a mean, and of the difference of two systems on the same items."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from understudy.statistics.blocks import Floats, block_sums, mean_variance
from understudy.statistics.resampling import bootstrap
from understudy.statistics.student import t_quantile

FEW = 5
"""Blocks that tell two systems apart, below which resampling them alone says too much."""
FEWEST = 3
"""Blocks that differ, below which a variance says too much."""


class Interval(NamedTuple):
    """Low and high end, and how they were found."""

    low: float
    high: float
    method: str


def wilson(right: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Interval for a share of ``right`` in ``n``, as (low, high); (0, 1) if n is 0.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference": unlike
    the textbook interval it holds its level near 0 and 1 and for small n.
    """
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, spread = right / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = sqrt(share * (1 - share) * spread + spread * spread / 4) / (1 + spread)
    # at the ends the formula gives 0 and 1 but for rounding
    low = 0.0 if right == 0 else centre - half
    return low, 1.0 if right == n else centre + half


def wilson_mean(
    values: Sequence[float] | Floats,
    blocks: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Wilson's interval for a mean of scores between 0 and 1, of items that may come in blocks.

    As many right-or-wrong items are counted as would give the mean this variance: fewer than there
    are where items of a block agree (Rao & Scott 1992, "A simple method for the analysis of
    clustered binary data"), more where scores lie between. They are taken for as many fewer as
    Student's t is wider than the normal (Korn & Graubard 1998, "Confidence intervals for
    proportions with small expected number of positive counts estimated from survey data"). Where
    fewer than ``FEWEST`` blocks differ from the commonest score, they say little of the variance,
    and no more are counted than there are blocks.
    """
    sums, sizes = block_sums(values, blocks)
    number, n = len(sums), float(sizes.sum())
    if number == 0:
        return 0.0, 1.0
    mean = min(1.0, max(0.0, float(sums.sum()) / n))
    variance = mean_variance(sums, sizes)
    worth = mean * (1 - mean) / variance if variance > 0 else float(number)
    if _differing(sums / sizes) < FEWEST:
        worth = min(worth, float(number))
    else:
        share = (1 + confidence) / 2
        worth *= (NormalDist().inv_cdf(share) / t_quantile(share, number - 1)) ** 2
        if np.isin(values, (0.0, 1.0)).all():
            worth = min(worth, n)  # blocks are never more evidence than their items
    return wilson(worth if mean == 1 else mean * worth, worth, confidence)


def _differing(means: Floats) -> int:
    """How many blocks differ from the commonest mean."""
    _, counts = np.unique(np.round(means, 12), return_counts=True)
    return int(len(means) - counts.max())


def mean_interval(
    values: Sequence[float] | Floats,
    blocks: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> Interval:
    """Interval of the mean of scores between 0 and 1; (0, 1) if there are none.

    Wilson's where every score is 0 or 1 and every item stands for itself, else ``wilson_mean``.
    Over shares of JSON fields and skewed scores it covers better than the bootstrap, which is too
    narrow for few items near 0 and 1 (bench/coverage.py tries both).
    """
    given = np.asarray(values, dtype=float)
    single = blocks is None or len(set(blocks)) == len(given)
    if single and np.isin(given, (0.0, 1.0)).all():
        return Interval(*wilson(float(given.sum()), len(given), confidence), "Wilson")
    found = wilson_mean(given, None if single else blocks, confidence)
    return Interval(*found, "Wilson, by variance" if single else "Wilson, by blocks")


def paired_shares(
    only_first: int, only_second: int, n: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of the difference of two shares on the same ``n`` items; (-1, 1) if n is 0.

    Tango 1998, "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design": the differences that the score test does not refuse. Agreement on every
    one of few items is not taken for certainty.
    """
    if n == 0:
        return -1.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)

    def far(difference: float) -> float:
        """How many standard errors the data lie from that difference."""
        linear = (2 * n - only_first + only_second) * difference - only_first - only_second
        constant = -only_second * difference * (1 - difference)
        root = sqrt(max(0.0, linear * linear - 8 * n * constant))
        variance = 2 * (root - linear) / (4 * n) + difference * (1 - difference)
        return (only_first - only_second - n * difference) / sqrt(max(n * variance, 1e-300))

    seen = (only_first - only_second) / n
    low = high = seen
    below, above = -1.0, 1.0
    for _ in range(60):
        middle = (below + low) / 2
        below, low = (middle, low) if far(middle) > z else (below, middle)
        middle = (above + high) / 2
        above, high = (middle, high) if far(middle) < -z else (above, middle)
    return low, high


def difference_interval(
    differences: Sequence[float] | Floats,
    blocks: Sequence[Hashable] | None = None,
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval of the mean of differences between -1 and 1, of two systems on the same items.

    Tango's where every item is right or wrong and stands for itself. Else by paired bootstrap of
    the differences; where fewer than ``FEW`` blocks differ at all, stretched to Tango's for as many
    blocks.
    """
    given = np.asarray(differences, dtype=float)
    single = blocks is None or len(set(blocks)) == len(given)
    blocks = None if single else blocks
    sums, _ = block_sums(given, blocks)
    for_first, for_second = int((sums > 0).sum()), int((sums < 0).sum())
    low, high = paired_shares(for_first, for_second, len(sums), confidence)
    if single and np.isin(given, (-1.0, 0.0, 1.0)).all():
        return Interval(low, high, "Tango")
    found = bootstrap(given, blocks, confidence=confidence, seed=seed)
    if for_first + for_second < FEW:
        found = min(low, found[0]), max(high, found[1])
    return Interval(*found, "paired bootstrap" if single else "paired bootstrap, by blocks")
