"""Proof that an exported folder answers as the trained model does."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from understudy.errors import UnderstudyError
from understudy.models.huggingface import load_model, load_tokenizer
from understudy.models.plain import generate
from understudy.models.protocol import Request
from understudy.models.rendering import encode_prompts, stop_ids

MOST_PROMPTS = 20
MOST_TOKENS = 256
"""Longest answer that is compared, in tokens."""


class Answered(NamedTuple):
    """One prompt as tokens, and the greedy answer to it."""

    prompt: list[int]
    answer: list[int]
    text: str


def check(trained: Path, exported: Path, requests: Sequence[Request]) -> list[dict[str, Any]]:
    """Replay ``requests`` on both folders, each opened afresh.

    Returns a record of each prompt: hashes, so that no held-out text travels with the model.
    Raises UnderstudyError naming the first prompt whose tokens or greedy answer differ.
    """
    chosen = list(requests[:MOST_PROMPTS])
    if not chosen:
        return []
    pairs = zip(chosen, _replay(trained, chosen), _replay(exported, chosen), strict=True)
    records = []
    for number, (request, before, after) in enumerate(pairs, 1):
        if before != after:
            what = "reads" if before.prompt != after.prompt else "answers"
            raise UnderstudyError(
                f"The exported model {what} prompt {number} ({request.messages[-1].content[:80]!r})"
                f" differently: {after.text[:80]!r} instead of {before.text[:80]!r}",
                "Nothing was exported; please report this with the model's name",
            )
        records.append(
            {
                "prompt_sha256": _hash(repr(before.prompt)),
                "prompt_tokens": len(before.prompt),
                "answer_sha256": _hash(before.text),
                "answer_tokens": len(before.answer),
            }
        )
    return records


def _replay(folder: Path, requests: Sequence[Request]) -> list[Answered]:
    """Greedy answers of the model in ``folder``, one prompt at a time, as a user would ask."""
    tokenizer, model = load_tokenizer(folder), load_model(folder)
    prompts = encode_prompts(tokenizer, [request.messages for request in requests])
    answered = []
    for request, prompt in zip(requests, prompts, strict=True):
        (answer,) = generate(
            model,
            [prompt],
            ends=stop_ids(tokenizer, model),
            pad=tokenizer.pad_token_id,
            max_tokens=min(request.max_tokens, MOST_TOKENS),
        )
        text = tokenizer.decode(answer, skip_special_tokens=True)
        answered.append(Answered(prompt, answer, text))
    return answered


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
