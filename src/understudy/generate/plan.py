"""Spec -> Plan -> cells: diversity comes from the plan, not from a model's temperature."""

from __future__ import annotations

import difflib
import random
import re
from bisect import bisect
from collections.abc import Iterable, Iterator
from itertools import accumulate, combinations, islice, repeat
from typing import NamedTuple

from understudy.errors import UsageError
from understudy.generate import prompts
from understudy.generate.possible import Allowed, Chosen, Space, Unmet, find, space
from understudy.models.protocol import Model
from understudy.models.typed import ask
from understudy.task import Cell, Plan, Spec

MAX_TOKENS = 4096
CANDIDATES = 24
"""Cells drawn for each one taken: the one whose pairs of values were seen least."""
_TRIES = 1000
"""Draws that may run into impossible pairs before drawing looks ahead."""


async def plan(model: Model, spec: Spec) -> Plan:
    """Ask the teacher in what inputs differ. Raises CallFailed."""
    shown = spec.model_dump_json(indent=1, exclude={"assumptions", "questions"})
    user = prompts.fill(prompts.PLAN_USER, spec=shown)
    return (await ask(model, prompts.PLAN, user, Plan, "plan", MAX_TOKENS)).value


def cells(
    plan: Plan,
    seed: int,
    *,
    fixed: Cell | None = None,
    seen: Iterable[Cell] = (),
    per_call: int = 1,
    every_pair: bool = False,
) -> Iterator[Cell]:
    """Endless stratified cells, the same for the same arguments.

    Values come round as their weights say, those furthest behind their share first; among the ways
    to join them, the one with the least-seen pairs is taken. Impossible pairs never occur.

    ``fixed`` are values that every cell has; the others are drawn among what can meet them.
    ``seen`` are cells that count as drawn before (those of the accepted examples), so that what is
    thin comes first; ``per_call`` says how many of them one new cell will bring. What the plan does
    not know in them counts for nothing. With ``every_pair`` a possible pair that never came though
    its two values did is put in between; without, impossible pairs may keep others away for ever.

    Raises UsageError: at once if the plan does not know a value of ``fixed`` or forbids the cell,
    with the first cell if its impossible pairs leave none.
    """
    numbered = space(plan)
    start = _within(plan, numbered, fixed or {})
    before = list(seen)
    unmet = Unmet(numbered, start) if every_pair else None
    if unmet is not None:
        for cell in before:
            unmet.see(cell)
    tally = _Tally(plan, before, per_call)
    return _drawn(numbered, start, tally, unmet, random.Random(seed))


def _within(plan: Plan, numbered: Space, fixed: Cell) -> Allowed:
    """What the cells with those values may hold."""
    for chosen in fixed.items():
        if not any(chosen in values for values in numbered.values):
            raise _unknown(plan, *chosen)
    allowed = _chosen(numbered, numbered.open(), fixed.items())
    if fixed and find(numbered, allowed) is None:
        asked = ", ".join(f"{name}={value}" for name, value in fixed.items())
        raise UsageError(f"the plan's impossible pairs forbid {asked}", "Ask for other values")
    return allowed


def _chosen(numbered: Space, allowed: Allowed, values: Iterable[Chosen]) -> Allowed:
    """What is left once all those values are chosen."""
    for chosen in values:
        at = next(at for at, there_are in enumerate(numbered.values) if chosen in there_are)
        allowed = numbered.choose(allowed, at, numbered.values[at].index(chosen))
    return allowed


def _drawn(
    numbered: Space, start: Allowed, tally: _Tally, unmet: Unmet | None, luck: random.Random
) -> Iterator[Cell]:
    """Cells within ``start``, each the best of some candidates."""

    def blind(allowed: Allowed) -> list[list[int]]:
        drawn = (_draw(numbered, allowed, tally, luck) for _ in range(_TRIES))
        return list(islice((cell for cell in drawn if cell is not None), CANDIDATES))

    def looking_ahead(allowed: Allowed) -> list[list[int]]:
        def pick(at: int, mask: int) -> int:
            return tally.pick(at, mask, luck.random())

        drawn = (find(numbered, allowed, pick) for _ in range(CANDIDATES))
        return [cell for cell in drawn if cell is not None]

    draw = blind
    while True:
        pair = unmet.next() if unmet else None
        allowed = _chosen(numbered, start, pair) if pair else start
        candidates = draw(allowed)
        if not candidates:  # what lags behind leads nowhere: look ahead, from now on
            draw = looking_ahead
            candidates = draw(allowed)
        if not candidates:
            raise UsageError("the plan's impossible pairs leave no cell", "Remove some of them")
        best = min(candidates, key=tally.crowding)
        tally.take(best)
        cell = dict(values[at] for values, at in zip(numbered.values, best, strict=True))
        if unmet:
            unmet.see(cell)
        yield cell


def _draw(numbered: Space, start: Allowed, tally: _Tally, luck: random.Random) -> list[int] | None:
    """A cell, each value weighted by how far it lags behind its share; None at a dead end."""
    allowed = start.copy()
    cell: list[int] = []
    for attribute, meets in enumerate(numbered.meets):
        mask = allowed[attribute]
        if not mask:
            return None
        value = tally.pick(attribute, mask, luck.random())
        cell.append(value)
        for other, left in meets[value]:
            allowed[other] &= left
    return cell


