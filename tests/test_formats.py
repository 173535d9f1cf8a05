"""Examples in and out of files: every format, every kind of damage, through read and write."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import stat
import subprocess
import sys
import tracemalloc
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.errors import DiskError, SetupError, UnderstudyError, UsageError
from understudy.example import Example, Message
from understudy.formats import FORMATS, BadLine, format_of, read, write
from understudy.formats.source import CHUNK_BYTES

NASTY = (
    "👩‍👩‍👧‍👦",
    "שלום \u202eabc\u202c",
    "e\u0301 é",
    "a\u2028b\u2029c\x0b\x0c\x1c\x85d",
    "\ufeffmark",
    '=HYPERLINK("http://x")',
    "+1",
    "-1",
    "@SUM(A1)",
    "\tx",
    "\rx",
    "＝1",
    "＋1",
    "－1",
    "＠x",
    "'",
    "'=",
    "''+1",
    "'quoted'",
    "  spaces  ",
    'say "hi", she said;\tthen | left',
    "one\r\ntwo\rthree\n",
    '{"a": [1, "}"]}',
    "\\",
    "\\u0000",
    "NaN",
    "null",
)

PIECES = [
    *(bytes([byte]) for byte in b'",\n\r{}[]:\\1'),
    *(b"prompt", b"response", b'{"prompt":"p","response":"r"}'),
    *(b"\0", b"\xff", b"\xef\xbb\xbf", b"\x1f\x8b"),
]


def texts(*, nul: bool = True) -> st.SearchStrategy[str]:
    """Any text that says something, often one that has made a parser stumble before."""
    letters = st.characters(codec="utf-8", exclude_characters="" if nul else "\0")
    anything = st.text(letters, max_size=12)
    return st.builds(
        "".join, st.lists(st.one_of(st.sampled_from(NASTY), anything), min_size=1, max_size=3)
    ).filter(str.strip)


def single(text: st.SearchStrategy[str]) -> st.SearchStrategy[Example]:
    system = st.lists(text.map(lambda words: Message("system", words)), max_size=1)
    user = text.map(lambda words: [Message("user", words)])
    return st.builds(lambda s, u, a: Example((*s, *u), a), system, user, text)


def several(text: st.SearchStrategy[str]) -> st.SearchStrategy[Example]:
    rounds = st.lists(st.tuples(text, text), max_size=3)
    return st.builds(
        lambda example, earlier: Example(
            (
                *example.messages[:-1],
                *(m for q, a in earlier for m in (Message("user", q), Message("assistant", a))),
                example.messages[-1],
            ),
            example.answer,
        ),
        single(text),
        rounds,
    )


def example(prompt: str = "hello", answer: str = "hi", maker: str = "m") -> Example:
    return Example((Message("user", prompt),), answer, "generated", maker=maker)


def content(examples) -> list[tuple]:
    return [(e.messages, e.answer) for e in examples]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("formats")


@pytest.fixture
def load(tmp_path):
    """Write bytes or text to a file and read it: the examples and the bad lines."""

    def load(data: bytes | str, name: str = "f", **options):
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        items = list(read(path, **options))
        good = [item for item in items if isinstance(item, Example)]
        return good, [item for item in items if isinstance(item, BadLine)]

    return load


def pairs(examples) -> list[tuple[str, str]]:
    return [(e.input, e.answer) for e in examples]


def bad_json_lines(load, line: str | bytes) -> str:
    """The reason for ``line``, between two good rows, as JSONL and as an array."""
    line = line.encode() if isinstance(line, str) else line
    good = b'{"prompt": "p", "completion": "c"}'
    examples, bad = load(good + b"\n" + line + b"\n" + good, "x.jsonl")
    assert pairs(examples) == [("p", "c")] * 2
    assert [b.number for b in bad] == [2]
    examples, again = load(b"[" + good + b",\n" + line + b",\n" + good + b"]", "x.json")
    assert pairs(examples) == [("p", "c")] * 2
    assert [b.number for b in again] == [2]
    return bad[0].reason


# Round trips


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_what_is_written_is_read_again(folder, format, data):
    """Any text in any format comes back to the letter, whatever the file is called."""
    one_turn = format in ("csv", "tsv")
    each = single(texts(nul=False)) if one_turn else several(texts())
    examples = data.draw(st.lists(each, min_size=1, max_size=4))
    path = folder / f"round.{format}"
    write(path, examples, format)
    assert content(read(path)) == content(examples)
    assert content(read(path, format=format)) == content(examples)


@settings(max_examples=20, deadline=None)
@given(cell=texts(nul=False))
def test_no_cell_of_a_csv_begins_as_a_formula(folder, cell):
    """Every cell that a spreadsheet would run has an apostrophe in front; raw leaves it out."""
    path = folder / "guard.csv"
    write(path, [example(cell, cell)], "csv")
    with path.open(encoding="utf-8", newline="") as file:
        cells = list(csv.reader(file))[1]
    assert not any(found.startswith(tuple("=+-@\t\r＝＋－＠")) for found in cells)
    write(path, [example(cell, cell)], "csv", raw=True)
    with path.open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file))[1] == [cell, cell, ""]


@pytest.mark.parametrize("format", FORMATS)
def test_ten_megabytes_in_one_text_come_back(tmp_path, format):
    """A cell of 10 million characters is no obstacle, quotes and line breaks included."""
    long = ('a"\n,é' + "x" * 95) * 100_000
    path = tmp_path / "long"
    write(path, [example(long, "short"), example("p", "r")], format)
    assert pairs(read(path)) == [(long, "short"), ("p", "r")]


@pytest.mark.parametrize("format", FORMATS)
def test_system_message_goes_where_there_is_none(tmp_path, format):
    """The task's system message is written only for examples without one of their own."""
    own = Example((Message("system", "mine"), Message("user", "u")), "a")
    write(tmp_path / "f", [example(), own], format, system_message="the task")
    assert [e.messages[0] for e in read(tmp_path / "f")] == [
        Message("system", "the task"),
        Message("system", "mine"),
    ]


