"""A Report: how every system answered every test item, the scores, the comparisons, the verdict.

Everything that was added later has a default, so that reports stored before it still load.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from understudy import judgement
from understudy.judgement import Judgement

System = str
"""``teacher``, ``base``, ``few-shot`` (the base with examples before the question), ``student``, or
any other model's name."""
ROLES = ("teacher", "base", "few-shot", "student")

Decision = Literal[
    "",
    "nothing",
    "too_few",
    "teacher_unsure",
    "prompting",
    "teacher_only",
    "train",
    "ship",
    "not_yet",
]
"""What a verdict comes to; empty in reports from before there was one.

``too_few``: more test items would tell; ``teacher_unsure``: mend the spec; ``prompting``: do not
fine-tune; ``teacher_only``: nothing to compare with; ``train``: no student yet, worth training."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One system's answer to one test item. ``score`` is None when no answer came (missing)."""

    example_id: int
    system: str
    answer: str | None
    score: float | None
    """1 right, 0 wrong; between for partial credit (share of JSON fields) and graded metrics."""
    exact: bool | None
    """True if the answer equals the reference to the letter."""
    note: str = ""
    """Why it is missing, or how it breaks the spec."""
    latency_ms: float | None = None
    cost_micro: int | None = None
    """Micro-dollars; None when the price is not known."""
    fields: dict[str, bool] = field(default_factory=dict)
    """Of a JSON answer: whether each field of the reference is right."""
    expected: str = ""
    """Of a task of labels: the label of the reference."""
    given: str = ""
    """Of a task of labels: the label that the answer names; empty if it is none of them."""
    measures: dict[str, float] = field(default_factory=dict)
    """Other measures of the same answer by name, 0 to 1, for example ``chrF``."""


@dataclass(frozen=True, slots=True)
class LabelCount:
    """One label of a task of labels, as one system names it."""

    expected: int
    """Items whose reference it is, among those that were answered."""
    given: int
    """Answers that name it."""
    right: int

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 if it is neither expected nor given."""
        return 2 * self.right / (self.expected + self.given) if self.expected + self.given else 0.0


@dataclass(frozen=True, slots=True)
class SystemScore:
    """One system on all test items; ``low`` and ``high`` bound ``score`` at 95 %."""

    model: str
    items: int
    right: int
    missing: int
    score: float
    """Share of right answers, or the mean of a graded metric; of the items that were answered."""
    low: float
    high: float
    partial: float
    """Mean partial credit: share of right JSON fields; equals ``score`` for other kinds."""
    usd_per_1k: float | None
    latency_ms_p50: float | None
    why_missing: str = ""
    """Of missing answers the commonest reason; empty if none is missing."""
    interval: str = "Wilson"
    """How ``low`` and ``high`` were found."""
    exact: float | None = None
    """Share of answers that equal the reference to the letter."""
    valid: float | None = None
    """Share of answers that keep the spec's checks: neither refused, cut off nor malformed."""
    macro_f1: float | None = None
    """Of a task of labels: mean F1 over the labels that are expected or given."""
    labels: dict[str, LabelCount] = field(default_factory=dict)
    fields: dict[str, float] = field(default_factory=dict)
    """Of a task of JSON: share of right answers for each field."""
    measures: dict[str, float] = field(default_factory=dict)
    """Means of other measures, by name."""
    size_bytes: int | None = None
    """On disk, of a model that runs here; None for one behind a wire."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two systems on the items that both answered."""

    first: str
    second: str
    items: int
    only_first: int
    """Items only the first got right; with a graded metric, items on which it scored higher."""
    only_second: int
    difference: float
    """Score of the first minus score of the second, on these items."""
    p_value: float
    low: float | None = None
    """95 % interval of the difference; None in reports from before there was one."""
    high: float | None = None
    method: str = "exact McNemar"
    """Test that ``p_value`` is of."""
    interval: str = ""
    """How ``low`` and ``high`` were found."""
    p_adjusted: float | None = None
    """By Holm, over the comparisons of the report."""
    detectable: float | None = None
    """Smallest difference that so many items show at 80 % power and a level of 5 %."""


@dataclass(frozen=True, slots=True)
class BreakEven:
    """After how many calls the student has paid for itself."""

    calls: int | None
    """None: never, or not known; ``why`` says which."""
    spent_usd: float
    """For data and training, as far as money was paid for them."""
    saved_usd_per_1k: float | None
    """What a thousand calls of the student cost less than of the teacher; None if not known."""
    why: str
    """One sentence."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition that was asked for, and whether it is met beyond chance."""

    expression: str
    met: bool
    value: float | None
    """The difference (or the score) that the gate is about; None if it was not measured."""
    low: float | None
    """95 % interval of ``value``."""
    high: float | None
    why: str
    """In words."""


@dataclass(frozen=True, slots=True)
class Report:
    """An evaluation on a frozen dataset's test split."""

    dataset_id: int
    metric: str
    items: int
    systems: dict[str, SystemScore]
    comparisons: tuple[Comparison, ...]
    verdict: str
    """One sentence."""
    outcomes: tuple[Outcome, ...] = field(repr=False, default=())
    seconds: float = 0.0
    id: int | None = None
    graded: bool = False
    """True if answers score between right and wrong (chrF, a user's function)."""
    decision: Decision = ""
    numbers: dict[str, float | int | str | None] = field(default_factory=dict)
    """What the verdict rests on, by name."""
    notes: tuple[str, ...] = ()
    """Sentences that a reader of the numbers should know."""
    looks: int = 1
    """How often these test items were evaluated, or else looked at, this time included."""
    groups: int | None = None
    """Blocks of near-duplicates among the items: these, not items, are independent."""
    few_shot: int = 0
    """Examples that ``few-shot`` was shown."""
    break_even: BreakEven | None = None
    gates: tuple[Gate, ...] = ()
    judge: Judgement | None = None
    """None: no judge was asked."""

    @property
    def gate_met(self) -> bool | None:
        """True if every gate is met; None if none was asked for."""
        return all(gate.met for gate in self.gates) if self.gates else None

    def _repr_html_(self) -> str:
        from understudy.pages import about_report, html

        return html.fragment(about_report.glance(self))


def from_stored(body: Mapping[str, Any]) -> Report:
    """The report of a dictionary as ``dataclasses.asdict`` makes it, of today or of before."""
    known = {one.name for one in fields(Report)}
    made = {name: value for name, value in body.items() if name in known}
    made["systems"] = {name: _system(found) for name, found in body["systems"].items()}
    made["comparisons"] = tuple(Comparison(**pair) for pair in body["comparisons"])
    made["outcomes"] = tuple(Outcome(**one) for one in body.get("outcomes") or ())
    made["gates"] = tuple(Gate(**gate) for gate in body.get("gates", ()))
    made["notes"] = tuple(body.get("notes", ()))
    paid = body.get("break_even")
    made["judge"] = judgement.from_stored(body.get("judge"))
    made["break_even"] = BreakEven(**paid) if paid else None
    return Report(**made)


def _system(body: Mapping[str, Any]) -> SystemScore:
    labels = {name: LabelCount(**count) for name, count in body.get("labels", {}).items()}
    return SystemScore(**{**body, "labels": labels})
