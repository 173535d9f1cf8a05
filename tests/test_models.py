"""Every adapter keeps one contract: same requests, same replies, same errors, whatever the API."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request as UrlRequest
from urllib.request import urlopen

import pytest
from pydantic import SecretStr

from understudy.errors import ProviderRefused, UnderstudyError
from understudy.example import Message
from understudy.models import endpoint
from understudy.models.address import Address, address
from understudy.models.openai_compatible import OpenAICompatible
from understudy.models.protocol import (
    CallFailed,
    Endpoint,
    Limits,
    Lost,
    NotServed,
    Quirks,
    Received,
    Reply,
    Request,
    Unpaid,
    Unreadable,
)
from understudy.practice.server import Options, in_background
from understudy.settings import Settings

KEY = "sk-canary-0123456789abcdef"
ADAPTERS = ("openai", "anthropic")
SCHEMA = {
    "type": "object",
    "title": "answer",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}
ASKED = Request((Message("system", "Be brief."), Message("user", "7 minutes")), 50)


@pytest.fixture
def bind(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Bind both APIs and their keys to one address, as the environment does."""

    def to(url: str) -> None:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", url.removesuffix("/v1"))
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)

    return to


def with_endpoint(name: str, work: Any, quirks: Quirks | None = None, **settings: Any) -> Any:
    """Run ``work(endpoint)`` in a loop of its own."""
    given = Settings(**{"price_in": 0.5, "price_out": 2, "timeout": 5, **settings})

    async def main() -> Any:
        to, _ = endpoint(name, given, quirks)
        try:
            return await work(to)
        finally:
            await to.close()

    return asyncio.run(main())


def ask(name: str, request: Request = ASKED, **settings: Any) -> Reply:
    """The reply to one request."""

    async def work(to: Endpoint) -> Reply:
        return to.read((await to.send(to.prepare(request))).raw)

    return with_endpoint(name, work, **settings)


def error_of(name: str, request: Request = ASKED, **settings: Any) -> UnderstudyError:
    """The error that one request meets, which never shows the key."""
    with pytest.raises(UnderstudyError) as caught:
        ask(name, request, **settings)
    shown = f"{caught.value} {caught.value!r} {getattr(caught.value, 'torn', b'')!r}"
    assert KEY not in shown
    return caught.value


@pytest.mark.parametrize("schema", [None, SCHEMA])
def test_the_same_request_has_the_same_reply_from_every_adapter(
    schema: Any, bind: Callable[[str], None]
) -> None:
    """Text, finish, tokens and model are told alike; what differs stays in the adapter."""
    request = replace(ASKED, schema=schema, schema_name="answer" if schema else "")
    with in_background(Options(key=KEY)) as url:
        bind(url)
        replies = [ask(f"{adapter}:durations", request) for adapter in ADAPTERS]
    replies.append(ask("practice:durations", request))
    assert len(set(replies)) == 1
    assert replies[0].text == "PT7M"
    assert replies[0].finish == "stop"
    assert (replies[0].input_tokens, replies[0].output_tokens) == (5, 1)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_reply_that_is_cut_says_so(adapter: str, bind: Callable[[str], None]) -> None:
    """The limit reaches the endpoint, under whatever name."""
    with in_background(Options()) as url:
        bind(url)
        plan = Request((Message("user", 'Plan. "title": "plan"'),), 3)
        assert ask(f"{adapter}:durations", plan).finish == "length"


EXPECTED: dict[str, tuple[type[UnderstudyError], dict[str, Any]]] = {
    "401": (ProviderRefused, {}),
    "403": (NotServed, {}),
    "404_model": (NotServed, {}),
    "429_quota": (ProviderRefused, {}),
    "307": (ProviderRefused, {}),
    "308": (ProviderRefused, {}),
    "html": (ProviderRefused, {}),
    "429": (Unpaid, {"busy": True, "again": True, "wait_s": 0.05}),
    "503": (Unpaid, {"busy": True, "again": True}),
    "529": (Unpaid, {"busy": True, "again": True}),
    "context_length": (Unpaid, {"busy": False, "again": False, "learned": ""}),
    "content_filter": (Lost, {"again": False}),
    "400": (Unpaid, {"busy": False, "again": False, "learned": ""}),
    "500": (Lost, {"again": True}),
    "502": (Lost, {"again": True}),
    "504": (Lost, {"again": True}),
    "reset_before": (Lost, {"again": False}),
    "reset_after": (Lost, {"again": False}),
    "cut_body": (Lost, {"again": False}),
    "cut_json": (Unreadable, {}),
    "choices_null": (Unreadable, {}),
}


