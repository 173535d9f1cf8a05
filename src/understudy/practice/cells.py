"""Cells of a plan: fill in what a cell leaves open, and draw whole cells."""

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random

from understudy.task import Attribute, Cell, Impossible, Option, Plan

_TRIES = 100


def attribute(name: str, values: Mapping[str, float]) -> Attribute:
    """Write an attribute as a table of its values and their weights."""
    options = tuple(Option(value=value, weight=weight) for value, weight in values.items())
    return Attribute(name=name, values=options)


def never(name: str, value: str, other: str, *others: str) -> tuple[Impossible, ...]:
    """Say that ``value`` of one attribute cannot meet ``others`` of another."""
    return tuple(
        Impossible(attribute=name, value=value, other_attribute=other, other_value=other_value)
        for other_value in others
    )


def draw(plan: Plan, rng: Random, cell: Cell | None = None) -> Cell:
    """Return a whole cell of ``plan``, keeping the values of ``cell`` that the plan knows.

    Values that the plan does not know (somebody changed it) are drawn afresh, by weight. An
    impossible cell that was asked for word for word is returned as it is.
    """
    asked = cell or {}
    drawn: Cell = {}
    for _ in range(_TRIES):
        drawn = {part.name: _value(part, rng, asked.get(part.name)) for part in plan.attributes}
        if plan.allows(drawn):
            break
    return drawn


def generator(cell: Cell, seed: int) -> Random:
    """Return the random generator that belongs to a cell and a seed, the same on every machine."""
    return Random(f"{seed} {json.dumps(cell, sort_keys=True)}")


def _value(part: Attribute, rng: Random, asked: str | None) -> str:
    values = [option.value for option in part.values]
    if asked in values:
        return asked
    return rng.choices(values, [option.weight for option in part.values])[0]
