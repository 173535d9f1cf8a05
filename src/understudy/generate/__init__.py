"""From a task to examples: spec, plan, inputs, answers. The prompts are in prompts.py."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

from understudy.example import Example
from understudy.generate.answers import Answer
from understudy.generate.inputs import Candidate
from understudy.generate.novelty import Hundred, Novelty
from understudy.generate.sources import Batch
from understudy.models.protocol import CallFailed, Model
from understudy.similar import fold
from understudy.task import Spec

FRUITLESS = 20
"""Input calls bought in a row that bring nothing new before generation ends by itself; and failed
calls beyond the number of examples wanted."""
AHEAD = 2
"""Jobs under way for each call that may be in flight: the next ones are ready when one lands."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that gave no example, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Exhausted:
    """The teacher repeats itself so much that going on would waste money; why, in words."""

    reason: str


@dataclass(frozen=True, slots=True)
class Repetitive:
    """Much of what the teacher writes is nothing new, though worth going on; told once."""

    reason: str


Made = Example | Failure | Hundred | Repetitive | Exhausted


async def generate(
    writer: Model,
    spec: Spec,
    batches: Iterator[Batch],
    answer: Answer,
    wanted: int,
    *,
    known: set[str],
    concurrency: int,
    novelty: Novelty | None = None,
    same: Callable[[str], str] = fold,
) -> AsyncIterator[Made]:
    """Yield ``wanted`` examples as they are made, and what happened on the way.

    ``writer`` writes the inputs of each batch (sources.py); ``answer`` makes an example of each
    (answers.py). ``known`` holds the inputs that the project has already, as ``same`` writes them
    (what it writes alike is one input); it grows. ``concurrency`` is the number of calls that the
    model takes at once. With ``novelty`` every hundred inputs are told, and generation ends when
    more of them would add nothing. Fewer than ``wanted`` are yielded if the teacher repeats itself.

    Calls in flight when an error ends it all are finished and yielded first; then it is raised:
    BudgetReached, ProviderRefused, DiskError, Stopped.
    """
    work = _Work(writer, spec, batches, answer, wanted, known, AHEAD * concurrency, novelty, same)
    work.start_more()
    try:
        while (item := await work.made.get()) is not None:
            yield item
    finally:
        # Calls that were sent are paid for: they are waited for, not cancelled.
        work.closed = True
        await asyncio.gather(*work.active, return_exceptions=True)
    if work.error is not None:
        raise work.error


@dataclass
class _Work:
    """What is left to do: inputs that wait for an answer first, else the next batch of inputs."""

    writer: Model
    spec: Spec
    batches: Iterator[Batch]
    answer: Answer
    wanted: int
    known: set[str]
    at_once: int
    novelty: Novelty | None
    same: Callable[[str], str]
    made: asyncio.Queue[Made | None] = field(default_factory=asyncio.Queue)
    active: set[asyncio.Task[None]] = field(default_factory=set)
    error: Exception | None = None
    closed: bool = False
    """Nobody takes what is made any more."""
    _waiting: deque[Candidate] = field(default_factory=deque)
    _admitted: int = 0
    _expected: int = 0
    _failed: int = 0
    _fruitless: int = 0
    _warned: bool = False
    _ended: bool = False  # no more inputs are asked for

    def start_more(self) -> None:
        """Start as many jobs as may run; when none is left, say so."""
        while self.error is None and not self.closed and len(self.active) < self.at_once:
            if self._waiting:
                job = self._reply(self._waiting.popleft())
            elif (batch := self._next_batch()) is not None:
                job = self._write(batch)
            else:
                break
            task = asyncio.create_task(job)
            self.active.add(task)
            task.add_done_callback(self._done)
        if not self.active:
            self.made.put_nowait(None)

    def _done(self, task: asyncio.Task[None]) -> None:
        self.active.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            if not isinstance(error, Exception):
                raise error
            self.error = self.error or error
        self.start_more()

    def _next_batch(self) -> Batch | None:
        """The next batch, if more inputs are wanted, and not too far ahead of the answers."""
        short = self._admitted + self._expected < self.wanted and self._expected < self.at_once
        hopeful = self._fruitless < FRUITLESS and self._failed < FRUITLESS + self.wanted
        if self._ended or not short or not hopeful:
            return None
        batch = next(self.batches, None)
        if batch is None:
            self._ended = True
            return None
        self._expected += batch.expected
        return batch

    async def _write(self, batch: Batch) -> None:
        try:
            found = await batch.write(self.writer, self.spec)
        except CallFailed as error:
            self._fail(error)
        else:
            self._admit(found.value, bought=found.bought)
        finally:
            self._expected -= batch.expected

    async def _reply(self, candidate: Candidate) -> None:
        try:
            example = await self.answer(candidate)
        except CallFailed as error:
            self._admitted -= 1  # another input takes its place
            self._fail(error)
        else:
            self.made.put_nowait(example)
            if self.novelty is not None:
                self.novelty.answered(candidate.text, example.answer)

    def _fail(self, error: CallFailed) -> None:
        if not error.stored:  # what an earlier run was told is not told again
            self._failed += 1
            self.made.put_nowait(Failure(error.what))

    def _admit(self, found: list[Candidate], *, bought: bool) -> None:
        """Take the new inputs of a batch, as many as are wanted; repeats are not answered."""
        fresh = 0
        for candidate in found:
            self._watch(candidate.text)
            if (
                self._admitted < self.wanted
                and (folded := self.same(candidate.text)) not in self.known
            ):
                self.known.add(folded)
                self._waiting.append(candidate)
                self._admitted += 1
                fresh += 1
        # Batches of earlier runs are read from disk for nothing: their inputs are known by now.
        if fresh or bought:
            self._fruitless = 0 if fresh else self._fruitless + 1

    def _watch(self, text: str) -> None:
        """Measure how much new the inputs bring; stop asking for more when it is too little."""
        if self.novelty is None or self._ended:
            return
        hundred = self.novelty.see(text)
        if hundred is not None:
            self.made.put_nowait(hundred)
            why = self.novelty.exhausted()
            if why:
                self._ended = True
                self.made.put_nowait(Exhausted(why))
            elif not self._warned and (why := self.novelty.warning()):
                self._warned = True
                self.made.put_nowait(Repetitive(why))
