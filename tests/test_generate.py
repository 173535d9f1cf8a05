"""Plans, prompts and the questions to a teacher."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.example import Example, Message
from understudy.generate import Exhausted, Failure, Made, Repetitive, generate, sources
from understudy.generate.answers import answering, usable
from understudy.generate.inputs import Shown
from understudy.generate.novelty import Novelty
from understudy.generate.plan import cells
from understudy.generate.prompts import fill
from understudy.generate.spec import infer
from understudy.models.protocol import CallFailed, Reply, Request, Unreadable
from understudy.models.typed import ask, json_in, strict_schema
from understudy.task import Attribute, Option, OutputField, Plan, Spec

SPEC = Spec(title="t", input="i", output="o", kind="text", system_message="s")


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


def order(text: str) -> dict[str, Any]:
    """What a question for inputs asks for."""
    (line,) = (line for line in text.splitlines() if '"how_many"' in line)
    found: dict[str, Any] = json.loads(line)
    return found


class Teacher:
    """Writes numbered inputs, five of them new in each batch, and answers in capitals."""

    name = "teacher"

    def __init__(self, fails: str = "") -> None:
        self.fails, self.answered = fails, list[str]()

    async def complete(self, request: Request) -> Reply:
        await asyncio.sleep(0)
        text = request.messages[-1].content
        if request.purpose == "inputs":
            batch = order(text)["batch"]
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


PLAN = Plan(attributes=(Attribute(name="a", values=(Option(value="v"),)),))


def made(
    teacher: Teacher,
    wanted: int,
    known: set[str],
    *,
    answers: int = 1,
    spec: Spec = SPEC,
    batches: Iterator[sources.Batch] | None = None,
    novelty: Novelty | None = None,
) -> list[Made]:
    """Everything that generating yields, in order."""
    answer = answering(teacher, spec, max_tokens=50, task_version=1, answers=answers)
    stream = generate(
        teacher,
        spec,
        batches or sources.of_cells(cells(PLAN, 0), 10),
        answer,
        wanted,
        known=known,
        concurrency=4,
        novelty=novelty,
    )

    async def collect() -> list[Made]:
        return [item async for item in stream]

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


class Torn(Teacher):
    """Answers each input by the script: one answer a sample."""

    def __init__(self, *script: str) -> None:
        super().__init__()
        self.script = script

    async def complete(self, request: Request) -> Reply:
        if request.purpose == "inputs":
            return await super().complete(request)
        text = self.script[request.sample]
        if text == "lost":
            raise CallFailed("connection lost")
        return Reply(text, key=f"{request.messages[-1].content}{request.sample}")


@pytest.mark.parametrize(
    ("script", "answer", "agreement", "reason"),
    [
        (("A", "a ", "b"), "A", 2 / 3, ""),
        (("b", "a", "a"), "a", 2 / 3, ""),
        (("a", "a", "a"), "a", 1, ""),
        (("a", "b", "c"), "a", 1 / 3, "no majority: 1 of 3 agree"),
        (("lost", "a", "a"), "a", 2 / 3, ""),
        (("lost", "", "a"), "a", 1 / 3, "no majority: 1 of 3 agree"),
        (("", "", ""), "", None, "empty"),
    ],
)
def test_the_answer_of_the_majority_is_kept(
    script: tuple[str, ...], answer: str, agreement: float | None, reason: str
) -> None:
    """Several answers to one input: the commonest wins, and how many agreed is kept with it."""
    (item,) = made(Torn(*script), 1, known=set(), answers=3)
    assert isinstance(item, Example)
    assert item.answer.casefold() == answer.casefold()
    assert (item.agreement, item.reason) == (agreement, reason)


def test_an_input_whose_every_answer_is_lost_is_replaced() -> None:
    """A failure, told as one."""
    found = made(Torn("lost", "lost"), 2, known=set(), answers=2)
    assert all(isinstance(item, Failure) for item in found)


def test_own_inputs_are_answered_as_they_are() -> None:
    """No call writes inputs where the user brought them."""
    teacher = Teacher()
    texts = ["one", "two", "", "three"]
    found = made(teacher, 3, known=set(), batches=sources.of_texts(texts, 2))
    assert sorted(item.answer for item in found if isinstance(item, Example)) == [
        "ONE",
        "THREE",
        "TWO",
    ]
    assert sorted(teacher.answered) == ["one", "three", "two"]


def test_harder_variants_know_their_parent() -> None:
    """Variants of accepted inputs come in between, each with its parent's id and cell."""

    class Writer(Teacher):
        async def complete(self, request: Request) -> Reply:
            text = request.messages[-1].content
            if request.purpose == "inputs" and "harder_than" in text:
                rows = [{"text": f"harder {one}"} for one in order(text)["harder_than"]]
                return Reply(json.dumps({"inputs": rows}), key="v")
            return await super().complete(request)

    parents = [replace(example("x", n), id=n, cell={"a": "v"}) for n in range(15)]
    plain = sources.of_cells(cells(PLAN, 0), 10)
    both = chain(sources.of_parents(parents, 10), plain)
    found = made(Writer(), 60, set(), batches=both)
    examples = [item for item in found if isinstance(item, Example)]
    harder = [item for item in examples if item.parent is not None]
    assert sorted(item.parent for item in harder if item.parent is not None) == list(range(15))
    assert all(item.input == f"harder q{item.parent}" for item in harder)
    assert len(examples) == 60


