"""What the plan is good for: a teacher that repeats itself, asked with a plan and without.

The same practice teacher, which mostly returns to a few favourites for each request, and the same
number of inputs: how many are distinct, repeated, nearly repeated, which pairs of the plan's values
they show, and how many calls bring half as many new ones. Medians of three seeds.

Pairs are flattered without the plan: what this teacher writes besides its favourites, asked for
nothing in particular, is spread over the plan's cells by itself, which no real teacher does.

    .venv/bin/python bench/diversity.py [INPUTS] [SHARE OF FAVOURITES] [TASK ...]
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import combinations, repeat
from typing import Any

from understudy.generate.inputs import inputs
from understudy.generate.novelty import Novelty
from understudy.generate.plan import cells
from understudy.generate.possible import possible_pairs, space
from understudy.models import endpoint
from understudy.models.protocol import Endpoint, Reply, Request
from understudy.practice import TASKS, load
from understudy.practice.server import Options, in_background
from understudy.settings import Settings
from understudy.similar import fold
from understudy.task import Cell, Plan

SEEDS = (0, 1, 2)
PER_CALL = 10
MOST = 20
"""Times as many calls as the inputs need, after which the search for new ones is given up."""


class Direct:
    """A model that is asked without a ledger."""

    def __init__(self, to: Endpoint) -> None:
        self.name, self.to = to.name, to

    async def complete(self, request: Request) -> Reply:
        """Ask."""
        return self.to.read((await self.to.send(self.to.prepare(request))).raw)


@contextmanager
def written(task: str) -> Iterator[dict[str, Cell]]:
    """The cell that the teacher had in mind for each text it wrote, also when none was asked for.

    Texts that it then put in other words are not in it.
    """
    module: Any = import_module(TASKS[task])
    of_text: dict[str, Cell] = {}
    drawn: list[Cell] = []
    draw, write = module.draw, module.inputs

    def noted_draw(*given: Any) -> Cell:
        drawn.append(draw(*given))
        return drawn[-1]

    def noted_inputs(*given: Any) -> list[str]:
        drawn.clear()
        texts: list[str] = write(*given)
        of_text.update(zip(map(fold, texts), drawn, strict=True))
        return texts

    module.draw, module.inputs = noted_draw, noted_inputs
    try:
        yield of_text
    finally:
        module.draw, module.inputs = draw, write


async def measure(model: Direct, task: str, size: int, asked: Iterator[Cell]) -> list[float]:
    """Distinct, repeats, near, pairs, calls for ``size`` / 2 new ones."""
    novelty, texts, new, needed = Novelty(0.8, window=1), list[str](), 0, 0
    spec = load(task).spec()
    with written(task) as of_text:
        for call in range(MOST * size // PER_CALL):
            found = (await inputs(model, spec, next(asked), PER_CALL, call)).value
            for text, *_ in found:
                one = novelty.see(text)
                assert one is not None
                new += not one.repeats and not one.near
            texts += [text for text, *_ in found]
            needed = needed or (call + 1) * (new >= size // 2)
            if needed and len(texts) >= size:
                break
        shown = [of_text[fold(text)] for text in texts[:size] if fold(text) in of_text]
    first = novelty.hundreds[:size]
    pairs = {pair for cell in shown for pair in combinations(cell.items(), 2)}
    repeats, near = sum(one.repeats for one in first), sum(one.near for one in first)
    return [size - repeats, repeats / size, near / size, len(pairs), needed or float("nan")]


async def ask(url: str, task: str, size: int, plan: Plan | None, seed: int) -> list[float]:
    """Measure with the cells of ``plan``, or with an empty one."""
    to, _ = endpoint(f"{url}#{task}", Settings(price_in=0, price_out=0))
    asked = repeat(Cell()) if plan is None else cells(plan, seed, every_pair=True)
    try:
        return await measure(Direct(to), task, size, asked)
    finally:
        await to.close()


def main(size: int, share: float, tasks: list[str]) -> None:
    """Print both for each task."""
    print(f"{size:,} inputs, {share:.0%} of them favourites")
    heads = ("task", "distinct", "repeats", "near", "pairs shown", f"calls for {size // 2:,} new")
    print("{:24}{:>9}{:>9}{:>8}{:>14}{:>22}".format(*heads))
    for task in tasks:
        plan = load(task).plan()
        numbered = space(plan)
        possible = len(possible_pairs(numbered, numbered.open()))
        for name, by in (("with the plan", plan), ("without", None)):
            rounds = []
            for seed in SEEDS:
                with in_background(Options(repeat=share, seed=seed)) as url:
                    rounds.append(asyncio.run(ask(url, task, size, by, seed)))
            distinct, repeats, near, pairs, calls = map(
                statistics.median, zip(*rounds, strict=True)
            )
            print(
                f"{f'{task}, {name}':24}{distinct:9,.0f}{repeats:9.1%}{near:8.1%}"
                f"{f'{pairs:.0f} of {possible}':>14}{calls:22,.0f}"
            )


if __name__ == "__main__":
    size, share, *tasks = [*sys.argv[1:], *("2000", "0.8")[len(sys.argv) - 1 :]]
    main(int(size), float(share), tasks or list(TASKS))