@pytest.mark.parametrize("format", ["csv", "tsv"])
@pytest.mark.parametrize(
    "misfit",
    [
        Example((Message("user", "a"), Message("assistant", "b"), Message("user", "c")), "d"),
        example("nul \0 here"),
    ],
)
def test_what_a_table_cannot_hold_is_refused(tmp_path, format, misfit):
    """Several turns or a NUL in a CSV is an error that names the example; nothing is written."""
    with pytest.raises(UsageError, match="example 2"):
        write(tmp_path / "f", [example(), misfit], format)
    assert not list(tmp_path.iterdir())


def test_alpaca_holds_only_question_and_answer_in_order(tmp_path):
    """Alpaca's history is made of pairs; two user turns in a row have no place in it."""
    misfit = Example((Message("user", "a"), Message("user", "b")), "c")
    with pytest.raises(UsageError, match="example 1"):
        write(tmp_path / "f", [misfit], "alpaca")


def test_lone_surrogates_are_written_as_replacement_characters(folder):
    """Half of a surrogate pair cannot be in any file, so U+FFFD stands for it."""
    for kind in FORMATS:
        write(folder / "f", [example("a\ud800b", "\udfff!")], kind)
        assert pairs(read(folder / "f")) == [("a\ufffdb", "\ufffd!")]


# What the formats look like


def test_formats_are_those_that_others_read(tmp_path):
    """One example in each JSON format has exactly the keys that its readers expect."""
    turns = (
        Message("system", "s"),
        Message("user", "q1"),
        Message("assistant", "a1"),
        Message("user", "q2"),
    )
    found = {}
    for kind in ("chat", "prompt", "alpaca", "sharegpt", "json"):
        write(tmp_path / "f", [Example(turns, "a2")], kind)
        found[kind] = json.loads((tmp_path / "f").read_text(encoding="utf-8"))
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "q1"},
        {"role": "assistant", "content": "a1"},
        {"role": "user", "content": "q2"},
    ]
    last = {"role": "assistant", "content": "a2"}
    weighted = [*messages[:2], messages[2] | {"weight": 0}, messages[3], last]
    assert found["chat"] == {"messages": weighted}
    assert found["json"] == [{"messages": weighted}]
    assert found["prompt"] == {"prompt": messages, "completion": [last]}
    assert found["alpaca"] == {
        "instruction": "q2",
        "input": "",
        "output": "a2",
        "system": "s",
        "history": [["q1", "a1"]],
    }
    assert [t["from"] for t in found["sharegpt"]["conversations"]] == [
        "system",
        "human",
        "gpt",
        "human",
        "gpt",
    ]


def test_lines_end_with_lf_and_letters_are_not_escaped(tmp_path):
    """Files are UTF-8 with LF, so that they can be read and compared by eye."""
    for kind in set(FORMATS) - {"parquet"}:
        write(tmp_path / "f", [example("größe"), example("ß")], kind)
        data = (tmp_path / "f").read_bytes()
        assert "größe".encode() in data
        assert b"\r" not in data
        assert data.endswith(b"\n")


def test_any_json_format_is_an_array_under_a_json_name(tmp_path):
    """Alpaca and ShareGPT files called .json are arrays, as their readers expect."""
    for kind in ("chat", "prompt", "alpaca", "sharegpt"):
        for count in (0, 1, 3):
            write(tmp_path / "f.json", [example()] * count, kind)
            assert len(json.loads((tmp_path / "f.json").read_bytes())) == count


