"""From clusters of misses to what new examples should be like: values of the plan, and how many.

Nothing of an item goes into an aim but values that the plan had before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

from understudy.evaluate.clusters import Cluster
from understudy.task import Cell, Plan

TOGETHER = 2
"""Values that an aim takes from misses that share none beyond chance."""


class Aim(NamedTuple):
    """Where new examples are wanted."""

    cell: Cell
    """Values of the plan that they all have; the others are drawn. Empty: the whole plan."""
    examples: int
    misses: int
    """Misses for which it stands."""


def aims(clusters: Sequence[Cluster], plan: Plan, examples: int) -> tuple[Aim, ...]:
    """Part ``examples`` among the cells near the misses, each by its share of them.

    A cluster of shared values aims at those that are the plan's; the misses of any other at the
    pairs of values that most of them have. Misses without a cell (own examples) aim at the whole
    plan.
    """
    misses: Counter[tuple[tuple[str, str], ...]] = Counter()
    for cluster in clusters:
        shared = _known(dict(cluster.traits), plan)
        if shared:
            misses[_key(shared)] += len(cluster.misses)
            continue
        misses.update(_pairs([_known(case.example.cell, plan) for case in cluster.misses]))
    ranked = misses.most_common()
    parts = _parted(examples, [number for _, number in ranked])
    return tuple(
        Aim(dict(cell), part, number)
        for (cell, number), part in zip(ranked, parts, strict=True)
        if part
    )


def _pairs(cells: Sequence[Cell]) -> Counter[tuple[tuple[str, str], ...]]:
    """Each cell counted with one pair of its values, the commonest pairs first."""
    left = [set(combinations(_key(cell), min(len(cell), TOGETHER))) for cell in cells]
    found: Counter[tuple[tuple[str, str], ...]] = Counter()
    while left:
        met = Counter(pair for pairs in left for pair in pairs)
        best = max(met, key=lambda pair: (met[pair], pair))
        found[best] = met[best]
        left = [pairs for pairs in left if best not in pairs]
    return found


def _known(cell: Cell, plan: Plan) -> Cell:
    """The values that the plan has; none if they cannot occur together by it."""
    there = {
        (attribute.name, option.value)
        for attribute in plan.attributes
        for option in attribute.values
    }
    found = {name: value for name, value in cell.items() if (name, value) in there}
    return found if plan.allows(found) else {}


def _key(cell: Cell) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(cell.items()))


def _parted(whole: int, weights: Sequence[int]) -> list[int]:
    """Whole numbers in the proportion of ``weights`` that add up to ``whole``."""
    total = sum(weights)
    exact = [whole * weight / total for weight in weights]
    parts = [int(number) for number in exact]
    largest = sorted(range(len(exact)), key=lambda at: parts[at] - exact[at])
    for at in largest[: whole - sum(parts)]:
        parts[at] += 1
    return parts
