"""From messages and answer to the row of each format.

Only the answer of an example is to be learned, so in chat rows the assistant turns before it get
``weight`` 0, as OpenAI's format has it; readers that know no weight pass over it.
"""

from __future__ import annotations

from collections.abc import Callable

from understudy.example import Message
from understudy.formats.source import Row

Messages = tuple[Message, ...]

HEADER = ("prompt", "response", "system")
"""Columns of CSV and TSV."""

_SHAREGPT = {"system": "system", "user": "human", "assistant": "gpt"}


class CannotHold(ValueError):
    """The format has no place for this example; the text says for what."""


def _chat(messages: Messages, answer: str) -> Row:
    """OpenAI's chat format: https://platform.openai.com/docs/guides/supervised-fine-tuning."""
    turns: list[Row] = [{"role": role, "content": content} for role, content in messages]
    for turn in turns:
        if turn["role"] == "assistant":
            turn["weight"] = 0
    return {"messages": [*turns, {"role": "assistant", "content": answer}]}


def _plain_chat(messages: Messages, answer: str) -> Row:
    turns = [*messages, Message("assistant", answer)]
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def _prompt(messages: Messages, answer: str) -> Row:
    """TRL's conversational rows: https://huggingface.co/docs/trl/dataset_formats."""
    return {
        "prompt": [{"role": role, "content": content} for role, content in messages],
        "completion": [{"role": "assistant", "content": answer}],
    }


def _alpaca(messages: Messages, answer: str) -> Row:
    """Columns as in https://github.com/hiyouga/LLaMA-Factory/tree/main/data."""
    system, turns = _apart(messages)
    roles = [turn.role for turn in turns]
    if roles != ["user", "assistant"] * (len(turns) // 2) + ["user"]:
        raise CannotHold("has turns that are not question and answer in order")
    texts = [turn.content for turn in turns]
    history = [list(pair) for pair in zip(texts[:-1:2], texts[1::2], strict=True)]
    row: Row = {"instruction": texts[-1], "input": "", "output": answer}
    return row | {"system": system, "history": history}


def _sharegpt(messages: Messages, answer: str) -> Row:
    """Turns as in https://github.com/hiyouga/LLaMA-Factory/tree/main/data."""
    turns = [*messages, Message("assistant", answer)]
    return {"conversations": [{"from": _SHAREGPT[role], "value": text} for role, text in turns]}


def _cells(messages: Messages, answer: str) -> Row:
    system, turns = _apart(messages)
    if len(turns) != 1:
        raise CannotHold(f"has {len(turns)} turns before the answer")
    if any("\0" in text for text in (turns[0].content, answer, system)):
        raise CannotHold("has a NUL character")
    return {"prompt": turns[0].content, "response": answer, "system": system}


def _apart(messages: Messages) -> tuple[str, Messages]:
    if messages[0].role == "system":
        return messages[0].content, messages[1:]
    return "", messages


ENCODERS: dict[str, Callable[[Messages, str], Row]] = {
    "chat": _chat,
    "prompt": _prompt,
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "csv": _cells,
    "tsv": _cells,
    "json": _chat,
    "parquet": _plain_chat,
}
