"""A report as a file: HTML or Markdown, with where the student fails and a few of its misses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice, zip_longest
from pathlib import Path

from understudy.errors import UsageError
from understudy.evaluate.slices import OTHER, Case, Confusion, Slice
from understudy.pages import about_report, html, markdown
from understudy.pages.document import Block, Document, Facts, Lines, Paragraph, Section, Table
from understudy.pages.document import shortened as _shortened
from understudy.pages.frame import write
from understudy.project.failing import Failures, failures
from understudy.project.here import here
from understudy.project.workplace import Workplace
from understudy.report import Outcome, Report
from understudy.store import runs

MISSES = 25
"""Failures that a page shows."""
LONGEST = 1200
"""Characters shown of each of their texts."""
WIDEST = 12
"""Labels of a confusion that are shown as a table; of more, only what was confused."""
_NAME = 80


def report_of(place: Workplace, number: int | None) -> Report:
    """The newest report, or that of a number. Raises UsageError if there is none."""
    with place.database.read() as connection:
        report = runs.report(connection, number)
    if report is None:
        which = "there is no report yet" if number is None else f"there is no report {number}"
        raise UsageError(which, f"understudy evaluate{here(place.folder)}")
    return report


def write_report(place: Workplace, path: Path, number: int | None) -> int:
    """Write a report's page to ``path``, Markdown if that ends in .md; its size in bytes.

    It shows misses, which counts as a look at the test items, once for each report.
    Raises UsageError if there is no such report, or ``path`` may not be written; DiskError.
    """
    report = report_of(place, number)
    student = "student" in report.systems
    page = document(report, failures(place, report=report.id) if student else None)
    if path.suffix.lower() in (".md", ".markdown"):
        return write(path, markdown.page(page), markdown.BEGIN)
    return write(path, html.page(page))


def document(report: Report, found: Failures | None) -> Document:
    """The whole page; ``found`` is where its student fails, None if it has none."""
    if found is None:
        return about_report.document(report)
    answers: dict[int, list[Outcome]] = {}
    for outcome in report.outcomes:
        answers.setdefault(outcome.example_id, []).append(outcome)
    return about_report.document(report, [_where(found), *_misses(found, answers)])


def _where(found: Failures) -> Section:
    """Where the student fails: by value, length and label; what it takes for what."""
    rows = [_slice(one) for one in sorted(found.slices, key=lambda one: not one.worse)]
    head = ["by", "value", "wrong", "share", "95 % interval", "elsewhere", "worse than chance"]
    blocks: list[Block] = [
        Paragraph(found.sentence),
        *about_report.cut(Table(head, rows, words=2)),
    ]
    for one in found.confusions:
        blocks += _confusion(one)
    return Section("Where the student fails", blocks)


def _slice(one: Slice) -> list[str]:
    return [
        one.by,
        _shortened(one.value, _NAME),
        f"{one.wrong}/{one.items}",
        f"{one.share:.0%}",
        f"{one.low:.0%} to {one.high:.0%}",
        "" if one.elsewhere is None else f"{one.elsewhere:.0%}",
        f"yes (p = {one.p_value:.2g})" if one.worse else "no",
    ]


def _confusion(found: Confusion) -> list[Block]:
    """The matrix if it is small, else the pairs that were confused most."""
    columns = (*found.labels, OTHER)
    if len(found.labels) <= WIDEST:
        rows = [
            [_shortened(label, _NAME), *(str(count) if count else "" for count in counts)]
            for label, counts in zip(found.labels, found.counts, strict=True)
        ]
        names = [_shortened(label, _NAME) for label in columns]
        return [Paragraph(f"{found.of}: right in the rows, answered in the columns."),
                Table(["", *names], rows)]  # fmt: skip
    pairs = [
        (count, _shortened(right, _NAME), _shortened(given, _NAME))
        for right, counts in zip(found.labels, found.counts, strict=True)
        for given, count in zip(columns, counts, strict=True)
        if right != given and count
    ]
    told = [[right, given, str(count)] for count, right, given in sorted(pairs, reverse=True)]
    return about_report.cut(Table([f"{found.of}, right", "answered", "times"], told, words=2))


def _misses(found: Failures, answers: Mapping[int, list[Outcome]]) -> Iterator[Section]:
    """A few misses, taken from the clusters in turn."""
    if not found.wrong:
        return
    named = [[(cluster.name, case) for case in cluster.misses] for cluster in found.clusters]
    turns = (one for turn in zip_longest(*named) for one in turn if one is not None)
    shown = list(islice(turns, MISSES))
    blocks: list[Block] = [_miss(name, case, answers) for name, case in shown]
    left = found.wrong - len(shown)
    if left:
        more = f"{left:,} more are left out: `understudy failures --json` groups them all."
        blocks.append(Lines([more]))
    yield Section(f"{len(shown)} of {found.wrong:,} misses", blocks)


def _miss(cluster: str, case: Case, answers: Mapping[int, list[Outcome]]) -> Facts:
    item = case.example
    said = [
        (one.system, one.answer if one.score is not None else f"(missing: {one.note})")
        for one in answers.get(item.id or 0, [])
    ]
    facts = [
        (f"item {item.id}", cluster),
        ("input", item.input),
        ("reference", item.answer),
        *said,
    ]
    return Facts([(name, _shortened(text or "(nothing)", LONGEST)) for name, text in facts])
