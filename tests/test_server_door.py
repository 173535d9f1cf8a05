"""Who gets in: the token on every route and method, the Host, sizes, and what the log tells."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Done, understudy_command
from serving_project import TOKEN, Home, serving
from understudy import Project
from understudy.errors import UsageError
from understudy.project.serving import Serving
from understudy.server.app import app
from understudy.server.door import Door, check_address
from understudy.server.guard import OPEN

ANYWHERE = "0.0.0.0"  # noqa: S104  (what the tests are about)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY")
PATHS = sorted(
    {
        route.path.replace(":path", "").replace("{id}", "x")  # type: ignore[attr-defined]
        for route in app(Serving(None), Door("127.0.0.1", 1, TOKEN)).routes  # type: ignore[arg-type]
    }
    | {"/", "/v1", "/docs", "/openapi.json", "/v1/nothing", "//v1/models", "/v1/../healthz"}
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("door") / "p"
    Project.new(folder, "x").close()
    with serving(folder) as running:
        yield running
        running.process.terminate()
        out, err = running.process.communicate(timeout=20)
        assert TOKEN not in out + err.replace(running.url, "")
        assert "canary" not in out + err


def ask(
    home: Home,
    method: str,
    path: str,
    headers: list[tuple[str, str]] | None = None,
    body: bytes = b"",
) -> tuple[int, dict[str, str], bytes]:
    """One request with exactly these headers; its status, headers and body."""
    connection = http.client.HTTPConnection(home.host, timeout=20)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    sent = headers or []
    if not any(name.lower() == "host" for name, _ in sent):
        sent = [("Host", home.host), *sent]
    for name, value in sent:
        connection.putheader(name, value)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    found = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    connection.close()
    return found


BEARER = ("Authorization", f"Bearer {TOKEN}")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", [path for path in PATHS if path != OPEN])
def test_nothing_answers_without_the_token(home: Home, method: str, path: str) -> None:
    """T75: every route and every method; no token, a wrong one, one where none belongs."""
    wrong: list[list[tuple[str, str]]] = [
        [],
        [("Authorization", f"Bearer {TOKEN}x")],
        [("Authorization", TOKEN)],
        [("Authorization", f"Basic {TOKEN}")],
        [BEARER, BEARER],
        [("Cookie", f"token={TOKEN}"), ("X-Api-Key", TOKEN), ("Api-Key", TOKEN)],
    ]
    for headers in wrong:
        status, told, body = ask(home, method, f"{path}?token={TOKEN}&api_key={TOKEN}", headers)
        assert status == 401, (headers, body)
        assert told["www-authenticate"] == "Bearer"
        assert "set-cookie" not in told
        if method != "HEAD":
            assert json.loads(body)["error"]["code"] == "invalid_api_key"


def test_with_the_token_unknown_paths_and_methods_are_told_in_shape(home: Home) -> None:
    """No page of documentation, no redirect; each error has OpenAI's four fields."""
    for path in ("/", "/docs", "/openapi.json", "/redoc", "/v1/nothing", "/v1/models/"):
        status, told, body = ask(home, "GET", path, [BEARER])
        assert status == 404, path
        assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
        assert told["x-request-id"].startswith("req_")
    for method, path in (("POST", "/v1/models"), ("GET", "/v1/chat/completions")):
        status, told, body = ask(home, method, path, [BEARER])
        assert (status, json.loads(body)["error"]["code"]) == (405, "method_not_supported")
        assert told["allow"]


def test_health_needs_no_token_and_tells_nothing(home: Home) -> None:
    assert ask(home, "GET", OPEN)[2] == b'{"status":"ok"}'


@pytest.mark.parametrize(
    "headers",
    [
        [("Host", "evil.example")],
        [("Host", "evil.example:{port}")],
        [("Host", "127.0.0.1:1")],
        [("Host", "127.0.0.1")],
        [("Host", "127.0.0.1.evil.example:{port}")],
        [("Host", "")],
        [("Host", "{host}"), ("Origin", "http://evil.example")],
        [("Host", "{host}"), ("Origin", "http://127.0.0.1:9999")],
        [("Host", "{host}"), ("Origin", "null")],
        [("Host", "evil.example:{port}"), ("Origin", "http://evil.example:{port}")],
        [("Host", "{host}"), ("Sec-Fetch-Site", "cross-site")],
        [("Host", "{host}"), ("Sec-Fetch-Site", "same-site")],
        [("Host", "{host}"), ("Origin", "http://{host}"), ("Origin", "http://evil.example")],
    ],
)
def test_another_name_or_site_is_refused(home: Home, headers: list[tuple[str, str]]) -> None:
    """T74: only the exact address and port; no page of another site, token or not."""
    port = home.host.rpartition(":")[2]
    sent = [(name, value.format(host=home.host, port=port)) for name, value in headers]
    for path in (OPEN, "/v1/models"):
        assert ask(home, "GET", path, [*sent, BEARER])[0] == 403


