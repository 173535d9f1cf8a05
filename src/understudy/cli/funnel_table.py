"""The funnel, and the coverage of the plan, as a terminal shows them."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from understudy.cli.words import printable
from understudy.generate.coverage import OTHER, thin
from understudy.project.funnel_words import MOST_SHOWN, beside, how_many, in_words, summary, to_do

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from understudy.generate.coverage import Coverage, ValueRow
    from understudy.project.funnel import Funnel
    from understudy.project.losses import Loss, Step

_BAR = 24
"""Columns of a whole bar."""
_NAME = 18
_LOSS = 4
"""Columns that a loss stands in from its step."""


def funnel_table(funnel: Funnel, here: str) -> RenderableType:
    """Steps with bars, losses under their step, what it cost. ``here`` says which project."""
    parts: list[RenderableType] = [_text(f"From asked to accepted: {funnel.description}"), ""]
    widest = max((step.count for step in funnel.steps if step.unit != "calls"), default=0)
    for step in funnel.steps:
        parts.append(_step(step, step.count if step.unit == "calls" else widest))
        for loss in step.losses[:MOST_SHOWN]:
            parts += _loss(step, loss)
        if rarer := sum(loss.count for loss in step.losses[MOST_SHOWN:]):
            parts.append(_in(_LOSS, f"-{rarer:,} for rarer reasons; --json has them all"))
    parts += ["", *(_in(0, line) for line in summary(funnel)), ""]
    if funnel.coverage is not None and thin(funnel.coverage):
        parts.append(_text(f"Next: understudy coverage{here} shows what is thin"))
    elif not funnel.accepted:
        parts.append(_text(f"Next: understudy generate N{here}"))
    return Group(*parts)


def _step(step: Step, whole: int) -> Text:
    line = Text()
    line.append(f"{step.name:<{_NAME}}{step.count:>9,}  ", style="bold")
    line.append(bar(step.count, whole), style="green" if step.name == "accepted" else "cyan")
    share = "" if step.unit == "calls" or not whole else f" {step.count / whole:>4.0%}"
    line.append(share, style="bold")
    line.append(f"  {beside(step)}".rstrip(), style="dim")
    return line


def _loss(step: Step, loss: Loss) -> list[RenderableType]:
    told = Text()
    told.append(f"-{printable(how_many(step, loss))}", style="yellow")
    if loss.advice:
        told.append(f". {to_do(loss)}")
    shown: list[RenderableType] = [Padding(told, (0, 0, 0, _LOSS))]
    shown += [_in(_LOSS + 4, in_words(sample), "dim") for sample in loss.samples]
    return shown


def bar(part: int, whole: int) -> str:
    """A bar of BAR columns; the smallest part that is there is seen."""
    full = min(_BAR, max(round(_BAR * part / whole), part > 0)) if whole else 0
    return "█" * full + "░" * (_BAR - full)


def coverage_table(coverage: Coverage, here: str, width: int) -> RenderableType:
    """Every value: wanted, made, rejected, accepted; the thin ones marked, and what fills them.

    In fewer than ``width`` columns, if need be without the bars.
    """
    lean = thin(coverage)
    table = _values(coverage, lean, bars=True)
    if Console(width=1000).measure(table).maximum > width:
        table = _values(coverage, lean, bars=False)
    shown, possible = coverage.pairs_covered
    different = sum(bool(row.cell) for row in coverage.cells)
    told = f"{shown:,} of {possible:,} possible pairs of values, in {different:,} different cells"
    parts: list[RenderableType] = [table, "", told]
    if lean:
        parts += [
            _text(f"fill what is thin: {fill_command(coverage, here)}"),
            _text(f"one value alone:   {cell_command(lean[0], here)}"),
        ]
    return Group(*parts)


def _values(coverage: Coverage, lean: Sequence[ValueRow], *, bars: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("Attribute", "Value"):
        table.add_column(column, overflow="fold")
    for column in ("wanted", "made", "rejected", "accepted"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    before = ""
    for row in coverage.values:
        name = row.attribute if row.attribute != before else ""
        before = row.attribute
        counts = (f"{n:,}" for n in (row.wanted, row.made, row.rejected, row.accepted))
        meter = f"{bar(row.accepted, max(row.wanted, 1))} " if bars else ""
        last = Text(f"{meter}thin" if row in lean else meter, "yellow" if row in lean else "cyan")
        value = row.value if row.value != OTHER else "(none of this plan)"
        table.add_row(_text(name), _text(value), *counts, last)
    return table


def coverage_json(coverage: Coverage, here: str) -> dict[str, Any]:
    """Values, cells and pairs; the thin values with the commands that fill them."""
    lean = thin(coverage)
    return {
        "values": [asdict(row) | {"thin": row in lean} for row in coverage.values],
        "cells": [asdict(row) for row in coverage.cells],
        "pairs_covered": coverage.pairs_covered[0],
        "pairs": coverage.pairs_covered[1],
        "fill": fill_command(coverage, here) if lean else None,
        "thin": [
            {"attribute": row.attribute, "value": row.value, "command": cell_command(row, here)}
            for row in lean
        ],
    }


def fill_command(coverage: Coverage, here: str) -> str:
    """The command that makes what the thin cells lack."""
    wanted = Counter[str]()
    for row in coverage.values:  # what is there already of other values stays
        wanted[row.attribute] += max(row.wanted, row.accepted)
    return f"understudy generate {max(wanted.values(), default=0)} --fill{here}"


def cell_command(row: ValueRow, here: str) -> str:
    """The command that makes what one value lacks."""
    number = row.made + row.wanted - row.accepted
    cell = shlex.quote(f"{row.attribute}={row.value}")
    return f"understudy generate {number} --cell {cell}{here}"


def _in(columns: int, text: str, style: str = "") -> RenderableType:
    return Padding(Text(printable(text), style=style), (0, 0, 0, columns))


def _text(text: str) -> Text:
    return Text(printable(text))
