"""One generation in the engine: what it asks for, what is written, and who is told."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from dataclasses import dataclass
from typing import Any

from understudy.models.engine.grammar import Grammar
from understudy.models.engine.text import Showing, Spelling, falls_back
from understudy.models.protocol import CallFailed, Generation, Piece, TokenLogprob


@dataclass(frozen=True, slots=True)
class Reader:
    """What every row of one model shares: how tokens are read, and which of them end an answer."""

    tokenizer: Any
    ends: frozenset[int]


class Row:
    """One generation. Its numbers and its pieces are its own, whatever runs beside it.

    Made in the event loop that reads its pieces; from ``submit`` on it is the engine's thread
    that writes, and the loop may only set ``dropped``.
    """

    def __init__(
        self,
        prompt: list[int],
        asked: Generation,
        reader: Reader,
        *,
        max_tokens: int,
        streamed: bool,
        grammar: Grammar | None = None,
    ) -> None:
        self.tokens = list(prompt)
        self.temperature, self.top_p = asked.temperature, asked.top_p
        self.top_logprobs = asked.top_logprobs
        self.random = random.Random(asked.seed)
        self.grammar = grammar
        self.dropped = False
        self.number = 0
        """Its place among all that were submitted."""
        self.began = self.ended = 0.0
        """When its first pass began and its last token was written (time.monotonic)."""
        self.loop = asyncio.get_running_loop()
        self.pieces: asyncio.Queue[Piece | CallFailed] = asyncio.Queue()
        self._prompt, self._max_tokens, self._reader = len(prompt), max_tokens, reader
        self._streamed = streamed
        self._spelling = Spelling(reader.tokenizer)
        self._showing = Showing(asked.stop)
        self._watched = streamed or bool(asked.stop) or asked.top_logprobs is not None
        self._watched = self._watched or falls_back(reader.tokenizer)
        self._spelled = 0
        self._shown = ""
        self._open: deque[tuple[int, int, TokenLogprob]] = deque()
        self._decided: list[TokenLogprob] = []

    @property
    def left(self) -> int:
        """Tokens that it may still write."""
        return self._max_tokens - self.written

    @property
    def written(self) -> int:
        """Tokens written so far, without the end token."""
        return len(self.tokens) - self._prompt

    def take(self, token: int, logprob: TokenLogprob | None = None) -> Piece | None:
        """Add a token. Returns what can be shown of it; a piece with a finish is the last."""
        if token in self._reader.ends:
            return self._last("stop")
        self.tokens.append(token)
        if self._watched:
            self._show(self._spelling.add(token), logprob)
        if self._showing.stopped:
            return self._last("stop")
        over = self.grammar is not None and self.grammar.take(token)
        if over or not self.left:
            return self._last("stop" if over else "length")
        return self._piece() if self._streamed and (self._shown or self._decided) else None

    def _last(self, finish: str) -> Piece:
        if not self._watched:
            written = self.tokens[self._prompt :]
            text = self._reader.tokenizer.decode(written, skip_special_tokens=True)
        else:
            text = self._spelling.end()
        if not self._showing.stopped:
            self._show(text)
            self._shown += self._showing.end()
        finish = "stop" if self._showing.stopped else finish
        settled = self._showing.settled
        self._decided += [said for start, _, said in self._open if start < settled]
        return self._piece(finish)

    def _show(self, text: str, logprob: TokenLogprob | None = None) -> None:
        start, self._spelled = self._spelled, self._spelled + len(text)
        self._shown += self._showing.take(text)
        if logprob is not None:
            self._open.append((start, self._spelled, logprob))
        while self._open and self._open[0][1] <= self._showing.settled:
            self._decided.append(self._open.popleft()[2])

    def _piece(self, finish: str | None = None) -> Piece:
        text, decided = self._shown, tuple(self._decided)
        self._shown, self._decided = "", []
        if finish is None:
            return Piece(text, decided)
        return Piece(text, decided, finish, self._prompt, self.written)