def test_format_of_follows_the_suffix():
    """A known suffix stands for one format, an unknown one is an error that lists them."""
    names = {"a.jsonl": "chat", "a.JSON": "json", "a.csv": "csv", "a.tsv": "tsv"}
    assert {name: format_of(name) for name in names} == names
    assert format_of("a.parquet") == "parquet"
    with pytest.raises(UsageError, match="suffix"):
        format_of("a.docx")


# Reading what others wrote


def test_openai_weights_choose_the_answer(load):
    """The last assistant turn whose weight is not 0 is the answer; what follows is left out."""
    turns = [
        {"role": "user", "content": "q1"},
        {"role": "assistant", "content": "a1", "weight": 1},
        {"role": "user", "content": "q2"},
        {"role": "assistant", "content": "a2", "weight": 0},
    ]
    (found,), bad = load(json.dumps({"messages": turns}))
    assert not bad
    assert (found.messages, found.answer) == ((Message("user", "q1"),), "a1")


def test_chat_rows_in_other_clothes_are_read(load):
    """Developer messages, text parts and ShareGPT's names mean what they mean elsewhere."""
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    rows = [
        {
            "messages": [
                {"role": "developer", "content": "s"},
                {"role": "user", "content": parts},
                {"role": "assistant", "content": "c"},
            ]
        },
        {
            "system": "s",
            "conversations": [{"from": "human", "value": "ab"}, {"from": "gpt", "value": "c"}],
        },
        {"system": "s", "prompt": "ab", "completion": "c"},
        {"prompt": [{"role": "user", "content": "ab"}], "completion": "c", "system": "s"},
        {"instruction": "ab", "input": "", "output": "c", "system": "s", "history": []},
    ]
    found, bad = load("\n".join(map(json.dumps, rows)))
    assert not bad
    assert {(e.messages, e.answer) for e in found} == {
        ((Message("system", "s"), Message("user", "ab")), "c")
    }


def test_alpaca_instruction_and_input_are_one_prompt(load):
    """Instruction and input are joined by a line break, history comes before them."""
    row = {
        "instruction": "Translate",
        "input": "Haus",
        "output": "house",
        "history": [["Hallo", "hello"]],
    }
    (found,), _ = load(json.dumps([row]))
    assert found.messages == (
        Message("user", "Hallo"),
        Message("assistant", "hello"),
        Message("user", "Translate\nHaus"),
    )
    (dolly,), _ = load(
        '{"instruction": "Sum up", "context": "Long", "response": "short", "category": "x"}'
    )
    assert pairs([dolly]) == [("Sum up\nLong", "short")]


def test_values_that_are_no_text_become_json(load):
    """Numbers and booleans as JSON writes them, objects and lists as compact JSON."""
    rows = [
        {"text": 12, "label": 1.5},
        {"text": True, "label": False},
        {"text": {"ü": [1]}, "label": ["a", None]},
        {"text": "p", "label": []},
    ]
    found, bad = load("\n".join(map(json.dumps, rows)))
    assert not bad
    assert pairs(found) == [
        ("12", "1.5"),
        ("true", "false"),
        ('{"ü":[1]}', '["a",null]'),
        ("p", "[]"),
    ]


def test_only_the_completion_is_an_answer(load):
    """An assistant turn inside a prompt is never taken for the answer."""
    prompt = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    _, (bad,) = load(
        json.dumps({"prompt": prompt, "completion": [{"role": "user", "content": "x"}]})
    )
    assert "assistant" in bad.reason


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl", "a.parquet", "a"])
def test_content_tells_the_format_not_the_name(load, name):
    """The same bytes give the same examples under any name."""
    for data in (
        "prompt,response\np,r\n",
        "prompt\tresponse\np\tr\n",
        "\n\n  prompt;response\np;r",
        "response|prompt\r\nr|p\r\n",
        '{"prompt": "p", "response": "r"}',
        '\n \n[{"prompt": "p", "response": "r"}]',
    ):
        found, bad = load(data, name)
        assert (pairs(found), bad) == ([("p", "r")], [])


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("last", [True, False])
def test_encodings_and_ends_of_lines(load, newline, encoding, last):
    """Byte order marks, every end of line and a missing last one make no difference."""
    for lines in (
        ["prompt,response", "größe 👍,r1", "p2,r2"],
        ['{"prompt": "größe 👍", "response": "r1"}', '{"prompt": "p2", "response": "r2"}'],
        ["[", '{"prompt": "größe 👍", "response": "r1"},{"prompt": "p2",', '"response": "r2"}]'],
    ):
        data = (newline.join(lines) + newline * last).encode(encoding)
        if encoding == "utf-16-be":
            data = b"\xfe\xff" + data
        for bytes_ in (data, gzip.compress(data)):
            found, bad = load(bytes_)
            assert (pairs(found), bad) == ([("größe 👍", "r1"), ("p2", "r2")], [])