@pytest.mark.parametrize("fault", EXPECTED)
def test_every_adapter_means_the_same_by_the_same_error(
    fault: str, bind: Callable[[str], None]
) -> None:
    """T03-T29: what is owed, what may be sent again and the wait do not depend on the API."""
    expected, fields = EXPECTED[fault]
    with in_background(Options(faults=[(fault, 1.0)])) as url:
        bind(url)
        for adapter in ADAPTERS:
            error = error_of(f"{adapter}:durations", replace(ASKED, schema=SCHEMA))
            assert type(error) is expected, f"{adapter}: {error!r}"
            assert {name: getattr(error, name) for name in fields} == fields, adapter


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("fault", ["hang", "drip", "slow_headers"])
def test_one_deadline_holds_for_the_whole_call(
    fault: str, adapter: str, bind: Callable[[str], None]
) -> None:
    """T10-T12: also where a byte comes now and then."""
    with in_background(Options(faults=[(fault, 1.0)], drip_seconds=0.05, hang_seconds=5)) as url:
        bind(url)
        started = time.monotonic()
        error = error_of(f"{adapter}:durations", timeout=0.4)
        assert time.monotonic() - started < 3
        assert isinstance(error, Lost)
        assert "0.4 s" in error.what


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("fault", ["huge", "gzip_bomb"])
def test_no_more_is_read_than_the_cap(
    fault: str, adapter: str, bind: Callable[[str], None]
) -> None:
    """T17: neither a long body nor a compressed one that unpacks to more gets in."""
    with in_background(Options(faults=[(fault, 1.0)])) as url:
        bind(url)
        error = error_of(f"{adapter}:durations", max_reply=10_000)
        assert isinstance(error, Lost)
        assert "10,000 bytes" in error.what


@pytest.mark.parametrize("fault", ["null", "length_null", "tool_calls", "refusal_field", "empty"])
def test_replies_without_an_answer_are_told_alike(fault: str, bind: Callable[[str], None]) -> None:
    """T19-T23: an empty text, a refusal, a tool call: nobody mistakes them for an answer."""
    with in_background(Options(faults=[(fault, 1.0)])) as url:
        bind(url)
        first, second = (ask(f"{adapter}:durations") for adapter in ADAPTERS)
    assert first.text == second.text
    assert first.refusal == second.refusal == (fault == "refusal_field")
    if fault != "refusal_field":  # there Anthropic's reason is the refusal itself
        assert first.finish == second.finish
        assert not first.text


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("fault", ["no_usage", "usage_negative", "usage_text", "usage_huge"])
def test_tokens_that_make_no_sense_are_not_told(
    fault: str, adapter: str, bind: Callable[[str], None]
) -> None:
    """T25: then the ledger books the worst case."""
    with in_background(Options(faults=[(fault, 1.0)])) as url:
        bind(url)
        reply = ask(f"{adapter}:durations")
        assert reply.text == "PT7M"
        assert reply.input_tokens is None
        assert reply.output_tokens is None


REFUSALS = {
    ("openai", "temperature"): Quirks(left_out=("temperature",)),
    ("openai", "max_tokens"): Quirks(limit_name="max_completion_tokens"),
    ("openai", "response_format.json_schema"): Quirks(json_mode="json_object"),
    ("openai", "response_format"): Quirks(json_mode="text"),
    ("anthropic", "temperature"): Quirks(left_out=("temperature",)),
    ("anthropic", "output_config"): Quirks(json_mode="text"),
}


