"""How fast a local model answers: requests a second, and what sharing passes is worth.

The same prompts on the same tiny student (the demo's size, untrained, so that every answer has
the full length), one processor thread each:

    plain     `model.generate`, one prompt after another
    clients   `Local`, so many clients at once, each asking again as soon as it is answered

Medians of ROUNDS; the answers are compared. Rounds alternate, so that a busy machine slows all.

    .venv/bin/python bench/serving.py [TOKENS] [CLIENTS ...]
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from transformers import GenerationConfig

from understudy.example import Message
from understudy.models.huggingface import load_model, load_tokenizer
from understudy.models.local import Local
from understudy.models.protocol import Generation, Request
from understudy.models.rendering import encode_prompts, stop_ids
from understudy.train import tiny

ROUNDS = 3
REQUESTS = 48
SYSTEM = "Write the date in the text as YYYY-MM-DD, or 'none' if there is no date in it."
TEXTS = [
    f"Please confirm the delivery of {1 + number % 28} March {1990 + number} to the main office"
    for number in range(REQUESTS)
]
PROMPTS = [(Message("system", SYSTEM), Message("user", text)) for text in TEXTS]


def student(folder: Path) -> Path:
    """The folder of an untrained student, made for these prompts."""
    tiny.build(PROMPTS, [f"{1990 + number}-03-01" for number in range(REQUESTS)], folder, seed=0)
    return folder


class Plain:
    """transformers' own loop."""

    def __init__(self, folder: Path, max_tokens: int) -> None:
        self._tokenizer, self._model = load_tokenizer(folder), load_model(folder)
        self._model.generation_config = GenerationConfig(
            eos_token_id=stop_ids(self._tokenizer, self._model),
            pad_token_id=self._tokenizer.pad_token_id,
            max_new_tokens=max_tokens,
            do_sample=False,
        )

    def round(self) -> tuple[float, list[str]]:
        """Requests a second, and the answers."""
        began, answers = time.perf_counter(), []
        for prompt in PROMPTS:
            ids = torch.tensor(encode_prompts(self._tokenizer, [prompt]))
            with torch.inference_mode():
                said = self._model.generate(input_ids=ids, attention_mask=torch.ones_like(ids))
            answers.append(
                self._tokenizer.decode(said[0, ids.shape[1] :], skip_special_tokens=True)
            )
        return REQUESTS / (time.perf_counter() - began), [answer.strip() for answer in answers]


async def clients(
    model: Local, count: int, max_tokens: int, *, stream: bool
) -> tuple[float, list[str]]:
    """Requests a second of ``count`` clients, and the answers."""
    answers = [""] * REQUESTS
    numbers = iter(range(REQUESTS))

    async def client() -> None:
        for number in numbers:
            if stream:
                asked = Generation(PROMPTS[number], max_tokens)
                answers[number] = "".join([piece.text async for piece in model.stream(asked)])
            else:
                reply = await model.complete(Request(PROMPTS[number], max_tokens))
                answers[number] = reply.text

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(count)))
    return REQUESTS / (time.perf_counter() - began), answers


async def compare(folder: Path, max_tokens: int, counts: list[int]) -> None:
    """Print the medians of all, and how they stand to the plain loop."""
    torch.set_num_threads(1)
    plain, local = Plain(folder, max_tokens), Local(folder, name="bench")
    rates: dict[str, list[float]] = {}
    plain.round()
    for _ in range(ROUNDS):
        rate, expected = await asyncio.to_thread(plain.round)
        rates.setdefault("plain", []).append(rate)
        for count in counts:
            for stream in (False, True):
                rate, answers = await clients(local, count, max_tokens, stream=stream)
                assert answers == expected, "the answers differ"
                name = f"{count} client{'s' * (count > 1)}{', streaming' * stream}"
                rates.setdefault(name, []).append(rate)
    await local.close()
    base = statistics.median(rates["plain"])
    for name, found in rates.items():
        rate = statistics.median(found)
        tokens = rate * max_tokens
        print(f"{name:24} {rate:7.1f} requests/s {tokens:8,.0f} tokens/s {rate / base:6.2f} x")


def main() -> None:
    """Read the command line."""
    max_tokens = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    counts = [int(count) for count in sys.argv[2:]] or [1, 8, 32]
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(compare(student(Path(folder)), max_tokens, counts))


if __name__ == "__main__":
    main()
