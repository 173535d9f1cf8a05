"""A teacher that repeats itself: asked again for the same, it mostly gives its few favourites.

Real models, asked over and over for examples of one kind, return to a handful, some far more often
than others and at times in slightly other words. Here every cell has its own favourites, drawn by
Zipf's law; an empty cell has one set of them for everything.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from understudy.practice import PracticeTask
from understudy.practice.cells import generator
from understudy.task import Cell

FAVOURITES = 12
"""How many each cell has."""
REPHRASED = 0.3
"""Share of favourites that come in slightly other words."""

_WORDS_BEFORE = ("so", "well", "hi,", "hello,", "ok,")
_WORDS_BEHIND = ("please", "thanks", "thank you", "ok?", "right?")
_ENDINGS = (".", "!", "?", " .", "...")

_REPHRASINGS: tuple[Callable[[str, Random], str], ...] = (
    lambda text, _: text.lower(),
    lambda text, _: text.upper(),
    lambda text, _: text.removesuffix("."),
    lambda text, rng: text.rstrip(".!?") + rng.choice(_ENDINGS),
    lambda text, rng: f"{rng.choice(_WORDS_BEFORE)} {text}",
    lambda text, rng: f"{text} {rng.choice(_WORDS_BEHIND)}",
)


class Drawn(NamedTuple):
    """One input, and how likely the teacher would say that it was, in parts of no fixed sum."""

    text: str
    weight: float


def inputs(
    task: PracticeTask, cell: Cell, how_many: int, *, share: float, seed: int, draw: int
) -> list[Drawn]:
    """Write inputs for a cell, ``share`` of them favourites, the others new.

    The favourites are settled by ``seed`` and the cell alone, which of them come by ``draw`` too.
    As long as there are others, none comes twice in one call.
    """
    fresh = [Drawn(text, 1.0) for text in task.inputs(cell, how_many, draw)]
    if not share:
        return fresh
    favourites = list(dict.fromkeys(task.inputs(cell, FAVOURITES, seed)))
    rng = generator(cell, draw)
    left: dict[int, float] = {}
    drawn = []
    for new in fresh:
        if rng.random() >= share:
            drawn.append(new)
            continue
        left = left or {rank: 1 / rank for rank in range(1, len(favourites) + 1)}
        [rank] = rng.choices(list(left), list(left.values()))
        text = favourites[rank - 1]
        if rng.random() < REPHRASED:
            text = _rephrased(task, text, rng)
        drawn.append(Drawn(text, 1.0 + FAVOURITES * left.pop(rank)))
    return drawn


def _rephrased(task: PracticeTask, text: str, rng: Random) -> str:
    """Say it slightly otherwise; as it was, if that would change the answer."""
    other = rng.choice(_REPHRASINGS)(text, rng)
    return other if task.answer(other) == task.answer(text) else text
