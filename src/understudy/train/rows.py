"""Frozen training rows: read from JSONL, turned into tokens, checked for something to learn."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from understudy.errors import ProjectError, UsageError
from understudy.example import Message
from understudy.models.rendering import encode_examples

NOT_LEARNT = -100
"""Label of a token that the loss leaves out (the value that torch's cross-entropy ignores)."""


class Row(NamedTuple):
    """One frozen example: what the student is asked and what it is to answer."""

    id: int
    prompt: tuple[Message, ...]
    answer: str

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of all that is said: an upper bound of its tokens, whatever the tokenizer."""
        texts = [*(turn.content for turn in self.prompt), self.answer]
        return sum(len(text.encode("utf-8", "replace")) for text in texts)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Rows as tokens, and what had to be cut for ``max_tokens``."""

    tokens: list[list[int]]
    labels: list[list[int]]
    cut: int
    """Rows of which the end of the answer did not fit."""
    dropped: int
    """Rows of which no answer token was left to learn."""
    variants: int = 1
    """How many times over the rows are held, each time cut into tokens in another way."""

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row, prompt and answer."""
        return [len(row) for row in self.tokens]

    @property
    def answer_lengths(self) -> list[int]:
        """Answer tokens of each row: those that the loss is taken from."""
        return [sum(label != NOT_LEARNT for label in row) for row in self.labels]


def read_rows(path: Path) -> list[Row]:
    """Read one split. Raises ProjectError naming the line that is not a row."""
    return list(stream_rows(path))


def stream_rows(path: Path) -> Iterator[Row]:
    """Read one split, a row at a time. Raises as ``read_rows`` does."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
                (answer,) = row["completion"]
                prompt = tuple(Message(turn["role"], turn["content"]) for turn in row["prompt"])
                yield Row(row["id"], prompt, answer["content"])
            except (ValueError, TypeError, KeyError) as error:
                raise ProjectError(
                    f"{path}, line {number} is not a training row ({error})",
                    "Freeze the dataset again",
                ) from None


def encode_rows(tokenizer: Any, rows: Sequence[Row], *, max_tokens: int) -> Encoded:
    """Turn rows into tokens, the loss on the answer alone, each cut behind ``max_tokens``.

    Raises UsageError if no row has an answer token left to learn.
    """
    pairs = encode_examples(tokenizer, [row.prompt for row in rows], [row.answer for row in rows])
    kept = [(prompt, answer) for prompt, answer in pairs if len(prompt) < max_tokens]
    if not kept:
        longest = max((len(prompt) for prompt, _ in pairs), default=0)
        raise UsageError(
            f"There is nothing to learn: of {len(pairs)} training rows none has an answer within "
            f"{max_tokens} tokens (the longest prompt has {longest})",
            "Allow more tokens (max_tokens), or shorten the prompts",
        )
    return Encoded(
        tokens=[[*prompt, *answer][:max_tokens] for prompt, answer in kept],
        labels=[[*[NOT_LEARNT] * len(prompt), *answer][:max_tokens] for prompt, answer in kept],
        cut=sum(len(prompt) + len(answer) > max_tokens for prompt, answer in kept),
        dropped=len(pairs) - len(kept),
    )
