"""A Hugging Face folder as a Model: calls made at the same time share forward passes.

Requests that wait together are answered together, with those nearest in length; the model works
in a thread of its own, so the event loop stays free. Answers are greedy unless a request names a
temperature. A request that is cancelled is dropped, before or while it is answered.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from understudy.models.huggingface import (
    check_folder,
    first_line,
    load_model,
    load_tokenizer,
)
from understudy.models.protocol import CallFailed, Reply, Request
from understudy.models.rendering import encode_prompts, stop_ids

BATCH_TOKENS = 65_536
"""Most tokens, prompts and answers, that the requests of one batch may come to."""
SMALL = 10_000_000
"""Parameters below which a second processor thread slows a model down."""
_THOUGHT = re.compile(r"\s*<think>.*?</think>", re.DOTALL)
"""What some chat templates put in front of an answer; it is no part of it."""


class _Waiting(NamedTuple):
    """A request as tokens, and whoever waits for its reply."""

    prompt: list[int]
    max_tokens: int
    temperature: float
    reply: asyncio.Future[Reply]

    def dropped(self) -> bool:
        """True if nobody waits any more."""
        return self.reply.cancelled()


class Local:
    """The causal language model in ``folder``; it is loaded at the first call."""

    def __init__(self, folder: Path, *, name: str, max_batch: int = 64) -> None:
        """Raises SetupError if the folder holds no model that is safe to open."""
        check_folder(folder)
        self.name = name
        self._folder, self._max_batch = folder, max_batch
        self._waiting: list[_Waiting] = []
        self._loading: asyncio.Future[None] | None = None
        self._worker: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="local-model")
        self._model: Any = None
        self._tokenizer: Any = None
        self._ends: list[int] = []
        self._closed = False

    async def complete(self, request: Request) -> Reply:
        """Answer. Raises CallFailed if the prompt does not fit, SetupError if loading fails."""
        await self._ready()
        (prompt,) = encode_prompts(self._tokenizer, [request.messages])
        context = self._context()
        if len(prompt) >= context:
            raise CallFailed(f"the prompt has {len(prompt)} tokens, {self.name} reads {context}")
        waiting = _Waiting(
            prompt,
            min(request.max_tokens, context - len(prompt)),
            request.temperature or 0.0,
            asyncio.get_running_loop().create_future(),
        )
        self._waiting.append(waiting)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._serve())
        return await waiting.reply

    async def close(self) -> None:
        """Drop every request, and give the memory back."""
        self._closed = True
        for waiting in self._waiting:
            waiting.reply.cancel()
        if self._worker is not None:
            await self._worker
        self._thread.shutdown()
        self._model = self._tokenizer = None

    async def _ready(self) -> None:
        if self._closed:
            raise CallFailed(f"{self.name} is closed")
        if self._loading is None:
            loop = asyncio.get_running_loop()
            self._loading = loop.run_in_executor(self._thread, self._load)
        await asyncio.shield(self._loading)

    async def _serve(self) -> None:
        """Answer batch after batch until nobody waits."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)  # let every request that was made together arrive
        while batch := self._next_batch():
            began = time.monotonic()
            try:
                answers = await loop.run_in_executor(self._thread, self._generate, batch)
            except Exception as error:  # noqa: BLE001  whoever waits is told
                for waiting in batch:
                    if not waiting.reply.done():
                        waiting.reply.set_exception(_call_failed(error))
                continue
            latency_s = time.monotonic() - began
            for waiting, ids in zip(batch, answers, strict=True):
                if not waiting.reply.done():
                    waiting.reply.set_result(self._reply(waiting, ids, latency_s))

    def _next_batch(self) -> list[_Waiting]:
        """Take the request that has waited longest and those most like it."""
        self._waiting = [waiting for waiting in self._waiting if not waiting.dropped()]
        if not self._waiting:
            return []
        first = self._waiting[0]
        alike = [
            waiting
            for waiting in self._waiting
            if (waiting.max_tokens, waiting.temperature) == (first.max_tokens, first.temperature)
        ]
        alike.sort(key=lambda waiting: abs(len(waiting.prompt) - len(first.prompt)))
        batch = alike[: self._max_batch]
        while len(batch) > 1 and _tokens(batch) > BATCH_TOKENS:
            batch.pop()
        taken = {id(waiting) for waiting in batch}
        self._waiting = [waiting for waiting in self._waiting if id(waiting) not in taken]
        return batch

    def _reply(self, waiting: _Waiting, ids: list[int], latency_s: float) -> Reply:
        length = next((at for at, token in enumerate(ids) if token in self._ends), None)
        said = ids[:length]
        return Reply(
            text=answer_text(self._tokenizer, said),
            finish="length" if length is None else "stop",
            input_tokens=len(waiting.prompt),
            output_tokens=len(said),
            model=self.name,
            latency_s=latency_s,
        )

    def _context(self) -> int:
        """Most tokens, prompt and answer, that the model can read."""
        config = self._model.config.get_text_config()
        return getattr(config, "max_position_embeddings", None) or BATCH_TOKENS

    # -- in the model's thread -------------------------------------------------------------------

    def _load(self) -> None:
        tokenizer, model = load_tokenizer(self._folder), load_model(self._folder)
        import torch

        if sum(weight.numel() for weight in model.parameters()) < SMALL:
            torch.set_num_threads(1)
        self._ends = stop_ids(tokenizer, model)
        self._model = model.to("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer = tokenizer

    def _generate(self, batch: Sequence[_Waiting]) -> list[list[int]]:
        return generate(
            self._model,
            [waiting.prompt for waiting in batch],
            ends=self._ends,
            pad=self._tokenizer.pad_token_id,
            max_tokens=batch[0].max_tokens,
            temperature=batch[0].temperature,
            dropped=lambda: [self._closed or waiting.dropped() for waiting in batch],
        )


def generate(
    model: Any,
    prompts: Sequence[list[int]],
    *,
    ends: list[int],
    pad: int,
    max_tokens: int,
    temperature: float,
    dropped: Callable[[], list[bool]] | None = None,
) -> list[list[int]]:
    """Let ``model`` go on from each prompt, up to and with a token of ``ends``.

    Greedy at temperature 0, else plain sampling: the folder's own top-k and penalties are left
    out. ``dropped`` is asked at each token which rows need no more.
    """
    import torch
    from transformers import GenerationConfig, StoppingCriteriaList

    def no_longer_wanted(ids: Any, *_: Any, **__: Any) -> Any:
        return torch.tensor(dropped() if dropped else [False] * len(ids), device=ids.device)

    width = max(len(prompt) for prompt in prompts)
    padded = [[pad] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    sampling = {"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
    model.generation_config = GenerationConfig(
        eos_token_id=ends,
        pad_token_id=pad,
        max_new_tokens=max_tokens,
        do_sample=bool(temperature),
        **sampling,
    )
    with torch.inference_mode():
        written = model.generate(
            input_ids=torch.tensor(padded, device=model.device),
            attention_mask=torch.tensor(mask, device=model.device),
            stopping_criteria=StoppingCriteriaList([no_longer_wanted]),
        )
    answers: list[list[int]] = written[:, width:].tolist()
    return answers


def answer_text(tokenizer: Any, ids: list[int]) -> str:
    """What was written, without control tokens and thoughts; ``ids`` end before the end token."""
    return _THOUGHT.sub("", tokenizer.decode(ids, skip_special_tokens=True), count=1).strip()


def _tokens(batch: Sequence[_Waiting]) -> int:
    return len(batch) * (max(len(waiting.prompt) for waiting in batch) + batch[0].max_tokens)


def _call_failed(error: Exception) -> CallFailed:
    return CallFailed(f"the model failed: {first_line(error)}")
