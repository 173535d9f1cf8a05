"""The reality check before the spend: whether the teacher is sure, and prompting as good.

    same      the teacher's second answer against its first: about the most a student can reach
    yours     the teacher's first answer against the user's, on own examples
    systems   the teacher's second answer, base and few-shot, against the user's answer where there
              is one and the teacher's first elsewhere

By the first rule that applies:

    the interval of ``same`` lies below 90 %       -> the teacher is not sure of itself: mend the
                                                      spec (teacher_unsure)
    the interval of ``yours`` lies below 90 %      -> the teacher answers otherwise than the user
                                                      (teacher_differs)
    no base could be asked                         -> only that is said (no_base)
    otherwise                                      -> what the verdict says of the systems
                                                      (verdict.py: prompting, train, too_few, ...)

90 % is what the verdict takes for good. Both rules rest on the 95 % interval, not on the figure: of
teachers that agree with themselves in nine cases of ten, at most about one in 40 is called unsure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from understudy.evaluate.summary import Context, summarise
from understudy.evaluate.verdict import GOOD, MIN_ITEMS
from understudy.evaluate.words import called
from understudy.example import Example
from understudy.report import Decision, Outcome, Report
from understudy.score import Metric
from understudy.statistics import mean_interval

SHOWN = 3
"""Contradictions that are kept."""
Finding = Decision | Literal["teacher_differs", "no_base"]
AGAINST = ("teacher_unsure", "teacher_differs", "prompting")
"""Findings that speak against the spend."""


@dataclass(frozen=True, slots=True)
class Share:
    """Share of right answers among the items that were answered; 95 % interval."""

    items: int
    missing: int
    score: float
    low: float
    high: float

    def of(self, what: str) -> str:
        """``18 of 20 items (70-97 %)``, and how many are missing."""
        answered = self.items - self.missing
        right, missing = round(self.score * answered), f", {self.missing} missing"
        interval = f"{100 * self.low:.0f}-{100 * self.high:.0f} %"
        return f"{right} of {answered} {what} ({interval}{missing if self.missing else ''})"


@dataclass(frozen=True, slots=True)
class Contradiction:
    """An item that the teacher answered in two ways."""

    input: str
    first: str
    second: str


class Asked(NamedTuple):
    """What came of asking: what ``reality`` sums up."""

    items: Sequence[Example]
    """With the reference as their answer."""
    first: Mapping[int, str]
    """The teacher's first answer by item; none where none came."""
    outcomes: Sequence[Outcome]
    """Of ``teacher``, asked again, and of ``base`` and ``few-shot`` if there are."""
    no_base: str
    """Why there is no base; empty if there is one."""
    few_shot: int = 0
    """Examples that ``few-shot`` was shown."""


@dataclass(frozen=True, slots=True)
class Reality:
    """What the check found."""

    teacher: str
    student: str
    task_version: int
    items: int
    metric: str
    same: Share
    yours: Share | None
    """None: there are no own examples."""
    systems: dict[str, Share]
    no_base: str
    decision: Finding
    verdict: str
    """What the verdict says of teacher and base; empty without a base."""
    contradictions: tuple[Contradiction, ...] = ()

    @property
    def warning(self) -> str:
        """One sentence on what speaks against the spend; empty if nothing does."""
        if self.decision == "teacher_unsure":
            return (
                "The teacher is not sure of itself: asked twice, it gives the same answer to "
                f"{self.same.of('items')}. Mend the spec first, so that there is one right answer: "
                "`understudy describe --edit`."
            )
        if self.decision == "teacher_differs":
            return (
                "The teacher answers otherwise than you: it gives your answer to "
                f"{self._yours}. Mend the spec first: `understudy describe --edit`."
            )
        return self.verdict if self.decision == "prompting" else ""

    @property
    def _yours(self) -> str:
        return "" if self.yours is None else self.yours.of("own examples")

    @property
    def sentences(self) -> tuple[str, ...]:
        """Everything it found, for people."""
        same = self.same.of("items")
        found = [
            f"asked twice, the teacher gives the same answer to {same}: about a student's most"
        ]
        if self.yours is not None:
            found.append(f"it gives your answer to {self._yours}")
        found += [
            f"asked twice: {_short(one.input)} -> {_short(one.first)}, then {_short(one.second)}"
            for one in self.contradictions
        ]
        found += [
            f"{called(name)} answers {share.of('items')} right"
            for name, share in self.systems.items()
            if name != "teacher"
        ]
        if self.no_base:
            found.append(f"no base was asked: {self.no_base}")
        if self.items < MIN_ITEMS:
            found.append(
                f"{self.items} items tell little: {MIN_ITEMS} are judged by, of own examples "
                "(`understudy import FILE`) or a larger pilot (`understudy config pilot 20`)"
            )
        told = self.warning or (self.verdict if self.items >= MIN_ITEMS else "")
        return (*found, told) if told else tuple(found)