def test_files_longer_than_one_block_lose_nothing(load):
    """Rows that lie across the edges of blocks are whole, whatever the size of the rows."""
    for size in (1, 997, 65_536, 262_144, 700_001):
        texts = [f"{n}" + '\\"é}' * (size // 4) for n in range(max(4, min(2000, 300_000 // size)))]
        rows = [{"prompt": text, "response": "r\r\n"} for text in texts]
        jsonl = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        array = json.dumps(rows, ensure_ascii=False, indent=1)
        table = io.StringIO()
        writer = csv.writer(table)
        writer.writerows([("prompt", "response"), *((text, "r\r\n") for text in texts)])
        for data in (jsonl, array, table.getvalue()):
            found, bad = load(data)
            assert not bad
            assert pairs(found) == [(text, "r\r\n") for text in texts]


@pytest.mark.parametrize("shift", [-2, -1, 0, 1])
def test_an_end_of_line_across_two_blocks_counts_once(load, shift):
    """CR at the end of one block and LF at the start of the next end one line."""
    row = '{"prompt": "", "response": "r"}\r\n'
    padding = "x" * (CHUNK_BYTES - len(row) + 1 + shift)
    found, (bad,) = load(row.replace('""', f'"{padding}"') + "?\r\n")
    assert len(found) == 1
    assert bad.number == 2


# Columns


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("id,Text,LABEL", "1,p,r"),
        ("question,answer,topic", "p,r,t"),
        ("response,text,category", "r,p,c"),
        ("mail,label", "p,r"),
        ("text,mood", "p,r"),
        ("system,mail,answer", ",p,r"),
        (" prompt , response ", "p,r"),
    ],
)
def test_usual_columns_are_found(load, header, row):
    """Usual names in any case and order; of two columns, one known name is enough."""
    found, bad = load(f"{header}\n{row}\n")
    assert (pairs(found), bad) == ([("p", "r")], [])


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_named_columns_are_used(tmp_path, kind):
    """Columns that the user names win over all that could be guessed."""
    row = {"prompt": "no", "response": "no", "mail": "p", "Kind": "r", "who": "s"}
    path = tmp_path / "f"
    if kind == "csv":
        path.write_text("\n".join([",".join(row), ",".join(row.values())]))
    elif kind == "jsonl":
        path.write_text(json.dumps(row))
    else:
        parquet(path, **{name: [value] for name, value in row.items()})
    (found,) = read(path, prompt="mail", response="kind", system="who")
    assert found.messages == (Message("system", "s"), Message("user", "p"))
    assert found.answer == "r"
    with pytest.raises(UsageError, match=r"no column 'body'.*'mail'.*'Kind'"):
        list(read(path, prompt="body", response="Kind"))


@pytest.mark.parametrize(
    "header", ["subject,body,kind", "a,b", "text,question,answer", "text,label,category", "text"]
)
def test_columns_that_cannot_be_told_are_asked_for(load, header):
    """Unknown or several possible columns: nothing is guessed, the options to use are named."""
    row = ",".join("x" for _ in header.split(","))
    objects = json.dumps(dict.fromkeys(header.split(","), "x"))
    for data in (f"{header}\n{row}", objects):
        with pytest.raises(UsageError, match="--prompt COL --response COL"):
            load(data)


def test_a_needed_column_that_is_there_twice_is_refused(load):
    """Two columns of one name could mean either."""
    with pytest.raises(UsageError, match="twice"):
        load("text,text,label\na,b,c")


def test_later_objects_without_the_columns_are_bad_by_themselves(load):
    """Objects may differ; only the first one decides that the file is of the right kind."""
    found, bad = load(
        '{"prompt": "p", "response": "r", "who": "s"}\n{"prompt": "p", "response": "r"}\n'
        '{"a": 1}\n{"messages": [{"role": "user", "content": "p"},'
        '{"role": "assistant", "content": "r"}]}',
        system="who",
    )
    assert pairs(found) == [("p", "r")] * 3
    assert [b.number for b in bad] == [3]


# Bad rows


