"""The practice server, over real HTTP on loopback, and each of its faults."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager

import aiohttp
import pytest

from understudy.errors import DiskError, UsageError
from understudy.practice import TASKS, dates, load
from understudy.practice.chat import body_hash, tokens
from understudy.practice.faults import PAID, REFUSAL, parse_fault, pick
from understudy.practice.server import Options, in_background
from understudy.task import Plan, Spec


def chat(text="5 March 2024", model="practice:dates", **more):
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


async def post(session, url, body, **more):
    """Send once. Returns status, headers and the text of the body."""
    async with session.post(f"{url}/chat/completions", json=body, **more) as response:
        return response.status, response.headers, await response.text()


def ask(url, *bodies, path="/chat/completions", **more):
    """Send each body, one after the other; an error stands for its reply."""

    async def send_all():
        async with aiohttp.ClientSession() as session:
            replies = []
            for body in bodies:
                try:
                    replies.append(await post(session, url, body, **more))
                except (aiohttp.ClientError, TimeoutError) as error:
                    replies.append(error)
            return replies

    return asyncio.run(send_all())


def one(url, body, **more):
    """Send one body; returns the status and the JSON of the reply."""
    [(status, _, text)] = ask(url, body, **more)
    return status, json.loads(text)


def content(url, body):
    status, reply = one(url, body)
    assert status == 200, reply
    return reply["choices"][0]["message"]["content"]


@pytest.fixture(scope="module")
def url():
    with in_background(Options()) as address:
        yield address


def named(name):
    return {"type": "json_schema", "json_schema": {"name": name, "schema": {}}}


def test_an_answer_has_the_shape_of_a_chat_completion(url):
    """Everything that a client of the protocol reads is there."""
    status, reply = one(url, chat())
    assert status == 200
    assert reply["object"] == "chat.completion"
    assert reply["id"].startswith("chatcmpl-")
    assert abs(reply["created"] - time.time()) < 100
    assert reply["model"] == "practice:dates"
    assert reply["choices"][0]["finish_reason"] == "stop"
    assert reply["choices"][0]["message"] == {
        "role": "assistant",
        "content": "2024-03-05",
        "refusal": None,
    }
    assert reply["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("prefix", ["", "practice:"])
def test_one_server_answers_for_every_task(url, name, prefix):
    """The task is chosen by the model's name, and only the last user message is answered."""
    task = load(name)
    text = task.inputs({}, 1, seed=1)[0]
    turns = [("system", "x"), ("user", "1 May 1999"), ("assistant", "y"), ("user", text)]
    messages = [{"role": role, "content": said} for role, said in turns]
    assert content(url, {"model": prefix + name, "messages": messages}) == task.answer(text)


@pytest.mark.parametrize("name", TASKS)
def test_spec_and_plan_come_by_the_name_of_the_schema(url, name):
    """The reply is the JSON of the task's own values, exactly their fields."""
    task = load(name)
    spec = content(url, chat("Describe", name, response_format=named("spec")))
    assert Spec.model_validate_json(spec) == task.spec()
    plan = content(url, chat("Plan", name, response_format=named("plan")))
    assert Plan.model_validate_json(plan) == task.plan()


@pytest.mark.parametrize("response_format", [None, {"type": "json_object"}])
def test_spec_and_plan_come_by_the_title_in_the_text(url, response_format):
    """Without json_schema the schema stands in the prompt, and its title tells the kind."""
    more = {"response_format": response_format} if response_format else {}
    spec = content(url, chat('Follow {"title": "spec", "type": "object"}', **more))
    assert Spec.model_validate_json(spec) == dates.spec()


def test_a_schema_of_another_name_is_an_answer_call(url):
    """A JSON answer that has a schema of its own is still an answer."""
    body = chat('{"title": "spec"} 5 March 2024', response_format=named("answer"))
    assert content(url, body) == "2024-03-05"


def inputs_of(url, cell, how_many=5, batch=0):
    order = json.dumps({"cell": cell, "how_many": how_many, "batch": batch})
    text = f"Write inputs for this cell:\n{order}\nAs JSON."
    return json.loads(content(url, chat(text, response_format=named("inputs"))))["inputs"]


def test_inputs_come_for_the_cell_on_a_line_of_its_own(url):
    """Texts of the cell with probabilities, as many as asked, other texts for another batch."""
    cell = {"language": "French", "form": "in full", "letters": "as usual", "around": "nothing"}
    rows = inputs_of(url, cell, 8)
    assert len(rows) == 8
    assert all(0 < row["probability"] < 1 for row in rows)
    assert sum(row["probability"] for row in rows) == pytest.approx(1, abs=0.02)
    assert all(dates.answer(row["text"]) != "none" for row in rows)
    assert inputs_of(url, cell, 8) == rows
    assert inputs_of(url, cell, 8, batch=1) != rows
    with in_background(Options(seed=1)) as other:
        assert inputs_of(other, cell, 8) != rows


