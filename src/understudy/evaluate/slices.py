"""Where it fails: errors by cell value, by length of the input, by label; and confusion.

Among many slices some look bad by chance. So each has its interval, and the p-value of "worse here
than elsewhere" is adjusted for all that were looked at.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, lgamma
from typing import NamedTuple

import numpy as np

from understudy.example import Example
from understudy.score import named
from understudy.statistics import holm, wilson
from understudy.task import Spec

CHANCE = 0.05
LENGTHS = 4
LENGTH = "length"
LABEL = "label"
OTHER = "(none of them)"
"""An answer that is no label."""


class Trait(NamedTuple):
    """Something that several items have in common."""

    by: str
    """An attribute of the plan, ``length``, ``label``, or a JSON field with few values."""
    value: str


@dataclass(frozen=True, slots=True)
class Case:
    """One item as a system answered it."""

    example: Example
    answer: str
    right: bool


@dataclass(frozen=True, slots=True)
class Slice:
    """The items with one trait."""

    by: str
    value: str
    items: int
    wrong: int
    low: float
    """95 % interval (Wilson) of the share that is wrong."""
    high: float
    elsewhere: float | None
    """Share that is wrong of all other items; None if there are none."""
    p_value: float
    """Of that many wrong by chance (Fisher's exact test, one-sided), by Holm over all slices."""

    @property
    def share(self) -> float:
        """That is wrong."""
        return self.wrong / self.items

    @property
    def worse(self) -> bool:
        """True if it fails more often here than elsewhere, beyond chance."""
        return self.p_value < CHANCE


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often each label was answered where another was right."""

    of: str
    """``label``, or the JSON field."""
    labels: tuple[str, ...]
    """In the order of the rows; the columns have OTHER behind them."""
    counts: tuple[tuple[int, ...], ...]
    """Row: the right label; column: the answered one."""


def slices(cases: Sequence[Case], spec: Spec | None) -> tuple[Slice, ...]:
    """Every slice, in the order of its kind; within one kind the worst share first."""
    total, wrong = len(cases), sum(not case.right for case in cases)
    there, missed = Counter[Trait](), Counter[Trait]()
    for case, found in zip(cases, traits(cases, spec), strict=True):
        there.update(found)
        missed.update(() if case.right else found)
    names = list(there)
    raw = [worse_by_chance(missed[one], there[one], wrong, total) for one in names]
    made = [
        _slice(one, there[one], missed[one], total, wrong, p_value)
        for one, p_value in zip(names, holm(raw), strict=True)
    ]
    kinds = list(dict.fromkeys(one.by for one in names))
    return tuple(sorted(made, key=lambda one: (kinds.index(one.by), -one.share, one.value)))


def _slice(trait: Trait, items: int, wrong: int, total: int, all_wrong: int, p: float) -> Slice:
    low, high = wilson(wrong, items)
    others = total - items
    elsewhere = (all_wrong - wrong) / others if others else None
    return Slice(trait.by, trait.value, items, wrong, low, high, elsewhere, p)


def traits(cases: Sequence[Case], spec: Spec | None) -> list[tuple[Trait, ...]]:
    """The traits of each case: its cell, how long its input is, its labels."""
    length = lengths([len(case.example.input) for case in cases])
    return [
        (
            *(Trait(name, value) for name, value in case.example.cell.items()),
            *([Trait(LENGTH, size)] if size else []),
            *(Trait(name, value) for name, value in labels_of(case.example.answer, spec).items()),
        )
        for case, size in zip(cases, length, strict=True)
    ]


def lengths(sizes: Sequence[int]) -> list[str]:
    """For each of those numbers of characters the quarter that it lies in, in words.

    Empty where all are of one length.
    """
    if not sizes or min(sizes) == max(sizes):
        return [""] * len(sizes)
    cuts = np.quantile(sizes, np.arange(1, LENGTHS) / LENGTHS, method="lower")
    ends = sorted({int(cut) for cut in cuts} | {max(sizes)})
    firsts = [min(sizes), *(end + 1 for end in ends[:-1])]
    names = [
        f"{first} to {end} characters" if first < end else f"{end} characters"
        for first, end in zip(firsts, ends, strict=True)
    ]
    return [names[int(np.searchsorted(ends, size))] for size in sizes]


def labels_of(answer: str, spec: Spec | None) -> dict[str, str]:
    """The labels that an answer names: ``label``, or each JSON field that has a set of values."""
    if spec is None:
        return {}
    if spec.kind == "label":
        return {LABEL: named(answer, spec.labels) or OTHER}
    if spec.kind != "json":
        return {}
    try:
        read = json.loads(answer)
    except (ValueError, RecursionError):
        read = None
    given = read if isinstance(read, dict) else {}
    return {
        field.name: named(_plain(given.get(field.name, OTHER)), (*field.values, "null")) or OTHER
        for field in spec.fields
        if field.values
    }


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def confusions(cases: Sequence[Case], spec: Spec | None) -> tuple[Confusion, ...]:
    """What was answered for what, for the label or for each field of labels."""
    pairs: Mapping[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for case in cases:
        given = labels_of(case.answer, spec)
        for name, right in labels_of(case.example.answer, spec).items():
            pairs[name][right, given[name]] += 1
    return tuple(_confusion(name, counted) for name, counted in pairs.items())


def _confusion(name: str, pairs: Counter[tuple[str, str]]) -> Confusion:
    seen = sorted({label for pair in pairs for label in pair} - {OTHER})
    columns = (*seen, OTHER)
    return Confusion(name, tuple(seen), tuple(tuple(pairs[r, c] for c in columns) for r in seen))


def worse_by_chance(wrong_here: int, here: int, wrong: int, total: int) -> float:
    """P(at least so many of those here are wrong), if the wrong ones lay anywhere.

    One-sided exact test of R. A. Fisher, "Statistical Methods for Research Workers", 1934:
    ``here`` of ``total`` items are drawn without replacement, of which ``wrong`` are wrong.
    """
    most = min(here, wrong)
    least = max(0, here + wrong - total)
    if wrong_here <= least:
        return 1.0
    all_ways = _ways(total, here)
    return min(
        1.0,
        sum(
            exp(_ways(wrong, k) + _ways(total - wrong, here - k) - all_ways)
            for k in range(wrong_here, most + 1)
        ),
    )


def _ways(n: int, k: int) -> float:
    """Logarithm of the ways to choose k of n."""
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
