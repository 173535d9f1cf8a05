"""From tokens to the text that is shown: whole characters, no control tokens, no thought, no stop.

Two steps. ``Spelling`` turns tokens into characters as they come; ``Showing`` decides which of
these are shown, and holds back those whose fate is open.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

_HALF = "\ufffd"
"""What a tokenizer writes for bytes that are no character, or none yet."""
_WINDOW = 16
"""Tokens from which on those in front are decoded no more."""
THINK, THOUGHT = "<think>", "</think>"
"""What some chat templates put in front of an answer, and its end; it is no part of it."""


class Spelling:
    """The characters that one answer's tokens spell, told as soon as they are whole."""

    def __init__(self, tokenizer: Any) -> None:
        self._decode: Callable[[list[int]], str] = lambda ids: tokenizer.decode(
            ids, skip_special_tokens=True
        )
        self._window: list[int] = []
        self._told = 0  # characters of the window that were told
        self._clean = 0  # tokens of the window behind which no character was open

    def add(self, token: int) -> str:
        """The characters that are whole now; often none."""
        self._window.append(token)
        text = self._decode(self._window)
        whole = text.rstrip(_HALF)
        told, self._told = self._told, max(self._told, len(whole))
        if len(whole) == len(text):
            self._move()
        return whole[told:]

    def end(self) -> str:
        """What is left: bytes that never became a character."""
        return self._decode(self._window)[self._told :]

    def _move(self) -> None:
        """Leave behind what can no longer change, but for what the next token leans on."""
        if len(self._window) >= _WINDOW:
            self._window = self._window[self._clean :]
            self._told = len(self._decode(self._window))
        self._clean = len(self._window)


class Showing:
    """What is shown of one answer: without white space around it, a thought before it, a stop.

    A stop string is looked for in what is shown. The one that is complete first ends the answer;
    of two that are complete at once, the longer.
    """

    def __init__(self, stops: tuple[str, ...] = ()) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self._opening = True
        self._taken = 0
        self.stopped = False

    @property
    def settled(self) -> int:
        """Characters taken so far that are shown or left out for good."""
        return self._taken - len(self._held)

    def take(self, text: str) -> str:
        """What can be shown now that ``text`` was written."""
        self._taken += len(text)
        self._held += text
        if self._opening:
            self._held = self._behind_thought(self._held)
        if self._opening or not self._held:
            return ""
        if (end := self._stop()) is not None:
            self.stopped = True
            return self._show(end).rstrip()
        safe = self._held[: len(self._held) - self._open()]
        return self._show(len(safe.rstrip()))

    def end(self) -> str:
        """What is left to show when no more is written."""
        if self.stopped:
            return ""
        if self._opening:
            self._opening = False
            return self.take("") + self.end()  # an unfinished thought is shown as it is
        return self._show(len(self._held)).rstrip()

    def _show(self, length: int) -> str:
        shown, self._held = self._held[:length], self._held[length:]
        return shown

    def _behind_thought(self, text: str) -> str:
        """The text without white space and a whole thought in front."""
        text = text.lstrip()
        if text.startswith(THINK) and THOUGHT in text:
            text = text.partition(THOUGHT)[2].lstrip()
            self._opening = not text
        elif not text.startswith(THINK):
            self._opening = THINK.startswith(text)
        return text

    def _stop(self) -> int | None:
        """Where the stop string begins that is complete first."""
        found = [(self._held.find(stop), len(stop)) for stop in self._stops]
        ends = [(start + length, start) for start, length in found if start >= 0]
        return min(ends)[1] if ends else None

    def _open(self) -> int:
        """Characters at the end that may begin a stop string."""
        return max(
            (
                length
                for stop in self._stops
                for length in range(1, min(len(stop), len(self._held) + 1))
                if self._held.endswith(stop[:length])
            ),
            default=0,
        )


def answer_text(tokenizer: Any, ids: list[int]) -> str:
    """What was written, without control tokens and thoughts; ``ids`` end before the end token."""
    showing = Showing()
    return showing.take(tokenizer.decode(ids, skip_special_tokens=True)) + showing.end()


def falls_back(tokenizer: Any) -> bool:
    """True for tokenizers that spell rare characters as tokens named ``<0xE2>``."""
    return "ByteFallback" in _decoder(tokenizer)


def token_bytes(tokenizer: Any, token: int) -> bytes:
    """The bytes that a token stands for, which may be part of a character.

    Byte-level vocabularies write each byte as a letter; those with byte fallback write a space as
    ``▁`` and rare bytes as ``<0xE2>``; any other token is what it decodes to.
    """
    name = tokenizer.convert_ids_to_tokens(token)
    if name is None:  # the model's vocabulary may be padded
        return b""
    decoder = _decoder(tokenizer)
    if "ByteLevel" in decoder:
        letters = _letters()
        if all(letter in letters for letter in name):
            return bytes(letters[letter] for letter in name)
        return str(name).encode()
    if "ByteFallback" in decoder:
        if len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
            return bytes.fromhex(name[3:5])
        return str(name).replace("▁", " ").encode()
    return str(tokenizer.decode([token])).encode()


def _decoder(tokenizer: Any) -> str:
    """The kinds of steps in which a fast tokenizer makes text of tokens."""
    decoder = tokenizer.backend_tokenizer.decoder
    if decoder is None:
        return ""
    said = json.loads(decoder.__getstate__())
    return " ".join(step["type"] for step in said.get("decoders", [said]))


@lru_cache(maxsize=1)
def _letters() -> dict[str, int]:
    """Which byte each letter of a byte-level vocabulary stands for (GPT-2's alphabet).

    Printable Latin-1 bytes stand for themselves, the others are numbered from U+0100.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (byte for byte in range(256) if byte not in set(printable))
    return {
        **{chr(byte): byte for byte in printable},
        **{chr(0x100 + number): byte for number, byte in enumerate(others)},
    }