@pytest.mark.parametrize("limit", range(1, 6))
def test_max_tokens_cuts_with_finish_length(url, limit):
    """A reply never has more tokens than asked for, and says when it was cut."""
    text = "three days and two hours and thirty minutes"
    _, reply = one(url, chat(text, "durations", max_tokens=limit))
    said, whole = reply["choices"][0], "P3DT2H30M"
    assert said["message"]["content"] == whole[: 4 * limit]
    assert tokens(said["message"]["content"]) == reply["usage"]["completion_tokens"] <= limit
    assert said["finish_reason"] == ("length" if limit < 3 else "stop")


BAD_BODIES = {
    "no object": ([1], 400, None),
    "no model": ({"messages": []}, 400, "model"),
    "other model": (chat(model="gpt-9"), 404, None),
    "no messages": ({"model": "dates"}, 400, "messages"),
    "empty messages": ({"model": "dates", "messages": []}, 400, "messages"),
    "no text": ({"model": "dates", "messages": [{"role": "user"}]}, 400, "messages[0]"),
    "no user": (
        {"model": "dates", "messages": [{"role": "system", "content": "x"}]},
        400,
        "messages",
    ),
    "max_tokens of 0": (chat(max_tokens=0), 400, "max_tokens"),
    "max_tokens as text": (chat(max_tokens="9"), 400, "max_tokens"),
    "stream": (chat(stream=True), 400, "stream"),
    "inputs without a cell": (chat(response_format=named("inputs")), 400, None),
    "too many inputs": (
        chat('{"cell": {}, "how_many": 100000}', response_format=named("inputs")),
        400,
        None,
    ),
}


@pytest.mark.parametrize(("body", "status", "param"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_bad_body_gets_an_error_in_openais_shape(url, body, status, param):
    """Status, message, type, param and code, as a client expects them."""
    given_status, reply = one(url, body)
    assert given_status == status
    assert reply["error"].keys() == {"message", "type", "param", "code"}
    assert reply["error"]["param"] == param
    assert (reply["error"]["code"] == "model_not_found") == (status == 404)


def test_text_that_is_no_json_is_refused(url):
    """So is an unknown path and an unknown method, all in the same shape."""

    async def send():
        async with aiohttp.ClientSession() as session:
            async with session.post(f"{url}/chat/completions", data=b"{") as response:
                yield response.status, await response.json()
            async with session.get(f"{url}/files") as response:
                yield response.status, await response.json()
            async with session.get(f"{url}/chat/completions") as response:
                yield response.status, await response.json()

    async def collect():
        return [reply async for reply in send()]

    replies = asyncio.run(collect())
    assert [status for status, _ in replies] == [400, 404, 405]
    assert all(reply["error"]["message"] for _, reply in replies)


def test_a_content_in_parts_is_read(url):
    """The list form of a message's content is the same text."""
    parts = [{"type": "text", "text": "5 March"}, {"type": "text", "text": " 2024"}]
    assert content(url, chat(parts)) == "2024-03-05"


def get(url, path, headers=None):
    async def fetch():
        async with (
            aiohttp.ClientSession() as session,
            session.get(url.removesuffix("/v1") + path, headers=headers) as response,
        ):
            return response.status, await response.json()

    return asyncio.run(fetch())


def test_models_and_health(url):
    """Every task is listed, and the server says that it is well."""
    status, models = get(url, "/v1/models")
    assert status == 200
    assert [row["id"] for row in models["data"]] == list(TASKS)
    assert get(url, "/healthz") == (200, {"status": "ok"})


def test_a_key_is_asked_for_when_it_was_given():
    """Without it, or with another, every path under /v1 answers 401; health stays open."""
    with in_background(Options(key="sk-right")) as url:
        for header in ({}, {"Authorization": "Bearer sk-wrong"}, {"Authorization": "Bearer "}):
            status, reply = one(url, chat(), headers=header)
            assert (status, reply["error"]["code"]) == (401, "invalid_api_key")
            assert get(url, "/v1/models", header)[0] == 401
        assert one(url, chat(), headers={"Authorization": "Bearer sk-right"})[0] == 200
        assert get(url, "/healthz")[0] == 200


def test_a_refused_parameter_is_named():
    """Strict endpoints say which parameter they do not take; without it the call goes through."""
    refused = ("max_tokens", "response_format.json_schema")
    with in_background(Options(refused_parameters=refused)) as url:
        bad = (chat(max_tokens=9), chat(response_format=named("spec")))
        for name, body in zip(refused, bad, strict=True):
            status, reply = one(url, body)
            assert status == 400
            assert (reply["error"]["code"], reply["error"]["param"]) == (
                "unsupported_parameter",
                name,
            )
        assert one(url, chat(response_format={"type": "json_object"}))[0] == 200


# faults


def reply_with(kind, **more):
    """One reply of a server that always has this fault."""
    options = Options(faults=((kind, 1.0),), drip_seconds=0.001, **more)
    with in_background(options) as url:
        [reply] = ask(url, chat(), timeout=aiohttp.ClientTimeout(total=0.5))
    return reply


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("429", 429, "rate_limit_exceeded"),
        ("429_quota", 429, "insufficient_quota"),
        ("500", 500, None),
        ("503", 503, None),
    ],
)
def test_faults_that_are_errors_of_the_api(kind, status, code):
    """They come with OpenAI's codes, and a 429 says how long to wait."""
    got, headers, text = reply_with(kind, retry_after=0.25)
    assert got == status
    assert json.loads(text)["error"]["code"] == code
    assert headers.get("Retry-After") == ("0.25" if status == 429 else None)


