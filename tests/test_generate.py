"""Plans, prompts and the questions to a teacher."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.errors import UsageError
from understudy.example import Example, Message
from understudy.generate import Failure, generate
from understudy.generate.answers import usable
from understudy.generate.ask import ask, json_in, strict_schema
from understudy.generate.plan import cells
from understudy.generate.prompts import fill
from understudy.generate.spec import infer
from understudy.models.protocol import CallFailed, Reply, Request, Unreadable
from understudy.task import Attribute, Impossible, Option, OutputField, Plan, Spec

SPEC = Spec(title="t", input="i", output="o", kind="text", system_message="s")
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Plans of two to four attributes with a few impossible pairs."""
    names = draw(st.lists(NAMES, min_size=2, max_size=4, unique=True))
    attributes = []
    for name in names:
        values = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
        weights = draw(st.lists(st.floats(0.1, 10), min_size=len(values), max_size=len(values)))
        options = tuple(Option(value=v, weight=w) for v, w in zip(values, weights, strict=True))
        attributes.append(Attribute(name=name, values=options))
    pairs = []
    for _ in range(draw(st.integers(0, 3))):
        one, other = draw(st.permutations(attributes))[:2]
        pairs.append(
            Impossible(
                attribute=one.name,
                value=draw(st.sampled_from(one.values)).value,
                other_attribute=other.name,
                other_value=draw(st.sampled_from(other.values)).value,
            )
        )
    return Plan(attributes=tuple(attributes), impossible=tuple(pairs))


@settings(max_examples=60, deadline=None)
@given(plans(), st.integers(0, 99))
def test_cells_are_possible_and_the_same_for_the_same_seed(plan: Plan, seed: int) -> None:
    """No impossible pair ever occurs; a plan that allows no cell says so."""
    try:
        drawn = list(islice(cells(plan, seed), 12))
    except UsageError:
        return
    assert all(plan.allows(cell) for cell in drawn)
    assert all(cell.keys() == {a.name for a in plan.attributes} for cell in drawn)
    assert drawn == list(islice(cells(plan, seed), 12))


def test_values_come_as_often_as_their_weights_say() -> None:
    """Stratified: the counts follow the weights to within one or two."""
    options = (Option(value="rare", weight=1), Option(value="common", weight=9))
    attributes = tuple(Attribute(name=name, values=options) for name in "ab")
    drawn = list(islice(cells(Plan(attributes=attributes), 0), 200))
    for name in "ab":
        counts = Counter(cell[name] for cell in drawn)
        assert abs(counts["rare"] - 20) <= 2


@given(st.text(), st.text())
def test_what_fills_a_slot_is_never_a_template(first: str, second: str) -> None:
    """Braces in user text mean nothing."""
    assert fill("[{a}|{b}]", a=first, b=second) == f"[{first}|{second}]"


class Scripted:
    """A model that gives these replies in turn and keeps what it was asked."""

    name = "scripted"

    def __init__(self, *replies: str, finish: str = "stop") -> None:
        self.replies, self.asked, self.finish = list(replies), list[Request](), finish

    async def complete(self, request: Request) -> Reply:
        self.asked.append(request)
        return Reply(self.replies.pop(0), finish=self.finish, key=f"k{len(self.asked)}")


def asked(model: Scripted) -> Plan:
    return asyncio.run(ask(model, "system", "user", Plan, "plan", 100)).value


GOOD = '{"attributes": [{"name": "a", "values": [{"value": "v", "weight": 1}]}], "impossible": []}'


@pytest.mark.parametrize(
    "reply", [GOOD, f"```json\n{GOOD}\n```", f"Here you are:\n{GOOD}", GOOD.replace('"', "'")]
)
def test_json_is_found_in_what_models_write(reply: str) -> None:
    """Fences, a sentence before it, and single quotes are no reason to ask again."""
    model = Scripted(reply)
    assert asked(model).attributes[0].name == "a"
    assert len(model.asked) == 1


def test_a_wrong_reply_is_corrected_once() -> None:
    """The second question quotes what was wrong; after that it is given up."""
    model = Scripted('{"attributes": []}', GOOD)
    assert asked(model).attributes[0].values[0].value == "v"
    assert "attributes" in model.asked[1].messages[-1].content
    with pytest.raises(CallFailed, match="plan"):
        asked(Scripted(*["no"] * 4))


def test_a_reply_that_was_cut_off_is_not_mended() -> None:
    """Mending would turn half an answer into a wrong one."""
    with pytest.raises(CallFailed, match="longer than"):
        asked(Scripted(GOOD[:40], GOOD[:40], finish="length"))


def test_what_an_earlier_run_bought_in_vain_is_no_dead_end() -> None:
    """Unusable replies on disk are passed over for nothing, and another one is bought."""

    class OnDisk(Scripted):
        async def complete(self, request: Request) -> Reply:
            if request.sample < 5:
                self.asked.append(request)
                raise stored_unreadable()
            return await super().complete(request)

    def stored_unreadable() -> Unreadable:
        error = Unreadable("the reply is not a chat completion")
        error.stored = True
        return error

    model = OnDisk(GOOD)
    assert asked(model).attributes[0].name == "a"
    assert [request.sample for request in model.asked] == [0, 1, 2, 3, 4, 5]


