"""adopt, through the command line: what a fine-tuned model leaves behind becomes a project."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import PRICES
from exports import (
    PLANTED,
    SYSTEM,
    array,
    chatgpt,
    completions,
    fine_tuning,
    lines,
    planted,
    sharegpt,
    turns,
)
from understudy import Project
from understudy.errors import UsageError
from understudy.formats import BadLine
from understudy.formats.chats import read_chats
from understudy.formats.conversations import examples


def stored(folder: Path) -> list[sqlite3.Row]:
    with sqlite3.connect(folder / "understudy.db") as database:
        database.row_factory = sqlite3.Row
        return database.execute("SELECT * FROM example ORDER BY id").fetchall()


def sides(folder: Path, dataset: int = 1) -> dict[str, list[dict]]:
    return {
        path.stem: [json.loads(line) for line in path.read_text().splitlines()]
        for path in (folder / "datasets" / str(dataset)).glob("*.jsonl")
    }


def words(folder: Path) -> str:
    """Everything that is written anywhere in the project, as text."""
    return "".join(
        path.read_bytes().decode("utf-8", "replace") for path in folder.rglob("*") if path.is_file()
    )


def test_a_fine_tuning_file_becomes_a_project(understudy, tmp_path):
    """Task, system message, kind, rows, dataset; the next commands work as they are printed."""
    path = lines(tmp_path / "dates.jsonl", fine_tuning(150))
    done = understudy("adopt", path, "--old", "openai:ft:gpt-3.5-turbo-0125:acme::Ab1")
    assert done.code == 0, done.err
    assert "150 new, 150 accepted" in done.out
    assert "the same in all rows" in done.out
    assert "understudy evaluate -p dates" in done.out
    folder = tmp_path / "dates"
    project = Project(folder)
    assert project.settings.teacher == "openai:ft:gpt-3.5-turbo-0125:acme::Ab1"
    assert project.spec.system_message == SYSTEM
    assert (project.task.description, project.task.author) == (SYSTEM, "examples")
    project.close()
    rows = sides(folder)
    assert sum(map(len, rows.values())) == 150
    assert [turn["role"] for turn in rows["train"][0]["prompt"]] == ["system", "user"]
    assert rows["train"][0]["prompt"][0]["content"] == SYSTEM
    assert all(row["messages"].count("system") == 0 for row in stored(folder))


def test_the_same_file_again_adds_nothing_and_more_adds_the_rest(understudy, tmp_path):
    """Also from within the folder, and when the file has grown."""
    rows = fine_tuning(60) + fine_tuning(12, seed=9, rounds=3)
    path = lines(tmp_path / "dates.jsonl", rows[:40] + rows[60:])
    first = understudy("adopt", path, "--json").json
    assert first["added"] == first["accepted"] == 40 + 36
    again = understudy("adopt", path, "-p", "dates", "--json").json
    assert (again["added"], again["dataset"]) == (0, first["dataset"])
    lines(path, rows)
    more = understudy("adopt", path, "-p", "dates", "--json").json
    assert more["added"] == 20
    assert len(stored(tmp_path / "dates")) == 96
    old, new = sides(tmp_path / "dates", 1), sides(tmp_path / "dates", more["dataset"])
    for side, members in old.items():
        assert {row["id"] for row in members} <= {row["id"] for row in new[side]}


def test_the_kind_of_each_file_is_told_by_its_content(understudy, tmp_path):
    """Five shapes, several files at once, whatever they are called."""
    files = {
        "chat": lines(tmp_path / "a", fine_tuning(20, seed=11)),
        "chatgpt": array(tmp_path / "b.txt", chatgpt(15)),
        "completions": lines(tmp_path / "c.json", completions(30)),
        "sharegpt": array(tmp_path / "d.log", sharegpt(30)),
        "pairs": lines(
            tmp_path / "e.csv",
            [{"prompt": f"Day {n}", "completion": f"2020-01-{n:02}"} for n in range(1, 21)],
        ),
    }
    page = {"object": "list", "data": completions(10, seed=21), "has_more": False}
    files["page"] = tmp_path / "f"
    files["page"].write_text(json.dumps(page, indent=2))
    body = understudy("adopt", *files.values(), "-p", "all", "--json").json
    told = [(file["kind"], file["conversations"], file["examples"]) for file in body["files"]]
    assert told == [
        ("chat", 20, 20),
        ("chatgpt", 15, 30),
        ("completions", 30, 30),
        ("sharegpt", 30, 30),
        ("pairs", 20, 20),
        ("completions", 10, 10),
    ]
    assert body["added"] == 140
    assert body["system_message"] == SYSTEM
    assert body["no_system"] == 35
    makers = Counter(row["maker"] for row in stored(tmp_path / "all"))
    assert makers == {"a": 20, "b.txt": 30, "c.json": 30, "d.log": 30, "e.csv": 20, "f": 10}


def test_conversations_are_kept_whole(understudy, tmp_path):
    """Every learned turn with all turns before it; no split parts a conversation."""
    rows = fine_tuning(60, seed=5, rounds=4)
    for row in rows[:10]:
        row["messages"][2]["weight"] = 0
    body = understudy("adopt", lines(tmp_path / "x.jsonl", rows), "-p", "p", "--json").json
    assert body["files"][0]["examples"] == 60 * 4 - 10
    first_questions = {row["messages"][1]["content"]: number for number, row in enumerate(rows)}
    seen: dict[int, set[str]] = {}
    lengths: Counter[int] = Counter()
    for side, members in sides(tmp_path / "p").items():
        for row in members:
            turn = row["prompt"][1:]
            conversation = rows[first_questions[turn[0]["content"]]]["messages"]
            plain = [{"role": one["role"], "content": one["content"]} for one in conversation]
            assert [*turn, *row["completion"]] == plain[1 : len(turn) + 2]
            seen.setdefault(first_questions[turn[0]["content"]], set()).add(side)
            lengths[len(turn)] += 1
    assert lengths == {1: 50, 3: 60, 5: 60, 7: 60}
    assert len(seen) == 60
    assert all(len(of) == 1 for of in seen.values())
    assert set().union(*seen.values()) == {"train", "validation", "test"}


def test_near_conversations_stay_on_one_side_and_repeats_are_set_apart(understudy, tmp_path):
    """A conversation again, within and across files, and one that differs in its last answer."""
    talks = [
        turns(
            [
                (f"Where is parcel {n}{n}{n} that I ordered on day {n} of the month?", f"On {n}."),
                (f"And the one that my neighbour {n} ordered with it, is it there?", f"No {n}!"),
            ],
            "",
        )
        for n in range(100, 160)
    ]
    near = json.loads(json.dumps(talks))
    for talk in near:
        talk[-1]["content"] = "Yes, since yesterday at the latest"
    one = lines(tmp_path / "one.jsonl", [{"messages": talk} for talk in talks + talks[:5]])
    two = lines(tmp_path / "two.jsonl", [{"messages": talk} for talk in near])
    body = understudy("adopt", one, two, "-p", "p", "--json").json
    assert body["reasons"]["duplicate"] >= 10
    groups: dict[str, set[str]] = {}
    for row in stored(tmp_path / "p"):
        opening = next(text for role, text in json.loads(row["messages"]) if role == "user")
        groups.setdefault(opening, set()).add(row["grouping"])
    assert len(groups) == 60
    assert all(len(group) == 1 for group in groups.values())


def test_a_common_greeting_joins_nothing_and_a_longer_export_stays_with_the_first(
    understudy, tmp_path
):
    """Chats that all begin with Hello are split like any; one that went on keeps its group."""
    hello = ("Hello", "Hello! What can I do for you?")
    chats = [
        turns([hello, (f"Parcel {n * 7919} is late by {n} days, why?", f"Storm in {n}.")], "")
        for n in range(100, 160)
    ]
    path = lines(tmp_path / "c.jsonl", [{"messages": chat} for chat in chats])
    body = understudy("adopt", path, "-p", "p", "--json").json
    assert min(body["counts"].values()) >= 2
    assert len({row["grouping"] for row in stored(tmp_path / "p")}) == 60
    longer = [
        {"messages": [*chat, *turns([(f"When will {n} end?", f"On day {n}.")], "")]}
        for n, chat in enumerate(chats)
    ]
    again = understudy("adopt", lines(path, longer), "-p", "p", "--json").json
    assert again["added"] == 60
    groups: dict[str, set[str]] = {}
    for row in stored(tmp_path / "p"):
        said = [text for _, text in json.loads(row["messages"])]
        if len(said) > 1:
            groups.setdefault(said[2], set()).add(row["grouping"])
    assert all(len(group) == 1 for group in groups.values())


def test_bad_lines_are_told_and_kept_out(understudy, tmp_path):
    """Exit 6, as import does; each with file, line and reason."""
    rows: list[object] = list(fine_tuning(30))
    rows[3] = "{broken"
    rows[7] = {"messages": [{"role": "user", "content": "only asked"}]}
    rows[9] = {"messages": [*turns([("a", "")]), {"role": "tool", "content": "x"}]}
    rows[11] = {"id": "x", "choices": [{"message": {"content": "y"}, "finish_reason": "stop"}]}
    rows[13] = completions(1)[0] | {
        "choices": [{"finish_reason": "length", "message": {"content": "2020-0"}}]
    }
    path = lines(tmp_path / "dates.jsonl", rows)
    done = understudy("adopt", path, "-p", "p")
    assert done.code == 6
    for number, reason in (
        (4, "not JSON"),
        (8, "no assistant turn"),
        (10, "tool calls cannot be learned"),
        (12, "a completion without the messages that were asked"),
        (14, "the answer was cut off"),
    ):
        assert f"{path}:{number}: {reason}" in done.err
    assert len(stored(tmp_path / "p")) == 25


def test_no_secret_gets_into_the_project_or_is_shown(understudy, tmp_path):
    """In questions, answers, system messages, keys of bad lines: counted by kind and line."""
    rows = fine_tuning(len(PLANTED) * 3 + 30, seed=6)
    for number, kind in enumerate(PLANTED):
        rows[3 * number]["messages"][1]["content"] += f" {planted(kind)} "
        rows[3 * number + 1]["messages"][2]["content"] += f"\n{planted(kind)}"
        rows[3 * number + 2]["messages"][0]["content"] += f" ({planted(kind)})"
    bad = [{planted("OpenAI key"): 1, "x": 2}, {"messages": [{"role": PLANTED["GitHub token"]}]}]
    path = lines(tmp_path / "dates.jsonl", [*rows, *bad])
    done = understudy("adopt", path, "-p", "p", "--json")
    assert done.code == 6
    assert done.json["exit_code"] == 6  # as for import, the error follows the result
    body = json.loads(done.out.splitlines()[-2])
    assert body["secrets"] == dict.fromkeys(PLANTED, 3)
    assert [line for _, line, _ in body["places"]] == list(range(1, 3 * len(PLANTED) + 1))
    text = understudy("adopt", path, "-p", "p")
    assert f"{path.name}:1: OpenAI key cut out" in text.err
    written = words(tmp_path / "p") + done.out + done.err + text.out + text.err
    for kind, secret in PLANTED.items():
        assert secret not in written, kind
    assert written.count("[secret]") >= 2 * len(PLANTED)


def test_personal_data_is_counted_and_cut_only_on_request(understudy, tmp_path):
    """It may be what the task is about."""
    rows = fine_tuning(30)
    rows[0]["messages"][1]["content"] += " from ann@example.com, +44 20 7946 0958"
    path = lines(tmp_path / "dates.jsonl", rows)
    kept = understudy("adopt", path, "-p", "kept")
    assert "1 e-mail address, 1 phone number: kept (--cut-personal cuts them)" in kept.out
    assert "ann@example.com" in words(tmp_path / "kept")
    understudy("adopt", path, "-p", "cut", "--cut-personal")
    assert "ann@example.com" not in words(tmp_path / "cut")
    assert "[e-mail]" in words(tmp_path / "cut")


def test_system_messages_decide_the_task(understudy, tmp_path):
    """The common one is the task's, others are kept by their rows; none at all stays none."""
    mixed = fine_tuning(40) + fine_tuning(10, seed=8, system="Answer in French.")
    body = understudy("adopt", lines(tmp_path / "m", mixed), "-p", "mixed", "--json").json
    assert (body["system_message"], body["system_messages"], body["own_system"]) == (SYSTEM, 2, 10)
    own = [row for row in stored(tmp_path / "mixed") if "French" in row["messages"]]
    assert len(own) == 10

    many = [
        row for n in range(5) for row in fine_tuning(8, seed=30 + n, system=f"You are bot {n}.")
    ]
    text = understudy("adopt", lines(tmp_path / "n", many), "-p", "many").out
    assert "5 different ones, none of them in most rows: rows keep their own" in text

    bare = lines(tmp_path / "bare", fine_tuning(30, system=""))
    done = understudy("adopt", bare, "-p", "none")
    assert "none in any row: the student is run without one" in done.out
    prompts = [row["prompt"] for side in sides(tmp_path / "none").values() for row in side]
    assert all([turn["role"] for turn in prompt] == ["user"] for prompt in prompts)


