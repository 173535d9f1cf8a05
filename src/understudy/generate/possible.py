"""Which cells a plan's impossible pairs leave; values are bits, so that a look is an ``and``."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

from understudy.errors import UsageError
from understudy.task import Cell, Plan

Chosen = tuple[str, str]
"""An attribute's name and one of its values."""
Allowed = list[int]
"""For each attribute, in the plan's order, the values that can still come: bit n is value n."""

MOST_STEPS = 100_000
"""Values tried in one search: enough for every plan that a person or a teacher writes."""


@dataclass(frozen=True, slots=True)
class Space:
    """The cells of a plan, attributes and values by number."""

    values: tuple[tuple[Chosen, ...], ...]
    meets: tuple[tuple[tuple[tuple[int, int], ...], ...], ...]
    """For each value of each attribute: the attributes it restricts, each with what is left."""

    def open(self) -> Allowed:
        """Everything, as long as nothing is chosen."""
        return [(1 << len(values)) - 1 for values in self.values]

    def choose(self, allowed: Allowed, attribute: int, value: int) -> Allowed:
        """What is left once that value is chosen. A 0 in it: nothing, for that attribute."""
        left = allowed.copy()
        left[attribute] &= 1 << value
        for other, mask in self.meets[attribute][value]:
            left[other] &= mask
        return left


def space(plan: Plan) -> Space:
    """Number the values of ``plan``. Impossible pairs of what it does not have mean nothing."""
    never: dict[Chosen, set[Chosen]] = {}
    for pair in plan.impossible:
        if pair.attribute != pair.other_attribute:
            one = (pair.attribute, pair.value)
            other = (pair.other_attribute, pair.other_value)
            never.setdefault(one, set()).add(other)
            never.setdefault(other, set()).add(one)
    values = tuple(
        tuple((attribute.name, option.value) for option in attribute.values)
        for attribute in plan.attributes
    )

    def restricted(chosen: Chosen) -> Iterator[tuple[int, int]]:
        for number, others in enumerate(values):
            kept = sum(1 << at for at, other in enumerate(others) if other not in never[chosen])
            if kept != (1 << len(others)) - 1:
                yield number, kept

    meets = tuple(
        tuple(tuple(restricted(chosen)) if chosen in never else () for chosen in row)
        for row in values
    )
    return Space(values, meets)


def find(
    space: Space, allowed: Allowed, pick: Callable[[int, int], int] | None = None
) -> list[int] | None:
    """A cell within ``allowed``, a value's number for each attribute; None if there is none.

    ``pick`` (attribute, mask) says which value is tried first; without it, the first. Raises
    UsageError if MOST_STEPS are not enough to tell.
    """
    steps = 0

    def search(at: int, allowed: Allowed) -> list[int] | None:
        nonlocal steps
        if at == len(allowed):
            return []
        while mask := allowed[at]:
            steps += 1
            if steps > MOST_STEPS:
                raise UsageError("the plan has too many impossible pairs", "Remove some of them")
            value = pick(at, mask) if pick else (mask & -mask).bit_length() - 1
            left = space.choose(allowed, at, value)
            rest = search(at + 1, left) if all(left) else None
            if rest is not None:
                return [value, *rest]
            allowed = allowed.copy()
            allowed[at] = mask & ~(1 << value)
        return None

    return search(0, allowed) if all(allowed) else None


def possible_pairs(space: Space, allowed: Allowed) -> set[tuple[Chosen, Chosen]]:
    """Every two values that come together in some cell within ``allowed``, in the plan's order."""
    found: set[tuple[Chosen, Chosen]] = set()
    for (first, ones), (second, others) in combinations(enumerate(space.values), 2):
        for one, value in enumerate(ones):
            left = space.choose(allowed, first, one)
            for other, other_value in enumerate(others):
                if (value, other_value) in found or not left[second] >> other & 1:
                    continue
                cell = find(space, space.choose(left, second, other))
                if cell is not None:  # it shows more pairs than the one looked for
                    row = [space.values[at][number] for at, number in enumerate(cell)]
                    found.update(combinations(row, 2))
    return found


class Unmet:
    """Possible pairs of values that never came, though both values came often enough.

    Where impossible pairs are in the way, a value that few can meet takes all of those few for
    itself, and their other pairs would wait for ever.
    """

    def __init__(self, space: Space, allowed: Allowed) -> None:
        self._others: dict[Chosen, set[Chosen]] = {}
        for one, other in possible_pairs(space, allowed):
            self._others.setdefault(one, set()).add(other)
            self._others.setdefault(other, set()).add(one)
        self._partners = Counter(
            (one, name) for one, others in self._others.items() for name, _ in others
        )
        self._came: Counter[Chosen] = Counter()
        self._due: deque[tuple[Chosen, Chosen]] = deque()

    def see(self, cell: Cell) -> None:
        """Count a cell."""
        for one, other in combinations(cell.items(), 2):
            self._others.get(one, set()).discard(other)
            self._others.get(other, set()).discard(one)
        self._came.update(cell.items())
        for one in cell.items():
            for other in self._others.get(one, ()):
                if self._often(one, other) and self._often(other, one):
                    self._due.append((one, other))

    def next(self) -> tuple[Chosen, Chosen] | None:
        """A pair whose turn it is, if any."""
        while self._due:
            one, other = self._due.popleft()
            if other in self._others[one]:
                return one, other
        return None

    def _often(self, one: Chosen, other: Chosen) -> bool:
        """True if ``one`` came twice for each value of that attribute which it can meet."""
        return self._came[one] >= 2 * self._partners[one, other[0]]