@pytest.mark.parametrize(("adapter", "refused"), REFUSALS)
def test_a_quirk_is_learned_once_and_holds_when_given_back(
    adapter: str, refused: str, bind: Callable[[str], None]
) -> None:
    """Refused parameters are told and mended; an endpoint that knows of them is not refused."""
    request = replace(ASKED, schema=SCHEMA, schema_name="answer", temperature=0.5)

    async def learn(to: Endpoint) -> tuple[list[Unpaid], Quirks]:
        refusals = []
        for _ in range(4):
            try:
                await to.send(to.prepare(request))
            except Unpaid as error:
                refusals.append(error)
            else:
                return refusals, to.quirks
        raise AssertionError(refusals)

    with in_background(Options(refused_parameters=(refused,))) as url:
        bind(url)
        name = f"{adapter}:durations"
        refusals, learned = with_endpoint(name, learn)
        assert all(error.learned and error.wait_s == 0 for error in refusals)
        assert learned == REFUSALS[adapter, refused]
        assert refusals
        assert with_endpoint(name, learn, learned) == ([], learned)


def test_calls_refused_together_learn_one_step(bind: Callable[[str], None]) -> None:
    """The second refusal of the same kind does not go down a further step."""

    async def work(to: Endpoint) -> Quirks:
        body = to.prepare(replace(ASKED, schema=SCHEMA, schema_name="answer"))
        results = await asyncio.gather(*(to.send(body) for _ in range(9)), return_exceptions=True)
        assert all(isinstance(error, Unpaid) and error.learned for error in results)
        return to.quirks

    with in_background(Options(refused_parameters=("response_format.json_schema",))) as url:
        bind(url)
        assert with_endpoint("openai:durations", work).json_mode == "json_object"


def test_an_endpoint_that_takes_no_limit_is_refused(bind: Callable[[str], None]) -> None:
    """A call whose length is not limited has no worst case, so it is not sent."""

    async def work(to: Endpoint) -> list[str]:
        learned = []
        for _ in range(4):
            try:
                await to.send(to.prepare(ASKED))
            except Unpaid as error:
                learned.append(error.learned)
        return learned

    with in_background(Options(refused_parameters=("max_tokens", "max_completion_tokens"))) as url:
        bind(url)
        assert with_endpoint("openai:durations", work)[1:] == ["", "", ""]


def test_a_limit_that_is_too_high_teaches_nothing() -> None:
    """Words about the value of max_tokens are no refusal of its name."""
    message = "max_tokens is too large: 5000. This model supports at most 4096 tokens."
    raw = json.dumps({"error": {"message": message, "param": "max_tokens"}}).encode()
    with canned(400, raw) as url:
        error = error_of(f"{url}#any")
    assert isinstance(error, Unpaid)
    assert not error.learned
    assert not error.again


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_rate_limits_come_with_replies_and_refusals(
    adapter: str, bind: Callable[[str], None]
) -> None:
    """Whatever their spelling, and also with a 429."""

    async def work(to: Endpoint) -> tuple[Limits | None, Unpaid]:
        received = await to.send(to.prepare(ASKED))
        with pytest.raises(Unpaid) as caught:
            await asyncio.gather(*(to.send(to.prepare(ASKED)) for _ in range(3)))
        return received.limits, caught.value

    with in_background(Options(requests_per_minute=60, tokens_per_minute=9000)) as url:
        bind(url)
        first, refused = with_endpoint(f"{adapter}:durations", work)
    assert first is not None
    assert (first.requests, first.requests_left, first.tokens) == (60, 59, 9000)
    assert refused.busy
    assert refused.wait_s is not None
    assert 0 < refused.wait_s <= 1
    assert refused.limits is not None
    assert refused.limits.requests == 60


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_the_models_are_listed(adapter: str, bind: Callable[[str], None]) -> None:
    """What ``doctor`` compares a name with."""
    with in_background(Options(key=KEY)) as url:
        bind(url)
        listed = with_endpoint(f"{adapter}:durations", lambda to: to.models())
    assert listed == ["dates", "durations", "support"]


