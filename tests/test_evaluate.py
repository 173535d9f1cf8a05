"""Evaluation: who is asked what, what comes of failures, the sums, and the sentence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.errors import BudgetReached, ProviderRefused, UsageError
from understudy.evaluate import Context, as_json, evaluate, parse, shots, summarise
from understudy.evaluate.break_even import break_even
from understudy.example import Example, Message
from understudy.models.protocol import CallFailed, NotServed, Reply, Request
from understudy.report import BreakEven, Outcome, Report, from_stored
from understudy.score import detail, metric
from understudy.statistics import holm, mcnemar_exact, wilson
from understudy.task import OutputField, Spec

TEXT = Spec(title="t", input="i", output="o", kind="text", system_message="s")
JSON = TEXT.model_copy(
    update={
        "kind": "json",
        "fields": (OutputField(name="a", type="integer"), OutputField(name="b", type="integer")),
    }
)


def items(n: int, answer: str = "yes") -> list[Example]:
    return [Example((Message("user", f"question {k}"),), answer, id=k) for k in range(1, n + 1)]


class Fake:
    """A model that answers by a function, and keeps what it was asked."""

    name = "fake"

    def __init__(self, answer: Callable[[str], str | Exception] = lambda _: "yes", **reply) -> None:
        self.answer, self.reply = answer, reply
        self.asked: list[Request] = []
        self.flying = self.most = 0

    async def complete(self, request: Request) -> Reply:
        self.asked.append(request)
        self.flying += 1
        self.most = max(self.most, self.flying)
        await asyncio.sleep(0)
        self.flying -= 1
        answer = self.answer(request.messages[-1].content)
        if isinstance(answer, Exception):
            raise answer
        return Reply(answer, **self.reply)


def paid(answer: Callable[[str], str | Exception] = lambda _: "yes", **reply) -> Fake:
    return Fake(answer, **{"key": "k", "latency_s": 0.25, "cost_micro": 400, **reply})


def outcomes(
    models,
    asked=None,
    spec: Spec | None = TEXT,
    concurrency: int = 8,
    into=None,
    plainly=False,
    **more,
):
    async def gather() -> list[Outcome]:
        found = [] if into is None else into
        stream = evaluate(
            models,
            items(30) if asked is None else asked,
            spec,
            system_message="Be kind.",
            max_tokens=50,
            concurrency=concurrency,
            plainly=plainly,
            **more,
        )
        async with aclosing(stream):
            async for outcome in stream:
                found.append(outcome)
        return found

    return asyncio.run(gather())


# -- asking ------------------------------------------------------------------------------------


def test_every_system_is_asked_every_item_once_and_the_teacher_last():
    models = {"teacher": paid(), "student": Fake(), "base": Fake()}
    found = outcomes(models)
    assert sorted((o.system, o.example_id) for o in found) == sorted(
        (system, n) for system in models for n in range(1, 31)
    )
    assert {o.system for o in found[-30:]} == {"teacher"}


def test_all_are_asked_the_same_messages_but_the_teacher_afresh_and_with_the_schema():
    """Asked as when the data was made, the teacher would agree with itself by definition."""
    models = {"teacher": paid(), "student": Fake(), "base": Fake()}
    outcomes(models, items(3), spec=JSON)
    for model in models.values():
        assert sorted(request.messages for request in model.asked) == [
            (Message("system", "Be kind."), Message("user", f"question {n}")) for n in (1, 2, 3)
        ]
    assert [(r.sample, r.schema) for r in models["teacher"].asked] == [
        (1, JSON.answer_schema())
    ] * 3
    assert [(r.sample, r.schema) for r in models["student"].asked] == [(0, None)] * 3


def test_a_model_that_was_tuned_for_the_task_is_asked_plainly():
    """A schema would be sent otherwise, or stand in the question: it is not used so."""
    teacher = paid()
    outcomes({"teacher": teacher}, items(3), spec=JSON, plainly=True)
    assert [(r.sample, r.schema) for r in teacher.asked] == [(1, None)] * 3


def test_a_model_that_is_not_served_is_missing_and_the_others_are_compared():
    """What it answered before counts; alone it is an error, and other errors stop as ever."""

    def answer(question: str) -> str | Exception:
        return NotServed("gone") if question.endswith(" 4") else "yes"

    teacher = paid(answer)
    found = outcomes({"teacher": teacher, "base": Fake()})
    missing = [o for o in found if o.score is None]
    assert [(o.system, o.example_id, o.note) for o in missing] == [("teacher", 4, "gone")]
    assert sum(o.score == 1 for o in found) == 59
    report = summarise(1, "m", found, {"teacher": "t", "base": "b"})
    assert report.systems["teacher"].why_missing == "gone"
    with pytest.raises(NotServed):
        outcomes({"teacher": paid(answer)})
    with pytest.raises(ProviderRefused):
        outcomes({"teacher": paid(lambda _: ProviderRefused("key")), "base": Fake()})


def test_an_item_that_brought_a_system_message_is_asked_under_it():
    own = Example((Message("system", "Be brief."), Message("user", "q")), "yes", id=1)
    model = Fake()
    outcomes({"student": model}, [own])
    assert model.asked[0].messages == own.messages


@pytest.mark.parametrize("concurrency", [1, 4])
def test_no_more_calls_are_in_flight_than_allowed(concurrency):
    model = paid()
    outcomes({"teacher": model}, concurrency=concurrency)
    assert model.most == concurrency


def test_answers_are_graded_by_the_kind_of_the_spec():
    (found,) = outcomes(
        {"student": Fake(lambda _: '{"b": 3, "a": 1}')}, items(1, '{"a": 1, "b": 2}'), JSON
    )
    assert (found.score, found.exact, found.note) == (0.5, False, "")


@pytest.mark.parametrize(
    ("reply", "note"),
    [
        ({}, "breaks the spec: not JSON"),
        ({"finish": "length"}, "cut off"),
        ({"refusal": True}, "refusal"),
    ],
)
def test_the_note_says_what_is_wrong_with_an_answer(reply, note):
    (found,) = outcomes(
        {"student": Fake(lambda _: "no", **reply)}, items(1, '{"a": 1, "b": 2}'), JSON
    )
    assert (found.answer, found.score, found.note) == ("no", 0, note)


def test_a_failed_call_is_missing_and_says_why_and_the_others_go_on():
    def answer(question: str) -> str | Exception:
        return CallFailed("no answer within 120 s") if question.endswith("7") else "yes"

    found = outcomes({"teacher": paid(answer)})
    missing = [o for o in found if o.score is None]
    assert sorted(o.example_id for o in missing) == [7, 17, 27]
    assert {(o.answer, o.exact, o.note) for o in missing} == {
        (None, None, "no answer within 120 s")
    }
    assert all(o.score == 1 for o in found if o not in missing)


def test_when_the_budget_is_reached_all_that_came_is_yielded_before_the_error():
    def answer(question: str) -> str | Exception:
        return BudgetReached("budget reached") if question.endswith(" 12") else "yes"

    found: list[Outcome] = []
    teacher = paid(answer)
    with pytest.raises(BudgetReached):
        outcomes({"teacher": teacher, "base": Fake()}, into=found)
    assert sum(o.system == "base" for o in found) == 30
    assert sum(o.system == "teacher" for o in found) == len(teacher.asked) - 1
    assert len(teacher.asked) < 30


def test_a_caller_that_stops_listening_pays_for_no_call_in_vain():
    """Calls that were sent are finished, none is sent any more, and none is left behind."""

    class Slow(Fake):
        sent, ended = 0, 0

        async def complete(self, request: Request) -> Reply:
            self.sent += 1
            for _ in range(20):
                await asyncio.sleep(0)
            self.ended += 1
            return Reply("yes", key="k")

    model = Slow()

    async def first_two() -> int:
        stream = evaluate(
            {"teacher": model}, items(30), TEXT, system_message="s", max_tokens=5, concurrency=8
        )
        async with aclosing(stream), asyncio.timeout(5):
            async for outcome in stream:
                if outcome.example_id == 2:
                    break
        return len(asyncio.all_tasks())

    assert asyncio.run(first_two()) == 1
    assert model.ended == model.sent < 30


def test_no_items_and_items_without_an_id_are_usage_errors():
    with pytest.raises(UsageError, match="no test items"):
        outcomes({"student": Fake()}, [])
    with pytest.raises(UsageError, match="no id"):
        outcomes({"student": Fake()}, [Example((Message("user", "q"),), "a")])


# -- latency and cost --------------------------------------------------------------------------


def test_a_local_model_is_timed_on_the_first_items_alone_and_costs_nothing():
    """Batched with others, the time of one item would mean nothing."""
    model = Fake(latency_s=99.0)
    found = outcomes({"student": model})
    timed = [o for o in found if o.latency_ms is not None]
    assert [o.example_id for o in timed] == list(range(1, 11))
    assert all(0 < o.latency_ms < 5000 for o in timed)
    assert {o.cost_micro for o in found} == {0}
    assert model.most == len(found) - 10, "the rest may share forward passes"


def test_a_local_model_may_not_talk_for_ever():
    """An untrained base may never stop: it is cut a little beyond the longest right answer."""
    teacher, base = paid(), Fake()
    outcomes({"teacher": teacher, "base": base}, items(3))
    longest = max(len(item.answer.encode()) for item in items(3))
    assert {request.max_tokens for request in teacher.asked} == {50}
    assert {request.max_tokens for request in base.asked} == {min(50, longest + 32)}


def test_a_remote_model_is_timed_and_paid_on_every_item():
    found = outcomes({"teacher": paid()})
    assert {(o.latency_ms, o.cost_micro) for o in found} == {(250.0, 400)}


def test_prices_are_for_a_thousand_calls_and_unknown_ones_are_null():
    models = {"teacher": paid(), "base": paid(cost_micro=None), "student": Fake()}
    found = outcomes(models)
    found[0] = replace(found[0], cost_micro=5)  # of the base: one price known, 29 not
    report = as_json(summarise(1, "m", found, dict.fromkeys(models, "x")))
    prices = {name: system["usd_per_1k"] for name, system in report["systems"].items()}
    assert prices == {"teacher": 0.4, "base": None, "student": 0}
    assert report["systems"]["teacher"]["latency_ms_p50"] == 250


# -- sums --------------------------------------------------------------------------------------

MODELS = {"teacher": "openai:t", "base": "tiny", "student": "run:1"}


def graded(system: str, scores: list[float | None]) -> list[Outcome]:
    return [
        Outcome(n, system, None if s is None else "a", s, None if s is None else s == 1)
        for n, s in enumerate(scores, 1)
    ]


some_scores = st.lists(st.sampled_from([None, 0.0, 0.5, 1.0]), min_size=1, max_size=40)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(MODELS, some_scores)))
def test_sums_and_comparisons_agree_with_counting_by_hand(scores):
    report = summarise(7, "m", [o for s in scores for o in graded(s, scores[s])], MODELS)
    assert report.systems.keys() == scores.keys()
    assert report.items == max(map(len, scores.values()), default=0)
    for name, system in report.systems.items():
        came = [score for score in scores[name] if score is not None]
        assert (system.items, system.missing) == (len(scores[name]), scores[name].count(None))
        assert system.right == came.count(1)
        assert (system.low, system.high) == wilson(system.right, len(came))
        if came:
            assert system.score == system.right / len(came)
            assert system.partial == pytest.approx(sum(came) / len(came))
    for pair in report.comparisons:
        both = [
            (one == 1, two == 1)
            for one, two in zip(scores[pair.first], scores[pair.second], strict=False)
            if one is not None and two is not None
        ]
        assert pair.items == len(both) > 0
        assert pair.only_first == both.count((True, False))
        assert pair.only_second == both.count((False, True))
        assert pair.p_value == mcnemar_exact(pair.only_first, pair.only_second)
        assert pair.difference == pytest.approx(
            sum(one for one, _ in both) / len(both) - sum(two for _, two in both) / len(both)
        )
    assert len(json.dumps(as_json(report), allow_nan=False)) > 0


def test_the_three_pairs_are_compared_on_the_items_both_answered():
    found = (
        graded("student", [1, 1, 0, None])
        + graded("base", [0, 0, 0, 1])
        + graded("teacher", [1] * 4)
    )
    report = summarise(1, "m", found, MODELS)
    assert [
        (c.first, c.second, c.items, c.only_first, c.only_second) for c in report.comparisons
    ] == [
        ("student", "base", 3, 2, 0),
        ("student", "teacher", 3, 0, 1),
        ("teacher", "base", 4, 3, 0),
    ]


def test_a_missing_answer_is_neither_right_nor_wrong():
    student = summarise(1, "m", graded("student", [1, 1, 0, None]), MODELS).systems["student"]
    assert (student.right, student.missing, student.score) == (2, 1, 2 / 3)


def test_a_system_that_never_answered_has_no_score_rather_than_zero():
    report = as_json(summarise(1, "m", graded("teacher", [None, None]), MODELS))
    teacher = report["systems"]["teacher"]
    assert (teacher["score"], teacher["low"], teacher["missing"]) == (None, None, 2)
    assert "base" not in report["systems"]


def test_the_json_has_the_documented_shape():
    found = outcomes({"teacher": paid(), "base": Fake(lambda _: "no"), "student": Fake()})
    report = as_json(summarise(3, "exact match", found, MODELS, seconds=1.5))
    assert report["items"] == 30
    assert report["seconds"] == 1.5
    assert report["systems"]["student"]["score"] == 1
    for system in report["systems"].values():
        assert system.keys() >= {
            *("score", "low", "high", "usd_per_1k", "latency_ms_p50", "items", "right", "missing")
        }
    assert [(c["first"], c["second"]) for c in report["comparisons"]] == [
        ("student", "base"),
        ("student", "teacher"),
        ("teacher", "base"),
    ]
    assert report["verdict"] == summarise(3, "exact match", found, MODELS).verdict
    assert json.loads(json.dumps(report)) == report


# -- verdict -----------------------------------------------------------------------------------


def verdict(**right: tuple[int, int]) -> str:
    """Of systems given as (right, items); the right ones come first, so pairs overlap."""
    found = [o for s, (k, n) in right.items() for o in graded(s, [1.0] * k + [0.0] * (n - k))]
    return summarise(1, "m", found, MODELS).verdict


@pytest.mark.parametrize(
    ("systems", "start"),
    [
        ({}, "Nothing to tell"),
        ({"student": (12, 12), "base": (0, 12)}, "Too few items to tell: n = 12,"),
        ({"student": (1, 100), "teacher": (3, 100)}, "Cannot be judged this way: even the teacher"),
        ({"base": (97, 100), "teacher": (98, 100)}, "Do not fine-tune"),
        ({"base": (40, 100), "teacher": (98, 100)}, "Worth training"),
        ({"base": (40, 100)}, "Worth training"),
        ({"base": (95, 100)}, "Do not fine-tune"),
        ({"teacher": (95, 100)}, "The teacher answers 95 %"),
        ({"student": (97, 100), "base": (97, 100), "teacher": (98, 100)}, "Do not fine-tune"),
        ({"student": (98, 100), "base": (95, 100)}, "Do not fine-tune"),
        ({"student": (195, 200), "base": (0, 200), "teacher": (200, 200)}, "Ship it"),
        ({"student": (985, 1000), "base": (0, 1000), "teacher": (1000, 1000)}, "Ship it"),
        ({"student": (99, 100), "base": (50, 100), "teacher": (80, 100)}, "Ship it"),
        ({"student": (95, 100)}, "Ship it"),
        (
            {"student": (29, 30), "base": (24, 30), "teacher": (30, 30)},
            "Too few items to tell whether",
        ),
        ({"student": (5, 100), "base": (5, 100), "teacher": (99, 100)}, "Not yet"),
        ({"student": (74, 100), "base": (0, 100), "teacher": (99, 100)}, "Not yet"),
        (
            {"student": (26, 30), "base": (0, 30), "teacher": (29, 30)},
            "Too few items to tell: the student",
        ),
        ({"student": (60, 100), "base": (0, 100)}, "Not yet"),
    ],
)
def test_each_rule_speaks_where_it_applies(systems, start):
    assert verdict(**systems).startswith(start)


def test_the_verdict_gives_score_interval_items_and_p_in_one_sentence():
    assert verdict(student=(195, 200), base=(0, 200), teacher=(200, 200)) == (
        "Ship it: the student answers 97.5 % (94.3-98.9) of 200 unseen items right, "
        "the teacher 100 %, the untrained base 0 %; "
        "no difference from the teacher can be told (p = 0.062)."
    )


def test_unanswered_items_are_told():
    found = graded("student", [1.0] * 30) + graded("teacher", [1.0] * 28 + [None] * 2)
    assert summarise(1, "m", found, MODELS).verdict.endswith(
        "the teacher gave no answer to 2 of 30."
    )
    silent = summarise(1, "m", graded("teacher", [None] * 30), MODELS).verdict
    assert (
        silent
        == "Nothing to tell: no system answered any item; the teacher gave no answer to 30 of 30."
    )


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(MODELS, some_scores)))
def test_there_is_always_one_sentence(scores):
    said = summarise(1, "m", [o for s in scores for o in graded(s, scores[s])], MODELS).verdict
    assert said.endswith(".")
    assert "\n" not in said


@given(st.integers(20, 400).flatmap(lambda n: st.tuples(st.just(n), *[st.integers(0, n)] * 3)))
def test_a_student_beyond_doubt_worse_than_the_teacher_or_the_base_is_never_shipped(counts):
    n, student, base, teacher = counts
    said = verdict(student=(student, n), base=(base, n), teacher=(teacher, n))
    if said.startswith("Ship it"):
        assert student >= teacher - 0.05 * n
        assert student > base


# -- few-shot, other models, metrics -----------------------------------------------------------


def test_few_shot_is_shown_training_examples_as_turns_before_the_question():
    shots = [
        Example((Message("system", "old"), Message("user", f"q{n}")), f"a{n}", id=100 + n)
        for n in (1, 2)
    ]
    models = {"base": Fake(), "few-shot": Fake(), "teacher": paid()}
    outcomes(models, items(3), shots=shots)
    turns = [("user", "q1"), ("assistant", "a1"), ("user", "q2"), ("assistant", "a2")]
    for request in models["few-shot"].asked:
        assert [tuple(turn) for turn in request.messages[:5]] == [("system", "Be kind."), *turns]
        assert len(request.messages) == 6
    assert {len(request.messages) for request in models["base"].asked} == {2}
    assert {len(request.messages) for request in models["teacher"].asked} == {2}


def test_a_test_item_is_never_shown_as_an_example():
    with pytest.raises(UsageError, match="among the examples shown"):
        outcomes({"few-shot": Fake()}, items(3), shots=items(1))


def test_shots_come_own_first_and_with_answers_that_differ():
    train = [
        Example((Message("user", f"q{n}"),), f"a{n % 3}", origin="generated", id=n)
        for n in range(30)
    ]
    own = Example((Message("user", "mine"),), "a1", origin="imported", id=99)
    chosen = shots([*train, own], 3)
    assert chosen[0] is own
    assert len({example.answer for example in chosen}) == 3
    assert shots(train, 5, seed=1) == shots(train, 5, seed=1) != shots(train, 5, seed=2)
    assert len(shots(train, 100)) == 30


def test_other_models_come_before_the_teacher_and_are_asked_as_it_is():
    models = {"teacher": paid(), "openai:other": paid(), "run:2": Fake(), "base": Fake()}
    asked = items(3, '{"a": 1, "b": 2}')
    found = outcomes(models, asked, JSON, prompted=["teacher", "openai:other"])
    assert list(dict.fromkeys(o.system for o in found)) == [
        *("base", "openai:other", "run:2", "teacher")
    ]
    for name, model in models.items():
        asked = name in ("teacher", "openai:other")
        assert {r.sample for r in model.asked} == {int(asked)}
        assert {r.schema is not None for r in model.asked} == {asked}


def test_answers_are_graded_by_the_metric_that_was_asked_for():
    judge = metric(lambda reference, answer: len(answer) / 10, TEXT)
    found = outcomes({"student": Fake(lambda _: "12345")}, items(2), metric=judge)
    assert {(o.score, o.exact) for o in found} == {(0.5, False)}


# -- labels, fields, blocks, graded ------------------------------------------------------------

LABELS = TEXT.model_copy(update={"kind": "label", "labels": ("a", "b", "c")})


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["a", "b", "c", "what?"]))))
def test_macro_f1_and_label_counts_are_those_counted_by_hand(pairs):
    if not pairs:
        return
    found = [
        Outcome(
            n,
            "student",
            given_,
            float(one == given_),
            None,
            **detail(LABELS, one, given_)._asdict(),
        )
        for n, (one, given_) in enumerate(pairs)
    ]
    student = summarise(1, "m", found, MODELS).systems["student"]
    f1 = []
    for name in sorted({one for one, _ in pairs} | {two for _, two in pairs if two != "what?"}):
        expected = sum(one == name for one, _ in pairs)
        given_ = sum(two == name for _, two in pairs)
        right = sum(one == two == name for one, two in pairs)
        count = student.labels[name]
        assert (count.expected, count.given, count.right) == (expected, given_, right)
        precision, recall = right / max(given_, 1), right / max(expected, 1)
        f1.append(2 * precision * recall / (precision + recall) if right else 0)
    assert student.macro_f1 == pytest.approx(sum(f1) / len(f1))


def test_fields_are_shares_of_those_who_answered():
    answers = ['{"a": 1, "b": 2}', '{"a": 1, "b": 3}', "nothing"]
    found = [
        o
        for n, answer in enumerate(answers, 1)
        for o in outcomes(
            {"student": Fake(lambda _, said=answer: said)},
            [replace(items(1, '{"a": 1, "b": 2}')[0], id=n)],
            JSON,
        )
    ]
    student = summarise(1, "m", found, MODELS).systems["student"]
    assert student.fields == {"a": pytest.approx(2 / 3), "b": pytest.approx(1 / 3)}
    assert student.valid == pytest.approx(2 / 3)
    assert student.exact == pytest.approx(1 / 3)


def test_items_of_one_group_are_one_block():
    """Ten times the same three items are no thirty items."""
    found = graded("student", [1, 1, 0] * 20) + graded("teacher", [1, 0, 1] * 20)
    alone = summarise(1, "m", found, MODELS)
    groups = {n: str((n - 1) % 3 + 3 * ((n - 1) // 30)) for n in range(1, 61)}
    blocks = summarise(1, "m", found, MODELS, context=Context(groups=groups))
    assert (alone.groups, blocks.groups) == (60, 6)
    assert blocks.systems["student"].interval == "Wilson, by blocks"
    assert blocks.systems["student"].low < alone.systems["student"].low
    (one,), (other,) = alone.comparisons, blocks.comparisons
    assert other.method == "sign-flip, by blocks"
    assert other.high - other.low > 1.5 * (one.high - one.low)
    assert any("6 groups" in note for note in blocks.notes)


def test_a_graded_metric_is_averaged_and_tested_by_sign_flips():
    found = graded("student", [0.5, 0.75, 1, None] * 20) + graded("teacher", [0.5, 1, 1, 1] * 20)
    report = summarise(1, "chrF", found, MODELS, context=Context(graded=True))
    student = report.systems["student"]
    assert (student.score, student.right, student.missing) == (0.75, 20, 20)
    assert student.low < 0.75 < student.high
    (pair,) = report.comparisons
    assert (pair.items, pair.method, pair.only_second) == (60, "sign-flip", 20)
    assert pair.difference == pytest.approx(-1 / 12)
    assert pair.p_value < 0.001
    assert "scores 75.0 (" in report.verdict
    assert "in chrF on 60 unseen items" in report.verdict


def test_p_is_adjusted_for_all_comparisons_and_differences_have_intervals():
    found = (
        graded("student", [1] * 30 + [0] * 10)
        + graded("base", [0] * 40)
        + graded("teacher", [1] * 34 + [0] * 6)
        + graded("few-shot", [1] * 28 + [0] * 12)
        + graded("openai:x", [1] * 36 + [0] * 4)
    )
    models = {**MODELS, "few-shot": "tiny", "openai:x": "openai:x"}
    report = summarise(1, "m", found, models)
    pairs = [(c.first, c.second) for c in report.comparisons]
    assert pairs[3:] == [
        ("student", "few-shot"),
        ("few-shot", "teacher"),
        ("student", "openai:x"),
    ]
    adjusted = holm([c.p_value for c in report.comparisons])
    assert [c.p_adjusted for c in report.comparisons] == adjusted
    for pair in report.comparisons:
        assert pair.low <= pair.difference <= pair.high
        assert 0 < pair.detectable <= 1
    assert any("adjusted for 6 comparisons (Holm)" in note for note in report.notes)
    assert any("With 40 items" in note for note in report.notes)


def test_a_report_says_how_often_its_items_were_looked_at():
    found = graded("student", [1] * 30)
    assert not any("looked at" in n for n in summarise(1, "m", found, MODELS).notes)
    worn = summarise(1, "m", found, MODELS, context=Context(looks=3))
    assert worn.looks == 3
    assert any("looked at 3 times by now" in note for note in worn.notes)


def test_a_report_of_today_and_one_from_before_are_read_back():
    found = graded("student", [1.0] * 20 + [None]) + graded("teacher", [1.0] * 21)
    context = Context(conditions=[parse("student >= 0.5", MODELS)], looks=2)
    report = summarise(4, "m", found, MODELS, context=context)
    report = replace(report, break_even=BreakEven(3, 1.0, 2.0, "why"), id=9)
    assert from_stored(json.loads(json.dumps(asdict(report)))) == report
    system = {
        "model": "run:1",
        "items": 3,
        "right": 2,
        "missing": 0,
        "score": 2 / 3,
        "low": 0.2,
        "high": 0.9,
        "partial": 0.7,
        "usd_per_1k": None,
        "latency_ms_p50": 3.0,
    }
    pair = {
        "first": "student",
        "second": "base",
        "items": 3,
        "only_first": 2,
        "only_second": 0,
        "difference": 0.5,
        "p_value": 0.5,
    }
    old = {
        "dataset_id": 1,
        "metric": "exact match",
        "items": 3,
        "verdict": "Not yet.",
        "id": 1,
        "systems": {"student": system},
        "comparisons": [pair],
        "outcomes": None,
        "seconds": 2,
    }
    read = from_stored(old)
    assert (read.verdict, read.decision, read.looks, read.gate_met) == ("Not yet.", "", 1, None)
    assert read.comparisons[0].low is None
    assert json.loads(json.dumps(as_json(read)))["gate"] is None


# -- break-even --------------------------------------------------------------------------------


def costs(teacher: int | None, student: int | None, spent: int) -> BreakEven | None:
    found = [
        replace(o, cost_micro=micro)
        for name, micro in (("teacher", teacher), ("student", student))
        for o in graded(name, [1.0] * 5)
    ]
    systems = summarise(1, "m", found, MODELS).systems
    return break_even(systems["teacher"], systems["student"], spent)


def test_break_even_is_what_was_spent_by_what_a_call_saves():
    found = costs(400, 0, 2_000_000)
    assert (found.calls, found.spent_usd, found.saved_usd_per_1k) == (5000, 2.0, 0.4)
    assert found.why.startswith("After about 5,000 calls: $2.00 for data and training, $0.40 saved")
    assert "your own machine is not counted" in found.why
    assert "machine" not in costs(400, 100, 2_000_000).why
    assert costs(400, 100, 300).calls == 1


def test_a_price_not_known_or_no_saving_is_said_and_not_guessed():
    assert costs(None, 0, 5).calls is None
    assert "call of the teacher costs is not known" in costs(None, 0, 5).why
    assert "call of the student costs is not known" in costs(3, None, 5).why
    assert costs(100, 100, 5).calls is None
    assert costs(100, 100, 5).why.startswith("Never")
    assert break_even(None, None, 5) is None


# -- verdicts of today -------------------------------------------------------------------------


def decision(share: float | None = None, **right: tuple[int, int]) -> Report:
    named = {name.replace("_", "-"): count for name, count in right.items()}
    found = [o for s, (k, n) in named.items() for o in graded(s, [1.0] * k + [0.0] * (n - k))]
    context = Context(test_share=share, few_shot=5)
    return summarise(1, "m", found, {**MODELS, "few-shot": "tiny"}, context=context)


@pytest.mark.parametrize(
    ("systems", "comes_to"),
    [
        ({}, "nothing"),
        ({"student": (12, 12)}, "too_few"),
        ({"student": (1, 100), "teacher": (3, 100)}, "teacher_unsure"),
        ({"base": (97, 100), "teacher": (98, 100)}, "prompting"),
        ({"base": (40, 100), "few_shot": (97, 100), "teacher": (98, 100)}, "prompting"),
        ({"base": (40, 100), "few_shot": (60, 100), "teacher": (98, 100)}, "train"),
        ({"teacher": (95, 100)}, "teacher_only"),
        (
            {
                "student": (98, 100),
                "base": (10, 100),
                "few_shot": (97, 100),
                "teacher": (98, 100),
            },
            "prompting",
        ),
        (
            {
                "student": (98, 100),
                "base": (10, 100),
                "few_shot": (60, 100),
                "teacher": (98, 100),
            },
            "ship",
        ),
        (
            {
                "student": (70, 100),
                "base": (10, 100),
                "few_shot": (68, 100),
                "teacher": (98, 100),
            },
            "not_yet",
        ),
        ({"student": (74, 100), "base": (0, 100), "teacher": (99, 100)}, "not_yet"),
    ],
)
def test_a_verdict_comes_to_one_of_the_decisions(systems, comes_to):
    assert decision(**systems).decision == comes_to


def test_prompting_that_is_as_good_is_named():
    said = decision(
        student=(98, 100), base=(10, 100), few_shot=(97, 100), teacher=(98, 100)
    ).verdict
    assert said.startswith("Do not fine-tune: prompting is as good, the base shown 5 examples")


def test_where_more_items_would_tell_it_says_how_many_examples_that_is():
    report = decision(share=0.2, student=(27, 30), base=(0, 30), teacher=(30, 30))
    assert report.decision == "too_few"
    more = report.numbers["more_items_teacher"]
    assert more > 30
    assert report.numbers["more_examples_teacher"] == pytest.approx(5 * more, abs=5)
    assert "more test items, so " in report.verdict
    assert "more examples, should tell" in report.verdict


def test_the_numbers_behind_a_verdict_are_those_of_the_report():
    report = decision(student=(74, 100), base=(0, 100), teacher=(99, 100))
    pairs = {(c.first, c.second): c for c in report.comparisons}
    to_teacher = pairs["student", "teacher"]
    assert report.numbers["student"] == 0.74
    assert report.numbers["student_low"] == report.systems["student"].low
    assert report.numbers["student_minus_teacher"] == to_teacher.difference
    assert report.numbers["p_teacher"] == to_teacher.p_value
    assert report.numbers["p_base_adjusted"] == pairs["student", "base"].p_adjusted


def test_a_verdict_sees_no_difference_where_there_is_none():
    """At most one in 20 beyond simulation error; bench/coverage.py tries more."""
    chance = np.random.default_rng(4)
    sets = 250
    for rates, wrong in (
        ({"student": 0.92, "base": 0.92, "teacher": 0.97}, "Ship it"),
        ({"student": 0.8, "base": 0.2, "teacher": 0.8}, "the teacher is better"),
    ):
        said = 0
        for _ in range(sets):
            found = [
                o
                for s, rate in rates.items()
                for o in graded(s, list(1.0 * (chance.random(60) < rate)))
            ]
            said += wrong in summarise(1, "m", found, MODELS).verdict
        assert said / sets <= 0.05 + 3 * (0.05 * 0.95 / sets) ** 0.5
