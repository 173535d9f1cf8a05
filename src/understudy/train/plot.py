"""A picture of a training in its run's folder: loss and score over steps, as one SVG file.

Drawn from the events file alone, whenever the student was evaluated and at the end. A step that
was taken twice, because a training went on from a checkpoint, counts as it went the last time.
Readable on light and on dark ground; every text says what it is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from understudy.train.checkpoint import write_atomically

PLOT = "training.svg"
WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 62, 698, 84, 346
"""Edges of the panel that the curves are drawn in, in pixels of the picture."""
_SMOOTHED_FROM = 60
"""Points from which on a smoothed curve is drawn over the loss of each step."""
_LEAST_LOSS = 0.001
"""Highest value of a loss axis at the least; finer is noise."""
_MARKED_UP_TO = 24
"""Points up to which each is marked."""

Points = list[tuple[int, float]]

_STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #57606a }
  .title { font-size: 16px; font-weight: 600; fill: #1f2328 }
  .panel, .grid { stroke: #d0d7de; stroke-width: 1 }
  path { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round }
  .loss { stroke: #0969da; color: #0969da } .raw { stroke-width: 1; stroke-opacity: .35 }
  .validation { stroke: #bc4c00; color: #bc4c00 } .score { stroke: #1a7f37; color: #1a7f37 }
  circle { fill: currentColor; stroke: none }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117 } text { fill: #9198a1 } .title { fill: #f0f6fc }
    .panel, .grid { stroke: #3d444d }
    .loss { stroke: #58a6ff; color: #58a6ff } .validation { stroke: #f0883e; color: #f0883e }
    .score { stroke: #3fb950; color: #3fb950 }
  }
"""


class Curves(NamedTuple):
    """What a picture shows, each a list of (step, value) in the order of steps."""

    loss: Points
    validation: Points
    score: Points
    steps: int
    """Steps that the whole training has."""
    metric: str
    """What the score is the share of."""


def plot(events_path: Path) -> Path:
    """Draw what an events file tells into ``training.svg`` beside it. Returns its path."""
    path = events_path.with_name(PLOT)
    write_atomically(path, draw(read(events_path), title=f"Training run {path.parent.name}"))
    return path


def read(events_path: Path) -> Curves:
    """The curves that an events file tells of; lines that cannot be read are left out."""
    loss: dict[int, float] = {}
    validation: dict[int, float] = {}
    score: dict[int, float] = {}
    steps, metric = 1, ""
    for kind, data in _events(events_path):
        steps = max(steps, data.get("steps") or 0)
        if kind == "train.step":
            _note(loss, data, "loss")
        elif kind == "train.evaluation":
            _note(validation, data, "loss")
            _note(score, data, "score")
            metric = data.get("metric") or metric
    last = max([steps, *loss, *validation])
    return Curves(
        sorted(loss.items()), sorted(validation.items()), sorted(score.items()), last, metric
    )


