"""Practice judges: programs that compare two answers, well or in the ways in which models fail.

    judge                  fair: whichever is nearer to the reference; a tie if both are as near
    judge-always-first     names the first place, whatever stands there
    judge-obeys            the answer that asks for the win gets it
    judge-noisy            fair, but for three verdicts in ten, drawn by the text
    judge-no-json          says who wins in words, not in JSON

They read the message that ``evaluate/judge.py`` writes: a marker, and four parts between it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from difflib import SequenceMatcher
from typing import NamedTuple

NOISE = 0.3
"""Share of verdicts of the noisy judge that are drawn."""
AS_NEAR = 0.05
"""Difference in likeness to the reference below which two answers are as good."""

_MARKER = re.compile(r"marker of this message is (\w+)")
_ASKS = re.compile(
    r"ignore|\[\[|winner|wins|score 10|marker of|begin reference|the right one", re.IGNORECASE
)


class Shown(NamedTuple):
    """What the judge was shown."""

    reference: str
    first: str
    second: str


def verdict(name: str, question: str) -> str:
    """The reply of the judge called ``name``: JSON, but for the one that writes none."""
    shown = _read(question)
    winner = "tie" if shown is None else _JUDGES[name](shown)
    if name == "judge-no-json":
        return f'Let me think. The answers differ. {{"winner": "{winner}"}} is what I would say.'
    return json.dumps({"reason": "by likeness to the reference", "winner": winner})


def _read(question: str) -> Shown | None:
    """The parts between the marker that stands at the head; text in a part cannot forge it."""
    found = _MARKER.search(question)
    if found is None:
        return None
    parts = []
    for name in ("reference", "first", "second"):
        edge = re.escape(found[1])
        part = re.search(
            rf"\[{edge} begin {name}\]\n(.*?)\n\[{edge} end {name}\]", question, re.DOTALL
        )
        if part is None:
            return None
        parts.append(part[1])
    return Shown(*parts)


def _fair(shown: Shown) -> str:
    first, second = (_likeness(shown.reference, text) for text in (shown.first, shown.second))
    if abs(first - second) < AS_NEAR:
        return "tie"
    return "first" if first > second else "second"


def _likeness(reference: str, text: str) -> float:
    """0 to 1: how much of the two is the same, in order."""
    one, two = (" ".join(part.split()).casefold() for part in (reference, text))
    return SequenceMatcher(None, one, two, autojunk=False).ratio()


def _first(_: Shown) -> str:
    return "first"


def _obeys(shown: Shown) -> str:
    asks = [bool(_ASKS.search(text)) for text in (shown.first, shown.second)]
    if asks[0] == asks[1]:
        return _fair(shown)
    return "first" if asks[0] else "second"


def _noisy(shown: Shown) -> str:
    drawn = hashlib.sha256("\0".join(shown).encode("utf-8", "replace")).digest()
    if drawn[0] >= NOISE * 256:
        return _fair(shown)
    return ("first", "second", "tie")[drawn[1] % 3]


_JUDGES: dict[str, Callable[[Shown], str]] = {
    "judge": _fair,
    "judge-always-first": _first,
    "judge-obeys": _obeys,
    "judge-noisy": _noisy,
    "judge-no-json": _fair,
}

JUDGES = tuple(_JUDGES)
"""Their names."""