def test_two_hosts_are_refused(home: Home) -> None:
    sent = [("Host", home.host), ("Host", "evil.example"), BEARER]
    assert ask(home, "GET", "/v1/models", sent)[0] in (400, 403)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Host", "localhost:{port}")],
        [("Host", "{host}"), ("Origin", "http://{host}"), ("Sec-Fetch-Site", "same-origin")],
        [("Host", "{host}"), ("Sec-Fetch-Site", "none")],
    ],
)
def test_this_machine_is_let_in(home: Home, headers: list[tuple[str, str]]) -> None:
    port = home.host.rpartition(":")[2]
    sent = [(name, value.format(host=home.host, port=port)) for name, value in headers]
    assert ask(home, "GET", "/v1/models", [*sent, ("authorization", f"bearer {TOKEN}")])[0] == 200


@pytest.mark.parametrize(
    ("door", "right", "wrong"),
    [
        (
            Door("127.0.0.1", 8000, TOKEN),
            ["127.0.0.1:8000", "localhost:8000", "LocalHost:8000"],
            [
                "127.0.0.1",
                "127.0.0.1:80",
                "127.0.0.2:8000",
                "[::1]:8000",
                "::1:8000",
                "a:8000",
                ":",
            ],
        ),
        (Door("127.0.0.1", 80, TOKEN), ["127.0.0.1", "127.0.0.1:80", "localhost"], ["a", "a:80"]),
        (Door("::1", 8000, TOKEN), ["[::1]:8000", "localhost:8000"], ["[::1]", "[::2]:8000"]),
        (Door("::1", 80, TOKEN), ["[::1]", "[::1]:80"], ["[::1]:81"]),
        (
            Door(ANYWHERE, 8000, TOKEN),
            ["10.0.0.7:8000", "[fe80::1]:8000"],
            ["10.0.0.7", "evil.example:8000", "10.0.0.7.evil.example:8000", "0x7f.1:8000"],
        ),
    ],
)
def test_which_host_headers_mean_this_server(
    door: Door, right: list[str], wrong: list[str]
) -> None:
    assert [host for host in right if not door.names(host)] == []
    assert [host for host in wrong if door.names(host)] == []
    assert TOKEN not in repr(door)


def test_a_large_body_is_refused_before_it_is_sent(home: Home) -> None:
    """T78: 64 MB announced, or sent in chunks: 413, and memory stays what it was."""
    with socket.create_connection(home.host.split(":"), timeout=20) as wire:  # type: ignore[arg-type]
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {home.host}\r\n"
        head += f"Authorization: Bearer {TOKEN}\r\n"
        wire.sendall(f"{head}Content-Length: {64 * 1024**2}\r\n\r\n".encode())
        assert wire.recv(64).startswith(b"HTTP/1.1 413")
    before = rss(home)
    with socket.create_connection(home.host.split(":"), timeout=20) as wire:  # type: ignore[arg-type]
        wire.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        try:
            for _ in range(1024):
                wire.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        except OSError:
            pass  # it hung up
        wire.settimeout(20)
        with contextlib.suppress(ConnectionError):  # what it said was lost with the connection
            assert wire.recv(64).startswith(b"HTTP/1.1 413")
    assert rss(home) < before + 40 * 1024
    assert ask(home, "GET", "/v1/models", [BEARER])[0] == 200