def reality(
    asked: Asked, metric: Metric, *, teacher: str, student: str, task_version: int
) -> Reality:
    """Sum up what was asked, by the spec's ``metric``. Answers that did not come are missing."""
    second = {one.example_id: one.answer for one in asked.outcomes if one.system == "teacher"}
    agrees: list[float | None] = []
    own: list[float | None] = []
    contradictions = []
    for item in asked.items:
        first, again = asked.first.get(item.id or 0), second.get(item.id or 0)
        known = first is not None and again is not None
        agrees.append(metric(first, again).score if known else None)  # type: ignore[arg-type]
        if agrees[-1] == 0:
            contradictions.append(Contradiction(item.input, first or "", again or ""))
        if item.origin != "generated":
            own.append(None if first is None else metric(item.answer, first).score)
    names = {"teacher": teacher, "base": student, "few-shot": student}
    context = Context(few_shot=asked.few_shot)
    report = summarise(0, metric.title, asked.outcomes, names, context=context)
    same, yours = _share(agrees), _share(own) if own else None
    return Reality(
        teacher=teacher,
        student=student,
        task_version=task_version,
        items=len(asked.items),
        metric=metric.title,
        same=same,
        yours=yours,
        systems={
            name: Share(found.items, found.missing, found.score, found.low, found.high)
            for name, found in report.systems.items()
        },
        no_base=asked.no_base,
        decision=_decision(same, yours, report),
        verdict=report.verdict if "base" in report.systems else "",
        contradictions=tuple(contradictions[:SHOWN]),
    )


def as_json(found: Reality) -> dict[str, Any]:
    """Plain values, as ``--json`` prints and the store keeps them."""
    return asdict(found) | {"warning": found.warning, "sentences": list(found.sentences)}


def from_stored(body: Mapping[str, Any]) -> Reality:
    """What ``as_json`` wrote."""
    kept = {name: body[name] for name in Reality.__dataclass_fields__}
    yours = kept["yours"]
    kept |= {
        "same": Share(**kept["same"]),
        "yours": None if yours is None else Share(**yours),
        "systems": {name: Share(**share) for name, share in kept["systems"].items()},
        "contradictions": tuple(Contradiction(**one) for one in kept["contradictions"]),
    }
    return Reality(**kept)


def _decision(same: Share, yours: Share | None, report: Report) -> Finding:
    if same.high < GOOD:
        return "teacher_unsure"
    if yours is not None and yours.high < GOOD:
        return "teacher_differs"
    return report.decision if "base" in report.systems else "no_base"


def _share(scores: Iterable[float | None]) -> Share:
    given = list(scores)
    values = [float(score == 1) for score in given if score is not None]
    low, high, _ = mean_interval(values)
    mean = sum(values) / len(values) if values else 0.0
    return Share(len(given), len(given) - len(values), mean, low, high)


def _short(text: str, width: int = 60) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= width else f"{flat[: width - 1]}\N{HORIZONTAL ELLIPSIS}"
