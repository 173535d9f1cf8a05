"""The engine: a thread that answers many generations of one model at once, a token at a time.

Every turn lets those leave who are over or wanted no more, reads the prompts of those who wait,
together, and then adds a token to every row. What can be shown is told to each row's event loop
once a pass. A pass that fails fails for the rows in it, and the engine goes on with the others.
"""

from __future__ import annotations

import itertools
import threading
import time
from asyncio import AbstractEventLoop
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from understudy.models import out_of_memory
from understudy.models.engine.row import Reader, Row
from understudy.models.engine.sampling import Sampler
from understudy.models.huggingface import first_line
from understudy.models.protocol import CallFailed, ModelFailed, Piece

if TYPE_CHECKING:
    from understudy.models.engine.batch import Batch

BATCH_TOKENS = 65_536
"""Most tokens that the rows of one batch may hold, padding included."""
PROMPT_TOKENS = 8_192
"""Most tokens of prompts that one pass reads while others wait for their next token."""
AHEAD = 256
"""Tokens of its answer that a row must have room for before it joins."""
PATIENCE_S = 0.002
"""Longest that a turn waits for prompts that are being read."""
SMALL = 10_000_000
"""Parameters below which a second processor thread slows a model down."""


class Engine:
    """Answers rows on one model in a thread of its own, until ``close``."""

    def __init__(self, model: Any, reader: Reader, *, name: str, max_rows: int) -> None:
        from understudy.models.engine.cache import merges

        self._model, self._reader, self._name = model, reader, name
        self._merges = merges(model)
        self._max_rows = self._most_rows = max_rows
        self._waiting: deque[Row] = deque()
        self._batch: Batch | None = None
        self._together: list[Row] = []
        self._sampler: Sampler | None = None
        self._news: dict[AbstractEventLoop, list[tuple[Row, Piece | CallFailed]]]
        self._news = defaultdict(list)
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._coming = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="local-model", daemon=True)
        self._thread.start()

    @contextmanager
    def coming(self) -> Iterator[None]:
        """Somebody is reading a prompt: a turn that could let it join waits a moment for it.

        Without that a busy engine, which takes Python's lock again as soon as it lets go of it,
        would keep the reader waiting for several passes.
        """
        with self._changed:
            self._coming += 1
        try:
            yield
        finally:
            with self._changed:
                self._coming -= 1
                self._changed.notify()

    def submit(self, row: Row) -> None:
        """Let a row join at the next turn. Raises ModelFailed if the engine is closed."""
        with self._changed:
            if self._closed:
                raise ModelFailed(self._is_closed())
            row.number = next(self._numbers)
            self._waiting.append(row)
            self._changed.notify()

    def close(self) -> None:
        """End every row, and wait for the pass that is running."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    # -- in the engine's thread ------------------------------------------------------------------

    def _run(self) -> None:
        import torch

        if sum(weight.numel() for weight in self._model.parameters()) < SMALL:
            torch.set_num_threads(1)
        turn = self._turn if self._merges else self._cohort
        with torch.inference_mode():
            while self._wait():
                try:
                    turn()
                except Exception as error:  # noqa: BLE001  whoever waits is told
                    self._end(self._everyone(), _why(error))
        self._end(self._everyone(), self._is_closed())
        self._sampler = self._model = None

    def _everyone(self) -> list[Row]:
        """All that run or wait; nobody waits any more."""
        with self._changed:
            waiting, self._waiting = self._waiting, deque()
        return [*(self._batch.rows if self._batch else ()), *self._together, *waiting]

    def _end(self, rows: Sequence[Row], why: str) -> None:
        """Give up everything that is running, and tell these rows why."""
        self._batch, self._together = None, []
        for row in rows:
            if not row.ended:
                self._tell(row, ModelFailed(why))
        self._flush()

    def _wait(self) -> bool:
        """Sleep until there is work. Returns False once closed."""
        with self._changed:
            if not self._waiting and not (self._batch and self._batch.rows):
                self._most_rows, self._sampler, self._batch = self._max_rows, None, None
                self._changed.wait_for(lambda: self._waiting or self._closed)
            self._changed.wait_for(lambda: not self._coming or self._closed, PATIENCE_S)
            return not self._closed

    def _turn(self) -> None:
        """One token for every row, old and new."""
        from understudy.models.engine.batch import Batch

        batch = self._batch = self._batch or Batch(self._model)
        self._leave(batch, {row for row in batch.rows if row.dropped})
        new = self._admit(len(batch.rows), batch.width, AHEAD)
        if new and not self._pass(batch, new, lambda: batch.join(new)):
            return
        while len(batch.rows) > 1 and len(batch.rows) * (batch.width + 1) > BATCH_TOKENS:
            youngest = max(batch.rows, key=lambda row: row.number)
            self._leave(batch, {youngest})
            self._wait_again([youngest])
        if batch.rows:
            self._pass(batch, batch.rows, batch.step)

    def _pass(self, batch: Batch, rows: list[Row], run: Callable[[], Any]) -> bool:
        """Run a pass and give each row its token. Returns False if it failed."""
        try:
            over = self._give(rows, run())[1]
        except Exception as error:  # noqa: BLE001  whoever waits is told
            self._batch = None
            self._failed(rows, [row for row in batch.rows if row not in rows], error)
            return False
        self._leave(batch, over)
        return True

    def _cohort(self) -> None:
        """Answer those who wait now, from their first token to their last."""
        from understudy.models.engine.cohort import write

        def give(rows: list[Row], logits: Any) -> tuple[list[int], set[Row]]:
            chosen, over = self._give(rows, logits)
            if self._closed:
                return chosen, {*rows}
            return chosen, over | {row for row in rows if row.dropped}

        self._together = self._admit(0, 0, None)
        try:
            if self._together:
                write(self._model, self._together, self._reader.tokenizer.pad_token_id, give)
        except Exception as error:  # noqa: BLE001  whoever waits is told
            self._failed([row for row in self._together if not row.ended], [], error)
        if not self._closed:
            self._together = []

    def _admit(self, running: int, width: int, ahead: int | None) -> list[Row]:
        """Take the row that has waited longest and those most like it, as many as can join.

        ``running`` rows of up to ``width`` tokens are there. ``ahead``: tokens of its answer that
        each must have room for; None: all of them. A row that is alone always has room.
        """
        new: list[Row] = []
        room = self._most_rows - running
        if room <= 0 or not self._waiting:
            return new
        with self._changed:
            waiting = [row for row in self._waiting if not row.dropped]
            if len(waiting) > room:  # those nearest in length waste least on padding
                first = len(waiting[0].tokens)
                waiting.sort(key=lambda row: abs(len(row.tokens) - first))
            for row in waiting[:room]:
                left = row.left if ahead is None else min(row.left, ahead)
                width = max(width, len(row.tokens) + left)
                longest = max(len(other.tokens) for other in (row, *new))
                count = len(new) + 1
                much = (running + count) * width > BATCH_TOKENS or (
                    ahead is not None and count * longest > PROMPT_TOKENS
                )
                if much and (new or running):
                    break
                row.began = row.began or time.monotonic()
                new.append(row)
            taken = {*new}
            self._waiting = deque(
                row for row in self._waiting if not row.dropped and row not in taken
            )
        return new

    def _give(self, rows: list[Row], logits: Any) -> tuple[list[int], set[Row]]:
        """Give each row its next token, and tell what can be shown. Returns also who is over."""
        if self._sampler is None or self._sampler.rows != tuple(rows):
            self._sampler = Sampler(rows, self._reader.tokenizer)
        chosen = self._sampler.choose(logits)
        logprobs = self._sampler.logprobs(logits, chosen)
        over = set()
        for at, (row, token) in enumerate(zip(rows, chosen, strict=True)):
            piece: Piece | CallFailed | None
            try:
                piece = row.take(token, logprobs.get(at))
            except CallFailed as error:
                piece = error
            if piece is None:
                continue
            self._tell(row, piece)
            if row.ended:
                over.add(row)
        self._flush()
        return chosen, over

    def _failed(self, rows: Sequence[Row], others: Sequence[Row], error: Exception) -> None:
        """A pass over ``rows`` failed, so that ``others`` have to be read again.

        Out of memory, all of them are tried again, half as many at once.
        """
        everyone = [row for row in (*rows, *others) if not row.ended]
        if out_of_memory.said(error):
            out_of_memory.forget(error)
            _give_memory_back()
            if len(everyone) > 1:
                self._most_rows = max(1, len(everyone) // 2)
                self._wait_again(everyone)
                return
        self._end(rows, _why(error))
        self._wait_again(others)

    def _wait_again(self, rows: Sequence[Row]) -> None:
        """Put rows back in front; what they have written is read as their prompt is."""
        with self._changed:
            self._waiting.extendleft(sorted(rows, key=lambda row: row.number, reverse=True))

    def _leave(self, batch: Batch, over: set[Row]) -> None:
        for at in reversed(range(len(batch.rows)) if over else ()):
            if batch.rows[at] in over:
                batch.leave(at)

    def _tell(self, row: Row, piece: Piece | CallFailed) -> None:
        if isinstance(piece, CallFailed) or piece.finish:
            row.ended = time.monotonic()
        self._news[row.loop].append((row, piece))

    def _flush(self) -> None:
        """Hand the news to the event loops that wait for them."""
        for loop, news in self._news.items():
            try:
                loop.call_soon_threadsafe(_deliver, news)
            except RuntimeError:  # the loop is closed: nobody is there
                for row, _ in news:
                    row.dropped = True
        self._news = defaultdict(list)

    def _is_closed(self) -> str:
        return f"{self._name} is closed"


def _deliver(news: list[tuple[Row, Piece | CallFailed]]) -> None:
    for row, piece in news:
        row.pieces.put_nowait(piece)


def _why(error: Exception) -> str:
    return f"the model failed: {first_line(error)}"


def _give_memory_back() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
