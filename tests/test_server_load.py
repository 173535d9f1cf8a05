"""Many at once, slow ones, those who leave, and how it ends."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from conftest import understudy_command
from serving_project import TOKEN, Home, Inside, inside, make_project, serving, until
from understudy.server.guard import Limits

BABBLE: dict[str, Any] = {
    "model": "run:2",
    "messages": [{"role": "user", "content": "number 1"}],
    "max_tokens": 450,
    "temperature": 0,  # drawn, a row could happen to end early
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("load") / "p")


def begin(home: Home | Inside, body: dict[str, Any]) -> http.client.HTTPConnection:
    """Send a request; its answer has not been looked at."""
    connection = http.client.HTTPConnection(home.host, timeout=60)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    return connection


def post(home: Home | Inside, **changes: Any) -> tuple[int, dict[str, str], dict[str, Any]]:
    connection = begin(home, {**BABBLE, **changes})
    answer = connection.getresponse()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    found = answer.status, headers, json.load(answer)
    connection.close()
    return found


def streamed(home: Home | Inside, **changes: Any) -> list[str]:
    """The events of a stream."""
    connection = begin(home, {**BABBLE, "stream": True, **changes})
    lines = connection.getresponse().read().decode().split("\n\n")
    connection.close()
    return [line.removeprefix("data: ") for line in lines if line]


def text(events: list[str]) -> str:
    chunks = [json.loads(event) for event in events if event != "[DONE]"]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


def test_all_at_once_get_what_each_would_get_alone(project: Path) -> None:
    """Streams and whole answers share passes; none is dropped, none depends on the others."""
    with inside(project) as home:
        asks = [{"seed": n % 5, "temperature": 1.0, "max_tokens": 20 + n % 5} for n in range(40)]
        alone = [post(home, **asks[n])[2]["choices"][0]["message"]["content"] for n in range(5)]
        with ThreadPoolExecutor(40) as pool:
            found = list(pool.map(lambda ask: streamed(home, **ask), asks))
        assert [events[-1] for events in found] == ["[DONE]"] * 40
        assert [text(events) for events in found] == [alone[n % 5] for n in range(40)]


@pytest.mark.parametrize(
    "changes", [{"n": 1}, {"n": 20}, {"n": 1, "stream": True}, {"n": 20, "stream": True}]
)
def test_who_leaves_is_written_for_no_more(changes: dict[str, Any], project: Path) -> None:
    """The rows of a client that hangs up are gone from the engine, the others' stay."""
    with inside(project) as home:
        post(home, max_tokens=1)
        connection = begin(home, {**BABBLE, **changes})
        assert until(lambda: home.rows() == changes["n"])
        other = begin(home, BABBLE)
        connection.close()
        assert until(lambda: home.rows() <= 1)
        assert json.load(other.getresponse())["usage"]["completion_tokens"] == 450
        other.close()
        assert home.rows() == 0
        entries = home.serving._open.values()
        assert until(lambda: all(entry.users == 0 for entry in entries))


def test_above_the_bound_one_is_told_to_come_back(project: Path) -> None:
    """429 with Retry-After; whoever was let in is answered, and the next is let in after that."""
    with inside(project, Limits(in_flight=3)) as home:
        post(home, max_tokens=1)
        inner = [begin(home, {**BABBLE, "n": 8}) for _ in range(3)]
        assert until(lambda: home.rows() == 24)
        status, headers, body = post(home, max_tokens=1)
        assert (status, headers["retry-after"]) == (429, "1")
        assert body["error"]["code"] == "rate_limit_exceeded"
        for connection in inner:
            assert connection.getresponse().status == 200
            connection.close()
        assert until(lambda: post(home, max_tokens=1)[0] == 200)


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_has_a_deadline(stream: bool, project: Path) -> None:
    """504 for one that is whole; a stream ends with an error event, and without [DONE]."""
    from understudy.models.engine.batch import Batch

    step = Batch.step

    def slow(batch: Batch) -> Any:
        time.sleep(0.02)  # all of it takes nine seconds, however fast the machine
        return step(batch)

    with inside(project, Limits(deadline_s=0.05)) as home, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Batch, "step", slow)
        if stream:
            assert json.loads(streamed(home)[-1])["error"]["code"] == "timeout"
        else:
            assert post(home)[0] == 504
        assert until(lambda: home.rows() == 0)