def test_nobody_listens(bind: Callable[[str], None]) -> None:
    """T06: a closed port owes nothing and is named."""
    bind("http://127.0.0.1:9/v1")
    for adapter in ADAPTERS:
        error = error_of(f"{adapter}:durations")
        assert isinstance(error, Unpaid)
        assert error.again
        assert "127.0.0.1:9" in error.what


def test_a_server_that_does_not_speak_http(bind: Callable[[str], None]) -> None:
    """T06: bytes that are no HTTP are a lost call."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            caller, _ = listener.accept()
            with caller:
                caller.recv(100)
                caller.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

        thread = Thread(target=talk)
        thread.start()
        bind(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        assert isinstance(error_of("openai:durations"), Lost)
        thread.join()


@contextmanager
def canned(status: int, body: bytes, **headers: str) -> Iterator[str]:
    """A server that always says the same."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            for name, value in {"Content_Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_body_of_megabytes_is_sent(adapter: str, bind: Callable[[str], None]) -> None:
    """Without a warning that it would hold up other calls."""
    long = replace(ASKED, messages=(Message("system", "x" * 2_000_000), ASKED.messages[-1]))
    with in_background(Options()) as url:
        bind(url)
        assert ask(f"{adapter}:durations", long).text == "PT7M"


@pytest.mark.parametrize(
    ("encoding", "body"), [("br", b"\x0b"), ("gzip", b"{}"), ("deflate", b"x")]
)
def test_what_cannot_be_unpacked_is_lost(encoding: str, body: bytes) -> None:
    """T17: compressed in a way that was not asked for, or damaged."""
    with canned(200, body, Content_Encoding=encoding) as url:
        error = error_of(f"{url}#any")
    assert isinstance(error, Lost)
    assert "compressed" in error.what


REFUSED_BODIES: list[tuple[Any, str]] = [
    ({"messages": [{"role": "user", "content": "1 hour"}]}, "max_tokens"),
    ({"max_tokens": 9}, "messages"),
    ({"max_tokens": 9, "messages": [{"role": "system", "content": "x"}]}, "role"),
    ({"max_tokens": 9, "messages": [], "output_config": {"format": {}}}, "output_config"),
    ([], "object"),
]


@pytest.mark.parametrize(("body", "named"), REFUSED_BODIES)
def test_the_practised_messages_api_is_as_strict_as_the_real_one(body: Any, named: str) -> None:
    """So that what passes here passes there: limit, roles and version are asked for."""
    if isinstance(body, dict):
        body = {"model": "durations", **body}
    for headers, expected in (({"anthropic-version": "2023-06-01"}, named), ({}, "version")):
        with in_background(Options()) as url, pytest.raises(HTTPError) as caught:
            urlopen(UrlRequest(f"{url}/messages", json.dumps(body).encode(), headers))  # noqa: S310
        with caught.value as answer:
            assert answer.code == 400
            said = json.loads(answer.read())
        assert said["type"] == "error"
        assert said["error"]["type"] == "invalid_request_error"
        assert expected in said["error"]["message"]


def test_a_key_that_is_echoed_is_cut_out(bind: Callable[[str], None]) -> None:
    """T85: in stored bytes, in errors, in torn bytes and in what was compressed."""

    async def receive(to: Endpoint) -> Received:
        return await to.send(to.prepare(ASKED))

    echo = f'{{"choices": [{{"message": {{"content": "key {KEY}"}}}}]}}'.encode()
    for body, more in ((echo, {}), (gzip.compress(echo), {"Content_Encoding": "gzip"})):
        with canned(200, body, **more) as url:
            bind(url)
            raw = with_endpoint("openai:m", receive).raw
        assert KEY.encode() not in raw
        assert b"[key]" in raw
    for status in (400, 401, 403, 404, 409, 429, 500, 503):
        said = json.dumps({"error": {"message": f"bad key {KEY}", "code": KEY}}).encode()
        with canned(status, said) as url:
            bind(url)
            for adapter in ADAPTERS:
                error_of(f"{adapter}:m")
    with canned(200, echo, Content_Length="9999") as url:
        bind(url)
        error = error_of("openai:m", timeout=0.3)
        assert isinstance(error, Lost)
        assert b"[key]" in error.torn


