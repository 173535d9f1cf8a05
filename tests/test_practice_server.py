"""The practice server, over real HTTP on loopback: replies, account, process."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import aiohttp
import pytest

from practice_client import ask, chat, content, inputs_of, named, one, post
from understudy.errors import DiskError
from understudy.practice import TASKS, dates, load
from understudy.practice.__main__ import main
from understudy.practice.chat import body_hash, tokens
from understudy.practice.faults import At
from understudy.practice.options import Options
from understudy.practice.server import in_background
from understudy.task import Plan, Spec


@pytest.fixture(scope="module")
def url():
    with in_background(Options()) as address:
        yield address


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


@pytest.mark.parametrize("how", ["schema", "title in the text"])
def test_a_correction_turn_is_answered_as_what_it_corrects(url, how):
    """After a reply that was no JSON the client quotes the problem: the order stands further up."""
    order = json.dumps({"cell": {"language": "French"}, "how_many": 3, "batch": 0})
    title = "" if how == "schema" else ' as {"title": "inputs"}'
    more = {"response_format": named("inputs")} if how == "schema" else {}
    first = {"role": "user", "content": f"Write inputs{title}:\n{order}"}
    said = {"role": "assistant", "content": "I'm sorry, I can't help with that."}
    correction = {"role": "user", "content": "That cannot be used: it is not JSON. Try again."}
    body = {"model": "dates", "messages": [first, said, correction], **more}
    assert len(json.loads(content(url, body))["inputs"]) == 3
    alone = {"model": "dates", "messages": [first], **more}
    assert content(url, body) == content(url, alone)


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
            async with session.get(f"{url}/nothing") as response:
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


def test_the_process_takes_its_options_as_they_are_spelled(tmp_path):
    """Faults by number, a wait in any words, limits, favourites, other headers, redirects."""
    log = tmp_path / "bill"
    faults = ["--fault", "429@1", "--fault", "308@2-3", "--fault", "cut_json@5-"]
    waits = ["--retry-after", "-5", "--retry-after-ms", "soon", "--refusal-header", "x-a: b: c"]
    more = ["--redirect-to", "http://localhost:1/x", "--cut-bytes", "3", "--repeat", "1"]
    limits = ["--requests-per-minute", "6", "--burst-seconds", "50", "--tokens-per-minute", "60000"]
    with started(*faults, *waits, *more, *limits, "--log", str(log)) as process:
        url = json.loads(process.stdout.readline())["url"]
        replies = ask(url, *[chat()] * 6, allow_redirects=False)
    assert [status for status, *_ in replies] == [429, 308, 308, 200, 200, 429]
    headers = replies[0][1]
    assert [headers[name] for name in ("Retry-After", "retry-after-ms", "x-a")] == [
        *("-5", "soon", "b: c"),
    ]
    assert replies[1][1]["Location"] == "http://localhost:1/x"
    assert replies[3][1]["x-ratelimit-limit-tokens"] == "60000"
    assert len(replies[4][2]) == 3
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    answered = [line["fault"] for line in lines if line["phase"] == "answered"]
    assert answered == ["429", "308", "308", "", "cut_json", "limit"]


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--latency", "nan"),
        ("--latency", "-1"),
        ("--repeat", "1.5"),
        ("--requests-per-minute", "0"),
        ("--tokens-per-minute", "inf"),
        ("--retry-after", "1\r\nx: y"),
        ("--refusal-header", "nothing"),
        ("--refusal-header", "x: a\nb: c"),
        ("--cut-bytes", "-1"),
    ],
)
def test_options_that_make_no_sense_are_refused(option, text, capsys):
    """Exit code 2, and the last line says what is wrong."""
    try:
        code = main([option, text])
    except SystemExit as error:
        code = error.code
    err = capsys.readouterr().err
    assert code == 2
    assert "Traceback" not in err
    assert option in err.splitlines()[-1] or repr(text) in err


def test_more_connections_at_once_than_open_files_by_default():
    """The process lifts its own soft limit; every one of the requests in flight is answered."""
    resource = pytest.importorskip("resource")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    ulimit = "import resource, runpy, sys; from resource import RLIMIT_NOFILE as files; "
    ulimit += f"resource.setrlimit(files, (128, {most})); sys.argv[0] = 'practice'; "
    code = f"{ulimit}runpy.run_module('understudy.practice', run_name='__main__')"
    body = json.dumps(chat()).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with subprocess.Popen(
        [sys.executable, "-c", code, "--latency", "0.3"], stdout=subprocess.PIPE, text=True
    ) as process:
        address = json.loads(process.stdout.readline())["url"].split("/")[2].split(":")
        wires = [socket.create_connection(address, timeout=10) for _ in range(300)]
        for wire in wires:
            wire.sendall(head.encode() + body)
        replies = [wire.recv(4096) for wire in wires]
        for wire in wires:
            wire.close()
        process.terminate()
    assert {reply[:15] for reply in replies} == {b"HTTP/1.1 200 OK"}


def test_no_reply_comes_before_its_latency():
    """Neither a good one nor an error of the provider."""
    with in_background(Options(latency=0.1, faults=(At("500", 2, 2),))) as url:
        start = time.monotonic()
        replies = ask(url, chat(), chat())
        assert time.monotonic() - start >= 0.2
    assert [status for status, *_ in replies] == [200, 500]


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_the_process_ends_quietly_on_a_signal(name):
    """No traceback, although stdin is still open, and however often the signal comes."""
    with started("--seed", "3") as process:
        url = json.loads(process.stdout.readline())["url"]
        assert content(url, chat()) == "2024-03-05"
        for _ in range(50_000):
            process.send_signal(name)
            time.sleep(0.0002)
            if process.poll() is not None:
                break
        assert process.wait(timeout=10) in (0, -name)  # the last may come after Python is gone
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
