"""Learning curve, failures and a round of improving, to read in a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from understudy.cli.show import sheet
from understudy.cli.words import printable
from understudy.money import usd

if TYPE_CHECKING:
    from understudy.evaluate.clusters import Cluster
    from understudy.evaluate.flips import Flip
    from understudy.evaluate.slices import Confusion, Slice
    from understudy.project.failing import Failures
    from understudy.project.improving import Improved
    from understudy.project.learning import LearningCurve

WIDEST = 12
"""Labels of a confusion that are shown as a table; of more, only what was confused."""
FLIPS = 5
_TEXT = 60


def curve_table(found: LearningCurve) -> RenderableType:
    """The sizes, what was measured and what the curve says, and the sentence."""
    columns = ("examples", "trainings", "score", "95 % interval", "by the curve")
    table = sheet(*columns, right=columns)
    for size in found.curve.sizes:
        table.add_row(
            f"{size.examples:,}",
            str(size.trainings),
            f"{size.score:.1%}",
            f"{size.low:.1%} to {size.high:.1%}",
            "" if size.fitted is None else f"{size.fitted:.1%}",
        )
    ahead = found.curve.forecast
    notes = []
    if ahead is not None:
        table.add_row(
            f"{ahead.examples:,}", "", "", f"{ahead.low:.1%} to {ahead.high:.1%}",
            f"{ahead.score:.1%}",
        )  # fmt: skip
        notes.append(
            f"Gain: {100 * ahead.gain:.1f} points ({100 * ahead.gain_low:.1f} to "
            f"{100 * ahead.gain_high:.1f})."
        )
        if all(size.trainings == 1 for size in found.curve.sizes):
            notes.append("One training a size: how much trainings differ by chance is not in it.")
    if found.side == "test":
        notes.append("Scored on the test split, which counts as a look at it.")
    head = f"{found.student} on dataset {found.dataset}: {found.curve.items:,} {found.side} items"
    return Group(cell(head), table, cell(found.sentence), *notes)


def failures_table(found: Failures) -> RenderableType:
    """Slices, confusions, clusters with a few misses each, and the sentence."""
    head = f"{found.model} on dataset {found.dataset}: {found.items:,} {found.side} items answered"
    if found.missing:
        head += f", {found.missing:,} missing"
    parts: list[RenderableType] = [head, _slices(found.slices)]
    parts += [_confusion(one) for one in found.confusions]
    parts += [part for cluster in found.clusters for part in _cluster(cluster)]
    parts += ["", cell(found.sentence)]
    if found.side == "test":
        parts.append(
            "These are test items: to choose by them wears the test (--on validation does not)."
        )
    return Group(*parts)


def _slices(slices: Iterable[Slice]) -> RenderableType:
    numbers = ("wrong", "share", "95 % interval", "elsewhere")
    table = sheet("by", "value", *numbers, "", right=numbers)
    for one in slices:
        table.add_row(
            cell(one.by),
            cell(one.value),
            f"{one.wrong}/{one.items}",
            f"{one.share:.0%}",
            f"{one.low:.0%} to {one.high:.0%}",
            "" if one.elsewhere is None else f"{one.elsewhere:.0%}",
            f"worse (p = {one.p_value:.2g})" if one.worse else "",
        )
    return table


def _confusion(found: Confusion) -> RenderableType:
    wrong = sum(
        number
        for row, counts in enumerate(found.counts)
        for column, number in enumerate(counts)
        if row != column
    )
    head = f"{found.of}: {wrong:,} taken for another (rows: right; columns: answered)"
    columns = [str(number + 1) for number in range(len(found.labels))] + ["none"]
    if len(found.labels) > WIDEST:
        pairs = sorted(
            (
                (number, found.labels[row], (*found.labels, "none of them")[column])
                for row, counts in enumerate(found.counts)
                for column, number in enumerate(counts)
                if row != column and number
            ),
            reverse=True,
        )
        lines = [cell(f"  {right} answered as {given}: {n}") for n, right, given in pairs[:WIDEST]]
        return Group("", cell(head), *lines)
    table = sheet("", "", *columns, right=columns)
    for number, (label, counts) in enumerate(zip(found.labels, found.counts, strict=True), 1):
        table.add_row(str(number), cell(label), *(str(count) if count else "" for count in counts))
    return Group("", cell(head), table)


def _cluster(cluster: Cluster) -> list[RenderableType]:
    told = f"{len(cluster.misses)} misses"
    if cluster.items is not None and cluster.p_value is not None:
        told += f"; {cluster.wrong} of {cluster.items} are wrong there, p = {cluster.p_value:.2g}"
    lines: list[RenderableType] = ["", cell(f"{cluster.name}: {told}")]
    for case in cluster.misses[:3]:
        asked, answer = _short(case.example.input), _short(case.answer) or "(nothing)"
        lines.append(cell(f"  {asked} -> {answer}, expected {_short(case.example.answer)}"))
    return lines


def improved_table(found: Improved) -> RenderableType:
    """Where it was aimed, what flipped, the sentence and the new verdict."""
    aims = sheet("new examples of", "asked for", "misses", right=("asked for", "misses"))
    for aim in found.aims:
        values = ", ".join(f"{name} = {value}" for name, value in aim.cell.items())
        aims.add_row(cell(values or "the whole plan"), str(aim.examples), str(aim.misses))
    made = (
        f"{found.made:,} made, {found.accepted:,} accepted, {usd(found.spent_micro)} spent in all"
    )
    return Group(
        f"aimed by the {found.side} misses",
        aims,
        made,
        *_flips("newly right", found.flips.newly_right),
        *_flips("newly wrong", found.flips.newly_wrong),
        "",
        cell(found.sentence),
        cell(found.report.verdict),
    )


def _flips(name: str, flipped: tuple[Flip, ...]) -> list[RenderableType]:
    lines = [
        cell(f"  {flip.example_id}: {_short(flip.before)} -> {_short(flip.now)}")
        for flip in flipped[:FLIPS]
    ]
    more = len(flipped) - FLIPS
    rest: list[RenderableType] = [f"  and {more:,} more"] if more > 0 else []
    return [f"{name}: {len(flipped):,}", *lines, *rest]


def cell(text: str) -> Text:
    """Text of strangers, made harmless."""
    return Text(printable(text))


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _TEXT else f"{flat[: _TEXT - 1]}…"
