"""Gates: what they mean, that chance does not pass, and what they say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.errors import UsageError
from understudy.evaluate import Context, parse, summarise
from understudy.report import Gate, Outcome

SYSTEMS = ("teacher", "base", "few-shot", "student", "openai:gpt-4.1", "run:3")


@pytest.mark.parametrize(
    ("expression", "first", "sign", "second", "offset"),
    [
        ("student >= teacher - 0.02", "student", ">=", "teacher", -0.02),
        ("student>=teacher-0.02", "student", ">=", "teacher", -0.02),
        ("student >= teacher - 2%", "student", ">=", "teacher", -0.02),
        ("  student  >  few-shot+.05 ", "student", ">", "few-shot", 0.05),
        ("few-shot <= student", "few-shot", "<=", "student", 0),
        ("student >= 0.9", "student", ">=", "", 0.9),
        ("student > 90%", "student", ">", "", 0.9),
        ("base < .5", "base", "<", "", 0.5),
        ("student >= openai:gpt-4.1", "student", ">=", "openai:gpt-4.1", 0),
        ("student >= openai:gpt-4.1 - 0.1", "student", ">=", "openai:gpt-4.1", -0.1),
        ("run:3 >= student", "run:3", ">=", "student", 0),
    ],
)
def test_a_condition_is_read(expression, first, sign, second, offset):
    found = parse(expression, SYSTEMS)
    assert found[1:4] == (first, sign, second)
    assert found.offset == pytest.approx(offset)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "no condition"),
        ("student", "no condition"),
        ("student >= ", "no condition"),
        ("student = teacher", "no condition"),
        ("student >= teacher - much", "not evaluated"),
        ("judge >= 0.5", "names judge, which is not evaluated"),
        ("student >= run:4", "names run:4"),
        ("student >= student", "with itself"),
    ],
)
def test_what_is_no_condition_is_said_before_anything_is_spent(expression, said):
    with pytest.raises(UsageError, match=said):
        parse(expression, SYSTEMS)


def decided(expression: str, missing: int = 0, **right: int) -> Gate:
    """Of 200 items; the right ones come first."""
    found = [
        Outcome(item, system, "", None if item >= 200 - missing else float(item < count), None)
        for system, count in right.items()
        for item in range(200)
    ]
    context = Context(conditions=[parse(expression, right)])
    return summarise(1, "m", found, dict.fromkeys(right, "x"), context=context).gates[0]


def test_what_may_be_chance_does_not_pass():
    close = decided("student >= teacher - 0.02", student=198, teacher=199)
    assert not close.met
    assert "may be chance" in close.why
    assert decided("student >= teacher - 0.05", student=198, teacher=199).met
    assert not decided("student >= teacher - 0.05", student=170, teacher=199).met
    assert decided("student >= 0.9", student=199).met
    assert not decided("student >= 0.9", student=183).met
    assert decided("student < 0.9", student=150).met


def test_the_reason_gives_figure_interval_and_bound():
    gate = decided("teacher <= student + 10%", student=198, teacher=199)
    assert gate.met
    assert gate.value == pytest.approx(0.005)
    assert gate.low < gate.value < gate.high < 0.1
    assert gate.why.startswith("teacher - student is +0.5 points (95 % interval ")
    assert gate.why.endswith("all of it <= +10.0")


def test_missing_answers_cannot_pass_a_gate():
    gate = decided("student >= 0.5", missing=11, student=180)
    assert (gate.met, gate.value) == (False, None)
    assert "gave no answer to 11 of 200" in gate.why
    assert decided("student >= 0.5", missing=10, student=180).met


@given(st.integers(0, 200), st.integers(0, 200), st.floats(-0.5, 0.5))
def test_a_gate_and_its_opposite_are_never_both_met(student, teacher, offset):
    right = {"student": student, "teacher": teacher}
    sign = f"{'+' if offset >= 0 else '-'} {abs(offset):.3f}"
    met = [decided(f"student {op} teacher {sign}", **right).met for op in (">=", "<")]
    assert sum(met) < 2
    if met[0]:
        assert (student - teacher) / 200 >= round(offset, 3) - 1e-9