def turns(*after: str) -> str:
    """A chat row: a user's turn, and what comes after it."""
    return '{"messages": [' + ",".join(['{"role": "user", "content": "p"}', *after]) + "]}"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("nonsense", "not JSON"),
        ('{"prompt": "p\x01", "completion": "c"}', "not JSON"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested"),
        ('{"prompt": ' + "9" * 5000 + ', "completion": "c"}', "digits"),
        ('{"prompt": NaN, "completion": "c"}', "NaN"),
        ('{"prompt": -Infinity, "completion": "c"}', "Infinity"),
        ('{"prompt": 1e999, "completion": "c"}', "large"),
        ('{"prompt": "p", "completion": "c", "prompt": "q"}', "'prompt' twice"),
        ('"text"', "not a JSON object"),
        ("12", "not a JSON object"),
        ('["p", "c"]', "not a JSON object"),
        (b'{"prompt": "\xff\xfe", "completion": "c"}', "not UTF-8"),
        ('{"prompt": "  ", "completion": "c"}', "empty prompt"),
        ('{"prompt": [], "completion": "c"}', "empty prompt"),
        ('{"prompt": "p", "completion": ""}', "empty answer"),
        ('{"prompt": "p", "completion": null}', "empty answer"),
        ('{"messages": "p"}', "not a list"),
        ('{"messages": []}', "no assistant turn"),
        ('{"messages": ["p"]}', "not an object"),
        ('{"messages": [{"content": "p"}]}', "without a role"),
        ('{"messages": [{"role": {}, "content": "p"}]}', "without a role"),
        ('{"messages": [{"role": "user", "content": "p"}]}', "no assistant turn"),
        ('{"messages": [{"role": "narrator", "content": "p"}]}', "unknown role 'narrator'"),
        ('{"messages": [{"role": "user", "content": 5}]}', "not text"),
        (turns('{"role": "assistant", "content": null}'), "empty answer"),
        ('{"messages": [{"role": "tool", "content": "p"}]}', "tool calls"),
        (turns('{"role": "assistant", "tool_calls": [{"id": "1"}]}'), "tool calls"),
        (
            '{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}',
            "image_url",
        ),
        (turns('{"role": "assistant", "content": "c", "weight": 0}'), "weight 0"),
        (turns('{"role": "assistant", "content": "c", "weight": 2}'), "neither 0 nor 1"),
        ('{"messages": [{"role": "assistant", "content": "c"}]}', "no user turn"),
        (
            turns(
                '{"role": "system", "content": "s"}',
                '{"role": "user", "content": "p"}',
                '{"role": "assistant", "content": "c"}',
            ),
            "system message",
        ),
        ('{"conversations": [{"from": "observation", "value": "p"}]}', "tool calls"),
        ('{"instruction": "p", "output": "c", "history": "x"}', "history"),
        ('{"other": 1}', "no known column"),
    ],
)
def test_a_bad_row_is_named_and_the_others_are_kept(load, line, reason):
    """Each kind of bad row gives its number and its reason, in JSONL and in an array."""
    assert reason in bad_json_lines(load, line)


def test_surrogates_and_nul_in_json(load):
    """NUL is kept, a pair of escapes is one character, half of a pair becomes U+FFFD."""
    (found,), bad = load('{"prompt": "a\\u0000b\\ud83d\\ude00", "response": "x\\ud83d \\udc00y"}')
    assert not bad
    assert pairs([found]) == [("a\0b😀", "x\ufffd \ufffdy")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a\0b,r", "NUL"),
        (b"\xff\xfe,r", "not UTF-8"),
        ("a,b,c", "3 cells where the header has 2"),
        (",r", "empty prompt"),
        ("p,", "empty answer"),
        ("p", "empty answer"),
        ('"say "hi", he",r', "not doubled"),
    ],
)
def test_a_bad_line_of_a_csv_is_named_and_the_others_are_kept(load, line, reason):
    """Each kind of bad line gives its number, also after a cell that goes over lines."""
    line = line.encode() if isinstance(line, str) else line
    found, bad = load(b'prompt,response\n"p\np",r\n' + line + b"\np,r\n")
    assert pairs(found) == [("p\np", "r"), ("p", "r")]
    assert [b.number for b in bad] == [4]
    assert reason in bad[0].reason


def test_a_quote_that_is_never_closed_costs_one_line(load):
    """The lines that a stray quote swallowed are read again, whether or not a later one closes."""
    rows = "".join(f"p{n},r{n}\n" for n in range(1000))
    expected = [(f"p{n}", f"r{n}") for n in range(1000)]
    for after in ("", '"p",r\n'):
        found, bad = load(f'prompt,response\n"oh no,r\n{rows}{after}')
        assert [b.number for b in bad] == [2]
        assert pairs(found)[:1000] == expected


def test_after_a_broken_quote_rows_must_be_complete(load):
    """What may be the middle of a long cell is no row, unless it has every cell."""
    found, bad = load('prompt,response,note\np,r\n"oh no,r,n\none, two\np,r,n\n')
    assert pairs(found) == [("p", "r")] * 2
    assert [b.number for b in bad] == [3, 4]


def test_many_stray_quotes_end_soon(load):
    """A file made of quotes that swallow each other costs bounded work, and every line is named."""
    found, bad = load("prompt,response\n" + 'x",a,"\n' * 200_000)
    assert not found
    assert bad[-1].number <= 200_001
    assert "lost" in bad[-1].reason


def test_a_csv_that_was_cut_off_loses_its_last_row_only(load):
    """The middle of a long cell is not taken for rows when the end of the file is missing."""
    found, bad = load('prompt,response\np,r\n"q","one, two\nthree, four\nfive, si')
    assert pairs(found) == [("p", "r")]
    assert [b.number for b in bad] == [3]
    assert "cut off" in bad[0].reason


