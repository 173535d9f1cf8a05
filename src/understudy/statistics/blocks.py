"""Items summed up by block: what resampling and sign-flipping draw from."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def block_sums(
    values: Sequence[float] | Floats, blocks: Sequence[Hashable] | None
) -> tuple[Floats, Floats]:
    """Sum of the values of each block, and how many there are; without blocks, of each item."""
    given = np.asarray(values, dtype=float)
    if blocks is None:
        return given, np.ones(len(given))
    numbers: dict[Hashable, int] = {}
    where = np.array([numbers.setdefault(block, len(numbers)) for block in blocks], dtype=int)
    return (
        np.bincount(where, weights=given, minlength=len(numbers)).astype(float),
        np.bincount(where, minlength=len(numbers)).astype(float),
    )


def mean_variance(sums: Floats, sizes: Floats) -> float:
    """Variance of the mean over blocks, as a ratio of sums (Cochran 1977, "Sampling Techniques").

    Without blocks it is the sample variance divided by n. 0 if there are fewer than two blocks.
    """
    number = len(sums)
    if number < 2:
        return 0.0
    residuals = sums - sums.sum() / sizes.sum() * sizes
    return float(number / (number - 1) * (residuals**2).sum() / sizes.sum() ** 2)


def worth(values: Sequence[float] | Floats, blocks: Sequence[Hashable] | None) -> float:
    """How many single items these are worth: fewer than there are where blocks agree.

    Kish 1965, "Survey sampling": their number by the design effect, where that is above 1.
    """
    given = np.asarray(values, dtype=float)
    sums, sizes = block_sums(given, blocks)
    if blocks is None or len(sums) < 2:
        return float(len(sums))
    simple = float(given.var(ddof=1)) / len(given)
    if simple == 0:
        return float(len(sums))
    return len(given) / max(1.0, mean_variance(sums, sizes) / simple)
