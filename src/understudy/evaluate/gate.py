"""Gates for CI: conditions on a report, decided on the interval and not on the figure alone.

    student >= teacher - 0.02      at most 2 points below the teacher
    student > few-shot + 5%        more than 5 points above prompting
    student >= 0.9                 at least 90 %

A condition is met if all of the 95 % interval (of the difference on the items that both answered,
or of the score) is on its side: what could be chance does not pass. A system that is missing more
than one answer in 20 cannot be judged, and the gate is not met.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from understudy.errors import UsageError
from understudy.report import ROLES, Comparison, Gate, SystemScore

MOST_MISSING = 0.05
_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)%?"
_CONDITION = re.compile(r"\s*([^\s<>=]+)\s*(>=|<=|>|<)(?!=)\s*(\S.*?)\s*")
_LIMIT = re.compile(rf"[-+]?{_NUMBER}")
_OFFSET = re.compile(rf"(\S+)\s+([-+])\s*({_NUMBER})")
_ROLE_OFFSET = re.compile(rf"({'|'.join(ROLES)})\s*([-+])\s*({_NUMBER})")
_EXAMPLE = 'Write "student >= teacher - 0.02", or "student >= 0.9"'


class Condition(NamedTuple):
    """``first`` against ``second`` + ``offset``; against ``offset`` alone if second is empty."""

    expression: str
    first: str
    sign: str
    """``>=``, ``>``, ``<=`` or ``<``."""
    second: str
    offset: float


def parse(expression: str, systems: Collection[str]) -> Condition:
    """Read ``system OP system [+-number] | number``; a number may end with %.

    Raises UsageError if it is none, or names a system that is not in ``systems``.
    """
    found = _CONDITION.fullmatch(expression)
    if found is None:
        raise UsageError(f"the gate {expression!r} is no condition", _EXAMPLE)
    first, sign, rest = found.groups()
    if _LIMIT.fullmatch(rest):
        condition = Condition(expression, first, sign, "", _number(rest))
    elif rest in systems:
        condition = Condition(expression, first, sign, rest, 0.0)
    else:
        moved = _OFFSET.fullmatch(rest) or _ROLE_OFFSET.fullmatch(rest)
        second = moved[1] if moved else rest
        offset = _number(moved[2] + moved[3]) if moved else 0.0
        condition = Condition(expression, first, sign, second, offset)
    for name in filter(None, (condition.first, condition.second)):
        if name not in systems:
            raise UsageError(
                f"the gate {expression!r} names {name}, which is not evaluated",
                f"There are: {', '.join(systems)}",
            )
    if condition.first == condition.second:
        raise UsageError(f"the gate {expression!r} compares {first} with itself", _EXAMPLE)
    return condition


def _number(text: str) -> float:
    return float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)


def decide(
    condition: Condition, systems: Mapping[str, SystemScore], compared: Comparison | None
) -> Gate:
    """Whether the condition is met; ``compared`` is its pair, or None where it has none."""
    for name in filter(None, (condition.first, condition.second)):
        found = systems.get(name)
        if found is None or found.missing > MOST_MISSING * found.items:
            return Gate(condition.expression, False, None, None, None, _silent(name, found))
    if not condition.second:
        score = systems[condition.first]
        return _judged(condition, score.score, score.low, score.high, condition.offset)
    if compared is None or compared.low is None or compared.high is None:
        why = f"{condition.first} and {condition.second} answered no item in common"
        return Gate(condition.expression, False, None, None, None, why)
    ends = compared.difference, compared.low, compared.high
    if compared.first != condition.first:
        ends = -ends[0], -ends[2], -ends[1]
    return _judged(condition, *ends, condition.offset)


def _judged(condition: Condition, value: float, low: float, high: float, limit: float) -> Gate:
    sure = {
        ">=": low >= limit,
        ">": low > limit,
        "<=": high <= limit,
        "<": high < limit,
    }[condition.sign]
    seen = {
        ">=": value >= limit,
        ">": value > limit,
        "<=": value <= limit,
        "<": value < limit,
    }[condition.sign]
    if condition.second:
        what = f"{condition.first} - {condition.second} is {_points(value)}"
        ends, bound = f"{_points(low)} to {_points(high)}", _points(limit)
    else:
        what = f"{condition.first} scores {_percent(value)}"
        ends, bound = f"{_percent(low)} to {_percent(high)}", _percent(limit)
    if sure:
        end = f"all of it {condition.sign} {bound}"
    elif seen:
        end = f"the figure is {condition.sign} {bound}, but that may be chance"
    else:
        end = f"it is not {condition.sign} {bound}"
    why = f"{what} points" if condition.second else what
    return Gate(
        condition.expression, sure, value, low, high, f"{why} (95 % interval {ends}): {end}"
    )


def _silent(name: str, found: SystemScore | None) -> str:
    if found is None:
        return f"{name} was not evaluated"
    return (
        f"{name} gave no answer to {found.missing} of {found.items} items"
        f"{f' ({found.why_missing})' if found.why_missing else ''}: that cannot be judged"
    )


def _points(share: float) -> str:
    return f"{100 * share + 0.0:+.1f}" if math.isfinite(share) else "?"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
