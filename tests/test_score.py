"""Grades, the interval and the paired test, against known values and brute force."""

from __future__ import annotations

import json
from math import comb, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.score import (
    canonical,
    exact,
    grade,
    json_fields,
    label,
    normalise,
    normalised,
)
from understudy.statistics import mcnemar_exact, wilson
from understudy.task import OutputField, Spec


def spec(kind: str, **more) -> Spec:
    if kind == "json":
        more["fields"] = (
            OutputField(name="order", type="integer"),
            OutputField(name="wish", type="string"),
        )
    return Spec(title="t", input="i", output="o", kind=kind, system_message="s", **more)


# -- answers -----------------------------------------------------------------------------------


@given(st.text())
def test_normalising_twice_changes_nothing_more(text):
    assert normalise(normalise(text)) == normalise(text)


@given(st.text(min_size=1))
def test_normalising_empties_only_what_holds_nothing_visible(text):
    assert normalise(text) or not text.strip() or not text.isprintable()


@pytest.mark.parametrize(
    "answer",
    [
        "Paris",
        "paris",
        " Paris. ",
        '"Paris"',
        "**Paris**",
        "“Paris”",
        "```\nParis\n```",
        "ｐａｒｉｓ!",
    ],
)
def test_manners_do_not_make_an_answer_wrong(answer):
    assert normalised("Paris", answer)


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("5", "-5"),
        ("5", "$5"),
        ("5", "5 %"),
        ("0.5", ".5"),
        ("C", "C++"),
        ("a b", "ab"),
        ("a", "(a)"),
    ],
)
def test_what_carries_meaning_is_not_stripped(reference, answer):
    assert not normalised(reference, answer)


def test_exact_is_to_the_letter_but_for_blanks_around():
    assert exact("Paris", " Paris\n")
    assert not exact("Paris", "paris")


def test_labels_are_compared_leniently_unless_only_letters_tell_them_apart():
    assert label("refund", "Refund.", ("refund", "return"))
    assert not label("refund", "return", ("refund", "return"))
    assert not label("us", "US", ("us", "US"))
    assert label("US", "US", ("us", "US"))


# -- JSON --------------------------------------------------------------------------------------

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(st.text(), values, max_size=5)


@given(objects, st.randoms())
def test_order_form_and_fences_do_not_matter_in_json(value, chance):
    keys = list(value)
    chance.shuffle(keys)
    shuffled = json.dumps({key: value[key] for key in keys}, indent=2)
    assert json_fields(json.dumps(value), f"```json\n{shuffled}\n```") == 1
    assert canonical(json.dumps(value)) == canonical(shuffled)


@given(objects, objects)
def test_partial_credit_is_symmetric_and_whole_only_if_the_answers_are_the_same(one, other):
    first, second = json.dumps(one), json.dumps(other)
    assert json_fields(first, second) == json_fields(second, first)
    assert 0 <= json_fields(first, second) <= 1
    assert (json_fields(first, second) == 1) == (canonical(first) == canonical(second))


@pytest.mark.parametrize(
    ("answer", "share"),
    [
        ('{"wish": "refund", "order": 7.0}', 1),
        ('{"order": 7, "wish": "Refund"}', 1),
        ('{"order": 7, "wish": "return"}', 1 / 2),
        ('{"order": true, "wish": "refund"}', 1 / 2),
        ('{"order": 7}', 1 / 2),
        ('{"order": 7, "wish": "refund", "more": 1}', 2 / 3),
        ('{"order": "7", "wish": null}', 0),
        ('{"order": 7, "wish": "ref', 0),
        ('{"order": NaN, "wish": "refund"}', 0),
        ("I cannot say", 0),
        ("[7]", 0),
        ("", 0),
        ("[" * 100_000, 0),
        ("[" * 900 + "]" * 900, 0),
        ("9" * 5000, 0),
    ],
)
def test_a_json_answer_earns_the_share_of_equal_fields(answer, share):
    assert json_fields('{"order": 7, "wish": "refund"}', answer) == share