def test_schemas_are_strict() -> None:
    """Every object lists all its keys as required and allows no others."""

    def objects(node: object) -> list[dict[str, object]]:
        if isinstance(node, dict):
            inner = [found for value in node.values() for found in objects(value)]
            return [node, *inner] if "properties" in node else inner
        if isinstance(node, list):
            return [found for value in node for found in objects(value)]
        return []

    for schema in (strict_schema(Spec, "spec"), strict_schema(Plan, "plan")):
        for found in objects(schema):
            assert found["required"] == list(found["properties"])
            assert found["additionalProperties"] is False
        assert "default" not in json.dumps(schema)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply("x", finish="length"), "cut off"),
        (Reply("x", finish="content_filter"), "refusal"),
        (Reply("no", refusal=True), "refusal"),
        (Reply(" \u200b"), "empty"),
        (Reply("fine"), ""),
    ],
)
def test_a_useless_answer_has_its_reason(reply: Reply, reason: str) -> None:
    """T19-T22: cut off, filtered, refused, empty."""
    assert usable(SPEC, reply)[1] == reason


def test_json_answers_are_put_in_one_form() -> None:
    """However the teacher spaces its JSON, the student learns one way."""
    fields = (OutputField(name="a", type="string"),)
    spec = SPEC.model_copy(update={"kind": "json", "fields": fields})
    assert usable(spec, Reply('{\n "a":"ü"}')) == ('{"a": "ü"}', "")
    assert usable(spec, Reply("sorry"))[1] == "malformed"
    assert json_in('{"a": 1}') == {"a": 1}


class Teacher:
    """Writes numbered inputs, five of them new in each batch, and answers in capitals."""

    name = "teacher"

    def __init__(self, fails: str = "") -> None:
        self.fails, self.answered = fails, list[str]()

    async def complete(self, request: Request) -> Reply:
        await asyncio.sleep(0)
        text = request.messages[-1].content
        if request.purpose == "inputs":
            wanted = json.loads(text[text.index("{") : text.rindex("}") + 1])
            batch = wanted["batch"]
            found = [{"text": f"input {batch + n // 2}-{n}", "probability": 0.1} for n in range(10)]
            return Reply(json.dumps({"inputs": found}), key=f"i{batch}")
        if self.fails and self.fails in text:
            raise CallFailed("it failed")
        self.answered.append(text)
        return Reply(text.upper(), key=f"a{text}")


class Replaying(Teacher):
    """Its first 60 batches are on disk from an earlier run."""

    async def complete(self, request: Request) -> Reply:
        reply = await super().complete(request)
        return replace(reply, stored=request.purpose == "inputs" and int(reply.key[1:]) < 60)


def made(teacher: Teacher, wanted: int, known: set[str]) -> list[Example | Failure]:
    options = (Option(value="v"),)
    plan = Plan(attributes=(Attribute(name="a", values=options),))

    async def collect() -> list[Example | Failure]:
        return [
            item
            async for item in generate(
                teacher,
                SPEC,
                plan,
                wanted,
                known=known,
                own=[],
                per_call=10,
                concurrency=4,
                max_tokens=50,
                seed=0,
                task_version=1,
            )
        ]

    return asyncio.run(collect())


@pytest.mark.parametrize("wanted", [1, 7, 40])
def test_as_many_as_are_wanted_and_no_input_twice(wanted: int) -> None:
    """An input that came before is not answered again; the answer is kept under its call's key."""
    teacher = Teacher()
    found = made(teacher, wanted, known={"input 0-0"})
    assert len(found) == wanted
    assert all(isinstance(item, Example) and item.source.startswith("a") for item in found)
    assert len(set(teacher.answered)) == len(teacher.answered) == wanted
    assert "input 0-0" not in teacher.answered


def test_it_goes_on_however_much_an_earlier_run_made() -> None:
    """Batches that are read from disk bring nothing new, and that says nothing of the teacher."""
    known = {f"input {batch + n // 2}-{n}" for batch in range(60) for n in range(10)}
    assert len(made(Replaying(), 30, known)) == 30


def test_calls_that_always_fail_end_it() -> None:
    """Failed answers are replaced, but not for ever."""
    found = made(Teacher(fails="input"), 10, known=set())
    assert all(isinstance(item, Failure) for item in found)
    assert len(found) < 60


def test_a_failed_call_is_told_and_replaced() -> None:
    """What failed is counted, and another input takes its place."""
    found = made(Teacher(fails="3-"), 30, known=set())
    failures = [item for item in found if isinstance(item, Failure)]
    assert failures
    assert {failure.reason for failure in failures} == {"it failed"}
    assert len(found) - len(failures) == 30


def test_a_teacher_that_repeats_itself_ends_it() -> None:
    """Fewer are made than wanted rather than asking for ever."""

    class Parrot(Teacher):
        async def complete(self, request: Request) -> Reply:
            if request.purpose == "inputs":
                return Reply('{"inputs": [{"text": "same", "probability": 1}]}', key="i")
            return await super().complete(request)

    assert len(made(Parrot(), 10, known=set())) == 1


def example(answer: str, number: int = 0) -> Example:
    return Example((Message("user", f"q{number}"),), answer)


def test_the_kind_of_answer_is_read_off_the_examples() -> None:
    """Few different answers are labels, records of one shape are JSON, the rest is text."""
    labels = infer("d", [example("ab"[n % 2], n) for n in range(20)])
    assert (labels.kind, labels.labels) == ("label", ("a", "b"))
    records = infer(
        "d", [example(json.dumps({"n": n, "s": None if n else "x"}), n) for n in range(9)]
    )
    assert records.kind == "json"
    assert [(f.name, f.type, f.nullable) for f in records.fields] == [
        ("n", "integer", False),
        ("s", "string", True),
    ]
    assert infer("d", [example(f"answer {n}", n) for n in range(20)]).kind == "text"
    assert infer("d", []).system_message == "d"
