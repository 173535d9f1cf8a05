"""The funnel as one page: every step with its losses, samples of them, and the coverage."""

from __future__ import annotations

from pathlib import Path

from understudy.generate.coverage import OTHER, Coverage, thin
from understudy.pages.frame import framed, text, write
from understudy.project.funnel import Funnel
from understudy.project.funnel_words import MOST_SHOWN, beside, how_many, summary, to_do
from understudy.project.losses import Loss, Sample, Step

_STYLE = """\
.dim, .sample { color: var(--dim); }
.step { margin: 1.2rem 0 .3rem; }
.name { display: flex; flex-wrap: wrap; gap: 0 .8rem; align-items: baseline; }
.name b { font-variant-numeric: tabular-nums; }
.track { height: .9rem; background: var(--line); border-radius: .2rem; }
.part { height: 100%; background: var(--bar); border-radius: .2rem; min-width: 1px; }
.good .part { background: var(--good); }
details { margin: .2rem 0 .2rem 1rem; } summary { cursor: pointer; }
summary b { color: var(--lost); font-weight: 600; }
.sample { margin: .2rem 0 .2rem 1rem; padding-left: .6rem; border-left: 2px solid var(--line);
  font-size: .9rem; white-space: pre-wrap; }
.thin td { color: var(--lost); }
@media print { .track, .part { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""


def write_page(path: Path, funnel: Funnel) -> int:
    """Write the page whole or not at all; its size in bytes.

    Raises UsageError if ``path`` is a link, a folder or a file that is no such page; DiskError.
    """
    return write(path, page(funnel))


def page(funnel: Funnel) -> str:
    """The page as text; it holds no character that UTF-8 cannot carry."""
    widest = max((step.count for step in funnel.steps if step.unit != "calls"), default=0)
    steps = "".join(
        _step(step, step.count if step.unit == "calls" else widest) for step in funnel.steps
    )
    lines = "".join(f"<li>{text(line)}</li>\n" for line in summary(funnel))
    covered = "" if funnel.coverage is None else _coverage(funnel.coverage)
    return framed(
        "From asked to accepted",
        f"<h1>From asked to accepted</h1>\n<p>{text(funnel.description)}</p>\n"
        f"{steps}<h2>What it cost, and what it covers</h2>\n<ul>\n{lines}</ul>\n"
        f"{covered}",
        _STYLE,
    )


def _step(step: Step, whole: int) -> str:
    width = 100 * step.count / whole if whole else 0
    share = "" if step.unit == "calls" else f"<span>{width:.0f} %</span>"
    kind = "step good" if step.name == "accepted" else "step"
    shown = "".join(_loss(step, loss) for loss in step.losses[:MOST_SHOWN])
    if rarer := sum(loss.count for loss in step.losses[MOST_SHOWN:]):
        shown += f'<p class="dim">{rarer:,} for rarer reasons</p>\n'
    return (
        f'<section class="{kind}">\n<div class="name"><span>{text(step.name)}</span>'
        f'<b>{step.count:,}</b>{share}<span class="dim">{text(beside(step))}</span></div>\n'
        f'<div class="track"><div class="part" style="width:{width:.2f}%"></div></div>\n'
        f"{shown}</section>\n"
    )


def _loss(step: Step, loss: Loss) -> str:
    advice = f". {text(to_do(loss))}" if loss.advice else ""
    samples = "".join(_sample(sample) for sample in loss.samples)
    return (
        f"<details><summary><b>&minus;{text(how_many(step, loss))}</b>{advice}</summary>\n"
        f"{samples}</details>\n"
    )


def _sample(sample: Sample) -> str:
    other = f"\n&rarr; {text(sample.other)}" if sample.other else ""
    twin = "" if sample.twin is None else f"\nexample {sample.twin}"
    return f'<div class="sample">{text(sample.input)}{other}{twin}</div>\n'


def _coverage(coverage: Coverage) -> str:
    lean = thin(coverage)
    rows = "".join(
        f"<tr{' class=thin' if row in lean else ''}><td>{text(row.attribute)}</td>"
        f"<td>{text(row.value if row.value != OTHER else '(none of this plan)')}</td>"
        + "".join(
            f'<td class="n">{number:,}</td>'
            for number in (row.wanted, row.made, row.rejected, row.accepted)
        )
        + "</tr>\n"
        for row in coverage.values
    )
    names = "".join(f'<th class="n">{n}</th>' for n in ("wanted", "made", "rejected", "accepted"))
    return (
        "<h2>The plan, value by value</h2>\n<details open><summary>Coverage</summary>\n<table>\n"
        f"<tr><th>attribute</th><th>value</th>{names}</tr>\n{rows}</table>\n</details>\n"
    )