def test_labels_and_json_are_recognised(understudy, tmp_path):
    """By the answers, as for imported rows; the system message stays that of the rows."""
    labels = ["billing", "delivery", "returns"]
    rows = [
        {"messages": turns([(f"Ticket {n}: {'x' * (n % 7)} {n * 37}", labels[n % 3])], "Sort it.")}
        for n in range(90)
    ]
    body = understudy("adopt", lines(tmp_path / "l", rows), "-p", "labels", "--json").json
    assert (body["kind"], body["system_message"]) == ("label", "Sort it.")
    rows = [
        {
            "messages": turns(
                [(f"Mail {n} {n * 31}", json.dumps({"order": n, "urgent": n % 2 == 0}))]
            )
        }
        for n in range(40)
    ]
    body = understudy("adopt", lines(tmp_path / "j", rows), "-p", "json", "--json").json
    assert (body["kind"], body["system_message"]) == ("json", SYSTEM)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"prompt,response\na,b\n", "is not JSON"),
        (b'{"messages": []}\n', "nothing to learn"),
        (b"\x1f\x8b\x08nothing", "gzip"),
        (b"[1, 2", "nothing to learn"),
    ],
)
def test_a_file_with_nothing_to_learn_makes_no_project(understudy, tmp_path, content, told):
    """One line, exit 2, and no folder is left behind."""
    (tmp_path / "x.jsonl").write_bytes(content)
    done = understudy("adopt", "x.jsonl")
    assert done.code == 2, done.err
    assert told in done.err
    assert not (tmp_path / "x").exists()


