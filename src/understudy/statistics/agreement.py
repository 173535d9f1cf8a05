"""How far a judge can be trusted: agreement with people beyond chance, and its correction."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from understudy.statistics.blocks import Floats


class Kappa(NamedTuple):
    """Cohen's kappa with its interval."""

    value: float
    """1 full agreement, 0 as by chance, below 0 worse than chance."""
    low: float
    high: float
    agreement: float
    """Share of items on which both say the same."""
    items: int


class Estimate(NamedTuple):
    """A mean with its interval."""

    value: float
    low: float
    high: float
    weight: float
    """How much the judge was listened to: 0 not at all, 1 as a person."""


def kappa(first: Sequence[Hashable], second: Sequence[Hashable], confidence: float = 0.95) -> Kappa:
    """Agreement of two raters on the same items, beyond what chance would give.

    Cohen 1960, "A coefficient of agreement for nominal scales"; its standard error by Fleiss, Cohen
    & Everitt 1969, "Large sample standard errors of kappa and weighted kappa". Where both always
    say one and the same word, chance explains all: kappa is 0 between -1 and 1. Raises ValueError
    if there are no items or the two are not of one length.
    """
    if not first or len(first) != len(second):
        raise ValueError("two lists of the same items are needed")
    n = len(first)
    words: dict[Hashable, int] = {}
    for word in (*first, *second):
        words.setdefault(word, len(words))
    table = np.zeros((len(words), len(words)))
    for one, other in zip(first, second, strict=True):
        table[words[one], words[other]] += 1 / n
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    seen, chance = float(np.trace(table)), float(rows @ columns)
    if chance >= 1:
        return Kappa(0.0, -1.0, 1.0, seen, n)
    value = (seen - chance) / (1 - chance)
    # pairs (i, j): how far column i and row j pull, as in the paper's equation 13
    pull = columns[:, None] + rows[None, :]
    diagonal = np.diag(table) @ (1 - np.diag(pull) * (1 - value)) ** 2
    off = table * pull**2
    rest = (1 - value) ** 2 * (off.sum() - np.trace(off))
    variance = (diagonal + rest - (value - chance * (1 - value)) ** 2) / (n * (1 - chance) ** 2)
    half = NormalDist().inv_cdf((1 + confidence) / 2) * sqrt(max(0.0, float(variance)))
    return Kappa(value, max(-1.0, value - half), min(1.0, value + half), seen, n)


def ppi(
    labels: Sequence[float] | Floats,
    judged: Sequence[float] | Floats,
    unlabelled: Sequence[float] | Floats,
    confidence: float = 0.95,
) -> Estimate:
    """Mean that people would give, from few of their labels and a judge's verdicts on many items.

    ``labels`` and ``judged`` are of the same items, ``unlabelled`` are the judge's verdicts on the
    others. The judge's mean is corrected by how far it is off where people were asked, and counts
    for as much as it helps (PPI++: Angelopoulos, Duchi & Zrnic 2023, arXiv 2311.01453, after
    Angelopoulos et al. 2023, "Prediction-powered inference", Science 382). Without ``unlabelled``
    it is the mean of the labels. Raises ValueError with fewer than two labels.
    """
    truth, heard = np.asarray(labels, dtype=float), np.asarray(judged, dtype=float)
    rest = np.asarray(unlabelled, dtype=float)
    n, others = len(truth), len(rest)
    if n < 2 or n != len(heard):
        raise ValueError("at least two labels are needed, each with the judge's verdict")
    weight = 0.0
    if others:
        everywhere = float(np.var(np.concatenate([heard, rest]), ddof=1))
        together = float(np.cov(truth, heard, ddof=1)[0, 1])
        weight = together / ((1 + n / others) * everywhere) if everywhere > 0 else 0.0
        weight = min(1.0, max(0.0, weight))
    corrected = truth - weight * heard
    value = float(corrected.mean())
    variance = float(corrected.var(ddof=1)) / n
    if others:
        value += weight * float(rest.mean())
        variance += weight**2 * float(rest.var(ddof=1) if others > 1 else 0.0) / others
    half = NormalDist().inv_cdf((1 + confidence) / 2) * sqrt(variance)
    return Estimate(value, value - half, value + half, weight)
