"""A Hugging Face folder as a Model: calls made at the same time share forward passes.

The model works in the engine's thread (models/engine), so the event loop stays free. Answers are
greedy unless a request names a temperature. A request that is cancelled, or a stream that is
closed, is dropped, before or while it is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from understudy.models.engine.grammar import Grammar, Grammars
from understudy.models.engine.loop import BATCH_TOKENS, Engine
from understudy.models.engine.row import Reader, Row
from understudy.models.huggingface import check_folder, load_model, load_tokenizer
from understudy.models.protocol import (
    CallFailed,
    Generation,
    ModelFailed,
    Piece,
    Reply,
    Request,
    TooLong,
)
from understudy.models.rendering import encode_prompts, stop_ids


class Local:
    """The causal language model in ``folder``; it is loaded at the first call that comes.

    Where that failed, the next call tries again.
    """

    def __init__(self, folder: Path, *, name: str, max_batch: int = 64) -> None:
        """Raises SetupError if the folder holds no model that is safe to open."""
        check_folder(folder)
        self.name = name
        self._folder, self._max_batch = folder, max_batch
        self._loading: asyncio.Future[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="local-reader")
        self._engine: Engine | None = None
        self._reader: Reader | None = None
        self._grammars: Grammars | None = None
        self._context = self._vocabulary = 0
        self._closed = False

    async def complete(self, request: Request) -> Reply:
        """Answer. Raises as ``stream`` does."""
        asked = Generation(request.messages, request.max_tokens, request.temperature or 0.0)
        row, piece = await self._whole(asked)
        return Reply(
            text=piece.text,
            finish=piece.finish or "stop",
            input_tokens=piece.input_tokens,
            output_tokens=piece.output_tokens,
            model=self.name,
            latency_s=row.ended - row.began,
        )

    async def stream(self, generation: Generation) -> AsyncGenerator[Piece, None]:
        """Write, piece by piece; the last piece has a finish. Closing it drops the generation.

        Raises TooLong if the prompt does not fit, CallFailed if the schema cannot be used,
        ModelFailed if the model gives way or is closed, SetupError if it cannot be loaded, its
        chat template refuses the messages, or what a schema needs is not installed.
        """
        row = await self._row(generation, streamed=True)
        try:
            while True:
                piece = await _next(row)
                while not (piece.finish or row.pieces.empty()):  # the reader is behind
                    piece = _joined(piece, await _next(row))
                yield piece
                if piece.finish:
                    return
        finally:
            row.dropped = True

    async def write(self, generation: Generation) -> Piece:
        """Write it all, as one piece with a finish: less work than a stream. Raises as that does.

        Cancelling it drops the generation.
        """
        return (await self._whole(generation))[1]

    async def close(self) -> None:
        """End every request with ModelFailed, and give the memory back."""
        self._closed = True
        if self._loading is not None:
            with contextlib.suppress(Exception):  # whoever asked has been told
                await asyncio.shield(self._loading)
        await asyncio.to_thread(self._end)
        self._reader = self._grammars = self._engine = None

    async def _whole(self, asked: Generation) -> tuple[Row, Piece]:
        row = await self._row(asked, streamed=False)
        try:
            return row, await _next(row)
        finally:
            row.dropped = True

    async def _row(self, asked: Generation, *, streamed: bool) -> Row:
        """The generation as a row that the engine has taken."""
        await self._ready()
        engine, reader = self._engine, self._reader
        if engine is None or reader is None:
            raise ModelFailed(f"{self.name} is closed")
        loop = asyncio.get_running_loop()
        with engine.coming():
            prompt, grammar = await loop.run_in_executor(self._thread, self._read, reader, asked)
            row = Row(
                prompt,
                asked,
                reader,
                max_tokens=min(asked.max_tokens, self._context - len(prompt)),
                streamed=streamed,
                grammar=grammar,
            )
            engine.submit(row)
        return row

    async def _ready(self) -> None:
        if self._closed:
            raise ModelFailed(f"{self.name} is closed")
        if self._loading is None or (self._loading.done() and self._loading.exception()):
            loop = asyncio.get_running_loop()
            self._loading = loop.run_in_executor(self._thread, self._load)
        await asyncio.shield(self._loading)

    # -- in the reader's thread ------------------------------------------------------------------

    def _load(self) -> None:
        tokenizer, model = load_tokenizer(self._folder), load_model(self._folder)
        import torch

        config = model.config.get_text_config()
        self._context = getattr(config, "max_position_embeddings", None) or BATCH_TOKENS
        self._vocabulary = config.vocab_size
        self._reader = Reader(tokenizer, frozenset(stop_ids(tokenizer, model)))
        model = model.to("cuda" if torch.cuda.is_available() else "cpu")
        self._engine = Engine(model, self._reader, name=self.name, max_rows=self._max_batch)

    def _read(self, reader: Reader, asked: Generation) -> tuple[list[int], Grammar | None]:
        """The prompt as tokens, and the grammar of the answer."""
        (prompt,) = encode_prompts(reader.tokenizer, [asked.messages])
        if len(prompt) >= self._context:
            raise TooLong(f"the prompt has {len(prompt)} tokens, {self.name} reads {self._context}")
        if asked.schema is None:
            return prompt, None
        if self._grammars is None:
            self._grammars = Grammars(
                reader.tokenizer, vocabulary=self._vocabulary, ends=sorted(reader.ends)
            )
        return prompt, self._grammars.of(asked.schema)

    def _end(self) -> None:
        if self._engine is not None:
            self._engine.close()
        self._thread.shutdown()


def _joined(piece: Piece, more: Piece) -> Piece:
    """Two pieces in a row as one."""
    return replace(more, text=piece.text + more.text, logprobs=piece.logprobs + more.logprobs)


async def _next(row: Row) -> Piece:
    piece = await row.pieces.get()
    if isinstance(piece, CallFailed):
        raise piece
    return piece
