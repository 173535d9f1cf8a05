"""What so many items can show: the smallest difference, and the items that one needs."""

from __future__ import annotations

from math import ceil, inf, sqrt
from statistics import NormalDist

POWER = 0.8
LEVEL = 0.05


def items_needed(
    difference: float, spread: float, *, power: float = POWER, level: float = LEVEL
) -> float:
    """Items on which a true ``difference`` of two systems is found with that power.

    ``spread`` is the mean squared difference of an item: where items are right or wrong, the share
    on which the systems differ. Connor 1987, "Sample size for testing differences in proportions
    for the paired-sample design". Infinite for no difference.
    """
    if difference == 0:
        return inf
    size = abs(difference)
    at_least = max(spread, size if size <= 1 else size * size)  # all that differ, one way
    normal = NormalDist()
    reach = normal.inv_cdf(1 - level / 2) * sqrt(at_least)
    reach += normal.inv_cdf(power) * sqrt(max(0.0, at_least - size * size))
    return (reach / size) ** 2


def smallest_difference(
    n: float, spread: float, *, power: float = POWER, level: float = LEVEL
) -> float:
    """The smallest true difference that ``n`` items show with that power; 1 if they show none."""
    if n <= 0 or items_needed(1.0, spread, power=power, level=level) > n:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if items_needed(middle, spread, power=power, level=level) > n:
            low = middle
        else:
            high = middle
    return high


def more_items(n: int, difference: float, spread: float) -> int | None:
    """Items beyond ``n`` with which the difference would be found; None if no number is in sight.

    More than a hundred times what there is counts as none.
    """
    needed = items_needed(difference, spread)
    return max(0, ceil(needed - n)) if needed <= 100 * n else None
