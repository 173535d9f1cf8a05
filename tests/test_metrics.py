"""Metrics by name, the user's own function, chrF against sacreBLEU, details of an answer."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import CHRF

from understudy.errors import UsageError
from understudy.score import Tolerance, chrf, detail, metric, number
from understudy.task import OutputField, Spec

TEXT = Spec(title="t", input="i", output="o", kind="text", system_message="s")
LABEL = TEXT.model_copy(update={"kind": "label", "labels": ("refund", "return", "other")})
JSON = TEXT.model_copy(
    update={
        "kind": "json",
        "fields": (OutputField(name="a", type="number"), OutputField(name="b", type="string")),
    }
)
words = st.text(st.sampled_from("abc dé\n好"), max_size=30)


@given(words, words)
def test_chrf_is_that_of_sacrebleu(reference, answer):
    theirs = CHRF(eps_smoothing=False).sentence_score(answer, [reference]).score / 100
    assert chrf(reference, answer) == pytest.approx(theirs, rel=1e-9, abs=1e-9)


def test_chrf_is_whole_for_the_same_and_nothing_for_nothing():
    assert chrf("the cat sat", "the  cat\nsat") == 1
    assert chrf("the cat", "") == chrf("", "the cat") == chrf("", "") == 0
    assert 0 < chrf("the cat sat on the mat", "a cat sat on a mat") < 1


@pytest.mark.parametrize(
    ("name", "reference", "answer", "score"),
    [
        ("exact", "Paris", " Paris\n", 1),
        ("exact", "Paris", "paris", 0),
        ("normalised", "Paris", "paris.", 1),
        ("number", "1234.5", "about 1,234.5 euros", 1),
        ("number", "0.3", "0.30000000000000004", 1),
        ("number", "5", "-5", 0),
        ("number", "5", "5 or 6", 0),
        ("number", "none", "None.", 1),
        ("number:0.1", "2", "2.1", 1),
        ("number:0.1", "2", "2.11", 0),
        ("number:1%", "200", "202", 1),
        ("number:1%", "200", "202.1", 0),
        ("regex:[A-Z]{2}\\d+", "whatever", "AB12", 1),
        ("regex:[A-Z]{2}\\d+", "whatever", "xAB12", 0),
        ("spec", "whatever", "anything", 1),
    ],
)
def test_a_metric_judges_as_its_name_says(name, reference, answer, score):
    found = metric(name, TEXT)(reference, answer)
    assert (found.score, found.partial) == (score, score)


def test_json_is_judged_whole_by_fields_and_within_a_tolerance():
    wanted, given_ = json.dumps({"a": 100, "b": "x"}), json.dumps({"a": 101, "b": "X"})
    assert metric(None, JSON)(wanted, given_)[::2] == (0, 0.5)
    assert metric("fields", JSON)(wanted, given_).partial == 0.5
    assert metric("fields", JSON).graded
    assert metric("number:1%", JSON)(wanted, given_).score == 1
    assert metric("number:0.5", JSON)(wanted, given_).score == 0
    true = json.dumps({"a": True, "b": "x"})
    assert metric("number:1", JSON)(json.dumps({"a": 1, "b": "x"}), true).score == 0


def test_spec_checks_need_no_reference():
    checked = metric("spec", LABEL)
    assert checked("nonsense", "refund").score == 1
    assert checked("refund", "I would say refund").score == 0


def test_a_function_of_the_user_is_a_graded_metric():
    def closeness(reference: str, answer: str) -> float:
        return 1 - abs(len(reference) - len(answer)) / 10

    found = metric(closeness, TEXT)
    assert (found.name, found.graded) == ("closeness", True)
    assert found("abcd", "ab").partial == pytest.approx(0.8)
    assert metric(lambda one, two: one == two, TEXT)("a", "a").score == 1


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda one, _: float(one), "failed: ValueError"),
        (lambda *_: 7, "gave 7"),
        (lambda *_: float("nan"), "gave nan"),
        (lambda one: 1, "failed: TypeError"),
        (lambda *_: None, "failed: TypeError"),
    ],
)
def test_a_function_that_gives_no_share_is_said(function, said):
    with pytest.raises(UsageError, match=said):
        metric(function, TEXT)("a", "b")


@pytest.mark.parametrize(
    ("name", "spec", "said"),
    [
        ("bleu", TEXT, "no metric bleu"),
        ("exact:1", TEXT, "no metric exact:1"),
        ("label", TEXT, "needs answers of kind label"),
        ("fields", LABEL, "needs answers of kind json"),
        ("number:x", TEXT, "no tolerance"),
        ("number:-1", TEXT, "no tolerance"),
        ("number:nan", TEXT, "no tolerance"),
        ("regex:(", TEXT, "no regular expression"),
    ],
)
def test_a_metric_that_makes_no_sense_is_refused(name, spec, said):
    with pytest.raises(UsageError, match=said):
        metric(name, spec)


@given(st.floats(-1e6, 1e6), st.floats(0, 10))
def test_a_number_is_within_its_own_tolerance_and_not_far_beyond(wanted, size):
    assert Tolerance(size, relative=False).holds(wanted, wanted + size)
    assert not Tolerance(size, relative=False).holds(wanted, wanted + 1.001 * size + 0.001)
    assert number(repr(wanted), repr(wanted), Tolerance())


def test_the_details_are_those_of_the_kind():
    assert detail(LABEL, "refund", "Refund.")[1:3] == ("refund", "refund")
    assert detail(LABEL, "refund", "money back")[1:3] == ("refund", "")
    both = detail(JSON, '{"a": 1, "b": "x"}', '{"a": 1.0, "c": 2}').fields
    assert both == {"a": True, "b": False}
    assert detail(JSON, '{"a": 1, "b": "x"}', "no JSON").fields == {"a": False, "b": False}
    assert detail(TEXT, "yes", "yes").measures == {"chrF": 1}
