"""The picture of a training: drawn from its events alone, whatever they are."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.train.plot import BOTTOM, LEFT, RIGHT, TOP, draw, nice_ticks, plot, read

NUMBER = st.floats(0, 1e4) | st.none()
EVENT = st.builds(
    lambda kind, step, loss, score: {
        "kind": kind,
        "data": {"step": step, "steps": 300, "loss": loss, "score": score, "metric": "F1 <&>"},
    },
    st.sampled_from(["train.step", "train.evaluation", "train.done"]),
    st.integers(0, 300),
    NUMBER,
    st.floats(0, 1) | st.none(),
)


def write(folder: Path, events: list[dict[str, Any]], torn: str = "") -> Path:
    path = folder / "events.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events) + torn)
    return path


def step(number: int, loss: float | None) -> dict[str, Any]:
    return {"kind": "train.step", "data": {"step": number, "steps": 8, "loss": loss}}


@given(st.lists(EVENT, max_size=90), st.sampled_from(["", '{"kind": "train.st', "[1, 2]\n"]))
def test_every_events_file_gives_a_picture_within_its_frame(
    events: list[dict[str, Any]], torn: str
) -> None:
    """Whatever was said, in whatever order: well-formed SVG, every mark inside the panel."""
    with tempfile.TemporaryDirectory() as folder:
        path = plot(write(Path(folder), events, torn))
        picture = ET.parse(path)  # noqa: S314  our own
    for circle in picture.iter("{http://www.w3.org/2000/svg}circle"):
        if circle.get("r") == "3":
            assert LEFT <= float(circle.get("cx", "")) <= RIGHT
            assert TOP - 0.1 <= float(circle.get("cy", "")) <= BOTTOM + 0.1
    words = " ".join(picture.getroot().itertext())
    assert "nan" not in words
    assert "optimizer steps" in words


def test_steps_taken_twice_count_as_they_went_the_last_time(tmp_path: Path) -> None:
    """What a killed training had reached beyond its checkpoint is not drawn; gaps are bridged."""
    events = [step(1, 4), step(2, 3), step(3, None), step(4, 9), step(2, 2.5), step(5, 1)]
    curves = read(write(tmp_path, events))
    assert curves.loss == [(1, 4), (2, 2.5), (5, 1)]
    assert curves.steps == 8


def test_the_picture_says_what_it_shows(tmp_path: Path) -> None:
    """Title, axes with their units, each curve by name with its last value; dark ground too."""
    evaluation = {"step": 2, "steps": 8, "loss": 2.0, "score": 0.5, "metric": "F1 <&>"}
    events = [step(1, 4), step(2, 3), {"kind": "train.evaluation", "data": evaluation}]
    picture = plot(write(tmp_path, events)).read_text()
    for words in (
        f"Training run {tmp_path.name}",
        "loss (nats a token)",
        "optimizer steps",
        "training loss, ends at 3.000",
        "validation loss, ends at 2.000",
        "validation score, ends at 50%",
        "score (F1 &lt;&amp;&gt;)",
        "prefers-color-scheme: dark",
    ):
        assert words in picture, words


def test_many_steps_are_drawn_smoothed_over_their_raw_curve(tmp_path: Path) -> None:
    """Five hundred noisy steps give a calmer curve over the raw one, and no marks."""
    curves = read(write(tmp_path, [step(n, 2 + (n % 2)) for n in range(1, 501)]))
    picture = ET.fromstring(draw(curves, title="500"))  # noqa: S314  our own
    groups = {g.get("class"): g for g in picture.iter("{http://www.w3.org/2000/svg}g")}
    assert groups.keys() == {"loss raw", "loss"}
    heights = {
        name: [float(point.split()[1]) for point in group[0].get("d", "")[1:].split("L")]
        for name, group in groups.items()
    }
    middle = slice(100, 400)
    assert len(heights["loss"]) == 500
    calm, raw = (
        max(heights[name][middle]) - min(heights[name][middle]) for name in ("loss", "loss raw")
    )
    assert calm < raw / 4


@given(st.floats(0, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_and_span_what_is_drawn(low: float, spread: float) -> None:
    """Two to eight equal steps of 1, 2 or 5 times a power of ten around the values."""
    if spread < low * 1e-6:
        return
    ticks = nice_ticks(low, low + spread)
    size = ticks[1] - ticks[0]
    assert ticks[0] <= low + size * 1e-6
    assert ticks[-1] >= low + spread - size * 1e-6
    assert 2 <= len(ticks) <= 9
    assert float(f"{size:.6e}"[0]) in {1, 2, 5} or f"{size:.3e}"[:5] in {"9.999", "1.000"}


def test_a_picture_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    """The error is the system's own, for the caller to pass over."""
    with pytest.raises(FileNotFoundError):
        plot(tmp_path / "nowhere" / "events.jsonl")