def test_what_is_refused(understudy, tmp_path):
    """A missing file, a project of another kind, a model without a price, too few rows."""
    path = lines(tmp_path / "dates.jsonl", fine_tuning(30))
    assert understudy("adopt", "none.jsonl").code == 2
    understudy("new", "other", "--describe", "Something else")
    done = understudy("adopt", path, "-p", "other")
    assert (done.code, "did not make" in done.err) == (2, True)
    done = understudy("adopt", path, "-p", "new", "--old", "http://127.0.0.1:9/v1#x")
    assert done.code == 2
    assert "--price-in" in done.err
    assert not (tmp_path / "new").exists()
    few = understudy("adopt", lines(tmp_path / "few", [*fine_tuning(5), {"x": 1}]), "-p", "small")
    assert (few.code, "Too few to split" in few.err) == (2, True)
    assert f"{tmp_path / 'few'}:6: " in few.err, "why they are so few"


# -- shapes ------------------------------------------------------------------------------------


def read_one(folder: Path, row: object):
    (found,) = read_chats(lines(folder / "one.jsonl", [row]))
    return found


def message(role: str, *parts: object, **more: object) -> dict:
    content = {"content_type": more.pop("content_type", "text"), "parts": list(parts)}
    return {"author": {"role": role}, "content": content, "recipient": "all"} | more


