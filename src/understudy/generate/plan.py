"""Spec -> Plan -> cells: diversity comes from the plan, not from a model's temperature."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import combinations

from understudy.errors import UsageError
from understudy.generate import prompts
from understudy.generate.ask import ask
from understudy.models.protocol import Model
from understudy.task import Cell, Plan, Spec

MAX_TOKENS = 4096
CANDIDATES = 24
"""Cells drawn for each one taken: the one whose pairs of values were seen least."""
_TRIES = 1000
"""Draws that may run into impossible pairs before the plan is called impossible."""

Chosen = tuple[str, str]
"""An attribute's name and the value drawn for it."""


async def plan(model: Model, spec: Spec) -> Plan:
    """Ask the teacher in what inputs differ. Raises CallFailed."""
    shown = spec.model_dump_json(indent=1, exclude={"assumptions", "questions"})
    user = prompts.fill(prompts.PLAN_USER, spec=shown)
    return (await ask(model, prompts.PLAN, user, Plan, "plan", MAX_TOKENS)).value


def cells(plan: Plan, seed: int) -> Iterator[Cell]:
    """Endless stratified cells, the same for the same seed.

    Values come round as their weights say, those furthest behind their share first; among the ways
    to join them, the one with the least-seen pairs is taken. Impossible pairs never occur.
    Raises UsageError if the plan leaves no possible cell.
    """
    drawn = random.Random(seed)
    banned = _banned(plan)
    values: Counter[Chosen] = Counter()
    pairs: Counter[tuple[Chosen, ...]] = Counter()
    while True:
        candidates: list[Cell] = []
        for _ in range(_TRIES):
            cell = _draw(plan, banned, values, drawn)
            if cell is not None:
                candidates.append(cell)
            if len(candidates) == CANDIDATES:
                break
        if not candidates:
            raise UsageError("the plan's impossible pairs leave no cell", "Remove some of them")
        cell = min(candidates, key=lambda cell: sum(pairs[pair] for pair in _pairs(cell)))
        values.update(cell.items())
        pairs.update(_pairs(cell))
        yield cell


def _banned(plan: Plan) -> dict[Chosen, set[Chosen]]:
    """What each value cannot meet."""
    banned: dict[Chosen, set[Chosen]] = {}
    for pair in plan.impossible:
        one = (pair.attribute, pair.value)
        other = (pair.other_attribute, pair.other_value)
        banned.setdefault(one, set()).add(other)
        banned.setdefault(other, set()).add(one)
    return banned


def _draw(
    plan: Plan,
    banned: dict[Chosen, set[Chosen]],
    values: Counter[Chosen],
    drawn: random.Random,
) -> Cell | None:
    """A cell, each value weighted by how far it lags behind its share; None at a dead end."""
    cell: Cell = {}
    for attribute in plan.attributes:
        name = attribute.name
        never = set().union(*(banned.get(chosen, ()) for chosen in cell.items()))
        options = [option for option in attribute.values if (name, option.value) not in never]
        if not options:
            return None
        seen = [values[name, option.value] for option in options]
        share = (sum(seen) + 1) / sum(option.weight for option in options)
        behind = [
            max(option.weight * share - number, 0.0) ** 2
            for option, number in zip(options, seen, strict=True)
        ]
        cell[name] = drawn.choices(options, behind)[0].value
    return cell


def _pairs(cell: Cell) -> list[tuple[Chosen, ...]]:
    return list(combinations(sorted(cell.items()), 2))