def rss(home: Home) -> int:
    """Resident memory of the server, kilobytes."""
    status = Path(f"/proc/{home.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def test_odd_bytes_do_no_harm(home: Home) -> None:
    """Half a request, no HTTP at all, a head without an end, a target of odd bytes."""
    for data in (
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /%00%ff%fe HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"y" * 100_000,
        b"POST /v1/models HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ):
        with socket.create_connection(home.host.split(":"), timeout=20) as wire:  # type: ignore[arg-type]
            wire.sendall(data)
            wire.shutdown(socket.SHUT_WR)
            said = wire.recv(12)
        assert said == b"" or int(said[9:12]) in range(400, 500)
    assert ask(home, "GET", OPEN)[0] == 200


@pytest.mark.parametrize("canary", ["canary-in-a-prompt"])
def test_errors_do_not_repeat_what_was_asked(home: Home, canary: str) -> None:
    """T78: a prompt is neither in an error nor in the log (the fixture looks there)."""
    bodies: list[Any] = [
        {"model": "tiny", "messages": [{"role": "user", "content": canary}]},
        {"model": "run:1", "messages": [{"role": canary, "content": canary}]},
        {"model": "run:1", "messages": canary, "temperature": canary, "stop": [1, canary]},
        {"model": "run:1", "messages": [{"role": "user", "content": [{"type": canary}]}]},
        [canary],
    ]
    for body in bodies:
        sent = json.dumps(body).encode()
        status, _, said = ask(home, "POST", "/v1/chat/completions", [BEARER], sent)
        assert 400 <= status < 500
        assert b"canary" not in said
    status, _, said = ask(home, "POST", "/v1/chat/completions", [BEARER], b'{"canary')
    assert (status, b"canary" in said) == (400, False)


def test_it_listens_on_this_machine_alone(home: Home) -> None:
    """T73: the socket is bound to 127.0.0.1."""
    port = int(home.host.rpartition(":")[2])
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    bound = [row[1] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"]
    assert bound == [f"0100007F:{port:04X}"]


def refused(understudy: Callable[..., Done], *options: str, **env: str) -> str:
    done = understudy("serve", "-p", "p", *options, env=env)
    assert done.code == 2
    assert done.err.count("\n") == 1
    return done.err


@pytest.mark.parametrize("host", [ANYWHERE, "::", "192.0.2.7", "example.com"])
def test_other_machines_need_a_token_and_a_word(host: str) -> None:
    """T73: beyond loopback nothing opens without a token of the user's and --without-tls."""
    long = "0123456789abcdef"
    for token, without_tls, said in (
        (None, False, "no token"),
        (None, True, "no token"),
        (long, False, "unencrypted"),
    ):
        with pytest.raises(UsageError, match=said):
            check_address(host, token, without_tls=without_tls)
    check_address(host, long, without_tls=True)
    for loopback in ("127.0.0.1", "127.0.0.2", "::1", "localhost"):
        check_address(loopback, None, without_tls=False)
    for token in ("short", "0123456789 abcdef", "ä" * 20, "0123456789abcde\n"):
        with pytest.raises(UsageError, match="16 characters"):
            check_address("127.0.0.1", token, without_tls=False)


def test_what_is_refused_is_one_line(understudy: Callable[..., Done]) -> None:
    understudy("new", "p")
    assert "no token" in refused(understudy, "--host", ANYWHERE)
    assert "16 characters" in refused(understudy, UNDERSTUDY_TOKEN="short")


def test_a_name_for_no_student_is_told_at_the_start(understudy: Callable[..., Done]) -> None:
    """Not when the first client asks."""
    understudy("new", "p")
    for given, told in (("nonsense", "no model folder at nonsense"), ("o/n", "write hf:o/n")):
        done = understudy("serve", "-p", "p", "--port", "0", "--base", f"old={given}")
        assert (done.code, done.err.count("\n"), told in done.err) == (3, 1, True), done.err


def test_every_address_when_it_was_asked_for(tmp_path: Path) -> None:
    """Then any address of this machine will do, and no stranger's name."""
    Project.new(tmp_path / "p", "x").close()
    with serving(tmp_path / "p", "--host", ANYWHERE, "--without-tls") as home:
        port = home.host.rpartition(":")[2]
        assert home.url == f"http://127.0.0.1:{port}/v1"
        for name, status in (
            ("127.0.0.1", 200),
            ("192.0.2.7", 200),
            (socket.gethostname(), 200),
            ("evil.example", 403),
        ):
            headers = [("Host", f"{name}:{port}"), BEARER]
            assert ask(home, "GET", "/v1/models", headers)[0] == status, name


def test_the_token_is_kept_for_its_owner(tmp_path: Path) -> None:
    """A restart keeps it, nobody else may read it; one that was spoiled is made anew."""
    folder = tmp_path / "p"
    Project.new(folder, "x").close()
    tokens = []
    for spoiled in (None, None, "short"):
        file = folder / "serve.token"
        if spoiled is not None:
            file.write_text(spoiled)
        with serving(folder, env={"UNDERSTUDY_TOKEN": ""}) as home:
            tokens.append(home.token)
            assert file.read_text().strip() == home.token
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert tokens[0] == tokens[1] != tokens[2]
    assert len(tokens[0]) >= 40


def test_a_port_that_is_taken_is_one_line(understudy: Callable[..., Done]) -> None:
    understudy("new", "p")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"port {port}" in refused(understudy, "--port", port)


def test_no_project_is_one_line(understudy: Callable[..., Done]) -> None:
    done = understudy("serve", "--port", "0", "--json")
    assert done.code == 8
    assert done.json["exit_code"] == 8


def test_what_is_told_to_people_has_no_token_in_it(tmp_path: Path) -> None:
    """The address, the models, how to use it; the token by the name of its file."""
    Project.new(tmp_path / "p", "x").close()
    command = understudy_command("serve", "-p", tmp_path / "p", "--port", "0", "--base", "old=tiny")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(12)]
        process.terminate()
    text = "".join(lines)
    assert (tmp_path / "p" / "serve.token").read_text().strip() not in text
    for word in ("http://127.0.0.1:", "/v1", "old", "OpenAI(base_url=", "serve.token", "Ctrl-C"):
        assert word in text
