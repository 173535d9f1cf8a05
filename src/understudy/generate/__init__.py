"""From a task to examples: spec, plan, inputs, answers. The prompts are in prompts.py."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field

from understudy.example import Example
from understudy.generate.answers import answer
from understudy.generate.inputs import inputs
from understudy.generate.plan import cells
from understudy.models.protocol import CallFailed, Model
from understudy.similar import fold
from understudy.task import Cell, Plan, Spec

FRUITLESS = 20
"""Input calls bought in a row that bring nothing new before generation ends by itself; and failed
calls beyond the number of examples wanted."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that gave no example, and why."""

    reason: str


async def generate(
    model: Model,
    spec: Spec,
    plan: Plan,
    wanted: int,
    *,
    known: set[str],
    own: Sequence[Example],
    per_call: int,
    concurrency: int,
    max_tokens: int,
    seed: int,
    task_version: int,
) -> AsyncIterator[Example | Failure]:
    """Yield ``wanted`` examples as they are made, and every failure on the way.

    ``known`` holds the inputs that the project has already, folded (similar.fold); it grows. The
    requests are the same for the same seed, so that a second run finds in the ledger what the first
    one bought, and an interrupted one goes on where it was. Fewer are yielded if the teacher
    repeats itself.

    Calls in flight when an error ends it all are finished and yielded first; then it is raised:
    BudgetReached, ProviderRefused, DiskError, Stopped.
    """
    work = _Work(wanted, known, _batches(plan, per_call, seed))
    made: asyncio.Queue[Example | Failure | None] = asyncio.Queue()

    async def worker() -> None:
        try:
            while (job := await work.next()) is not None:
                try:
                    if isinstance(job, _Batch):
                        found = await inputs(model, spec, job.cell, job.how_many, job.number, own)
                        work.admit(job, found.value, bought=found.bought)
                    else:
                        text, cell = job
                        await made.put(
                            await answer(
                                model,
                                spec,
                                text,
                                cell,
                                max_tokens=max_tokens,
                                task_version=task_version,
                            )
                        )
                except CallFailed as error:
                    work.fail(job, sent=not error.stored)
                    await made.put(Failure(error.what))
                await work.changed()
        except Exception as error:  # noqa: BLE001 (the others stop, and it is raised at the end)
            work.error = work.error or error
            await work.changed()
        finally:
            await made.put(None)

    workers = [asyncio.create_task(worker()) for _ in range(min(concurrency, wanted))]
    try:
        for _ in workers:
            while (item := await made.get()) is not None:
                yield item
    finally:
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    if work.error is not None:
        raise work.error


@dataclass(frozen=True, slots=True)
class _Batch:
    cell: Cell
    number: int
    how_many: int


def _batches(plan: Plan, per_call: int, seed: int) -> Iterator[_Batch]:
    """Batch after batch of the plan's cells; always whole ones: their keys stay the same."""
    for number, cell in enumerate(cells(plan, seed)):
        yield _Batch(cell, number, per_call)


@dataclass
class _Work:
    """What is left to do: inputs that wait for an answer first, else the next batch of inputs."""

    wanted: int
    known: set[str]
    batches: Iterator[_Batch]
    waiting: deque[tuple[str, Cell]] = field(default_factory=deque)
    admitted: int = 0
    expected: int = 0
    failed: int = 0
    fruitless: int = 0
    error: Exception | None = None
    _change: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def next(self) -> _Batch | tuple[str, Cell] | None:
        """The next job; None when all is done, or something ended it."""
        async with self._change:
            while True:
                if self.error is not None:
                    return None
                if self.waiting:
                    return self.waiting.popleft()
                short = self.admitted + self.expected < self.wanted
                hopeful = self.fruitless < FRUITLESS and self.failed < FRUITLESS + self.wanted
                if short and hopeful:
                    batch = next(self.batches)
                    self.expected += batch.how_many
                    return batch
                if not self.expected:
                    return None
                await self._change.wait()

    def admit(self, batch: _Batch, found: list[str], *, bought: bool) -> None:
        """Take the new inputs of a batch, as many as are wanted; repeats are not answered."""
        self.expected -= batch.how_many
        fresh = 0
        for text in found:
            if self.admitted == self.wanted:
                break
            if (folded := fold(text)) not in self.known:
                self.known.add(folded)
                self.waiting.append((text, batch.cell))
                self.admitted += 1
                fresh += 1
        # Batches of earlier runs are read from disk for nothing: their inputs are known by now.
        if fresh or bought:
            self.fruitless = 0 if fresh else self.fruitless + 1

    def fail(self, job: _Batch | tuple[str, Cell], *, sent: bool) -> None:
        """Make room for another: a failed batch brings nothing, a failed input is replaced."""
        self.failed += sent
        if isinstance(job, _Batch):
            self.expected -= job.how_many
        else:
            self.admitted -= 1

    async def changed(self) -> None:
        """Wake the workers that wait for inputs."""
        async with self._change:
            self._change.notify_all()