def test_slow_clients_are_hung_up_on_and_stop_nobody(project: Path) -> None:
    """T78: 200 that send half a head or half a body; the others are served, then those are gone."""
    limits = Limits(headers_s=5.0, body_s=5.0)
    with inside(project, limits) as home, ExitStack() as stack:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {home.host}\r\n"
        whole = f"{head}Authorization: Bearer {TOKEN}\r\nContent-Length: 100\r\n\r\n{{"
        host, _, port = home.host.rpartition(":")
        slow = []
        for number in range(200):
            wire = stack.enter_context(socket.create_connection((host, int(port)), timeout=20))
            wire.sendall((head if number % 2 else whole).encode())
            slow.append(wire)
        assert post(home, max_tokens=2)[0] == 200
        for number, wire in enumerate(slow):
            said = received(wire)
            assert said == b"" if number % 2 else said.startswith(b"HTTP/1.1 408")
        assert post(home, max_tokens=2)[0] == 200


def received(wire: socket.socket) -> bytes:
    """Everything until the other side hangs up."""
    said = b""
    try:
        while more := wire.recv(4096):
            said += more
    except ConnectionError:
        pass
    return said


def test_what_fails_inside_a_stream_is_told_there(project: Path) -> None:
    """An error event, and no [DONE]; the next request is answered."""
    from understudy.models.engine.batch import Batch

    step, steps, heard = Batch.step, iter(range(6)), threading.Event()

    def failing(batch: Batch) -> Any:
        if next(steps, None) is None:
            assert heard.wait(30)
            raise RuntimeError("a canary")
        return step(batch)

    with inside(project) as home:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Batch, "step", failing)
            drawn = {"stream": True, "temperature": 1.0, "seed": 1}
            connection = begin(home, {**BABBLE, **drawn})
            answer = connection.getresponse()
            first = answer.readline()
            heard.set()
            lines = (first + answer.read()).decode().split("\n\n")
            connection.close()
        events = [line.removeprefix("data: ") for line in lines if line]
        assert json.loads(events[-1])["error"]["code"] == "model_failed"
        assert len(events) > 2
        assert streamed(home, max_tokens=3)[-1] == "[DONE]"


