"""OpenAI's chat fine-tuning files: each published rule, and one example for each learned turn."""

from __future__ import annotations

import codecs
import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.errors import UsageError
from understudy.example import Message
from understudy.formats import BadLine, read
from understudy.formats.conversations import (
    Conversation,
    Rules,
    Turn,
    check,
    conversations,
    examples,
)

SYSTEM = {"role": "system", "content": "Answer in one word."}
ASK = {"role": "user", "content": "Colour of the sky?"}
SAY = {"role": "assistant", "content": "Blue"}
ANY = Rules(min_rows=1)


def file_of(folder: Path, *rows: object, name: str = "train.jsonl") -> Path:
    path = folder / name
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(line + "\n" for line in lines), "utf-8", "surrogatepass")
    return path


def row(*turns: object) -> dict[str, object]:
    return {"messages": list(turns)}


def told(bad: list[BadLine]) -> list[tuple[int, str]]:
    return [(line.number, line.reason) for line in bad]


def test_a_file_by_the_rules_has_no_breach(tmp_path):
    """System or developer first, names, weights, parts of text, several turns, null fields."""
    rows = [
        row(SYSTEM, ASK, SAY),
        row({**SYSTEM, "role": "developer"}, {**ASK, "name": "ann"}, {**SAY, "weight": 1}),
        row(ASK, {**SAY, "weight": 0}, ASK, {**SAY, "weight": 1}),
        row({"role": "user", "content": [{"type": "text", "text": "Sky?"}]}, SAY),
        row(SAY, ASK, {**SAY, "refusal": None, "tool_calls": None}),
    ]
    path = file_of(tmp_path, *rows * 2)
    assert check(path) == []
    assert [type(item) for item in conversations(path)] == [Conversation] * 10


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("nothing", "not JSON: expecting value at character 1"),
        ("[1]", "not a JSON object"),
        ('{"messages": [], "messages": []}', "key 'messages' twice"),
        ('{"messages": NaN}', "NaN is not JSON"),
        ({}, "messages is missing"),
        ({"messages": "hello"}, "messages is not a list of turns"),
        (row(), "messages is empty"),
        (row("hello"), "turn 1: not an object"),
        (row(ASK, {"content": "Blue"}), "turn 2: no role"),
        (row({**ASK, "role": "human"}, SAY), "turn 1: unknown role 'human'"),
        (row(ASK, {**SAY, "tone": "dry"}), "turn 2: unknown key 'tone'"),
        (row({**ASK, "content": 7}, SAY), "turn 1: the content of a turn is not text"),
        (row({"role": "user"}, SAY), "turn 1: no content"),
        (row({**ASK, "name": 7}, SAY), "turn 1: name is not text"),
        (
            row({**ASK, "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, SAY),
            "turn 1: a part of type 'image_url', only text is read",
        ),
        (row(ASK, {**SAY, "weight": 2}), "turn 2: weight is neither 0 nor 1"),
        (row(ASK, {**SAY, "weight": True}), "turn 2: weight is neither 0 nor 1"),
        (row(ASK, {**SAY, "weight": 0.5}), "turn 2: weight is neither 0 nor 1"),
        (row({**ASK, "weight": 0}, SAY), "turn 1: weight on a turn that is not the assistant's"),
        (
            row(ASK, {"role": "assistant", "tool_calls": [{"id": "1"}]}),
            "turn 2: tool calls cannot be learned",
        ),
        (row(ASK, {"role": "tool", "content": "3"}, SAY), "turn 2: tool calls cannot be learned"),
        (row(ASK, {**SAY, "weight": 0}), "every assistant turn has weight 0"),
        (row(ASK, {**SAY, "content": " "}), "empty answer"),
        (row(ASK, {**SAY, "content": ""}, ASK, SAY), "empty answer"),
        (row({**ASK, "content": ""}, SAY), "empty prompt"),
        (row(SYSTEM, SAY), "no user turn before the answer"),
        (row(ASK, SAY, SYSTEM, ASK, SAY), "a system message after the first turn"),
        (row(ASK, SAY, ASK), "the last message is not the assistant's"),
    ],
)
def test_each_breach_is_told_with_its_line(tmp_path, line, reason):
    """One bad line between good ones: its number, its turn, its reason, and nothing else."""
    path = file_of(tmp_path, *[row(ASK, SAY)] * 5, line, *[row(ASK, SAY)] * 5)
    assert told(check(path)) == [(6, reason)]


def test_a_row_with_several_faults_tells_all_of_them(tmp_path):
    """Whoever mends a file wants to mend a line once."""
    bad = row({**ASK, "role": "human", "mood": 1}, {**SAY, "weight": 3})
    assert told(check(file_of(tmp_path, bad), ANY)) == [
        (1, "turn 1: unknown role 'human'"),
        (1, "turn 1: unknown key 'mood'"),
        (1, "turn 2: weight is neither 0 nor 1"),
    ]
    nobody = file_of(tmp_path, row(ASK))
    assert told(check(nobody, ANY)) == [
        (1, "no assistant turn"),
        (1, "the last message is not the assistant's"),
    ]