def test_quotes_of_programs_that_know_none_are_letters(load):
    """A line that is no quoted CSV but splits into the right cells is read as it stands."""
    found, bad = load('text\tlabel\n"Great" film\tgood\nIt is "ok"\tfair\n')
    assert not bad
    assert pairs(found) == [('"Great" film', "good"), ('It is "ok"', "fair")]
    found, bad = load('"text", "label"\n"a, b", "c"\n')
    assert (pairs(found), bad) == ([("a, b", "c")], [])


def test_blank_lines_and_short_rows_of_spreadsheets(load):
    """Blank lines and empty cells at the ends of rows, as spreadsheets leave them, are fine."""
    found, bad = load("prompt,response,note\n\np,r\n,,\np,r,n,,,\n\n")
    assert (pairs(found), bad) == ([("p", "r")] * 2, [])


def test_rows_that_are_too_long_are_skipped_without_being_held(tmp_path):
    """A row over 32 MB is bad in every container, those after it are read, memory stays bounded."""
    row = b'{"prompt": "p", "response": "r"}'
    for start, between, end in ((b"", b"\n", b""), (b"[", b",", b"]")):
        path = tmp_path / "f"
        with path.open("wb") as file:
            file.write(start + row + between + b'{"prompt": "')
            for _ in range(60):
                file.write(b"x" * 2**20)
            file.write(b'", "response": "r"}' + between + row + end)
        tracemalloc.start()
        items = list(read(path))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert [type(item) for item in items] == [Example, BadLine, Example]
        assert items[1] == BadLine(2, "longer than 32 MB")
        assert peak < 80 * 2**20
    path.write_bytes(b"prompt,response\np,r\n" + b"x" * (40 * 2**20) + b",r\np,r\n")
    assert [type(item) for item in read(path)] == [Example, BadLine, Example]
    path.write_bytes(b"prompt,response\np,r\n" + b"x" * (11 * 2**20) + b",r\np,r\n")
    assert [type(item) for item in read(path)] == [Example, BadLine, Example]