def tree(*messages: dict | None) -> dict:
    nodes = {
        str(at): {"message": one, "parent": str(at - 1) if at else None, "children": [str(at + 1)]}
        for at, one in enumerate(messages)
    }
    return {"mapping": nodes, "current_node": str(len(messages) - 1)}


def test_of_chatgpt_only_what_was_said_and_can_be_known_is_learned(tmp_path):
    """Tools, pictures, thoughts and broken-off answers: context, or left out."""
    picture = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://x"}
    row = tree(
        None,
        message("system", ""),
        message("user", "About me", content_type="user_editable_context"),
        message("user", "What is the weather?"),
        message("assistant", "search()", recipient="browser"),
        message("tool", "Sunny"),
        message("assistant", "It is sunny."),
        message("user", "And what is 1 + 1?"),
        message("assistant", "", content_type="thoughts"),
        message("assistant", "Two."),
        message("assistant", "That is 2."),
        message("user", picture, "Who is this?", content_type="multimodal_text"),
        message("assistant", "A cat."),
        message("user", "Tell me a story."),
        message("assistant", "Once", status="finished_partial_completion"),
        message("user", "Thanks!"),
        message("assistant", "You are welcome.", status="finished_successfully"),
    )
    found = read_one(tmp_path, row)
    assert found.kind == "chatgpt"
    assert [(turn.role, turn.content, turn.learned) for turn in found.conversation.turns] == [
        ("user", "What is the weather?", False),
        ("assistant", "It is sunny.", False),
        ("user", "And what is 1 + 1?", False),
        ("assistant", "Two.\n\nThat is 2.", True),
        ("user", "Who is this?", False),
        ("assistant", "A cat.", False),
        ("user", "Tell me a story.", False),
        ("assistant", "Once", False),
        ("user", "Thanks!", False),
        ("assistant", "You are welcome.", True),
    ]