class _Options(NamedTuple):
    """The values of an attribute that a mask allows."""

    numbers: list[int]
    ids: list[int]
    weights: list[float]
    weight: float


class _Tally:
    """How often each value and each pair of values came; who lags behind is picked first."""

    def __init__(self, plan: Plan, seen: Iterable[Cell], per_call: int) -> None:
        self._plan, self._per_call = plan, per_call
        self._ids: dict[Chosen, int] = {}
        for attribute in plan.attributes:
            for option in attribute.values:
                self._ids.setdefault((attribute.name, option.value), len(self._ids))
        self._of = [
            [self._ids[attribute.name, option.value] for option in attribute.values]
            for attribute in plan.attributes
        ]
        self._values = [0] * len(self._ids)
        self._pairs: dict[tuple[int, int], int] = {}
        self._options: dict[tuple[int, int], _Options] = {}
        self._ladders: dict[tuple[int, int], tuple[list[int], list[float]]] = {}
        for cell in seen:
            self._count(sorted(self._ids[it] for it in cell.items() if it in self._ids), 1)

    def pick(self, attribute: int, mask: int, at: float) -> int:
        """The value of ``mask`` at that height (0 to 1) of the ladder whose rungs are the lags."""
        ladder = self._ladders.get((attribute, mask))
        if ladder is None:
            ladder = self._ladders[attribute, mask] = self._ladder((attribute, mask))
        numbers, rungs = ladder
        return numbers[bisect(rungs, at * rungs[-1], 0, len(rungs) - 1)]

    def crowding(self, cell: list[int]) -> int:
        """How often the pairs of ``cell`` came, in all."""
        ids = [of[value] for of, value in zip(self._of, cell, strict=True)]
        return sum(map(self._pairs.get, combinations(ids, 2), repeat(0)))

    def take(self, cell: list[int]) -> None:
        """Count a cell that is drawn."""
        self._ladders.clear()
        ids = [of[value] for of, value in zip(self._of, cell, strict=True)]
        self._count(ids, self._per_call)

    def _count(self, ids: list[int], times: int) -> None:
        for number in ids:
            self._values[number] += times
        for pair in combinations(ids, 2):
            self._pairs[pair] = self._pairs.get(pair, 0) + times

    def _ladder(self, key: tuple[int, int]) -> tuple[list[int], list[float]]:
        options = self._options.get(key)
        if options is None:
            options = self._options[key] = self._allowed(*key)
        seen = [self._values[number] for number in options.ids]
        share = (sum(seen) + self._per_call) / options.weight
        lags = [
            max(weight * share - number, 0.0) ** 2
            for weight, number in zip(options.weights, seen, strict=True)
        ]
        return options.numbers, list(accumulate(lags))

    def _allowed(self, attribute: int, mask: int) -> _Options:
        values = self._plan.attributes[attribute].values
        numbers = [number for number in range(len(values)) if mask >> number & 1]
        weights = [values[number].weight for number in numbers]
        ids = [self._of[attribute][number] for number in numbers]
        return _Options(numbers, ids, weights, sum(weights))


def parse_cell(text: str, plan: Plan) -> Cell:
    """Read ``form=words, length=long`` as values of ``plan``.

    Names and values may hold commas and equals signs: what is read is the longest that the plan
    has. Case does not matter. Raises UsageError naming what there is.
    """
    cell: Cell = {}
    rest = text.strip()
    while rest:
        name, value, rest = _first(rest, plan)
        if cell.setdefault(name, value) != value:
            raise UsageError(f"{name} is given twice: {cell[name]} and {value}", "Give one of them")
    if not cell:
        names = [attribute.name for attribute in plan.attributes]
        raise UsageError("no cell is given", f"Write NAME=VALUE, ...; names: {', '.join(names)}")
    return cell


def _first(text: str, plan: Plan) -> tuple[str, str, str]:
    """The first attribute and value in ``text``, and what comes after the comma."""
    found = []
    for attribute in plan.attributes:
        for option in attribute.values:
            pair = rf"({re.escape(attribute.name)})\s*=\s*({re.escape(option.value)})"
            match = re.match(rf"{pair}\s*(?:,\s*|$)", text, re.IGNORECASE)
            if match:
                same_case = match.group(1, 2) == (attribute.name, option.value)
                found.append((match.end(), same_case, attribute.name, option.value))
    if not found:
        raise _unknown(plan, *text.split(",", maxsplit=1)[0].partition("=")[::2])
    end, _, name, value = max(found)
    return name, value, text[end:]


def _unknown(plan: Plan, name: str, value: str) -> UsageError:
    """What to say of a name or value that ``plan`` does not have, as it was written."""
    name, value = name.strip(), value.strip()
    named = {attribute.name.casefold(): attribute for attribute in plan.attributes}
    attribute = named.get(name.casefold())
    if attribute is None:
        names = [attribute.name for attribute in plan.attributes]
        return UsageError(f"the plan has no attribute {name!r}", _nearest(name, names))
    values = [option.value for option in attribute.values]
    return UsageError(f"{attribute.name} has no value {value!r}", _nearest(value, values))


def _nearest(written: str, there_are: list[str]) -> str:
    close = difflib.get_close_matches(written, there_are, 1)
    did_you_mean = f"Did you mean {close[0]}? " if close else ""
    return f"{did_you_mean}There are: {', '.join(there_are)}"
