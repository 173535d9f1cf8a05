"""A report in a terminal: systems side by side, comparisons, what they rest on, the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from understudy.cli.show import sheet
from understudy.cli.words import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

    from understudy.report import Comparison, Report, SystemScore


def report_json(report: Report) -> dict[str, Any]:
    """The report in the documented shape."""
    from understudy.evaluate import as_json

    return as_json(report)


def report_table(report: Report) -> RenderableType:
    """Systems side by side, the comparisons, what the numbers rest on, the verdict."""
    from understudy.evaluate.judge_words import judge_lines

    shown = [name for name in ("macro F1", "size") if any(_more(one)[name] for one in _all(report))]
    columns = ("", "right", "score", "95 % interval", "missing", "$ per 1,000", "ms (median)")
    table = sheet(*columns, *shown, right=(*columns[1:], *shown))
    for name, system in report.systems.items():
        price = "unknown" if system.usd_per_1k is None else f"{system.usd_per_1k:.3f}"
        speed = "" if system.latency_ms_p50 is None else f"{system.latency_ms_p50:.1f}"
        answered = system.missing < system.items  # no answer is no score, and not zero
        who = name if name == system.model else f"{name} ({system.model})"
        table.add_row(
            printable(who),
            f"{system.right}/{system.items - system.missing}",
            f"{system.score:.1%}" if answered else "-",
            f"{system.low:.1%} to {system.high:.1%}" if answered else "-",
            str(system.missing),
            price,
            speed,
            *(_more(system)[column] for column in shown),
        )
    head = f"{report.items:,} test items, {report.metric}"
    lines = [
        *map(_compared, report.comparisons),
        *(f"{name}: {text}" for name, text in _details(report).items()),
        *report.notes,
        *(judge_lines(report.judge) if report.judge else ()),
        f"pays off  {report.break_even.why}" if report.break_even else "",
        *(f"gate      {one.expression}: {_met(one.met)}; {one.why}" for one in report.gates),
    ]
    return Group(head, table, *map(_text, filter(None, lines)), "", _text(report.verdict))


def _all(report: Report) -> list[SystemScore]:
    return list(report.systems.values())


def _more(system: SystemScore) -> dict[str, str]:
    """Columns that not every report has; empty where there is nothing to say."""
    size = "" if system.size_bytes is None else f"{system.size_bytes / 1e6:,.1f} MB"
    f1 = "" if system.macro_f1 is None else f"{system.macro_f1:.3f}"
    return {"macro F1": f1, "size": size}


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


def _met(met: bool) -> str:  # noqa: FBT001
    return "met" if met else "NOT met"


def _text(line: str) -> Text:
    return Text(printable(line))