@pytest.mark.parametrize(
    "row",
    [
        {"mapping": {}},
        {"mapping": {"a": None}, "current_node": "a"},
        {"mapping": {"a": {"message": 7, "parent": "a"}}, "current_node": "a"},
        {"mapping": {"a": {"message": {"author": 1, "content": 2}, "parent": 3}}},
        {"choices": []},
        {"choices": [7], "messages": []},
        {"choices": [{"message": {"role": "user", "content": "x"}}], "messages": []},
        {"request": {"messages": 7}, "response": {"choices": []}},
        {"messages": None},
        {"conversations": [{"from": "gpt", "value": "x"}]},
        {"a": 1},
    ],
)
def test_what_only_looks_like_a_conversation_is_a_bad_line(tmp_path, row):
    """A reason, never a crash."""
    found = read_one(tmp_path, row)
    assert isinstance(found, BadLine)
    assert found.reason


NAMES = (
    *("messages", "role", "content", "conversations", "from", "value", "prompt", "completion"),
    *("mapping", "current_node", "message", "parent", "author", "parts", "content_type"),
    *("choices", "request", "response", "metadata"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(NAMES),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)
ROWS = st.fixed_dictionaries(
    {},
    optional={
        "messages": st.lists(
            st.fixed_dictionaries(
                {"role": st.sampled_from(["user", "assistant", "system"]), "content": JSON}
            ),
            max_size=4,
        ),
        "mapping": st.dictionaries(st.sampled_from("abc"), JSON),
        "choices": st.lists(JSON, max_size=2),
        "current_node": st.sampled_from("abc"),
        "data": JSON,
        "object": st.just("list"),
    },
)


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(JSON | ROWS, min_size=1, max_size=4), as_array=st.booleans())
def test_no_json_is_too_odd_to_be_looked_at(tmp_path_factory, rows, as_array):
    """Every row is a conversation with something to learn, or a bad line with a reason."""
    path = tmp_path_factory.mktemp("odd") / "odd"
    array(path, rows) if as_array else lines(path, map(json.dumps, rows))
    try:
        found = list(read_chats(path))
    except UsageError:
        return
    for item in found:
        if isinstance(item, BadLine):
            assert item.reason
        else:
            assert examples(item.conversation, maker="m", source="s")


def test_logged_calls_are_read_in_every_spelling(tmp_path):
    """Request and response, input and output, a batch's body; a refusal is no answer."""
    asked = {"model": "gpt-4o-mini", "messages": turns([("a", "b"), ("c", "")])[:-1]}
    answer = {"choices": [{"message": {"content": "d"}, "finish_reason": "stop"}]}
    for row in (
        {"request": asked, "response": answer},
        {"input": asked, "output": answer, "tags": {}},
        {"body": asked, "response": {"status_code": 200, "body": answer}},
        {"input": asked["messages"], "output": answer},
    ):
        found = read_one(tmp_path, row)
        assert found.kind == "completions"
        assert [turn.learned for turn in found.conversation.turns] == [False] * 4 + [True]
        assert found.conversation.turns[-1].content == "d"
    refused = {"choices": [{"message": {"content": None, "refusal": "No."}}]}
    bad = read_one(tmp_path, {"request": asked, "response": refused})
    assert bad == BadLine(1, "the model refused")


# -- the export that docs/adopt.md shows --------------------------------------------------------

ROOT = Path(__file__).parent.parent