def test_true_is_not_one_and_one_is_one_point_zero():
    assert json_fields('{"a": true}', '{"a": 1}') == 0
    assert json_fields('{"a": 1}', '{"a": 1.0}') == 1
    assert canonical('{"a": [1.0, "X"]}') == canonical('{"a": [1, "x"]}')


# -- grades ------------------------------------------------------------------------------------


def test_the_grade_follows_the_kind_of_the_spec():
    right = '{"order": 7, "wish": "refund"}'
    half = '{"order": 7, "wish": "return"}'
    assert grade(spec("json"), right, half) == (0, False, 0.5)
    assert grade(spec("json"), right, right) == (1, True, 1)
    assert grade(spec("text"), "Paris", "paris.") == (1, False, 1)
    assert grade(spec("label", labels=("us", "US")), "us", "US") == (0, False, 0)
    assert grade(None, "Paris", "Rome") == (0, False, 0)


@given(st.sampled_from(["text", "json", "label"]), st.text(), st.text())
def test_a_reference_is_always_a_right_answer_and_grades_stay_in_range(kind, reference, answer):
    rules = spec(kind, **({"labels": ("a", "b")} if kind == "label" else {}))
    assert grade(rules, reference, reference) == (1, True, 1)
    given_ = grade(rules, reference, answer)
    assert given_.score in (0, 1)
    assert given_.score <= given_.partial <= 1
    assert (given_.partial == 1) == (given_.score == 1)


# -- interval ----------------------------------------------------------------------------------

counts = st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def test_the_interval_equals_statsmodels():
    """proportion_confint(373, 500, method="wilson")."""
    assert wilson(373, 500) == pytest.approx((0.7060690794, 0.7821797450), abs=1e-10)


@given(counts, st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_holds_the_share_and_its_ends_solve_the_score_equation(count, confidence):
    """An end is where the observed share is just z standard errors away (Wilson's definition)."""
    right, n = count
    low, high = wilson(right, n, confidence)
    z = {0.8: 1.2815515655446004, 0.95: 1.959963984540054, 0.99: 2.5758293035489004}[confidence]
    assert 0 <= low <= right / n <= high <= 1
    for end, open_ in ((low, right > 0), (high, right < n)):
        if open_:
            assert abs(right / n - end) == pytest.approx(z * sqrt(end * (1 - end) / n), abs=1e-9)


def test_nothing_observed_bounds_nothing():
    assert wilson(0, 0) == (0, 1)


def test_the_interval_covers_the_truth_95_times_in_100():
    """Exact coverage at n = 40, averaged over true shares from 2 % to 98 %; no simulation."""
    n, truths = 40, [k / 50 for k in range(1, 50)]
    bounds = [wilson(k, n) for k in range(n + 1)]
    covered = [
        sum(
            comb(n, k) * p**k * (1 - p) ** (n - k)
            for k, (low, high) in enumerate(bounds)
            if low <= p <= high
        )
        for p in truths
    ]
    assert 0.94 < sum(covered) / len(covered) < 0.965
    assert min(covered) > 0.88


# -- paired test -------------------------------------------------------------------------------


def test_the_paired_test_equals_statsmodels():
    """mcnemar([[_, 1], [10, _]], exact=True)."""
    assert mcnemar_exact(1, 10) == 0.01171875


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_p_value_is_the_chance_of_a_split_at_least_as_lopsided(b, c):
    n = b + c
    far = sum(comb(n, k) for k in range(n + 1) if abs(2 * k - n) >= abs(b - c))
    assert mcnemar_exact(b, c) == pytest.approx(far / 2**n, rel=1e-12)
    assert mcnemar_exact(b, c) == mcnemar_exact(c, b)


def test_the_paired_test_holds_for_large_counts():
    assert mcnemar_exact(0, 0) == 1
    assert mcnemar_exact(5000, 5000) == 1
    assert mcnemar_exact(0, 20_000) == pytest.approx(0)
    assert 0.31 < mcnemar_exact(5000, 5100) < 0.34