ERROR_BODIES = [
    ({"error": {"message": "too long."}}, "too long"),
    ({"error": "too long"}, "too long"),
    ({"message": "too long", "object": "error"}, "too long"),
    ({"detail": "too long"}, "too long"),
    ({"detail": [{"loc": ["body", "messages"], "msg": "too long"}]}, "messages: too long"),
    ([{"error": {"message": "too long", "status": "INVALID"}}], "too long"),
    ({"message": {"detail": [{"loc": ["body", "n"], "msg": "too long"}]}}, "n: too long"),
    ({"type": "error", "error": {"type": "invalid", "message": "too\nlong"}}, "too long"),
    ("nonsense", "HTTP 400"),
    ({"error": {"message": {"odd": 1}}}, ""),
    ({"detail": [7]}, "HTTP 400"),
]


@pytest.mark.parametrize(("body", "words"), ERROR_BODIES)
def test_errors_in_every_shape_are_put_in_words(body: Any, words: str) -> None:
    """OpenAI's, Anthropic's, Mistral's, FastAPI's and Gemini's; and of no shape at all."""
    with canned(400, json.dumps(body).encode()) as url:
        error = error_of(f"{url}#any")
    assert isinstance(error, CallFailed)
    assert words in error.what


def test_gemini_says_in_the_body_how_long_to_wait() -> None:
    """Where no header tells the wait, the body may."""
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}]
    with canned(
        429, json.dumps([{"error": {"message": "quota", "details": details}}]).encode()
    ) as url:
        error = error_of(f"{url}#any")
    assert isinstance(error, Unpaid)
    assert error.wait_s == 34


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"{}", b"7", b"[" * 5000, b'{"a": NaN}'])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_what_is_no_answer_is_unreadable(
    raw: bytes, adapter: str, bind: Callable[[str], None]
) -> None:
    """T14, T16: a stored body that cannot be understood never raises anything else."""
    bind("http://127.0.0.1:9/v1")

    async def read(to: Endpoint) -> Reply:
        return to.read(raw)

    with pytest.raises(Unreadable):
        with_endpoint(f"{adapter}:m", read)


@pytest.mark.parametrize(
    "written",
    [
        "sk-ab/cd+ef0123456789",
        r"sk-ab\/cd+ef0123456789",
        r"sk-ab\u002fcd\u002Bef0123456789",
        r"sk\u002dab\/cd\u002bef0123456789",
    ],
)
def test_a_key_that_is_echoed_in_escapes_is_cut_out(written: str) -> None:
    """However JSON writes it, it is in no message and in nothing that is stored (T85)."""
    where = Address(
        name="m",
        provider="x",
        model="m",
        base_url="http://127.0.0.1:1/v1",
        key=SecretStr("sk-ab/cd+ef0123456789"),
        key_variable="K",
        identity="i",
    )
    endpoint = OpenAICompatible(where, Quirks(), timeout_s=1, max_reply=1000)
    raw = f'{{"error": {{"message": "bad key {written} given"}}}}'.encode()
    kept = endpoint._without_key(raw)
    assert b"0123456789" not in kept
    assert json.loads(kept)["error"]["message"] == "bad key [key] given"
    torn = endpoint._without_key(b"HTTP and then sk-ab/cd+ef01234", torn=True)
    assert b"sk-ab" not in torn


@pytest.mark.parametrize(
    ("usage", "written"),
    [
        ({"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 1025}, 1005),
        ({"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}, 5),
        ({"prompt_tokens": 20, "completion_tokens": 5}, 5),
        ({"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 3}, 5),
    ],
)
def test_tokens_of_thinking_are_paid_for(usage: dict[str, int], written: int) -> None:
    """Some endpoints count them in the total alone."""
    where = address("http://127.0.0.1:1/v1#m", offline=False, environ={})
    endpoint = OpenAICompatible(where, Quirks(), timeout_s=1, max_reply=1000)
    choice = {"message": {"content": "x"}, "finish_reason": "stop"}
    raw = json.dumps({"choices": [choice], "usage": usage}).encode()
    assert endpoint.read(raw).output_tokens == written
