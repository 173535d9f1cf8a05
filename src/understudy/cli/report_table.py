"""A report in a terminal: systems side by side, comparisons, what they rest on, the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from understudy.cli.show import sheet
from understudy.cli.words import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from understudy.report import Comparison, Report


def report_json(report: Report) -> dict[str, Any]:
    """The report in the documented shape."""
    from understudy.evaluate import as_json

    return as_json(report)


def report_table(report: Report) -> RenderableType:
    """Systems side by side, the comparisons, what the numbers rest on, the verdict."""
    from understudy.pages.about_report import gates, systems
    from understudy.pages.judge_words import judge_lines

    head, rows = systems(report)
    table = sheet(*head, right=head[1:])
    for row in rows:
        table.add_row(*map(printable, row))
    lines = [
        *map(_compared, report.comparisons),
        *(f"{name}: {text}" for name, text in _details(report).items()),
        *report.notes,
        *(judge_lines(report.judge) if report.judge else ()),
        f"pays off  {report.break_even.why}" if report.break_even else "",
        *(f"gate      {line}" for line in gates(report)),
    ]
    top = f"{report.items:,} test items, {report.metric}"
    return Group(top, table, *map(_text, filter(None, lines)), "", _text(report.verdict))


def _compared(pair: Comparison) -> str:
    ends = "" if pair.low is None else f" (95 % interval {pair.low:+.1%} to {pair.high:+.1%})"
    adjusted = "" if pair.p_adjusted is None else f", adjusted {pair.p_adjusted:.3g}"
    return (
        f"{pair.first} against {pair.second}: {pair.difference:+.1%}{ends}; "
        f"only {pair.first} right {pair.only_first}, only {pair.second} {pair.only_second}, "
        f"{pair.method} p = {pair.p_value:.3g}{adjusted}"
    )


def _details(report: Report) -> dict[str, str]:
    """Of the student (or whoever stands for it): fields, the worst labels, other measures."""
    order = ("student", "few-shot", "base", "teacher")
    name = next((one for one in order if one in report.systems), "")
    if not name:
        return {}
    system = report.systems[name]
    worst = sorted(system.labels.items(), key=lambda item: item[1].f1)[:5]
    found = {
        f"fields of {name}": ", ".join(
            f"{key} {share:.1%}" for key, share in system.fields.items()
        ),
        f"labels of {name}": ", ".join(
            f"{key} F1 {count.f1:.2f} ({count.right} of {count.expected})" for key, count in worst
        ),
        f"also, {name}": ", ".join(f"{key} {value:.3f}" for key, value in system.measures.items()),
    }
    return {key: text for key, text in found.items() if text}


def _text(line: str) -> Text:
    return Text(printable(line))