@pytest.mark.parametrize("format", ["chat", "json", "csv", "parquet"])
def test_a_big_file_is_streamed(tmp_path, format):
    """Reading and writing 30 MB takes a few MB of memory."""
    path = tmp_path / "big"
    big = "0123456789abcdef" * 1000
    tracemalloc.start()
    write(path, (example(f"{n} {big}") for n in range(2000)), format)
    count = sum(isinstance(item, Example) for item in read(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 2000
    assert peak < 20 * 2**20


# Bad files


@pytest.mark.parametrize("data", [b"", b"\n \n", b"\xef\xbb\xbf", gzip.compress(b"", mtime=0)])
def test_an_empty_file_is_a_usage_error(load, data):
    """Nothing at all, blanks or a lone byte order mark: the file is empty."""
    with pytest.raises(UsageError, match="is empty"):
        load(data)


def test_what_is_no_file_is_a_usage_error(tmp_path):
    """Missing files, folders and pipes are refused at once, before any row is asked for."""
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (
        ("none", "no file"),
        ("", "folder"),
        ("pipe", "regular"),
        ("\0", "no file"),
    ):
        with pytest.raises(UsageError, match=reason):
            read(f"{tmp_path}/{name}")


@pytest.mark.parametrize(
    ("data", "options", "reason"),
    [
        (b"PK\x03\x04 sheet", {}, "Excel"),
        (b'{\n  "messages": []\n}', {}, "many lines"),
        (b"prompt,response\np,r", {"format": "parquet"}, "not a Parquet"),
        (b"prompt,response\np,r", {"format": "xml"}, "unknown format 'xml'"),
        (b'{"prompt": "p", "response": "r"}', {"format": "chat"}, "no column 'messages'"),
        (b'"prompt,response\np,r\n', {}, "header"),
        (b"prompt\0,response\np,r\n", {}, "header"),
        (b"\x1f\x8bnot gzip", {}, "gzip"),
        (b"PAR1 and no more", {}, "not a whole Parquet file"),
    ],
)
def test_a_file_of_the_wrong_kind_is_a_usage_error(load, data, options, reason):
    """The error says what the file is, and what to do about it."""
    with pytest.raises(UsageError, match=reason) as caught:
        load(data, **options)
    assert caught.value.fix


def test_the_format_that_was_given_is_obeyed(load):
    """A CSV whose text looks like JSON, or a TSV full of commas, is read as it was said."""
    found, _ = load("{a},response\n{b},r", format="csv", prompt="{a}")
    assert pairs(found) == [("{b}", "r")]
    found, _ = load("prompt\tresponse,x\na,b\tc,d", format="tsv", response="response,x")
    assert pairs(found) == [("a,b", "c,d")]
    _, bad = load('{"messages": [], "prompt": "p", "response": "r"}', format="chat")
    assert len(bad) == 1


def test_damaged_gzip_gives_the_rows_before_the_damage(load):
    """A cut or broken archive yields what came before it and says where it ends."""
    data = "".join(
        json.dumps({"prompt": f"{os.urandom(20).hex()}", "response": "r"}) + "\n"
        for _ in range(12_000)
    )
    packed = gzip.compress(data.encode())
    for damaged in (packed[:-9], packed[: len(packed) // 2], packed[:-8] + b"\0" * 8):
        found, bad = load(damaged)
        assert len(found) > 1000
        assert [b.number for b in bad] == [len(found) + 1]
        assert "gzip" in bad[0].reason


def test_a_gzip_bomb_stops(load, monkeypatch):
    """Unpacking ends when the text has become much larger than the archive."""
    monkeypatch.setattr("understudy.formats.source.GZIP_FREE_BYTES", 2**20)
    line = b'{"prompt": "p", "response": "r"}\n'
    found, bad = load(gzip.compress(line * 200_000))
    assert 0 < len(found) < 100_000
    assert "100 times" in bad[-1].reason


def test_arrays_that_end_badly_keep_their_rows(load):
    """A cut array, or text behind it, is reported after the rows."""
    row = '{"prompt": "p", "response": "r"}'
    for data in (
        f"[{row},{row}",
        f"[{row},{row},",
        f"[{row},{row}] {row}",
        f"[{row},{row},{row[:9]}",
    ):
        found, bad = load(data)
        assert len(found) == 2
        assert bad
        assert bad[0].number == 3
    assert load("[]") == ([], [])
    found, bad = load(f"[{row}, 12]")
    assert (len(found), [b.number for b in bad]) == (1, [2])


def test_an_unreadable_file_is_a_disk_error():
    """What the system refuses to read is an error of the disk, with the system's own word."""
    with pytest.raises(DiskError, match="cannot be read"):
        read("/proc/self/mem")


def test_parquet_without_its_package_names_the_command(folder, monkeypatch):
    """Missing pyarrow is a matter of set-up, solved by one line."""
    write(folder / "p", [example()], "parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SetupError, match=r'pip install "understudy\[parquet\]"'):
        list(read(folder / "p"))
    with pytest.raises(SetupError):
        write(folder / "q", [example()], "parquet")
    assert not (folder / "q").exists()


def parquet(path: Path, **columns) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), str(path))
    return path


def test_values_of_parquet_become_text(tmp_path):
    """Dates and decimals as they are written, null and NaN are empty, bytes are no text."""
    prompts = [date(2026, 11, 22), None]
    items = list(read(parquet(tmp_path / "a", text=prompts, label=[Decimal("1.50"), Decimal(2)])))
    assert pairs(items[:1]) == [("2026-11-22", "1.50")]
    assert items[1:] == [BadLine(2, "empty prompt")]
    for values, reason in (
        ([float("nan")], "empty answer"),
        ([b"r"], "bytes"),
        ([[float("nan")]], "as JSON"),
    ):
        (bad,) = read(parquet(tmp_path / "b", text=["p"], label=values))
        assert reason in bad.reason


def test_parquet_with_too_many_columns_is_refused(tmp_path):
    """A file with thousands of columns is an error that says how many are read."""
    path = parquet(tmp_path / "wide", **{f"c{n}": [1] for n in range(1001)})
    with pytest.raises(UsageError, match="1001 columns"):
        list(read(path))


def test_damaged_parquet_is_reported(tmp_path):
    """Flipped bytes in the data give an error or a bad row, and never a crash."""
    path = tmp_path / "f"
    write(path, [example(os.urandom(50).hex()) for _ in range(3000)], "parquet")
    sound = path.read_bytes()
    for at in range(10, len(sound), len(sound) // 40):
        path.write_bytes(
            sound[:at] + bytes(b ^ 0x55 for b in sound[at : at + 40]) + sound[at + 40 :]
        )
        try:
            items = list(read(path))
        except UnderstudyError:
            continue
        assert len(items) <= 3001


@settings(max_examples=100, deadline=None)
@given(
    data=st.binary(max_size=60)
    | st.lists(
        st.sampled_from(PIECES),
        max_size=25,
    ).map(b"".join),
    start=st.sampled_from([b"", b"[", b"{", b"prompt,response\n", b"\xff\xfe", b"\xfe\xff"]),
)
def test_no_bytes_make_it_crash(folder, data, start):
    """Whatever the bytes, there are examples, bad lines or one clear error."""
    path = folder / "fuzz"
    path.write_bytes(start + data)
    try:
        items = list(read(path))
    except UsageError:
        return
    assert all(isinstance(item, (Example, BadLine)) for item in items)


# Importing again


@pytest.mark.parametrize("format", FORMATS)
def test_keys_are_those_of_the_content(tmp_path, format):
    """The same file, a longer one and another format give known rows the keys they had."""
    rows = [example("a"), example("b"), example("a"), example("a", "other"), example("a")]
    write(tmp_path / "one", rows, format)
    write(tmp_path / "two", [example("new"), *rows, example("a")], "chat")
    first = [e.source for e in read(tmp_path / "one")]
    assert len(set(first)) == 5
    assert first == [e.source for e in read(tmp_path / "one")]
    grown = [e.source for e in read(tmp_path / "two")]
    assert len(set(grown) - set(first)) == 2
    assert set(first) < set(grown)


@settings(max_examples=30, deadline=None)
@given(first=several(texts()), second=several(texts()))
def test_different_content_has_different_keys(folder, first, second):
    """Keys are equal exactly when messages and answer are."""
    write(folder / "keys", [first, second], "chat")
    one, two = read(folder / "keys")
    same = (first.messages, first.answer) == (second.messages, second.answer)
    assert (one.source.split(":")[0] == two.source.split(":")[0]) is same
    assert one.source != two.source


def test_an_answer_that_looks_like_turns_has_a_key_of_its_own(folder):
    """Where messages end and the answer begins is part of the key."""
    turns = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    write(folder / "alike", [Example(turns, "d"), example("a", "assistant:1:buser:1:cd")], "chat")
    one, two = read(folder / "alike")
    assert one.source.split(":")[0] != two.source.split(":")[0]


def test_imported_examples_say_where_they_came_from(load):
    """Origin is imported, the maker is the file's name, nothing has judged them yet."""
    (found,), _ = load("prompt,response\np,r", "mail.csv")
    assert (found.origin, found.maker, found.state) == ("imported", "mail.csv", "new")


# Whole or not at all


@pytest.mark.parametrize("format", FORMATS)
def test_the_manifest_tells_what_was_written(tmp_path, format):
    """Counts, bytes and hash are those of the file; the same is returned and saved."""
    import hashlib

    rows = [
        example(maker="b"),
        example(maker="a"),
        Example((Message("user", "u"),), "a", maker="b"),
    ]
    path = tmp_path / "f.data"
    manifest = write(path, rows, format)
    data = path.read_bytes()
    assert (manifest.file, manifest.format, manifest.examples) == ("f.data", format, 3)
    assert (manifest.bytes, manifest.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (manifest.origins, manifest.makers) == (
        {"generated": 2, "imported": 1},
        {"a": 1, "b": 2},
    )
    saved = json.loads((tmp_path / "f.data.manifest.json").read_text(encoding="utf-8"))
    assert saved["sha256"] == manifest.sha256
    assert saved["makers"] == manifest.makers
    assert write(path, rows, format) == manifest
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("format", FORMATS)
def test_a_failure_midway_leaves_the_old_file(tmp_path, format):
    """What the examples raise passes through; old file and manifest are untouched, no rest."""
    path = tmp_path / "f"
    write(path, [example()], format)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def failing():
        yield from [example(f"{n}") for n in range(3000)]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, failing(), format)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


FULL_DISK = """
import os, resource, sys
from understudy.errors import DiskError
from understudy.example import Example, Message
from understudy.formats import write
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
rows = (Example((Message("user", os.urandom(500).hex()),), "a") for _ in range(20_000))
try:
    write(sys.argv[1], rows, sys.argv[2])
except DiskError as error:
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize("format", ["chat", "csv", "parquet"])
def test_a_full_disk_leaves_the_old_file(tmp_path, format):
    """A write that the system refuses is a DiskError; the old file is whole, no rest is left."""
    path = tmp_path / "f"
    write(path, [example()], format)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path), format], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (9, b"")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_odd_targets_are_refused(tmp_path):
    """Folders, links, pipes, missing folders and impossible names: an error, nothing touched."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "x.manifest.json").symlink_to("file")
    for name in ("folder", "link", "pipe", "none/f", "file/f", "x", "a\0b", "", ".."):
        with pytest.raises(UsageError):
            write(f"{tmp_path}/{name}", [example()], "chat")
    with pytest.raises(DiskError):
        write(tmp_path / ("n" * 300), [example()], "chat")
    with pytest.raises(UsageError, match="unknown format"):
        write(tmp_path / "f", [example()], "xml")
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "file",
        "folder",
        "link",
        "pipe",
        "x.manifest.json",
    ]


def test_no_examples_is_a_whole_file(tmp_path):
    """An empty choice still gives a file of the format, and a manifest that says 0."""
    for kind in FORMATS:
        assert write(tmp_path / "f", [], kind).examples == 0
        if kind in ("csv", "json", "parquet"):
            assert list(read(tmp_path / "f")) == []


def test_importing_formats_loads_nothing_heavy():
    """pyarrow is loaded when a Parquet file is touched, and no sooner."""
    heavy = "{'pyarrow', 'numpy', 'pandas'}"
    code = f"import sys, understudy.formats; print([*({heavy} & sys.modules.keys())])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
