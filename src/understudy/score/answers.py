"""Is an answer right: comparing it with the reference as the kind of answer asks.

Everybody is judged alike and leniently in what carries no meaning (case, quotes, code fences), so
that a model is not called wrong for its manners; ``exact`` tells who was right to the letter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from understudy.similar import fold

_QUOTES = "\"'`*“”„‟‘’‚‛«»‹›「」『』 "
_OPENING = _QUOTES + "¿¡"
_CLOSING = _QUOTES + ".,;:!?。、，"
_NUMBERS = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?")
_FENCED = re.compile(r"\s*```(?:json\b|[\w+-]*\n)?(.*?)```\s*", re.DOTALL)


def normalise(text: str) -> str:
    """Text without what carries no meaning in an answer.

    Unicode form (NFKC), case, spaces, a surrounding code fence, surrounding quotes and closing
    punctuation go; a sign, a currency or a bracket stays. Never empties a text that had any.
    """
    fenced = _FENCED.fullmatch(text)
    folded = fold(fenced[1] if fenced else text)
    return folded.lstrip(_OPENING).rstrip(_CLOSING) or folded


@lru_cache(maxsize=4096)  # cleaning asks again and again for the answers of near inputs
def canonical(answer: str) -> str:
    """Return the string that equal answers share: sorted plain JSON, or the normalised text."""
    value = _read(answer)
    return _written(value) if isinstance(value, dict | list) else normalise(answer)


def exact(reference: str, answer: str) -> bool:
    """True if the two are equal to the letter; blanks around them do not count."""
    return reference.strip() == answer.strip()


def normalised(reference: str, answer: str) -> bool:
    """True if the two are equal after ``normalise``."""
    return normalise(reference) == normalise(answer)


def label(reference: str, answer: str, labels: Sequence[str] = ()) -> bool:
    """True if both name the same label: to the letter where only letters tell labels apart."""
    read, _ = _reading(tuple(labels))
    return read(reference) == read(answer)


def named(answer: str, labels: Sequence[str]) -> str:
    """The one of ``labels`` that the answer names; empty if none."""
    read, names = _reading(tuple(labels))
    return names.get(read(answer), "")


@lru_cache(maxsize=64)  # thousands of answers are read by the same labels
def _reading(labels: tuple[str, ...]) -> tuple[Callable[[str], str], dict[str, str]]:
    """How an answer is read where these are the labels, and each label by how it reads."""
    alike = len({normalise(name) for name in labels}) < len(set(labels))
    read = str.strip if alike else normalise
    return read, {read(name): name for name in reversed(labels)}


def json_fields(reference: str, answer: str, tolerance: Tolerance | None = None) -> float:
    """Share of the fields of either that are equal, in any order; 0 if ``answer`` is not JSON.

    Numbers are compared as numbers (1 equals 1.0, true does not), within ``tolerance`` if there is
    one, strings after ``normalise``. A field that only one of them has is a wrong one, so 1.0 means
    that all are equal.
    """
    found = json_each(reference, answer, tolerance)
    if found is None:
        return float(canonical(reference) == canonical(answer))
    return sum(found.values()) / len(found) if found else 1.0


def json_each(
    reference: str, answer: str, tolerance: Tolerance | None = None
) -> dict[str, bool] | None:
    """Which fields of either are equal; None if one of the two is no JSON object."""
    wanted, given = _read(reference), _read(answer)
    if not isinstance(wanted, dict) or not isinstance(given, dict):
        return None
    both = wanted.keys() & given.keys()
    return {
        name: name in both and _equal(wanted[name], given[name], tolerance)
        for name in (*wanted, *(name for name in given if name not in wanted))
    }


def number(reference: str, answer: str, tolerance: Tolerance) -> bool:
    """True if the one number in ``answer`` is that in ``reference``, within ``tolerance``.

    Words, a currency and a sign of percent around it do not count; commas may group thousands. A
    text that holds no number, or several, is compared after ``normalise``.
    """
    wanted, given = _NUMBERS.findall(reference), _NUMBERS.findall(answer)
    if len(wanted) != 1:
        return normalised(reference, answer)
    if len(given) != 1:
        return False
    return tolerance.holds(_number(wanted[0]), _number(given[0]))


class Tolerance(NamedTuple):
    """How far a number may be off: ``size``, or that share of the reference if ``relative``."""

    size: float = 1e-9
    relative: bool = True

    def holds(self, wanted: float, given: float) -> bool:
        """True if ``given`` is near enough."""
        allowed = self.size * abs(wanted) if self.relative else self.size
        # 0.3 is as far from 0.2 as 0.1 is, whatever binary fractions make of it
        return abs(wanted - given) <= allowed * (1 + 1e-9) + 1e-12 * abs(wanted)


def _number(text: str) -> float:
    return float(text.replace(",", ""))


def _equal(wanted: Any, given: Any, tolerance: Tolerance | None) -> bool:
    numbers = all(
        isinstance(one, int | float) and not isinstance(one, bool) for one in (wanted, given)
    )
    if tolerance is not None and numbers:
        return tolerance.holds(wanted, given)
    return _written(wanted) == _written(given)


def _read(text: str) -> Any:
    """Return the plain JSON value in ``text`` (or in its code fence), None if there is none."""
    fenced = _FENCED.fullmatch(text)
    try:
        return _plain(json.loads(fenced[1] if fenced else text, parse_constant=_refuse))
    except (ValueError, RecursionError):
        return None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _written(plain: Any) -> str:
    """JSON text that equal plain values share; unlike in Python, true is not 1."""
    return json.dumps(plain, sort_keys=True)


def _plain(value: Any) -> Any:
    """Return a JSON value in which equal means equal: 1 for 1.0, normalised strings."""
    if isinstance(value, str):
        return normalise(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