def test_rules_of_the_whole_file(tmp_path):
    """Too few rows, too many bytes, marks and packing: number 0."""
    path = file_of(tmp_path, *[row(ASK, SAY)] * 9)
    assert told(check(path)) == [(0, "the file has 9 rows, at least 10 are needed")]
    size = path.stat().st_size
    assert check(path, Rules(9, size)) == []
    assert told(check(path, Rules(9, size - 1))) == [
        (0, f"the file has {size} bytes, at most {size - 1} are taken")
    ]
    text = path.read_bytes()
    path.write_bytes(codecs.BOM_UTF8 + text)
    assert told(check(path, ANY)) == [
        (0, "the file begins with a byte order mark: save it as UTF-8 without one")
    ]
    path.write_bytes(text.decode().encode("utf-16"))
    assert told(check(path, ANY)) == [(0, "the file is UTF-16: save it as UTF-8")]
    path.write_bytes(gzip.compress(text))
    assert told(check(path, ANY)) == [(0, "the file is packed by gzip: unpack it")]
    path.write_bytes(text + b'{"messages": "\xff"}\n')
    assert told(check(path)) == [(10, "not UTF-8: save the file as UTF-8")]
    path.write_bytes(b"")
    assert told(check(path)) == [(0, "the file has 0 rows, at least 10 are needed")]
    with pytest.raises(UsageError, match="no file"):
        check(tmp_path / "none")


def test_tokens_are_bounded_where_a_bound_is_given(tmp_path):
    """Roughly without a tokenizer, exactly with one."""
    long = row(ASK, {**SAY, "content": "word " * 100})
    path = file_of(tmp_path, row(ASK, SAY), long)
    assert check(path, ANY) == []
    assert told(check(path, Rules(1, max_line_tokens=120))) == [
        (2, "130 tokens, at most 120 are taken")
    ]
    by_words = Rules(1, max_line_tokens=104, count_tokens=lambda text: len(text.split()))
    assert check(path, by_words) == []
    assert told(check(path, by_words._replace(max_line_tokens=103))) == [
        (2, "104 tokens, at most 103 are taken")
    ]


def test_every_learned_turn_is_an_example_with_all_turns_before_it(tmp_path):
    """Weight 0 is context only; all of one conversation share a group; sources name line, turn."""
    first, second = {"role": "user", "content": "One"}, {"role": "user", "content": "Two"}
    talk = row(SYSTEM, ASK, SAY, first, {**SAY, "content": "x", "weight": 0}, second, SAY)
    (found,) = conversations(file_of(tmp_path, talk))
    assert isinstance(found, Conversation)
    assert found.turns[4] == Turn("assistant", "x", learned=False)
    made = examples(found, maker="train.jsonl", source="key")
    texts = [Message(turn["role"], turn["content"]) for turn in talk["messages"]]
    assert [(example.messages, example.answer) for example in made] == [
        (tuple(texts[:2]), "Blue"),
        (tuple(texts[:6]), "Blue"),
    ]
    assert [example.source for example in made] == ["key:1:3", "key:1:7"]
    assert {example.maker for example in made} == {"train.jsonl"}
    assert made[0].group == made[1].group != ""
    (single,) = conversations(file_of(tmp_path, row(ASK, SAY)))
    assert [example.group for example in examples(single, maker="m", source="s")] == [""]


def test_reading_is_kinder_than_checking(tmp_path):
    """A line is lost only if nothing can be learned from it."""
    greets = row({**SAY, "content": "Hello!"}, ASK, SAY, ASK)
    path = file_of(tmp_path, greets, "oops", row(ASK), row(ASK, {**SAY, "mood": "dry"}))
    found = list(conversations(path))
    assert [item.number for item in found] == [1, 2, 3, 4]
    assert [type(item) for item in found] == [Conversation, BadLine, BadLine, Conversation]
    assert [example.answer for example in examples(found[0], maker="m", source="s")] == ["Blue"]


TEXTS = st.text(st.characters(exclude_characters="\0"), max_size=8)
TURNS = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "user", "assistant", "assistant", "tool", "x"])},
    optional={
        "content": st.one_of(TEXTS, TEXTS, st.none(), st.integers()),
        "weight": st.sampled_from([0, 1, 1, 2, None, "1", True]),
        "name": st.one_of(TEXTS, st.integers()),
    },
)
ROWS = st.one_of(
    st.lists(TURNS, max_size=6).map(lambda turns: {"messages": turns}),
    st.dictionaries(TEXTS, st.integers(), max_size=2),
)


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(ROWS, min_size=1, max_size=5))
def test_what_passes_the_check_can_be_learned(tmp_path_factory, rows):
    """Whatever is in a file: no crash, and a line without a breach is a conversation."""
    folder = tmp_path_factory.mktemp("rules")
    path = file_of(folder, *rows)
    bad = {line.number for line in check(path, ANY)}
    for item in conversations(path):
        if item.number not in bad:
            assert isinstance(item, Conversation)
        if isinstance(item, Conversation):
            made = examples(item, maker="m", source="s")
            assert made
            for example in made:
                assert example.messages[-1].role == "user"
                assert example.answer.strip()
            # import makes one example of a row: the last of these, where it can be asked
            if item.turns[-1].learned and item.turns[-2:-1][0].role == "user":
                (row,) = read(file_of(folder, rows[item.number - 1], name="one"))
                assert (row.messages, row.answer) == (made[-1].messages, made[-1].answer)
