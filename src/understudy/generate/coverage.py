"""What the examples cover of the plan: wanted, made, rejected, accepted, by value and by cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations, islice

from understudy.example import State
from understudy.generate.plan import cells
from understudy.generate.possible import Chosen, possible_pairs, space
from understudy.task import Attribute, Cell, Plan

OTHER = ""
"""Stands for every value that the plan does not have: of an older plan, or none at all."""
DRAWN = 1000
"""Cells drawn to see how often each value can come where impossible pairs are in its way."""
_CLOSE = 3.0
"""Cells of DRAWN by which a value may miss its weight and still be said to follow it."""


@dataclass(frozen=True, slots=True)
class ValueRow:
    """One value of the plan."""

    attribute: str
    value: str
    """OTHER for those that the plan does not have."""
    wanted: int
    made: int
    """All examples: rejected, accepted, or not looked at yet."""
    rejected: int
    accepted: int


@dataclass(frozen=True, slots=True)
class CellRow:
    """One whole cell that occurs."""

    cell: Cell
    """Empty for all those together that the plan does not know in full."""
    made: int
    rejected: int
    accepted: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """What is there against what is wanted."""

    values: tuple[ValueRow, ...]
    """In the plan's order. For every attribute ``made`` adds up to the number of examples, and
    ``wanted`` to what is wanted."""
    cells: tuple[CellRow, ...]
    """In the plan's order."""
    pairs_covered: tuple[int, int]
    """Pairs of values that an example shows which is not rejected; pairs that are possible."""


def coverage(plan: Plan, examples: Iterable[tuple[Cell, State]], wanted: int) -> Coverage:
    """Count ``examples`` by the values of their cells, against ``wanted`` examples in all.

    A value is wanted as often as its weight says, or as often as the plan's impossible pairs let it
    come. Raises UsageError if they leave no cell.
    """
    counts = _by_cell(plan, examples)
    by_value: Counter[tuple[str, str, State]] = Counter()
    for (cell, state), number in counts.items():
        for attribute, value in zip(plan.attributes, cell, strict=True):
            by_value[attribute.name, value, state] += number
    shares = _shares(plan)
    rows: list[ValueRow] = []
    for attribute in plan.attributes:
        due = _parted(wanted, shares[attribute.name])
        for value in [*due, OTHER]:
            there_are = _states(by_value, attribute.name, value)
            if value != OTHER or there_are[0]:
                rows.append(ValueRow(attribute.name, value, due.get(value, 0), *there_are))
    return Coverage(tuple(rows), _cell_rows(plan, counts), _pairs_covered(plan, counts))


def thin(coverage: Coverage, share: float = 0.5) -> tuple[ValueRow, ...]:
    """The values of which less than ``share`` of what is wanted was accepted, worst first."""
    rows = [row for row in coverage.values if row.accepted < share * row.wanted]
    return tuple(sorted(rows, key=lambda row: (row.accepted / row.wanted, -row.wanted)))


def _by_cell(
    plan: Plan, examples: Iterable[tuple[Cell, State]]
) -> Counter[tuple[tuple[str, ...], State]]:
    """How many there are of each cell and state; a cell is its values in the plan's order."""
    known = [(a.name, {option.value for option in a.values}) for a in plan.attributes]

    def values(cell: Cell) -> tuple[str, ...]:
        return tuple(
            value if (value := cell.get(name, OTHER)) in there else OTHER for name, there in known
        )

    return Counter((values(cell), state) for cell, state in examples)


def _states(by_value: Counter[tuple[str, str, State]], name: str, value: str) -> list[int]:
    """Made, rejected, accepted."""
    rejected, accepted = by_value[name, value, "rejected"], by_value[name, value, "accepted"]
    return [by_value[name, value, "new"] + rejected + accepted, rejected, accepted]


def _cell_rows(plan: Plan, counts: Counter[tuple[tuple[str, ...], State]]) -> tuple[CellRow, ...]:
    whole: dict[tuple[str, ...], Counter[State]] = {}
    for (cell, state), number in counts.items():
        key = () if OTHER in cell else cell
        whole.setdefault(key, Counter())[state] += number
    orders = [[option.value for option in attribute.values] for attribute in plan.attributes]
    names = [attribute.name for attribute in plan.attributes]

    def place(cell: tuple[str, ...]) -> tuple[bool, list[int]]:
        return not cell, [order.index(value) for order, value in zip(orders, cell, strict=False)]

    return tuple(
        CellRow(
            dict(zip(names, cell, strict=False)),
            whole[cell].total(),
            whole[cell]["rejected"],
            whole[cell]["accepted"],
        )
        for cell in sorted(whole, key=place)
    )


def _pairs_covered(plan: Plan, counts: Counter[tuple[tuple[str, ...], State]]) -> tuple[int, int]:
    numbered = space(plan)
    possible = possible_pairs(numbered, numbered.open())
    names = [attribute.name for attribute in plan.attributes]
    seen: set[tuple[Chosen, Chosen]] = set()
    for cell in {cell for cell, state in counts if state != "rejected"}:
        seen.update(combinations(zip(names, cell, strict=True), 2))
    return len(seen & possible), len(possible)


def _shares(plan: Plan) -> dict[str, dict[str, float]]:
    """For each attribute how often each value comes, relative to the others."""
    shares = {attribute.name: _weights(attribute) for attribute in plan.attributes}
    if not plan.impossible:
        return shares
    drawn = Counter(chosen for cell in islice(cells(plan, 0), DRAWN) for chosen in cell.items())
    for name, weights in shares.items():
        total = sum(weights.values())
        came = {value: float(drawn[name, value]) for value in weights}
        if any(abs(came[value] - DRAWN * weights[value] / total) > _CLOSE for value in weights):
            shares[name] = came
    return shares


def _weights(attribute: Attribute) -> dict[str, float]:
    weights: dict[str, float] = {}
    for option in attribute.values:
        weights[option.value] = weights.get(option.value, 0.0) + option.weight
    return weights


def _parted(whole: int, shares: dict[str, float]) -> dict[str, int]:
    """Whole numbers as near to the shares as they can be that add up to ``whole``."""
    total = sum(shares.values())
    exact = {value: whole * share / total for value, share in shares.items()}
    parts = {value: int(number) for value, number in exact.items()}
    largest = sorted(exact, key=lambda value: parts[value] - exact[value])
    for value in largest[: whole - sum(parts.values())]:
        parts[value] += 1
    return parts
