"""Tests of two systems on the same items, and what many tests at once are worth."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import pairwise

import numpy as np

from understudy.statistics.blocks import Floats, block_sums

EXACT = 15
"""Blocks that differ, up to which every way to flip their signs is counted."""
DRAWS = 10_000
MOST_SIZES = 64
"""Sizes of difference that are kept apart where there are more blocks than ``MANY``."""
MANY = 200


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided p-value of McNemar's exact test.

    ``b`` and ``c`` count the items that only the first, only the second system got right. If the
    systems were equally good, b would be binomial(b + c, 1/2) (McNemar 1947, "Note on the sampling
    error of the difference between correlated proportions or percentages").
    """
    n = b + c
    ways = tail = 1  # ways to choose k of n, and their sum up to the smaller count
    for k in range(1, min(b, c) + 1):
        ways = ways * (n - k + 1) // k
        tail += ways
    return min(1.0, 2 * tail / (1 << n))


def sign_flip(
    differences: Sequence[float] | Floats,
    blocks: Sequence[Hashable] | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> float:
    """Two-sided p-value that the mean difference is 0, by flipping the signs of whole blocks.

    If the systems were equally good, a block's difference would be as likely as its opposite
    (Fisher 1935, "The design of experiments"). Exact for few blocks, and where all that differ
    differ by as much: then it is McNemar's. Else ``draws`` random flips, the data themselves
    counted as one of them (Phipson & Smyth 2010, "Permutation p-values should never be zero").
    """
    sums, _ = block_sums(differences, blocks)
    away = sums[sums != 0]
    if not len(away):
        return 1.0
    if len(away) > MANY:  # still exact, as a test of the differences rounded to so many sizes
        step = np.abs(away).max() / MOST_SIZES
        away = np.round(away / step) * step
        away = away[away != 0]
    sizes, counts = np.unique(np.round(np.abs(away), 12), return_counts=True)
    if len(sizes) == 1:
        return mcnemar_exact(int((away > 0).sum()), int((away < 0).sum()))
    seen = abs(float(away.sum())) - 1e-9 * float(np.abs(away).sum())
    if len(away) <= EXACT:
        totals = np.zeros(1)
        for size in np.abs(away):
            totals = np.concatenate([totals - size, totals + size])
        return float((np.abs(totals) >= seen).mean())
    chance = np.random.default_rng(seed)
    flipped = np.zeros(draws)
    for size, count in zip(sizes, counts, strict=True):
        flipped += size * (2 * chance.binomial(count, 0.5, size=draws) - count)
    return float(1 + (np.abs(flipped) >= seen).sum()) / (1 + draws)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests, made so much larger that any below 5 % is one in 20 by chance.

    Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    adjusted = [0.0] * len(p_values)
    for rank, at in enumerate(order):
        adjusted[at] = min(1.0, (len(p_values) - rank) * p_values[at])
    for before, at in pairwise(order):
        adjusted[at] = max(adjusted[at], adjusted[before])
    return adjusted