@pytest.mark.parametrize("kind", ["reset_before", "reset_after", "cut_body", "hang"])
def test_faults_that_give_no_whole_reply(kind):
    """The client gets an error of the connection, never a reply."""
    error = reply_with(kind)
    assert isinstance(error, TimeoutError if kind == "hang" else aiohttp.ClientError)


def test_a_reset_is_a_reset():
    """The wire is torn with RST after exactly 40 bytes of a longer body."""
    with in_background(Options(faults=(("cut_body", 1.0),))) as url:
        host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
        body = json.dumps(chat()).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection((host, int(port)), timeout=5) as wire:
            wire.sendall(head.encode() + body)
            received = wire.recv(4096)
            while len(received.partition(b"\r\n\r\n")[2]) < 40:
                received += wire.recv(4096)
            with pytest.raises(ConnectionResetError):
                wire.recv(4096)
    headers, _, sent = received.partition(b"\r\n\r\n")
    assert len(sent) == 40
    length = int(headers.lower().split(b"content-length: ")[1].split()[0])
    assert length > 40


def test_faults_in_the_body():
    """The status is 200, and still there is no answer to be had, or only a part."""
    status, headers, text = reply_with("cut_json")
    assert (status, int(headers["Content-Length"])) == (200, len(text))
    with pytest.raises(ValueError, match=r"."):
        json.loads(text)
    status, headers, text = reply_with("html")
    assert (status, headers["Content-Type"].split(";")[0]) == (200, "text/html")
    assert text.startswith("<!DOCTYPE html>")
    status, _, text = reply_with("no_usage")
    assert "usage" not in json.loads(text)
    assert "2024-03-05" in text
    status, _, text = reply_with("drip")
    assert "2024-03-05" in text


