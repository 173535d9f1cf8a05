"""From clusters of misses to what new examples should be like: values of the plan, and how many.

Nothing of an item goes into an aim but values that the plan had before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from understudy.evaluate.clusters import Cluster
from understudy.task import Cell, Plan


class Aim(NamedTuple):
    """Where new examples are wanted."""

    cell: Cell
    """Values of the plan that they all have; the others are drawn. Empty: the whole plan."""
    examples: int
    misses: int
    """Misses for which it stands."""


def aims(clusters: Sequence[Cluster], plan: Plan, examples: int) -> tuple[Aim, ...]:
    """Part ``examples`` among the cells near the misses, each by its share of them.

    A cluster of shared values aims at those that are the plan's; any other at the cell that most of
    its misses have. Misses without a cell (own examples) aim at the whole plan.
    """
    misses: Counter[tuple[tuple[str, str], ...]] = Counter()
    for cluster in clusters:
        shared = _known(dict(cluster.traits), plan)
        if shared:
            misses[_key(shared)] += len(cluster.misses)
            continue
        for case in cluster.misses:
            misses[_key(_known(case.example.cell, plan))] += 1
    ranked = misses.most_common()
    parts = _parted(examples, [number for _, number in ranked])
    return tuple(
        Aim(dict(cell), part, number)
        for (cell, number), part in zip(ranked, parts, strict=True)
        if part
    )


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