def _events(path: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    for line in path.read_bytes().splitlines():
        try:
            event = json.loads(line)
            yield event["kind"], event["data"]
        except (ValueError, KeyError, TypeError):
            continue  # still being written


def _note(values: dict[int, float], data: dict[str, Any], name: str) -> None:
    """Take the value of a step, and drop what a training had reached that began again before it."""
    step, value = data.get("step"), data.get(name)
    if step is None or value is None:
        return
    for later in [known for known in values if known >= step]:
        del values[later]
    values[step] = value


def draw(curves: Curves, *, title: str) -> str:
    """The picture, as SVG. Losses are read on the left axis, the score on the right one."""
    across = _scale(0 if curves.steps > 1 else 0.5, max(curves.steps, 1.5), LEFT, RIGHT)
    losses = [value for _, value in [*curves.loss, *curves.validation]]
    ticks = nice_ticks(0, max(_LEAST_LOSS, *losses) if losses else 1)
    up = _scale(0, ticks[-1], BOTTOM, TOP)
    share = _scale(0, 1, BOTTOM, TOP)
    parts = [
        f'<text class="title" x="{LEFT}" y="30">{escape(title)}</text>',
        *_legend(curves),
        *_left_axis(ticks, up),
        *_bottom_axis(curves.steps, across),
        *(_right_axis(share, curves.metric) if curves.score else []),
        f'<path class="panel" d="M{LEFT} {TOP}H{RIGHT}V{BOTTOM}H{LEFT}Z"/>',
        *_loss(curves.loss, across, up),
        _curve("validation", curves.validation, across, up),
        _curve("score", curves.score, across, share),
    ]
    if not losses:
        parts.append(_text((LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2, "no step was taken yet"))
    body = "\n".join(part for part in parts if part)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n{body}\n</svg>\n"
    )


Scale = Callable[[float], float]


def _scale(low: float, high: float, start: float, end: float) -> Scale:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def nice_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round numbers from ``low`` or below to ``high`` or above: steps of 1, 2 or 5 times 10^n."""
    rough = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(by * power for by in (1, 2, 5, 10) if by * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def smooth(points: Points) -> Points:
    """A centred moving average over a fifteenth of the points; shorter at both ends."""
    half = max(1, len(points) // 30)
    smoothed = []
    for at, (step, _) in enumerate(points):
        reach = min(half, at, len(points) - 1 - at)
        near = points[at - reach : at + reach + 1]
        smoothed.append((step, sum(value for _, value in near) / len(near)))
    return smoothed


def _loss(points: Points, across: Scale, up: Scale) -> list[str]:
    if len(points) < _SMOOTHED_FROM:
        return [_curve("loss", points, across, up)]
    return [
        _curve("loss raw", points, across, up, marks=False),
        _curve("loss", smooth(points), across, up, marks=False),
    ]


def _curve(name: str, points: Points, across: Scale, up: Scale, *, marks: bool = True) -> str:
    """A line through the points, each marked if they are few."""
    at = [(f"{across(step):.1f}", f"{up(value):.1f}") for step, value in points]
    line = "M" + "L".join(f"{x} {y}" for x, y in at) if len(at) > 1 else ""
    dots = at if marks and len(at) <= _MARKED_UP_TO else []
    circles = "".join(f'<circle cx="{x}" cy="{y}" r="3"/>' for x, y in dots)
    path = f'<path d="{line}"/>' if line else ""
    return f'<g class="{name}">{path}{circles}</g>' if path or circles else ""


def _legend(curves: Curves) -> list[str]:
    """What each colour means and where its curve ended, in one line of words."""
    entries = [
        ("loss", "training loss", curves.loss, ".3f"),
        ("validation", "validation loss", curves.validation, ".3f"),
        ("score", "validation score", curves.score, ".0%"),
    ]
    parts, x = [], float(LEFT)
    for name, words, points, form in entries:
        if points:
            text = f"{words}, ends at {points[-1][1]:{form}}"
            parts.append(f'<circle class="{name}" cx="{x + 5:.0f}" cy="54" r="5"/>')
            parts.append(_text(x + 16, 58, text, anchor="start"))
            x += 34 + 6.3 * len(text)
    return parts


def _left_axis(ticks: Sequence[float], up: Scale) -> list[str]:
    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0])))
    parts = []
    for tick in ticks:
        y = up(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{tick:.{digits}f}", anchor="end"))
    return [*parts, _sideways(18, "loss (nats a token)")]


def _right_axis(share: Scale, metric: str) -> list[str]:
    marks = (0, 0.25, 0.5, 0.75, 1)
    labels = [_text(RIGHT + 8, share(at) + 4, f"{at:.0%}", anchor="start") for at in marks]
    return [*labels, _sideways(WIDTH - 10, f"score ({metric or 'share right'})")]


def _bottom_axis(steps: int, across: Scale) -> list[str]:
    ticks = nice_ticks(0, steps, most=9) if steps > 1 else [1]
    whole = [round(tick) for tick in ticks if tick <= steps and tick == round(tick)]
    labels = [_text(across(tick), BOTTOM + 20, f"{tick:,}") for tick in whole]
    return [*labels, _text((LEFT + RIGHT) / 2, BOTTOM + 42, "optimizer steps")]


def _text(x: float, y: float, text: str, *, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _sideways(x: float, text: str) -> str:
    y = (TOP + BOTTOM) / 2
    return (
        f'<text text-anchor="middle" transform="translate({x:.0f} {y:.0f}) rotate(-90)">'
        f"{escape(text)}</text>"
    )
