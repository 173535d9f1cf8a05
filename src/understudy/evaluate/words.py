"""What a reader of the numbers should know, in plain sentences."""

from __future__ import annotations

from understudy.report import Comparison, Report

NAMES = {
    "student": "the student",
    "teacher": "the teacher",
    "base": "the untrained base",
    "few-shot": "the base with examples",
}


def called(system: str) -> str:
    """A system's name in a sentence."""
    return NAMES.get(system, system)


def notes(report: Report, *, own_references: bool) -> tuple[str, ...]:
    """What so many items can show, who wrote the references, how worn the test items are."""
    main = _main(report)
    found = [
        smallest(main) if main is not None else "",
        _groups(report),
        _adjusted(report),
        "The teacher wrote the references itself: its score is how far it agrees with itself when "
        "it is asked again, which is about the most that a student can reach."
        if own_references and "teacher" in report.systems
        else "",
        worn(report.looks),
    ]
    return tuple(sentence for sentence in found if sentence)


def smallest(pair: Comparison) -> str:
    """The smallest difference that so many items show, in words."""
    if pair.detectable is None:
        return ""
    between = f"{called(pair.first)} and {called(pair.second)}"
    if pair.detectable >= 1:
        return f"{pair.items:,} items can show no difference at all between {between}."
    return (
        f"With {pair.items:,} items, a difference of {100 * pair.detectable:.1f} points or more "
        f"between {between} is found in four cases of five; a smaller one often is not."
    )


def worn(looks: int) -> str:
    """What it means that test items were looked at before; empty at the first look."""
    if looks < 2:
        return ""
    return (
        f"These test items were looked at {looks:,} times by now. What was chosen by an earlier "
        "look scores better here than it will in use: new test items would tell."
    )


def _main(report: Report) -> Comparison | None:
    """The comparison that matters most."""
    pairs = {(pair.first, pair.second): pair for pair in report.comparisons}
    order = (("student", "teacher"), ("student", "base"), ("teacher", "base"))
    return next((pairs[pair] for pair in order if pair in pairs), None)


def _groups(report: Report) -> str:
    if report.groups is None or report.groups == report.items:
        return ""
    return (
        f"The {report.items:,} items are {report.groups:,} groups of inputs that say nearly the "
        "same: intervals and tests count groups, since a repetition is no new evidence."
    )


def _adjusted(report: Report) -> str:
    number = len(report.comparisons)
    if number < 2:
        return ""
    return f"p is adjusted for {number} comparisons (Holm)."
