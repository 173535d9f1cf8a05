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
_TRIES = 24
"""Candidates drawn for each cell; the one whose pairs were seen least is taken."""


async def plan(model: Model, spec: Spec) -> Plan:
    """Ask the teacher in what inputs differ. Raises CallFailed."""
    shown = spec.model_dump_json(indent=1, exclude={"assumptions", "questions"})
    user = prompts.fill(prompts.PLAN_USER, spec=shown)
    return await ask(model, prompts.PLAN, user, Plan, "plan", MAX_TOKENS)


def cells(plan: Plan, seed: int) -> Iterator[Cell]:
    """Endless stratified cells, the same for the same seed.

    Values come round as their weights say (the one furthest behind its share goes first); among
    the ways to join them, the one with the least-seen pairs is taken. Impossible pairs never occur.
    Raises UsageError if the plan leaves no possible cell.
    """
    drawn = random.Random(seed)
    values: Counter[tuple[str, str]] = Counter()
    pairs: Counter[tuple[tuple[str, str], ...]] = Counter()
    while True:
        candidates = [
            cell for _ in range(_TRIES) if plan.allows(cell := _draw(plan, values, drawn))
        ]
        if not candidates:
            candidates = [
                cell for _ in range(1000) if plan.allows(cell := _draw(plan, None, drawn))
            ]
        if not candidates:
            raise UsageError("the plan's impossible pairs leave no cell", "Remove some of them")
        cell = min(candidates, key=lambda cell: sum(pairs[pair] for pair in _pairs(cell)))
        values.update(cell.items())
        pairs.update(_pairs(cell))
        yield cell


def _draw(plan: Plan, values: Counter[tuple[str, str]] | None, drawn: random.Random) -> Cell:
    """A cell: each attribute's value by weight, or with ``values`` by how far it lags behind."""
    cell: Cell = {}
    for attribute in plan.attributes:
        options = list(attribute.values)
        weights = [option.weight for option in options]
        if values is not None:
            total = sum(values[attribute.name, option.value] for option in options) + 1
            share = [weight / sum(weights) * total for weight in weights]
            lag = [
                max(due - values[attribute.name, option.value], 0.0)
                for due, option in zip(share, options, strict=True)
            ]
            weights = [behind**2 for behind in lag] if any(lag) else weights
        cell[attribute.name] = drawn.choices(options, weights)[0].value
    return cell


def _pairs(cell: Cell) -> list[tuple[tuple[str, str], ...]]:
    return list(combinations(sorted(cell.items()), 2))
