"""How the score grows with the examples: a power law through a few sizes, and what it foretells.

    error(n) = floor + reach * (n / largest) ** -speed,    floor, reach >= 0

The form is that of C. Cortes et al., "Learning curves: asymptotic values and rate of convergence",
1994, and J. Hestness et al., "Deep learning scaling is predictable, empirically", 2017,
arXiv:1712.00409. It is no law: T. Viering and M. Loog, "The shape of learning curves: a review",
2021, arXiv:2103.10948, show curves that it misses. So a fit that the points contradict foretells
nothing, and what is foretold is twice the examples, no more.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import sqrt
from operator import attrgetter
from statistics import NormalDist, fmean
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from understudy.statistics import wilson

LEAST_SIZES = 4
"""The law has three numbers: a fourth point is the first that can contradict it."""
LEAST_ITEMS = 20
REPLICATES = 1000
BEGUN = 0.5
"""Score below which the curve is at its beginning, where it is no power law: the region of small
data, as Hestness et al. call it, in which a model may rise from nothing to good at once."""
CONTRADICTED = 0.01
"""p-value of the fit below which it foretells nothing."""
TWICE = 2
TAIL = 0.005
"""Share of the drawn values beyond either end of an interval. Simulated (docs/evaluation.md), those
cut here hold what they should about 95 times in 100; cut at 0.025, about 90 times."""
_SPEEDS = np.geomspace(0.05, 4, 80)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Training:
    """One training on a part of the examples, and how it did on the items."""

    share: float
    """Of all examples, 0 to 1: trainings of one share are one size."""
    examples: int
    seed: int
    right: tuple[bool | None, ...]
    """For each item, always in the same order; None where no answer came."""


@dataclass(frozen=True, slots=True)
class Size:
    """What was measured with so many examples."""

    examples: int
    """Mean, where several seeds drew parts of whole groups."""
    trainings: int
    score: float
    """Mean share of right answers."""
    low: float
    high: float
    """95 % interval (Wilson) of one training on so many items."""
    fitted: float | None = None
    """Score by the curve; None if there is none."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What more examples should bring; intervals hold 95 %."""

    examples: int
    """In all."""
    now: float
    """Score by the curve with those that there are."""
    score: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float


@dataclass(frozen=True, slots=True)
class Curve:
    """The sizes that were measured, the law through them, and what it foretells."""

    sizes: tuple[Size, ...]
    items: int
    floor: float | None = None
    """Error that no number of examples takes away."""
    reach: float | None = None
    """Error at the largest size that more examples can take away."""
    speed: float | None = None
    forecast: Forecast | None = None
    """Of twice the examples; None where nothing can be foretold: ``why_not`` says why."""
    why_not: str = ""


class _Law(NamedTuple):
    """One law for each row of errors that it was fitted to; arrays of shape (rows,)."""

    floor: Floats
    reach: Floats
    speed: Floats

    def error(self, times: float) -> Floats:
        """At so many times the largest size."""
        return self.floor + self.reach * times**-self.speed


def fit(trainings: Sequence[Training], groups: Sequence[Hashable] = (), *, seed: int = 0) -> Curve:
    """Fit the law to ``trainings``, and foretell the score with twice the largest size.

    ``groups`` names the block of each item (default: each its own); items are drawn anew by
    blocks, and where a size was trained with several seeds, trainings too (paired bootstrap,
    intervals between percentiles; B. Efron and R. Tibshirani, "An Introduction to the Bootstrap",
    1993).
    With one seed a size the interval holds the chance of the items, not that of the training.
    Raises ValueError if there are no trainings or no items.
    """
    in_order = sorted(trainings, key=attrgetter("share"))
    by_size = [list(same) for _, same in groupby(in_order, attrgetter("share"))]
    items = len(trainings[0].right) if trainings else 0
    if not items:
        raise ValueError("no trainings, or no items")
    answers = [_answers(same) for same in by_size]
    errors = np.array([1 - _share(right, known) for right, known in answers])
    sizes = tuple(
        _size(same, 1 - float(error)) for same, error in zip(by_size, errors, strict=True)
    )
    why_not = _too_little(sizes, items)
    if why_not:
        return Curve(sizes, items, why_not=why_not)
    parts = np.array([size.examples for size in sizes]) / sizes[-1].examples
    spread = _variance(errors, items, np.array([size.trainings for size in sizes]))
    law = _fitted(errors[None, :], parts, 1 / spread)
    fitted = [max(0.0, float(1 - law.error(part)[0])) for part in parts]
    sizes = tuple(
        Size(one.examples, one.trainings, one.score, one.low, one.high, score)
        for one, score in zip(sizes, fitted, strict=True)
    )
    numbers = (float(law.floor[0]), float(law.reach[0]), float(law.speed[0]))
    misfit = float((((errors - 1 + np.array(fitted)) ** 2) / spread).sum())
    if _chi_square_tail(misfit, len(sizes) - 3) < CONTRADICTED:
        return Curve(sizes, items, *numbers, why_not=_contradicted(sizes))
    drawn = _drawn(answers, groups or range(items), np.random.default_rng(seed))
    laws = _fitted(drawn, parts, 1 / spread)
    return Curve(sizes, items, *numbers, _forecast(sizes[-1].examples, law, laws))


def _answers(same: Sequence[Training]) -> tuple[Floats, Floats]:
    """Right answers, and answers that came, as 0 and 1; shape (trainings, items)."""
    right = np.array([[bool(one) for one in training.right] for training in same], float)
    known = np.array([[one is not None for one in training.right] for training in same], float)
    return right, known


