"""Is an answer right, and how sure is a share of right answers: metrics, interval, paired test.

``grade`` chooses by the spec's kind:

    text    right if equal after ``normalise``
    label   right if it names the same label
    json    right if every field is equal; partial credit is the share of equal fields

Everybody is graded alike and leniently in what carries no meaning (case, quotes, code fences), so
that a model is not called wrong for its manners; ``exact`` tells who was right to the letter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from math import sqrt
from statistics import NormalDist
from typing import Any, NamedTuple

from understudy.similar import fold
from understudy.task import Spec

METRICS = {"text": "exact match", "label": "label accuracy", "json": "all fields right"}
"""Name of the metric for each kind of answer."""

_QUOTES = "\"'`*“”„‟‘’‚‛«»‹›「」『』 "
_OPENING = _QUOTES + "¿¡"
_CLOSING = _QUOTES + ".,;:!?。、，"
_FENCED = re.compile(r"\s*```(?:json\b|[\w+-]*\n)?(.*?)```\s*", re.DOTALL)


class Grade(NamedTuple):
    """How good one answer is."""

    score: float
    """1 if right, else 0."""
    exact: bool
    """True if it equals the reference to the letter."""
    partial: float
    """0 to 1: share of right JSON fields; equals ``score`` for other kinds."""


def grade(spec: Spec | None, reference: str, answer: str) -> Grade:
    """Compare ``answer`` with ``reference`` as the spec's kind asks; without a spec, as text."""
    if spec and spec.kind == "json":
        partial = json_fields(reference, answer)
    elif spec and spec.kind == "label":
        partial = float(label(reference, answer, spec.labels))
    else:
        partial = float(normalised(reference, answer))
    return Grade(float(partial == 1), exact(reference, answer), partial)


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
    if len({normalise(name) for name in labels}) < len(set(labels)):
        return exact(reference, answer)
    return normalised(reference, answer)


def json_fields(reference: str, answer: str) -> float:
    """Share of the fields of either that are equal, in any order; 0 if ``answer`` is not JSON.

    Numbers are compared as numbers (1 equals 1.0, true does not), strings after ``normalise``. A
    field that only one of them has is a wrong one, so 1.0 means that all are equal.
    """
    wanted, given = _read(reference), _read(answer)
    if not isinstance(wanted, dict) or not isinstance(given, dict):
        return float(canonical(reference) == canonical(answer))
    names = wanted.keys() | given.keys()
    both = wanted.keys() & given.keys()
    equal = sum(_written(wanted[name]) == _written(given[name]) for name in both)
    return equal / len(names) if names else 1.0


def wilson(right: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval for a share of ``right`` in ``n``, as (low, high); (0, 1) if n is 0.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference": unlike
    the textbook interval it holds its level near 0 and 1 and for small n.
    """
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, spread = right / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = sqrt(share * (1 - share) * spread + spread * spread / 4) / (1 + spread)
    # at the ends the formula gives 0 and 1 but for rounding
    low = 0.0 if right == 0 else centre - half
    return low, 1.0 if right == n else centre + half


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided p-value of McNemar's exact test.

    ``b`` and ``c`` count the items that only the first, only the second system got right. If the
    systems were equally good, b would be binomial(b + c, 1/2) (McNemar 1947, "Note on the sampling
    error of the difference between correlated proportions or percentages").
    """
    n = b + c
    ways = tail = 1  # ways to choose k of n, and their sum up to the smaller count
    for k in range(1, min(b, c) + 1):
        ways = ways * (n - k + 1) // k
        tail += ways
    return min(1.0, 2 * tail / (1 << n))


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
