"""A Report: how every system answered every test item, the scores, the comparisons, the verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

System = Literal["teacher", "base", "student"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One system's answer to one test item. ``score`` is None when no answer came (missing)."""

    example_id: int
    system: str
    answer: str | None
    score: float | None
    """1 right, 0 wrong; between for partial credit (share of JSON fields)."""
    exact: bool | None
    """True if the answer equals the reference to the letter."""
    note: str = ""
    """Why it is missing, or how it breaks the spec."""
    latency_ms: float | None = None
    cost_micro: int | None = None
    """Micro-dollars; None when the price is not known."""


@dataclass(frozen=True, slots=True)
class SystemScore:
    """One system on all test items; ``low`` and ``high`` bound ``score`` at 95 % (Wilson)."""

    model: str
    items: int
    right: int
    missing: int
    score: float
    low: float
    high: float
    partial: float
    """Mean partial credit: share of right JSON fields; equals ``score`` for other kinds."""
    usd_per_1k: float | None
    latency_ms_p50: float | None
    why_missing: str = ""
    """Of missing answers the commonest reason; empty if none is missing."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two systems on the items that both answered: exact McNemar test on the pairs."""

    first: str
    second: str
    items: int
    only_first: int
    """Items only the first got right."""
    only_second: int
    difference: float
    """Score of the first minus score of the second, on these items."""
    p_value: float


@dataclass(frozen=True, slots=True)
class Report:
    """An evaluation on a frozen dataset's test split."""

    dataset_id: int
    metric: str
    items: int
    systems: dict[str, SystemScore]
    comparisons: tuple[Comparison, ...]
    verdict: str
    outcomes: tuple[Outcome, ...] = field(repr=False, default=())
    seconds: float = 0.0
    id: int | None = None