def _share(right: Floats, known: Floats) -> float:
    return float(right.sum() / max(known.sum(), 1))


def _size(same: Sequence[Training], score: float) -> Size:
    answered = min(sum(one is not None for one in training.right) for training in same)
    low, high = wilson(round(score * answered), answered)
    examples = round(fmean(training.examples for training in same))
    return Size(examples, len(same), score, low, high)


def _too_little(sizes: Sequence[Size], items: int) -> str:
    if items < LEAST_ITEMS:
        return f"{items} items are too few to tell: at least {LEAST_ITEMS} are needed"
    if len(sizes) < LEAST_SIZES:
        return f"{len(sizes)} sizes are too few for a curve: at least {LEAST_SIZES} are needed"
    last = sizes[-1]
    if last.score < BEGUN:
        return (
            f"{last.score:.0%} right after {last.examples:,} examples is the curve's beginning, "
            "where no law holds: more examples are the first thing to try"
        )
    return ""


def _contradicted(sizes: Sequence[Size]) -> str:
    before, last = sizes[-2], sizes[-1]
    return (
        "the points lie on no power law, so nothing is foretold from them; from "
        f"{before.examples:,} to {last.examples:,} examples the score went from "
        f"{before.score:.2f} to {last.score:.2f}"
    )


def _variance(errors: Floats, items: int, trainings: npt.NDArray[Any]) -> Floats:
    """Of each error, were the items independent; never 0 (A. Agresti and B. Coull, 1998)."""
    smooth = (errors * items + 2) / (items + 4)
    return np.asarray(smooth * (1 - smooth) / (items * np.sqrt(trainings)))


def _fitted(errors: Floats, parts: Floats, weights: Floats) -> _Law:
    """The law nearest to each row of ``errors`` (rows, sizes), by weighted least squares.

    For each speed of a grid floor and reach follow in closed form; a negative one is set to 0.
    ``parts``: sizes as shares of the largest.
    """
    shapes = parts[None, :] ** -_SPEEDS[:, None]  # (speeds, sizes)
    weight = weights.sum()
    mean_shape = shapes @ weights / weight
    mean_error = errors @ weights / weight
    centred = (shapes - mean_shape[:, None]) * weights
    slope = errors @ centred.T / (centred * shapes).sum(axis=1)  # (rows, speeds)
    through_zero = errors @ (shapes * weights).T / ((shapes**2) @ weights)
    floor = mean_error[:, None] - slope * mean_shape
    reach = np.where(floor < 0, through_zero, slope)
    reach = np.maximum(reach, 0)
    floor = np.where(slope <= 0, mean_error[:, None], np.maximum(floor, 0))
    reach = np.where(slope <= 0, 0, reach)
    off = errors[:, None, :] - floor[:, :, None] - reach[:, :, None] * shapes[None, :, :]
    best = np.argmin((off**2) @ weights, axis=1)
    rows = np.arange(len(errors))
    return _Law(floor[rows, best], reach[rows, best], _SPEEDS[best])


def _drawn(
    answers: Sequence[tuple[Floats, Floats]],
    groups: Sequence[Hashable],
    luck: np.random.Generator,
) -> Floats:
    """Errors as they might have been, shape (REPLICATES, sizes).

    The same blocks of items for every size: they were asked the same. Beside them each size has
    half an item right and half an item wrong of its own, weighted by chance, so that a score of 1
    is not taken for certain (as in Jeffreys' interval).
    """
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    block = np.array([numbers[group] for group in groups])
    blocks = len(numbers)
    times = luck.multinomial(blocks, np.full(blocks, 1 / blocks), REPLICATES).astype(float)

    def drawn_sums(values: Floats) -> Floats:
        sums = np.array([np.bincount(block, row, blocks) for row in values])
        return np.asarray(times @ sums.T)

    drawn = []
    for right, known in answers:
        rights, knowns = drawn_sums(right), drawn_sums(known)
        trained = luck.integers(0, len(right), (REPLICATES, len(right)))
        right_of = np.take_along_axis(rights, trained, axis=1).sum(axis=1)
        known_of = np.take_along_axis(knowns, trained, axis=1).sum(axis=1)
        extra = luck.gamma(0.5, 1, (2, REPLICATES)) * len(right)
        drawn.append((known_of - right_of + extra[0]) / (known_of + extra.sum(axis=0)))
    return np.array(drawn).T


def _forecast(examples: int, law: _Law, laws: _Law) -> Forecast:
    now, then = 1 - float(law.error(1)[0]), 1 - float(law.error(TWICE)[0])
    low, high = _percentiles(1 - laws.error(TWICE), then)
    gain_low, gain_high = _percentiles(laws.error(1) - laws.error(TWICE), then - now)
    return Forecast(TWICE * examples, now, then, low, high, then - now, gain_low, gain_high)


def _percentiles(drawn: Floats, value: float) -> tuple[float, float]:
    low, high = np.quantile(drawn, [TAIL, 1 - TAIL])
    return min(float(low), value), max(float(high), value)


def _chi_square_tail(value: float, freedom: int) -> float:
    """P(chi-square of so many degrees of freedom >= value), about.

    E. Wilson and M. Hilferty, "The distribution of chi-square", 1931.
    """
    share = 2 / (9 * freedom)
    return 1 - NormalDist(1 - share, sqrt(share)).cdf((value / freedom) ** (1 / 3))
