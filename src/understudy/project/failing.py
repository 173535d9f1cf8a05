"""Where the student fails: slices, confusions and clusters of what it answered wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from understudy.errors import UsageError
from understudy.evaluate.clusters import Cluster, clusters
from understudy.evaluate.slices import Case, Confusion, Slice, confusions, slices
from understudy.example import Example
from understudy.project.answering import answers_of
from understudy.project.here import here
from understudy.project.shelf import all_runs, dataset_of, spec_of
from understudy.project.workplace import Workplace
from understudy.report import Outcome, Report
from understudy.run import AnyRun
from understudy.store import events, runs

Side = Literal["validation", "test"]
SHOWN = 3
"""Misses shown of each cluster."""


@dataclass(frozen=True, slots=True)
class Failures:
    """What a student answers wrong on one side of its dataset's split."""

    model: str
    dataset: int
    side: Side
    report: int | None
    """The report whose answers these are; None where it was asked anew (validation)."""
    items: int
    """Those that were answered."""
    wrong: int
    missing: int
    slices: tuple[Slice, ...]
    confusions: tuple[Confusion, ...]
    clusters: tuple[Cluster, ...]
    """Every miss is in one of them."""

    @property
    def sentence(self) -> str:
        """Where it fails, in words."""
        if not self.wrong:
            return f"All {self.items:,} {self.side} items are answered right."
        worst = [one for one in self.slices if one.worse]
        text = f"{self.wrong:,} of {self.items:,} {self.side} items are wrong"
        if not worst:
            return f"{text}; no value stands out beyond chance."
        told = "; ".join(
            f"{one.by} = {one.value} ({one.wrong} of {one.items})" for one in worst[:SHOWN]
        )
        return f"{text}, more than chance allows where {told}."


def failures(place: Workplace, *, side: Side = "test", report: int | None = None) -> Failures:
    """Where the student of the newest report (or of that number) fails.

    ``test`` reads the report's own answers, and counts as a look at the test split; ``validation``
    asks the student, once. Raises UsageError if nothing was evaluated, or there is no such report.
    """
    found = evaluated(place, report)
    run = run_of(place, found)
    if side == "validation":
        items, outcomes = answers_of(place, run, side)
        return sorted_out(place, run, side, items, outcomes, None)
    _count_look(place, found)
    return of_report(place, found)


def of_report(place: Workplace, found: Report) -> Failures:
    """Where the student of a report fails, by the report's own answers."""
    with place.database.read() as connection:
        items = list(runs.members(connection, found.dataset_id, "test"))
    students = [one for one in found.outcomes if one.system == "student"]
    return sorted_out(place, run_of(place, found), "test", items, students, found.id)


def sorted_out(
    place: Workplace,
    run: AnyRun,
    side: Side,
    items: Sequence[Example],
    outcomes: Iterable[Outcome],
    report: int | None,
) -> Failures:
    """Slices, confusions and clusters of those answers."""
    spec = spec_of(place, dataset_of(place, run))
    cases = cases_of(items, outcomes)
    return Failures(
        model=run.model,
        dataset=run.dataset_id,
        side=side,
        report=report,
        items=len(cases),
        wrong=sum(not case.right for case in cases),
        missing=len(items) - len(cases),
        slices=slices(cases, spec),
        confusions=confusions(cases, spec),
        clusters=clusters(cases, spec),
    )


def cases_of(items: Sequence[Example], outcomes: Iterable[Outcome]) -> list[Case]:
    """Each item that was answered, with its answer."""
    answered = {one.example_id: one for one in outcomes if one.score is not None}
    return [
        Case(item, answered[item.id].answer or "", answered[item.id].score == 1)
        for item in items
        if item.id in answered
    ]


def evaluated(place: Workplace, number: int | None = None) -> Report:
    """The newest report on a student, or that of a number. Raises UsageError if there is none."""
    with place.database.read() as connection:
        report = runs.report(connection, number)
    if report is None or "student" not in report.systems:
        which = "no report" if number is None else f"no report {number}"
        raise UsageError(
            f"there is {which} on a student", f"understudy evaluate{here(place.folder)}"
        )
    return report


def run_of(place: Workplace, report: Report) -> AnyRun:
    """The run whose student a report is about. Raises UsageError if it is not there any more."""
    name = report.systems["student"].model
    found = [run for run in all_runs(place) if run.model == name]
    if not found:
        raise UsageError(
            f"{name} is no run of this project", f"understudy evaluate{here(place.folder)}"
        )
    return found[0]


def _count_look(place: Workplace, report: Report) -> None:
    """Book that somebody looked at the test items of a report; once for each report."""
    with place.database.read() as connection:
        known = events.of_kind(connection, runs.LOOKED)
    if all(event.data.get("report") != report.id for event in known):
        place.say(runs.LOOKED, dataset=report.dataset_id, by="failures", report=report.id)


def as_json(found: Failures) -> dict[str, Any]:
    """The failures in their documented shape."""
    return {
        "model": found.model,
        "dataset": found.dataset,
        "on": found.side,
        "report": found.report,
        "items": found.items,
        "wrong": found.wrong,
        "missing": found.missing,
        "slices": [asdict(one) | {"share": one.share, "worse": one.worse} for one in found.slices],
        "confusions": [asdict(one) for one in found.confusions],
        "clusters": [_cluster_json(one) for one in found.clusters],
        "sentence": found.sentence,
    }


def _cluster_json(cluster: Cluster) -> dict[str, Any]:
    return {
        "name": cluster.name,
        "values": {trait.by: trait.value for trait in cluster.traits},
        "misses": len(cluster.misses),
        "items": cluster.items,
        "wrong": cluster.wrong,
        "p_value": cluster.p_value,
        "examples": [
            {
                "id": case.example.id,
                "input": case.example.input,
                "answer": case.answer,
                "expected": case.example.answer,
            }
            for case in cluster.misses[:SHOWN]
        ],
    }