def test_what_was_not_foreseen_says_nothing_of_itself(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The client gets the error's type and the request's id; the log one line with that id."""
    from understudy.server import chat

    def failing(*_: Any) -> Any:
        raise KeyError("a canary")

    with inside(project) as home, pytest.MonkeyPatch.context() as patch:
        patch.setattr(chat, "asked", failing)
        status, headers, body = post(home)
    assert (status, body["error"]["code"]) == (500, "internal_error")
    logged = capfd.readouterr().err
    assert re.fullmatch(
        r"understudy: (req_\w+) POST /v1/chat/completions: KeyError at \S+\n", logged
    )
    assert headers["x-request-id"] in logged
    assert "canary" not in logged + json.dumps(body)


def test_models_are_closed_when_others_are_asked(project: Path) -> None:
    """The one that was asked longest ago goes, never one that is being asked."""
    with inside(project, most_open=1) as home:
        for name in ("run:1", "run:2", "run:1"):
            assert post(home, model=name, max_tokens=2)[0] == 200
            assert list(home.serving._open) == [name]
        long = begin(home, BABBLE)
        assert until(lambda: home.rows() == 1)
        assert post(home, model="run:1", max_tokens=2)[0] == 200
        assert json.load(long.getresponse())["usage"]["completion_tokens"] == 450
        long.close()
        assert until(lambda: len(home.serving._open) == 1)


def test_a_model_on_its_way_keeps_nobody_waiting(project: Path) -> None:
    """While one is being opened another answers; all who asked for the first get it, once."""
    from understudy.models import local

    with inside(project) as home:
        post(home, model="run:1", max_tokens=1)
        may_load, load, loaded = threading.Event(), local.load_model, []

        def slowly(folder: Path) -> Any:
            loaded.append(folder)
            assert may_load.wait(30)
            return load(folder)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(local, "load_model", slowly)
            waiting = [begin(home, {**BABBLE, "max_tokens": 2}) for _ in range(3)]
            assert until(lambda: bool(loaded))
            assert post(home, model="run:1", max_tokens=2)[0] == 200
            waiting.pop().close()  # one of them leaves
            may_load.set()
            assert [one.getresponse().status for one in waiting] == [200, 200]
        for one in waiting:
            one.close()
        assert len(loaded) == 1


def test_a_model_that_cannot_be_opened_is_tried_again(project: Path, tmp_path: Path) -> None:
    """Whoever asks is told why; once it is mended, it answers."""
    import shutil

    shutil.copytree(project, tmp_path / "p")
    weights = tmp_path / "p" / "runs" / "2" / "model" / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(b"\x08" * 64)
    with inside(tmp_path / "p") as home:
        status, _, body = post(home, max_tokens=2)
        assert (status, "cannot be read" in body["error"]["message"]) == (500, True)
        weights.write_bytes(kept)
        assert post(home, max_tokens=2)[0] == 200


STOPPED = "understudy: stopped. Run the same command to go on\n"


def test_a_signal_ends_it_quietly(project: Path) -> None:
    """In the middle of a stream: what can end in a moment does, and no noise is made."""
    with serving(project) as home:
        connection = begin(home, {**BABBLE, "stream": True})
        assert connection.getresponse().readline().startswith(b"data: ")
        home.process.send_signal(signal.SIGINT)
        out, err = home.process.communicate(timeout=30)
        connection.close()
    assert (home.process.returncode, err) == (130, STOPPED)
    assert json.loads(out)["exit_code"] == 130


def test_who_still_waits_when_it_ends_is_told_so(project: Path) -> None:
    """A model that takes longer to open than there is time left: 503, come back."""
    from understudy.models import local

    loading, told, answers = threading.Event(), threading.Event(), []
    load = local.load_model

    def slowly(folder: Path) -> Any:
        loading.set()
        assert told.wait(30)
        return load(folder)

    def wait(connection: http.client.HTTPConnection) -> None:
        answer = connection.getresponse()
        answers.append((answer.status, answer.headers["Retry-After"], json.load(answer)))
        told.set()

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.setattr(local, "load_model", slowly)
        with inside(project) as home:
            connection = begin(home, BABBLE)
            waiting = pool.submit(wait, connection)
            assert loading.wait(30)
        waiting.result(30)
        connection.close()
    ((status, retry, body),) = answers
    assert (status, retry, body["error"]["code"]) == (503, "5", "stopped")


def test_more_signals_end_it_at_once(project: Path) -> None:
    """While a model is loaded, while it drains: no traceback, nothing ignored is complained of."""
    with serving(project) as home:
        connections = [begin(home, {**BABBLE, "n": 20}) for _ in range(3)]
        time.sleep(0.2)
        began = time.monotonic()
        while home.process.poll() is None:
            home.process.send_signal(signal.SIGINT)
            time.sleep(0.02)
            assert time.monotonic() < began + 10
        err = home.process.communicate()[1]
        for connection in connections:
            connection.close()
    assert home.process.returncode == 130
    assert err in ("understudy: stopped\n", STOPPED)


@pytest.mark.parametrize("wait_s", [0.05, 0.1, 0.2, 0.4, 0.8])
def test_a_signal_while_it_starts_ends_it_too(wait_s: float, project: Path) -> None:
    """However early: in the middle of an import, in front of the first line."""
    with subprocess.Popen(
        understudy_command("serve", "-p", project, "--port", "0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        time.sleep(wait_s)
        process.terminate()
        _, err = process.communicate(timeout=30)
    assert process.returncode in (143, -signal.SIGTERM)  # before Python had set itself up
    assert err in ("", "understudy: stopped\n", STOPPED)


def test_after_kill_9_the_next_one_serves(project: Path) -> None:
    """T78: the same project, the same token, the same answer."""
    answers = []
    for _ in range(2):
        with serving(project, env={"UNDERSTUDY_TOKEN": ""}) as home:
            token = {"Authorization": f"Bearer {home.token}"}
            connection = http.client.HTTPConnection(home.host, timeout=60)
            connection.request(
                "POST", "/v1/chat/completions", json.dumps({**BABBLE, "max_tokens": 9}), token
            )
            body = json.load(connection.getresponse())
            answers.append((home.token, body["choices"]))
            connection.close()
            other = begin(home, BABBLE)
            os.kill(home.process.pid, signal.SIGKILL)
            home.process.wait()
            other.close()
    assert answers[0] == answers[1]


def test_the_commands_for_production(project: Path) -> None:
    """One for each engine, with the folder; none of them holds the token itself."""
    done = subprocess.run(
        understudy_command("serve", "-p", project, "--production", "--json"),
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    folder = str(project / "runs" / "2" / "model")
    assert told["model"] == "run:2"
    assert set(told["commands"]) == {"vllm", "llama.cpp", "ollama"}
    for command in told["commands"].values():
        assert folder in command
        assert TOKEN not in command
    assert re.search(r'SYSTEM """Turn the number round."""', told["commands"]["ollama"])
