"""The settings of a training at a host, and how many tokens it may bill.

Hosts bill the tokens of the file times the passes over it, and count them with tokenizers of their
own. So two figures are given: the most there can be (no tokenizer makes more tokens than a text has
UTF-8 bytes), which is held against the budget, and a guess at the true number, which is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from understudy.errors import UsageError
from understudy.example import Message
from understudy.models.providers import Tuning
from understudy.run import HostedRecipe

PASSES, FEWEST_SEEN, MOST_SEEN, MOST_PASSES = 3, 100, 25_000, 25
"""OpenAI's own rule for the passes that it takes by itself, as its cookbook gives it ("Data
preparation and analysis for chat model fine-tuning", read 2026-11-29): three, more where fewer than
100 rows would be seen in all, fewer where more than 25,000 would."""
AUTO_PASSES = 50
"""What ``auto`` may come to at the most."""
ROW_TOKENS, TURN_TOKENS = 3, 8
"""Tokens that a row and a turn have beyond their text, at the most: roles and marks."""
GUESSED_BYTES = 4
"""Bytes of a token in most European text."""

_ONLY: dict[str, tuple[Tuning, ...]] = {
    "learning_rate_multiplier": ("openai",),
    "learning_rate": ("together", "fireworks"),
    "batch_size": ("openai", "together", "fireworks"),
    "seed": ("openai",),
}
"""Settings that not every protocol knows."""


class Size(NamedTuple):
    """Tokens of a file, one pass over it."""

    rows: int
    most: int
    guessed: int


def size(rows: Iterable[tuple[Message, ...]]) -> Size:
    """Measure rows, each with its answer as the last turn."""
    count = most = guessed = 0
    for turns in rows:
        texts = sum(len(turn.content.encode("utf-8", "replace")) for turn in turns)
        around = ROW_TOKENS + TURN_TOKENS * len(turns)
        count += 1
        most += texts + around
        guessed += texts // GUESSED_BYTES + ROW_TOKENS + 4 * len(turns)
    return Size(count, most, guessed)


def passes(recipe: HostedRecipe) -> int:
    """Passes over the file at the most."""
    return AUTO_PASSES if recipe.epochs == "auto" else int(recipe.epochs)


def choose(rows: int, protocol: Tuning, overrides: Mapping[str, Any], seed: int) -> HostedRecipe:
    """Choose the settings for so many training rows. Raises UsageError for a wrong override."""
    unknown = sorted(overrides.keys() - set(_names()))
    if unknown:
        raise UsageError(
            f"{', '.join(unknown)} makes no sense for a training at a host",
            f"There are: {', '.join(_names())}",
        )
    for name, protocols in _ONLY.items():
        if name in overrides and protocol not in protocols:
            raise UsageError(
                f"{name} is not known to the protocol of this host", f"It is of {protocols[0]}'s"
            )
    epochs, why = _epochs(rows)
    settings: dict[str, Any] = {"epochs": epochs, "seed": seed}
    reasons = {"epochs": why}
    settings |= overrides
    reasons |= dict.fromkeys(overrides, "as asked")
    for name, value in settings.items():
        if isinstance(value, float) and value.is_integer() and name in ("epochs", "batch_size"):
            settings[name] = int(value)
    lines = tuple(f"{name} {settings[name]}: {reason}." for name, reason in reasons.items())
    try:
        return HostedRecipe(**settings, why=lines)
    except ValidationError as error:
        first = error.errors()[0]
        said = first["msg"].removeprefix("Value error, ")
        raise UsageError(
            f"setting {first['loc'][0]}: {said[:1].lower()}{said[1:]}, got {first['input']!r}",
            f"Settings of a training at a host: {', '.join(_names())}",
        ) from None


_FIXED = {"kind", "why"}


def _names() -> list[str]:
    return [name for name in HostedRecipe.model_fields if name not in _FIXED]


def _epochs(rows: int) -> tuple[int, str]:
    if rows * PASSES < FEWEST_SEEN:
        return min(MOST_PASSES, max(1, FEWEST_SEEN // max(rows, 1))), "few rows are read more often"
    if rows * PASSES > MOST_SEEN:
        return max(1, MOST_SEEN // rows), "many rows need fewer passes"
    return PASSES, "what OpenAI takes by itself for so many rows"
