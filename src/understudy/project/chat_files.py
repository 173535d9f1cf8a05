"""A dataset's rows as a host wants them: chat JSONL, checked line by line before it is sent."""

from __future__ import annotations

from pathlib import Path

from understudy.errors import UsageError
from understudy.example import Example, Message, Split
from understudy.formats.conversations import Rules, check
from understudy.formats.writing import write
from understudy.models.question import prompt
from understudy.project.shelf import checked_splits, frozen_of, spec_of
from understudy.project.workplace import Workplace
from understudy.train.hosted.recipe import Size, size

SIDES: tuple[Split, ...] = ("train", "validation")
"""What a host is sent. The test stays at home."""
SHOWN = 5
"""Breaches that are told at the most."""


def chat_file(place: Workplace, dataset_id: int, split: str) -> tuple[Path, str]:
    """Write one side as a chat file; where it lies, and its SHA-256.

    The same dataset gives the same bytes. Raises UsageError for a side that hosts are not sent.
    """
    if split not in SIDES:
        raise UsageError(f"{split} is not sent to hosts", f"They are sent {' and '.join(SIDES)}")
    frozen = frozen_of(place, dataset_id)
    path = place.folder / "datasets" / str(frozen.id) / f"chat-{split}.jsonl"
    rows = checked_splits(place, frozen)[split]
    manifest = write(path, rows, "chat", system_message=spec_of(place, frozen).system_message)
    return path, manifest.sha256


def measured(rows: list[Example], system_message: str) -> Size:
    """Tokens of one side."""
    return size(
        (*prompt(system_message, row.messages), Message("assistant", row.answer)) for row in rows
    )


def must_be_taken(path: Path, rules: Rules) -> None:
    """Raise UsageError for a file that breaks the published rules, with the lines."""
    found = check(path, rules)
    if not found:
        return
    told = [f"line {one.number}: {one.reason}" if one.number else one.reason for one in found]
    more = f"; and {len(found) - SHOWN:,} more" if len(found) > SHOWN else ""
    raise UsageError(
        f"{path} breaks the rules for fine-tuning files: {'; '.join(told[:SHOWN])}{more}",
        "Nothing was sent; mend the examples, freeze again, train again",
    )