class Stored(BaseHTTPRequestHandler):
    """A provider with stored completions, in two pages, and a fine-tuning job with its file."""

    rows = completions(40)
    training = "".join(json.dumps(row) + "\n" for row in fine_tuning(30, seed=77))

    def do_GET(self) -> None:
        path, _, query = self.path.removeprefix("/v1/").partition("?")
        if path == "chat/completions":
            first = 0 if "after=" not in query else 25
            page = [{**row, "messages": None} for row in self.rows[first : first + 25]]
            body: object = {"object": "list", "data": page, "has_more": first == 0}
        elif path.endswith("/messages"):
            row = next(row for row in self.rows if row["id"] == path.split("/")[2])
            body = {"object": "list", "data": row["messages"], "has_more": False}
        elif path == "fine_tuning/jobs":
            job = {"id": "ftjob-1", "fine_tuned_model": "ft:x", "training_file": "file-1"}
            body = {"object": "list", "data": [job | {"validation_file": None}], "has_more": False}
        else:
            body = self.training
        text = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_the_exports_of_the_docs_run_as_they_stand(understudy, tmp_path):
    """Both scripts, through OpenAI's own SDK; what they write is adopted whole."""
    scripts = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "adopt.md").read_text(), re.DOTALL
    )
    provider = ThreadingHTTPServer(("127.0.0.1", 0), Stored)
    threading.Thread(target=provider.serve_forever, daemon=True).start()
    env = os.environ | {
        "OPENAI_API_KEY": "sk-none",
        "OPENAI_BASE_URL": f"http://127.0.0.1:{provider.server_port}/v1",
    }
    for script in scripts:
        subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=env, check=True)
    provider.shutdown()
    provider.server_close()
    body = understudy("adopt", "file-1.jsonl", "stored.jsonl", "-p", "p", "--json").json
    assert [(one["kind"], one["examples"]) for one in body["files"]] == [
        ("chat", 30),
        ("completions", 40),
    ]
    assert (body["added"], body["system_message"]) == (70, SYSTEM)


# -- the whole way -----------------------------------------------------------------------------


def test_trained_and_measured_against_the_old_model_while_it_answers_and_after(
    understudy, tmp_path, server
):
    """One command trains and evaluates; when the old model is gone, it is missing, and told."""
    path = lines(tmp_path / "dates.jsonl", fine_tuning(40) + fine_tuning(8, seed=5, rounds=2))
    with server() as provider:
        whole = understudy(
            *("adopt", path, "-p", "p", "--old", provider.teacher("dates"), *PRICES),
            *("--student", "tiny", "--json"),
        )
        assert whole.code == 0, whole.err
        assert "train" not in " ".join(whole.json["next"]), "that is done"
        report = whole.json["report"]
        items = report["items"]
        assert set(report["systems"]) == {"teacher", "base", "student"}
        assert report["systems"]["teacher"]["score"] == 1
        assert report["systems"]["teacher"]["missing"] == 0
        asked = provider.requests()
        assert asked == items
        gone = understudy(
            *("evaluate", "-p", "p", "--json", *PRICES),
            *("--teacher", f"{provider.url}#ft:gpt-3.5-turbo:acme::gone"),
        )
        _check_gone(gone, items, "knows no model")
        assert provider.requests() == asked + 1, "it is not asked again and again"
    down = understudy(
        "evaluate", "-p", "p", "--teacher", "http://127.0.0.1:9/v1#dates", *PRICES, "--json"
    )
    _check_gone(down, items, "cannot reach")
    since = understudy("evaluate", "-p", "p", "--json").json["systems"]["teacher"]
    assert (since["score"], since["missing"]) == (1, 0), "what it answered before is on disk"


def _check_gone(done, items: int, why: str) -> None:
    assert done.code == 0, done.err
    systems = done.json["systems"]
    assert set(systems) == {"teacher", "base", "student"}
    teacher = systems["teacher"]
    assert (teacher["score"], teacher["missing"], teacher["items"]) == (None, items, items)
    assert why in teacher["why_missing"]
    assert systems["student"]["missing"] == systems["base"]["missing"] == 0
    assert [(pair["first"], pair["second"]) for pair in done.json["comparisons"]] == [
        ("student", "base")
    ]
    assert f"the teacher gave no answer to {items} of {items} (" in done.json["verdict"]
