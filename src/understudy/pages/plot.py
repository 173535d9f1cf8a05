"""Intervals as a picture: one line with a point for each, in the colour of the text around it.

Names and numbers stand in it as words, and again in its title and description, for whoever hears
it read. It is inline SVG: nothing is loaded.
"""

from __future__ import annotations

from understudy.pages.document import Interval, Plot, shortened
from understudy.pages.frame import text

WIDTH, LEFT, RIGHT = 760, 210, 510
"""Of the picture, and the edges of its panel, in its own units."""
ROW, TOP, BELOW = 28, 8, 26
LONGEST = 26
"""Characters of a name that fit left of the panel."""


def svg(plot: Plot) -> str:
    """The picture; empty if there is nothing to draw."""
    if not plot.intervals:
        return ""
    bottom = TOP + ROW * len(plot.intervals)
    told = "; ".join(f"{one.name}: {one.told}" for one in plot.intervals)
    axis = "".join(_tick(plot, place, label, bottom) for place, label in plot.ticks)
    rows = "".join(_row(plot, number, one) for number, one in enumerate(plot.intervals))
    return (
        f"<figure><figcaption>{text(plot.title)}</figcaption>\n"
        f'<svg class="plot" role="img" viewBox="0 0 {WIDTH} {bottom + BELOW}" '
        'style="width:100%;max-width:48rem;height:auto" fill="currentColor" '
        'font-family="system-ui, sans-serif" font-size="13">\n'
        f"<title>{text(plot.title)}</title>\n<desc>{text(told)}</desc>\n"
        f"{axis}{rows}</svg></figure>\n"
    )


def _across(plot: Plot, value: float) -> float:
    """Where a value lies; what is beyond the axis lies at its end."""
    first, last = plot.ticks[0][0], plot.ticks[-1][0]
    share = (value - first) / (last - first)
    return LEFT + (RIGHT - LEFT) * min(1.0, max(0.0, share))


def _tick(plot: Plot, place: float, label: str, bottom: int) -> str:
    x = _across(plot, place)
    heavy = ".7" if place == 0 else ".2"
    return (
        f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="currentColor" stroke-opacity="{heavy}"/>'
        f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle" fill-opacity=".75">'
        f"{text(label)}</text>\n"
    )


def _row(plot: Plot, number: int, one: Interval) -> str:
    y = TOP + ROW * number + ROW / 2
    low, high, point = (_across(plot, value) for value in (one.low, one.high, one.value))
    name = one.name if len(one.name) <= LONGEST else f"{one.name[: LONGEST - 1]}…"
    return (
        f'<text x="{LEFT - 14}" y="{y + 4.5}" text-anchor="end">{text(name)}</text>'
        f'<path d="M{low:.1f} {y}H{high:.1f}M{low:.1f} {y - 5}v10M{high:.1f} {y - 5}v10" '
        'stroke="currentColor" stroke-width="2" fill="none"/>'
        f'<circle cx="{point:.1f}" cy="{y}" r="4.5"/>'
        f'<text x="{RIGHT + 14}" y="{y + 4.5}">{text(shortened(one.told, 60))}</text>\n'
    )