@pytest.mark.parametrize(
    ("kind", "said", "finish"),
    [("empty", "", "stop"), ("refusal", REFUSAL, "stop"), ("length", "2024-", "length")],
)
def test_faults_in_the_text(kind, said, finish):
    """The reply is whole, its text is not an answer."""
    _, _, text = reply_with(kind)
    choice = json.loads(text)["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (said, finish)


def test_every_fault_is_billed_as_the_table_says(tmp_path):
    """The log has one line when a request came and one when it was answered, paid where it is."""
    for kind, paid in PAID.items():
        log = tmp_path / kind
        reply_with(kind, log=log)
        received, answered = map(json.loads, log.read_text().splitlines())
        assert (received["phase"], received["paid"]) == ("received", False)
        assert (answered["phase"], answered["paid"], answered["fault"]) == ("answered", paid, kind)
        assert (answered["output_tokens"] > 0) == paid


def test_faults_repeat_with_the_seed_and_keep_their_shares():
    """The number of a request and the seed settle its fault."""
    faults = (("429", 0.1), ("500", 0.2), ("empty", 0.05))
    first = [pick(faults, 3, n) for n in range(4000)]
    assert first == [pick(faults, 3, n) for n in range(4000)]
    assert first != [pick(faults, 4, n) for n in range(4000)]
    shares = Counter(first)
    for kind, share in faults:
        assert shares[kind] / 4000 == pytest.approx(share, abs=0.03)
    assert shares[""] / 4000 == pytest.approx(0.65, abs=0.03)


@pytest.mark.parametrize(
    "text", ["429", "429:2", "429:-1", "429:x", "flood:0.1", "", ":", "429:nan"]
)
def test_a_fault_that_is_not_known_is_refused(text):
    """The error names every kind."""
    with pytest.raises(UsageError, match="reset_before"):
        parse_fault(text)


# the account


def test_the_log_bills_each_reply_once_with_its_tokens(tmp_path):
    """Every paid line belongs to one request, by hash, and its tokens are those of the reply."""
    log = tmp_path / "bill.jsonl"
    options = Options(log=log, faults=(("429", 0.2), ("reset_after", 0.2)), seed=5)
    bodies = [chat(text) for text in dates.inputs({}, 40, seed=1)]
    bodies += [chat("Plan", response_format=named("plan")), chat(model="gpt-9")]
    with in_background(options) as url:
        replies = ask(url, *bodies)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["n"] for line in lines if line["phase"] == "received"] == list(range(1, 43))
    answered = {line["n"]: line for line in lines if line["phase"] == "answered"}
    assert len(answered) == 42
    for n, (body, reply) in enumerate(zip(bodies, replies, strict=True), start=1):
        line = answered[n]
        canon = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        assert line["body_sha256"] == body_hash(body) == hashlib.sha256(canon.encode()).hexdigest()
        assert line["model"] == body["model"]
        if isinstance(reply, tuple) and reply[0] == 200:
            usage = json.loads(reply[2])["usage"]
            assert line["paid"]
            assert line["kind"] == ("plan" if n == 41 else "answer")
            assert (line["input_tokens"], line["output_tokens"]) == (
                usage["prompt_tokens"],
                usage["completion_tokens"],
            )
        else:
            assert line["paid"] == (line["fault"] == "reset_after" and body["model"] != "gpt-9")
    assert {line["fault"] for line in lines} == {"", "429", "reset_after"}


def test_the_log_is_complete_when_requests_come_together(tmp_path):
    """Lines that share one write are all there, each whole."""
    log = tmp_path / "bill.jsonl"

    async def send_together(url):
        async with aiohttp.ClientSession() as session:
            replies = [post(session, url, chat(f"{day} May 2024")) for day in range(1, 32)]
            return await asyncio.gather(*replies)

    with in_background(Options(log=log)) as url:
        replies = asyncio.run(send_together(url))
    assert [status for status, *_ in replies] == [200] * 31
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted(line["n"] for line in lines if line["paid"]) == list(range(1, 32))


def test_a_log_that_cannot_be_written_is_said(tmp_path):
    """The server does not start without the account it was asked for."""
    with (
        pytest.raises(DiskError, match="No such file"),
        in_background(Options(log=tmp_path / "no" / "log")),
    ):
        pass


# the process


@contextmanager
def started(*arguments, **more):
    process = subprocess.Popen(
        [sys.executable, "-m", "understudy.practice", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_the_process_says_its_address_and_ends_with_its_parents_stdin():
    """One line of JSON, bound to loopback; end of stdin ends it quietly, with a call in flight."""
    with started("--until-stdin-closes", "--key", "k", "--fault", "hang:1") as process:
        url = json.loads(process.stdout.readline())["url"]
        assert url.startswith("http://127.0.0.1:")
        assert one(url, chat())[0] == 401
        [error] = ask(
            url,
            chat(),
            headers={"Authorization": "Bearer k"},
            timeout=aiohttp.ClientTimeout(total=0.2),
        )
        assert isinstance(error, TimeoutError)
        out, err = process.communicate(timeout=10)
        assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_the_process_ends_quietly_on_a_signal(name):
    """No traceback, exit code 0, although stdin is still open."""
    with started("--seed", "3") as process:
        url = json.loads(process.stdout.readline())["url"]
        assert content(url, chat()) == "2024-03-05"
        process.send_signal(name)
        assert process.wait(timeout=10) == 0
        assert process.stderr.read() == ""


def test_the_process_explains_what_is_wrong():
    """A fault that is none, and a port that is taken, are one line and exit code 2."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments in (["--fault", "flood:1"], ["--port", port]):
            with started(*arguments) as process:
                out, err = process.communicate(timeout=20)
            assert (process.returncode, out) == (2, "")
            assert err.startswith("understudy: ")
            assert err.count("\n") == 1


def test_the_process_without_babel_says_what_to_install(tmp_path):
    """Exit code 3 and one line."""
    (tmp_path / "babel.py").write_text("raise ImportError")
    with started(env={"PYTHONPATH": str(tmp_path)}) as process:
        _, err = process.communicate(timeout=20)
    assert process.returncode == 3
    assert 'The dates practice task needs Babel. pip install "understudy[practice]"' in err
    assert err.count("\n") == 1
