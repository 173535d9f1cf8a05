"""Bootstrap intervals of a mean, fast: how often each value is drawn, instead of which items.

Efron 1979, "Bootstrap methods: another look at the jackknife". Drawing n items with replacement
draws how often each different value comes from a multinomial distribution, so a resample costs as
many draws as there are different values, however many items there are.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from understudy.statistics.blocks import Floats, block_sums
from understudy.statistics.student import t_quantile

RESAMPLES = 10_000
MOST_KINDS = 64
"""Different values that are kept apart; more than so many are put together with their nearest.

Of values spread over a range that takes a few thousandths off the variance at the most."""
_NORMAL = NormalDist()


class Kinds(NamedTuple):
    """Different blocks: sum and size of one of each kind, and how many blocks are of it."""

    sums: Floats
    sizes: Floats
    counts: Floats

    @property
    def mean(self) -> float:
        """Mean over all items."""
        return float((self.counts @ self.sums) / (self.counts @ self.sizes))


def bootstrap(
    values: Sequence[float] | Floats,
    blocks: Sequence[Hashable] | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Bias-corrected and accelerated interval of the mean, at levels widened for few items.

    Efron 1987, "Better bootstrap confidence intervals". A plain interval is too narrow by
    sqrt((n - 1) / n) and has no t in it; the levels are moved by as much (Hesterberg 2015, "What
    teachers should know about the bootstrap"). Raises ValueError if there are no values.
    """
    kinds = kinds_of(values, blocks)
    means = resampled_means(kinds, resamples=resamples, seed=seed)
    return bca(means, kinds, confidence=widened(confidence, int(kinds.counts.sum())))


def kinds_of(values: Sequence[float] | Floats, blocks: Sequence[Hashable] | None = None) -> Kinds:
    """The different blocks among these values, ``MOST_KINDS`` at the most."""
    sums, sizes = block_sums(values, blocks)
    if not len(sums):
        raise ValueError("there are no values")
    pairs, counts = np.unique(np.stack([sums, sizes], axis=1), axis=0, return_counts=True)
    kinds = Kinds(pairs[:, 0], pairs[:, 1], counts.astype(float))
    return kinds if len(counts) <= MOST_KINDS else _fewer(kinds)


def _fewer(kinds: Kinds) -> Kinds:
    """Kinds that lie near one another as one, with their mean: the mean of all stays the same."""
    away = kinds.sums - kinds.mean * kinds.sizes
    edges = np.linspace(away.min(), away.max(), MOST_KINDS + 1)[1:-1]
    place = np.searchsorted(edges, away, side="right")
    counts = np.bincount(place, weights=kinds.counts, minlength=MOST_KINDS).astype(float)
    there = counts > 0
    both = [
        np.bincount(place, weights=kinds.counts * of, minlength=MOST_KINDS)[there] / counts[there]
        for of in (kinds.sums, kinds.sizes)
    ]
    return Kinds(both[0], both[1], counts[there])


def resampled_means(kinds: Kinds, *, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Means of resamples of as many blocks as there are."""
    number = int(kinds.counts.sum())
    chances = kinds.counts / kinds.counts.sum()
    drawn = np.random.default_rng(seed).multinomial(number, chances, size=resamples)
    means: Floats = (drawn @ kinds.sums) / (drawn @ kinds.sizes)
    return means


def percentile(means: Floats, *, confidence: float) -> tuple[float, float]:
    """Quantiles of the resampled means themselves."""
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def bca(means: Floats, kinds: Kinds, *, confidence: float) -> tuple[float, float]:
    """Quantiles moved by bias (of the median) and acceleration (by the jackknife).

    Where the resampled means are all alike, that is the interval.
    """
    estimate = kinds.mean
    below = float(np.mean(means < estimate) + np.mean(means <= estimate)) / 2
    if not 0 < below < 1:
        return percentile(means, confidence=confidence)
    total, size = kinds.counts @ kinds.sums, kinds.counts @ kinds.sizes
    left_out = (total - kinds.sums) / np.maximum(size - kinds.sizes, 1e-300)
    away = (kinds.counts @ left_out) / kinds.counts.sum() - left_out
    spread = float(kinds.counts @ away**2)
    acceleration = float(kinds.counts @ away**3) / (6 * spread**1.5) if spread > 0 else 0.0
    bias = _NORMAL.inv_cdf(below)

    def level(share: float) -> float:
        moved = bias + _NORMAL.inv_cdf(share)
        return _NORMAL.cdf(bias + moved / (1 - acceleration * moved))

    low, high = np.quantile(means, [level((1 - confidence) / 2), level((1 + confidence) / 2)])
    return float(low), float(high)


def widened(confidence: float, number: int) -> float:
    """The level at which a normal interval is as wide as Student's with the unbiased variance."""
    if number < 2:
        return confidence
    reach = sqrt(number / (number - 1)) * t_quantile((1 + confidence) / 2, number - 1)
    return 2 * _NORMAL.cdf(reach) - 1