def test_own_examples_are_shown_as_better_than_made_ones() -> None:
    """The question says which examples the person brought; none are shown unless they are given."""
    asked: list[str] = []

    class Listening(Teacher):
        async def complete(self, request: Request) -> Reply:
            if request.purpose == "inputs":
                asked.append(request.messages[-1].content)
            return await super().complete(request)

    shown = Shown(own=(example("mine"),), made=(example("its"),))
    without = sources.of_cells(islice(cells(PLAN, 0), 1), 10)
    batches = chain(without, sources.of_cells(cells(PLAN, 0), 10, shown, first=1))
    made(Listening(), 12, set(), batches=batches)
    assert "mine" not in asked[0]
    assert asked[1].index("from the person who asks") < asked[1].index("mine")
    assert asked[1].index("Examples made so far") < asked[1].index("its")


@given(most=st.integers(1, 100), wanted=st.integers(1, 10_000))
def test_inputs_a_call_are_few_where_few_are_wanted(most: int, wanted: int) -> None:
    """Eight calls at least, or as many as are wanted; never more inputs in one than may be."""
    size = sources.inputs_a_call(most, wanted)
    assert 1 <= size <= most
    assert -(-wanted // size) >= min(8, wanted)
    assert size in (most, 1) or wanted // (size + 1) < 8


def test_generation_stops_when_new_inputs_add_nothing() -> None:
    """A teacher that only rephrases its favourites is not asked for ever; why is said."""

    class Favourites(Teacher):
        async def complete(self, request: Request) -> Reply:
            if request.purpose == "inputs":
                batch = order(request.messages[-1].content)["batch"]
                rows = [
                    {"text": f"{start}my order has not come and I want my money back ({batch})"}
                    for start in ("Hello, ", "Hi! ", "Please help: ", "", "Again: ")
                ]
                return Reply(json.dumps({"inputs": rows}), key=f"i{batch}")
            return await super().complete(request)

    found = made(Favourites(), 100_000, set(), novelty=Novelty(similarity=0.8, free_text=True))
    assert any(isinstance(item, Exhausted) for item in found)
    assert sum(isinstance(item, Example) for item in found) < 5000


def test_much_that_repeats_is_told_once_before_it_ends_anything() -> None:
    """Six of ten are repeats: a word of warning, and all that were wanted."""

    class Half(Teacher):
        async def complete(self, request: Request) -> Reply:
            if request.purpose == "inputs":
                batch = order(request.messages[-1].content)["batch"]
                texts = [
                    f"{(batch * 10 + n) ** 9:x}" if n < 4 else f"always {n}" for n in range(10)
                ]
                return Reply(json.dumps({"inputs": [{"text": t} for t in texts]}), key=f"i{batch}")
            return await super().complete(request)

    found = made(Half(), 600, set(), novelty=Novelty(similarity=0.8))
    assert sum(isinstance(item, Repetitive) for item in found) == 1
    assert not any(isinstance(item, Exhausted) for item in found)
    assert sum(isinstance(item, Example) for item in found) == 600
