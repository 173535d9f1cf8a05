"""What a training says, in words: a bar that knows the last score, lines that drive no terminal."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.cli.progress import _Nothing
from understudy.cli.words import line, printable
from understudy.run import Event

STEP = {"step": 9, "steps": 24, "loss": 1.5, "tokens_per_s": 783.6, "peak_memory_mb": 569.4}


def evaluation(score: float, *samples: dict[str, Any]) -> Event:
    data = {"step": 8, "steps": 24, "loss": 2.0, "score": score, "rows": 64, "metric": "F1"}
    return Event("train.evaluation", {**data, "samples": list(samples)})


def test_the_bar_has_the_last_score_beside_a_step() -> None:
    """Before an evaluation there is none; behind one it stays until the next training starts."""
    shown = _Nothing()
    before = shown.bar(Event("train.step", STEP))
    assert before is not None
    assert before[:3] == ("train", 9, 24)
    assert before.beside == "loss 1.500, 784 tokens/s, 569 MB"
    shown.bar(evaluation(0.45))
    after = shown.bar(Event("train.step", {**STEP, "seconds_left": 30}))
    assert after is not None
    assert after.beside == "loss 1.500, score 45%, 784 tokens/s, 569 MB, 30 s left"
    shown.bar(Event("train.start", {"run": 2, "student": "tiny", "why": ["", ""]}))
    again = shown.bar(Event("train.step", STEP))
    assert again == before


def test_a_step_without_a_finite_loss_still_has_a_bar() -> None:
    """A number that was not finite comes as null; what is not known is left out."""
    state = _Nothing().bar(Event("train.step", {"step": 1, "steps": 2, "loss": None}))
    assert state is not None
    assert state.beside == ""


@given(st.text(), st.text(), st.text(), st.booleans())
def test_samples_are_one_line_each(asked: str, expected: str, answer: str, right: bool) -> None:
    """Whatever strangers wrote, an evaluation with one sample is two lines of bounded length."""
    sample = {"input": asked, "expected": expected, "answer": answer, "right": right}
    lines = printable(line(evaluation(0.5, sample))).split("\n")
    assert len(lines) == 2
    assert lines[0] == ("train     step 8 of 24: F1 50% of 64 validation rows, loss 2.000")
    assert lines[1].strip().startswith("right:" if right else "wrong:")
    assert len(lines[1]) < 230


@pytest.mark.parametrize("kind", ["fits", "smaller", "system_folded", "forgetting"])
def test_what_a_training_has_to_say_is_said_in_its_words(kind: str) -> None:
    """Events that bring their own sentence are shown with it."""
    assert line(Event(f"train.{kind}", {"text": "a sentence"})) == "train     a sentence"


def test_a_trial_is_told_with_its_settings_and_its_worth() -> None:
    """Which trial of how many, what it tried, what came of it."""
    data = {"trial": 3, "of": 8, "rung": 0.25, "settings": {"lora_rank": 16}, "seconds": 12.0}
    assert line(Event("train.trial", {**data, "score": 0.45, "loss": 1.2})) == (
        "trial     3 of 8, 25% of a training (lora_rank 16): score 45%, loss 1.200 in 12 s"
    )
    assert "it diverged" in line(Event("train.trial", {**data, "score": None, "loss": None}))
