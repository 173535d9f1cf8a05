"""Where inputs come from: the plan's cells, harder variants of what is there, or the user.

Each source is an iterator of batches; the same source gives the same batches in the same order, so
that a second run finds in the ledger what the first one bought.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from functools import partial
from itertools import count, islice
from typing import Any, NamedTuple

from understudy.example import Example
from understudy.generate.inputs import NOTHING_SHOWN, Candidate, Shown, inputs, variants
from understudy.models.protocol import Model
from understudy.models.typed import Answered
from understudy.task import Cell, Spec

CALLS_AT_LEAST = 8
"""Calls over which the inputs of a small wish are spread: as many cells are seen."""


def inputs_a_call(most: int, wanted: int) -> int:
    """How many inputs to ask for in one call, of which each is about one cell.

    ``most``, but fewer where few examples are ``wanted``: then they come from several cells.
    """
    return max(1, min(most, wanted // CALLS_AT_LEAST))


class Batch(NamedTuple):
    """Some inputs to be had at once."""

    expected: int
    write: Callable[[Model, Spec], Coroutine[Any, Any, Answered[list[Candidate]]]]
    """Gives them; raises CallFailed."""


def of_cells(
    cells: Iterable[Cell], per_call: int, shown: Shown = NOTHING_SHOWN, *, first: int = 0
) -> Iterator[Batch]:
    """One batch a cell, always whole ones: their keys stay the same whatever is wanted.

    ``first`` is the number of the first batch: those before were asked for otherwise.
    """
    for number, cell in enumerate(cells, first):
        yield Batch(per_call, partial(_of_cell, cell, per_call, number, shown))


async def _of_cell(
    cell: Cell, how_many: int, number: int, shown: Shown, model: Model, spec: Spec
) -> Answered[list[Candidate]]:
    return await inputs(model, spec, cell, how_many, number, shown)


def of_parents(parents: Sequence[Example], per_call: int) -> Iterator[Batch]:
    """Harder variants of each parent's input, once."""
    waiting = iter(parents)
    for number in count():
        chosen = list(islice(waiting, per_call))
        if not chosen:
            return
        yield Batch(len(chosen), partial(_variants, chosen, number))


async def _variants(
    parents: Sequence[Example], number: int, model: Model, spec: Spec
) -> Answered[list[Candidate]]:
    return await variants(model, spec, parents, number)


def of_texts(texts: Iterable[str], per_call: int) -> Iterator[Batch]:
    """Inputs that the user has already; no call is needed to get them."""
    waiting = iter(texts)
    while chosen := list(islice(waiting, per_call)):
        yield Batch(len(chosen), partial(_given, chosen))


async def _given(texts: Sequence[str], _model: Model, _spec: Spec) -> Answered[list[Candidate]]:
    return Answered([Candidate(text, {}) for text in texts if text.strip()], bought=False)
