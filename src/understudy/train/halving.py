"""Which recipes are tried around a chosen one, how many of them go on, and how long it takes.

Successive halving with half of the trials kept at each rung (K. Jamieson and A. Talwalkar, 2016,
arXiv:1502.07943). Only settings that decide how a student learns are varied.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any, TypeVar

from understudy.errors import UsageError
from understudy.run import Recipe

RUNGS = (0.25, 0.5, 1.0)
"""Share of a trial's steps that is trained; half of the trials go on to the next."""
START_S = 12.0
"""Taken for the start of a trainer process and the loading of a student."""
_FACTORS = {
    "learning_rate": (1, 1 / 3, 3),
    "lora_rank": (1, 4),
    "epochs": (1, 0.5, 2),
}
"""What the settings are multiplied with, the chosen recipe first."""

Number = TypeVar("Number", int, float)


def grid(recipe: Recipe, count: int) -> list[dict[str, Any]]:
    """The first ``count`` settings to try, as changes to ``recipe``, itself first.

    Near ones come first: those that differ in one setting, the learning rate before the rank and
    the epochs, then those that differ in two. Raises UsageError if
    ``count`` is under 2. There may be fewer than ``count``.
    """
    if count < 2:
        raise UsageError(f"{count} trials choose nothing", "Ask for two or more: --trials 4")
    usable = {name: _FACTORS[name] for name in _FACTORS if getattr(recipe, name)}
    points = sorted(
        product(*usable.values()),
        key=lambda point: (sum(f != 1 for f in point), [f == 1 for f in point]),
    )
    return [_changes(recipe, dict(zip(usable, point, strict=True))) for point in points[:count]]


def _changes(recipe: Recipe, factors: Mapping[str, float]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for name, factor in factors.items():
        if factor != 1:
            changes[name] = _times(getattr(recipe, name), factor)
    if recipe.matrix_learning_rate and "learning_rate" in changes:
        rate = _times(recipe.matrix_learning_rate, factors["learning_rate"])
        changes["matrix_learning_rate"] = rate
    return changes


def _times(value: Number, factor: float) -> Number:
    """A setting of the same type, to three digits."""
    return type(value)(float(f"{value * factor:.3g}"))


def halved(count: int) -> list[int]:
    """How many trials train at each rung."""
    counts = [count]
    while len(counts) < len(RUNGS):
        counts.append(-(-counts[-1] // 2))
    return counts


def about_s(recipe: Recipe, count: int, training_s: float) -> float:
    """Seconds that ``count`` trials take, if one whole training takes ``training_s``.

    On the high side: that the best half is also the longest half is supposed.
    """
    longest: list[float] = sorted(
        (changes.get("epochs", recipe.epochs) / recipe.epochs for changes in grid(recipe, count)),
        reverse=True,
    )
    rungs = zip(RUNGS, halved(len(longest)), strict=True)
    return sum(START_S + share * training_s * one for share, n in rungs for one in longest[:n])
