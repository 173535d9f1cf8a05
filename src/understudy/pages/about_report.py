"""What a report says, as plain blocks: for its page, its Markdown, a notebook and a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from understudy.pages.document import (
    Block,
    Document,
    Interval,
    Lines,
    Paragraph,
    Plot,
    Section,
    Table,
    shortened,
)
from understudy.pages.judge_words import judge_lines
from understudy.report import Comparison, Report, SystemScore

CHANCE = 0.05
MOST_ROWS = 40
"""Rows of a table of labels or fields; the worst come first."""
LONGEST = 400
"""Characters of a text that somebody else wrote."""
_ORDER = ("student", "few-shot", "base", "teacher")


def document(report: Report, more: Sequence[Section] = ()) -> Document:
    """The whole page; ``more`` are sections behind those that the report alone can fill."""
    compared: list[Block] = [
        Lines([in_words(pair) for pair in report.comparisons]),
        Table(*comparisons(report), words=1),
        differences(report),
    ]
    first = ["This is the first look at these test items."] if report.looks < 2 else []
    known = [Lines([*report.notes, *first])]
    sections = [
        Section("The systems", [*_systems(report), *_details(report)]),
        Section("Compared", compared) if report.comparisons else None,
        Section("How much these numbers can show", known),
        Section("By a judge", [Lines(judge_lines(report.judge))]) if report.judge else None,
        Section("What was asked for", [Lines(gates(report))]) if report.gates else None,
        Section("When it pays off", [Paragraph(report.break_even.why)])
        if report.break_even
        else None,
    ]
    number = "" if report.id is None else f" {report.id}"
    return Document(
        f"Report{number}: was it worth it?",
        [Paragraph(report.verdict, strong=True), Paragraph(about(report))],
        [*filter(None, sections), *more],
    )


def glance(report: Report) -> list[Block]:
    """The verdict, the systems and the comparisons: what a notebook shows."""
    return [
        Paragraph(report.verdict, strong=True),
        Paragraph(about(report)),
        *_systems(report),
        Lines([in_words(pair) for pair in report.comparisons]),
    ]


def about(report: Report) -> str:
    """What was measured, on what."""
    return f"{report.items:,} test items of dataset {report.dataset_id}, scored by {report.metric}."


# -- the systems -------------------------------------------------------------------------------


def systems(report: Report) -> tuple[list[str], list[list[str]]]:
    """Head and rows: one row a system. Columns that no system fills are left out."""
    head = ["", "right", "score", "95 % interval", "missing", "$ per 1,000", "ms (median)"]
    more = {"macro F1": _f1, "size": _size}
    shown = {name: by for name, by in more.items() if any(map(by, report.systems.values()))}
    rows = []
    for name, system in report.systems.items():
        answered = system.missing < system.items  # no answer is no score, and not zero
        rows.append(
            [
                name if name == system.model else f"{name} ({system.model})",
                f"{system.right}/{system.items - system.missing}",
                f"{system.score:.1%}" if answered else "-",
                _ends(system) if answered else "-",
                str(system.missing),
                "unknown" if system.usd_per_1k is None else f"{system.usd_per_1k:.3f}",
                "" if system.latency_ms_p50 is None else f"{system.latency_ms_p50:.1f}",
                *(by(system) for by in shown.values()),
            ]
        )
    return [*head, *shown], rows


def _ends(system: SystemScore) -> str:
    return f"{system.low:.1%} to {system.high:.1%}"


def _f1(system: SystemScore) -> str:
    return "" if system.macro_f1 is None else f"{system.macro_f1:.3f}"


def _size(system: SystemScore) -> str:
    return "" if system.size_bytes is None else f"{system.size_bytes / 1e6:,.1f} MB"


def _systems(report: Report) -> list[Block]:
    """The table, the picture beside it, and why answers are missing."""
    head, rows = systems(report)
    drawn = [
        Interval(name, one.score, one.low, one.high, f"{one.score:.1%} ({_ends(one)})")
        for name, one in report.systems.items()
        if one.missing < one.items
    ]
    ticks = [(share / 4, f"{25 * share} %") for share in range(5)]
    missing = [
        f"{name} has no answer to {one.missing:,} of {one.items:,} items; most often: "
        f"{shortened(one.why_missing, LONGEST)}"
        for name, one in report.systems.items()
        if one.missing
    ]
    methods = sorted({one.interval for one in report.systems.values()})
    what = f"Score with its 95 % interval ({', '.join(methods)})"
    return [Table(head, rows), Plot(what, drawn, ticks), Lines(missing)]


def _details(report: Report) -> list[Block]:
    """Labels, fields and other measures of the student, or of whoever stands for it."""
    name = next((one for one in _ORDER if one in report.systems), "")
    if not name:
        return []
    system = report.systems[name]
    labels = sorted(system.labels.items(), key=lambda item: item[1].f1)
    counted = [
        [shortened(key, LONGEST), f"{one.expected:,}", f"{one.given:,}", f"{one.right:,}",
         f"{one.f1:.3f}"]
        for key, one in labels
    ]  # fmt: skip
    fields = sorted(system.fields.items(), key=lambda item: item[1])
    shares = [[shortened(key, LONGEST), f"{share:.1%}"] for key, share in fields]
    measures = [[key, f"{value:.3f}"] for key, value in system.measures.items()]
    return [
        *cut(Table([f"label, {name}", "expected", "given", "right", "F1"], counted)),
        *cut(Table([f"field, {name}", "right"], shares)),
        *cut(Table([f"other measures, {name}", "mean"], measures)),
    ]


def cut(table: Table, most: int = MOST_ROWS) -> list[Block]:
    """The first rows of a table, and a word on those that are left out."""
    if len(table.rows) <= most:
        return [table]
    left = f"{len(table.rows) - most:,} more rows are left out."
    return [Table(table.head, table.rows[:most], table.words), Paragraph(left)]


# -- the comparisons ---------------------------------------------------------------------------


def comparisons(report: Report) -> tuple[list[str], list[list[str]]]:
    """Head and rows: one row a comparison; differences in points."""
    head = ["compared", "difference", "95 % interval", "only first right", "only second right"]
    head += ["p", "adjusted p", "smallest shown"]
    return head, [_compared(pair) for pair in report.comparisons]


def _compared(pair: Comparison) -> list[str]:
    known = pair.low is not None and pair.high is not None
    return [
        f"{pair.first} against {pair.second} ({pair.method}, {pair.items:,} items)",
        f"{100 * pair.difference:+.1f}",
        f"{100 * (pair.low or 0):+.1f} to {100 * (pair.high or 0):+.1f}" if known else "unknown",
        f"{pair.only_first:,}",
        f"{pair.only_second:,}",
        f"{pair.p_value:.3g}",
        "" if pair.p_adjusted is None else f"{pair.p_adjusted:.3g}",
        _smallest(pair),
    ]


def _smallest(pair: Comparison) -> str:
    if pair.detectable is None:
        return ""
    return "none" if pair.detectable >= 1 else f"{100 * pair.detectable:.1f}"


def in_words(pair: Comparison) -> str:
    """One comparison as a sentence."""
    p, name = (pair.p_value, "p") if pair.p_adjusted is None else (pair.p_adjusted, "adjusted p")
    points = 100 * abs(pair.difference)
    side = "above" if pair.difference > 0 else "below"
    said = f"{pair.first} is {points:.1f} points {side} {pair.second}"
    if pair.difference == 0:
        said = f"{pair.first} and {pair.second} score the same"
    if pair.low is not None and pair.high is not None:
        said += f" (95 % interval {100 * pair.low:+.1f} to {100 * pair.high:+.1f})"
    why = "chance does not explain that" if p < CHANCE else "that may be chance"
    sure = f"{name} < 0.0001" if p < 1e-4 else f"{name} = {p:.3g}"
    return f"{said}; {why} ({sure})." if pair.difference else f"{said} ({sure})."


def differences(report: Report) -> Plot:
    """The differences with their intervals around zero, in points."""
    drawn = [
        Interval(
            f"{pair.first} - {pair.second}",
            100 * pair.difference,
            100 * pair.low,
            100 * pair.high,
            f"{100 * pair.difference:+.1f} ({100 * pair.low:+.1f} to {100 * pair.high:+.1f})",
        )
        for pair in report.comparisons
        if pair.low is not None and pair.high is not None
    ]
    widest = max([1.0, *(max(abs(one.low), abs(one.high)) for one in drawn)])
    end = next(end for end in (2, 5, 10, 20, 50, 100) if end >= min(widest, 100))
    ticks = [
        (place, f"{place:+g}" if place else "0") for place in (-end, -end / 2, 0, end / 2, end)
    ]
    return Plot("Difference in points with its 95 % interval", drawn, ticks)


def gates(report: Report) -> list[str]:
    """Every gate: whether it is met, and why."""
    return [
        f"{one.expression}: {'met' if one.met else 'NOT met'}; {one.why}" for one in report.gates
    ]
