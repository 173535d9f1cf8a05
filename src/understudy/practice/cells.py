"""Cells of a plan: fill in what a cell leaves open, and draw whole cells."""

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random

from understudy.task import Attribute, Cell, Impossible, Option, Plan


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

    The others are drawn by weight, one attribute after the other, among the values that can meet
    what is there already; among all, if none can.
    """
    drawn = _known(plan, cell or {})
    for part in plan.attributes:
        if part.name not in drawn:
            fitting = [o for o in part.values if plan.allows(drawn | {part.name: o.value})]
            options = fitting or part.values
            [option] = rng.choices(options, [option.weight for option in options])
            drawn[part.name] = option.value
    return {part.name: drawn[part.name] for part in plan.attributes}


def generator(cell: Cell, seed: int) -> Random:
    """Return the random generator that belongs to a cell and a seed, the same on every machine."""
    return Random(f"{seed} {json.dumps(cell, sort_keys=True)}")


def _known(plan: Plan, cell: Cell) -> Cell:
    values = {part.name: {option.value for option in part.values} for part in plan.attributes}
    return {name: value for name, value in cell.items() if value in values.get(name, ())}
