"""Each way in which the practice server fails, over real HTTP on loopback."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import math
import socket
import unicodedata
from collections import Counter

import aiohttp
import pytest

from practice_client import ask, chat, one
from understudy.errors import UsageError
from understudy.practice import support, wires
from understudy.practice.faults import PAID, At, parse_fault, pick
from understudy.practice.options import Options
from understudy.practice.refusals import REFUSAL, REFUSALS
from understudy.practice.refused import REFUSED
from understudy.practice.server import in_background
from understudy.practice.spoiled import SHAPES, TEXTS
from understudy.practice.wires import WIRES

MESSAGE = "My order number is 48213. I want my money back for the kettle."
TORN = ("reset_before", "reset_after", "cut_body", "length_lie", "headers", "hang", "slow_headers")


def reply_with(kind, body=None, **more):
    """One reply of a server that always has this fault; an error stands for none."""
    options = Options(faults=((kind, 1.0),), drip_seconds=0.001, **more)
    timeout = aiohttp.ClientTimeout(total=0.3 if kind in TORN else 20)
    with in_background(options) as url:
        [reply] = ask(url, body or chat(), timeout=timeout, allow_redirects=False)
    return reply


def json_with(kind, body=None):
    status, _, text = reply_with(kind, body)
    assert status == 200
    return json.loads(text)


def said_with(kind, body=None):
    """Text of the first choice, and why it ended."""
    choice = json_with(kind, body)["choices"][0]
    return choice["message"]["content"], choice["finish_reason"]


# refused


@pytest.mark.parametrize("kind", REFUSED)
def test_refusals_come_with_status_and_code(kind):
    """Every refusal is an error in OpenAI's shape, with its own code."""
    status, headers, text = reply_with(kind, retry_after="")
    error = json.loads(text)["error"]
    assert status == REFUSED[kind].status
    assert error["code"] == REFUSED[kind].code
    assert error.keys() == {"message", "type", "param", "code"}
    assert "Retry-After" not in headers
    assert ("Location" in headers) == (status in (307, 308))


CODES = {
    "429": (429, "rate_limit_exceeded"),
    "429_quota": (429, "insufficient_quota"),
    "context_length": (400, "context_length_exceeded"),
    "content_filter": (400, "content_filter"),
    "401": (401, "invalid_api_key"),
    "403": (403, "unsupported_country_region_territory"),
    "404_model": (404, "model_not_found"),
    "529": (529, None),
}


@pytest.mark.parametrize(("kind", "said"), CODES.items(), ids=CODES)
def test_the_codes_that_clients_look_at(kind, said):
    """They are spelled as providers spell them."""
    assert (REFUSED[kind].status, REFUSED[kind].code) == said


WAITS = ("1.5", "-5", "0", "garbage", "nan", "1e12", "Wed, 21 Oct 2065 07:28:00 GMT")


@pytest.mark.parametrize("text", WAITS)
@pytest.mark.parametrize("kind", ["429", "503", "529"])
def test_the_wait_is_sent_as_it_is_spelled(kind, text):
    """So that every spelling can be rehearsed, in either header."""
    _, headers, _ = reply_with(kind, retry_after=text, retry_after_ms="1" + text)
    assert (headers["Retry-After"], headers["retry-after-ms"]) == (text, "1" + text)


def test_refusals_take_any_other_header():
    """A provider's own headers can be rehearsed too; a redirect leads where it is told."""
    more = (("x-ratelimit-reset-requests", "1m30s"), ("x-should-retry", "false"))
    _, headers, _ = reply_with("500", refusal_headers=more)
    assert [headers[name] for name, _ in more] == ["1m30s", "false"]
    _, headers, _ = reply_with("308", redirect_to="http://localhost:1234/x")
    assert headers["Location"] == "http://localhost:1234/x"


# spoiled replies


@pytest.mark.parametrize(
    ("kind", "said", "finish"),
    [
        ("empty", "", "stop"),
        ("refusal", REFUSAL, "stop"),
        ("length", "2024-", "length"),
        ("length_valid", "2024-", "length"),
        ("content_filter_200", "2024-", "content_filter"),
        ("finish_unknown", "2024-03-05", "eos_reached"),
        ("fenced", "```json\n2024-03-05\n```", "stop"),
        ("surrogate", "\ud83d2024-03-05\udc00", "stop"),
        ("null", None, "stop"),
        ("length_null", None, "length"),
        ("refusal_field", None, "stop"),
        ("tool_calls", None, "tool_calls"),
    ],
)
def test_faults_in_the_text(kind, said, finish):
    """The reply is whole, its text is not an answer."""
    assert said_with(kind) == (said, finish)


def test_texts_that_only_look_empty():
    """White space, and characters that are not seen."""
    text, _ = said_with("blank")
    assert text
    assert not text.strip()
    text, _ = said_with("invisible")
    assert text.strip()
    assert {unicodedata.category(character) for character in text} == {"Cf"}


def test_refusals_of_the_model_are_many():
    """Each request gets the next of them, in several alphabets, or the field for it is set."""
    with in_background(Options(faults=(("refusal_any", 1.0),))) as url:
        replies = [one(url, chat())[1] for _ in REFUSALS]
    texts = {reply["choices"][0]["message"]["content"] for reply in replies}
    assert texts == set(REFUSALS)
    assert len(texts) == len(REFUSALS) == 50
    assert json_with("refusal_field")["choices"][0]["message"]["refusal"] == REFUSAL


def test_control_characters_come_through():
    """A terminal's title and clipboard, and the direction of writing, around the answer."""
    text, _ = said_with("controls")
    assert "2024-03-05" in text
    for sign in ("\x1b]0;", "\x1b]52;c;", "\x07", "\u202e", "\u2066", "\x00"):
        assert sign in text


ANSWER = {"order": "48213", "product": "kettle", "intent": "refund"}


def support_text(kind):
    text, finish = said_with(kind, chat(MESSAGE, "support"))
    return text, finish


def test_the_answer_that_is_spoiled():
    """Without a fault it is right."""
    assert json.loads(support.answer(MESSAGE)) == ANSWER


def test_answers_of_another_schema():
    """A key too few and one too many; values of other types."""
    text, _ = support_text("wrong_schema")
    assert json.loads(text).keys() == {"product", "intent", "confidence"}
    text, _ = support_text("wrong_types")
    assert json.loads(text) == {name: [value] for name, value in ANSWER.items()}


def test_answers_that_only_some_parsers_read():
    """Not a number, and a key twice."""
    text, _ = support_text("nan")
    assert math.isnan(json.loads(text)["order"])
    text, _ = support_text("duplicate_keys")
    pairs = json.loads(text, object_pairs_hook=list)
    assert pairs[0] == ["order", "another"] or pairs[0] == ("order", "another")
    assert Counter(name for name, _ in pairs) == {"order": 2, "product": 1, "intent": 1}


def test_answers_that_are_cut_and_still_json():
    """Nothing but finish_reason tells."""
    text, finish = support_text("length_valid")
    assert json.loads(text).keys() == {"order", "product"}
    assert finish == "length"


def test_choices_that_are_none_or_two():
    """Although exactly one was asked for."""
    assert json_with("choices_empty")["choices"] == []
    assert json_with("choices_null")["choices"] is None
    assert [c["index"] for c in json_with("two_choices")["choices"]] == [0, 1]
    assert [c["index"] for c in json_with("duplicate_index")["choices"]] == [0, 0]
    assert "finish_reason" not in json_with("finish_missing")["choices"][0]
    [call] = json_with("tool_calls")["choices"][0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"])
    assert json_with("model_other")["model"] != "practice:dates"


USAGES = {
    "usage_zero": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    "usage_negative": {"prompt_tokens": -3, "completion_tokens": -3, "total_tokens": -6},
    "usage_text": {"prompt_tokens": "3", "completion_tokens": "3", "total_tokens": "6"},
    "usage_huge": dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), 10**12),
    "no_usage": None,
}


@pytest.mark.parametrize(("kind", "usage"), USAGES.items(), ids=USAGES)
def test_usage_may_lie_but_not_the_bill(kind, usage, tmp_path):
    """The provider's own account has the true tokens."""
    log = tmp_path / "bill"
    _, _, text = reply_with(kind, log=log)
    assert json.loads(text).get("usage") == usage
    line = json.loads(log.read_text().splitlines()[-1])
    assert (line["input_tokens"], line["output_tokens"]) == (3, 3)


def test_a_provider_that_ignores_max_tokens(tmp_path):
    """Ten times the limit is told, and billed."""
    log = tmp_path / "bill"
    _, _, text = reply_with("usage_10x", chat(max_tokens=20), log=log)
    assert json.loads(text)["usage"]["completion_tokens"] == 200
    assert json.loads(log.read_text().splitlines()[-1])["output_tokens"] == 200


# broken wires


@pytest.mark.parametrize("kind", TORN)
def test_faults_that_give_no_whole_reply(kind):
    """The client gets an error of the connection, never a reply."""
    error = reply_with(kind)
    late = kind in ("hang", "slow_headers")
    assert isinstance(error, TimeoutError if late else aiohttp.ClientError)


def test_slow_headers_come_in_the_end():
    """After the seconds that were asked for the reply is whole."""
    options = Options(faults=(("slow_headers", 1.0),), hang_seconds=0.05)
    with in_background(options) as url:
        assert one(url, chat())[0] == 200


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


@pytest.mark.parametrize("kind", ["cut_json", "empty_body", "204", "html", "error_200", "deep"])
def test_bodies_without_an_answer(kind):
    """A whole body comes, and there is no completion in it."""
    status, headers, text = reply_with(kind)
    assert status == (204 if kind == "204" else 200)
    assert len(text) == int(headers.get("Content-Length", 0))
    if kind == "error_200":
        assert json.loads(text)["error"]["message"]
    else:
        with pytest.raises((ValueError, RecursionError)):
            json.loads(text)
    assert (kind == "html") == text.startswith("<!DOCTYPE html>")


def test_a_body_can_be_cut_at_every_byte():
    """As if it were whole; only all of it is JSON."""
    _, _, whole = reply_with("drip")
    assert json.loads(reply_with("cut_json", cut_bytes=len(whole))[2])
    for cut in (0, 1, 2, 17, len(whole) - 1):
        status, headers, text = reply_with("cut_json", cut_bytes=cut)
        assert (status, len(text), int(headers["Content-Length"])) == (200, cut, cut)
        assert text == "" or text.startswith("{")
        with pytest.raises(ValueError, match=r"."):
            json.loads(text)


def test_a_body_byte_by_byte_is_whole():
    """It takes its time and then it is an answer."""
    assert said_with("drip") == ("2024-03-05", "stop")


def raw_with(kind):
    """Headers and undecoded bytes of a reply."""

    async def read(url):
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.post(
                f"{url}/chat/completions",
                json=chat(),
                headers={"Accept-Encoding": "identity"},
            ) as response,
        ):
            return response.headers, await response.read()

    with in_background(Options(faults=((kind, 1.0),))) as url:
        return asyncio.run(read(url))


def test_bodies_that_are_too_much(monkeypatch):
    """A small gzip that unpacks to what was said, though none was asked for, and a long body."""
    monkeypatch.setattr(wires, "BOMB_BYTES", 20_000_000)
    headers, packed = raw_with("gzip_bomb")
    assert headers["Content-Encoding"] == "gzip"
    assert len(packed) < 20_000_000 / 200
    with gzip.open(io.BytesIO(packed)) as unpacked:
        assert sum(map(len, iter(lambda: unpacked.read(2**20), b""))) == 20_000_000
    _, body = raw_with("huge")
    assert len(body) == 50_000_000
    assert len(json.loads(body)["choices"][0]["message"]["content"]) > 49_999_000


def test_bytes_that_are_no_text():
    """The body is not UTF-8."""
    _, body = raw_with("not_utf8")
    with pytest.raises(UnicodeDecodeError):
        body.decode()


# which request, and what is billed


@pytest.mark.parametrize("kind", PAID)
def test_every_fault_is_billed_as_the_table_says(kind, tmp_path, monkeypatch):
    """One line when a request came and one when it was answered, paid where the table has it."""
    monkeypatch.setattr(wires, "BOMB_BYTES", 1_000_000)
    monkeypatch.setattr(wires, "HUGE_BYTES", 1_000_000)
    log = tmp_path / "bill"
    reply_with(kind, log=log)
    received, answered = map(json.loads, log.read_text().splitlines())
    assert (received["phase"], received["paid"]) == ("received", False)
    assert (answered["phase"], answered["paid"], answered["fault"]) == (
        "answered",
        PAID[kind],
        kind,
    )
    assert (answered["input_tokens"] > 0) == PAID[kind]
    assert (answered["output_tokens"] > 0) == (PAID[kind] and kind != "content_filter_paid")
    assert received["t"] == answered["t"] >= 0


def test_every_kind_is_in_one_table():
    """No kind hides another."""
    assert len(PAID) == sum(map(len, (REFUSED, WIRES, TEXTS, SHAPES)))


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


def test_faults_hit_the_requests_that_are_named():
    """One, from one to another, from one on; the others keep to their shares."""
    texts = ("500@2", "429@4-5", "429@7", "401@9-", "empty:1")
    faults = tuple(map(parse_fault, texts))
    assert faults[:4] == (
        At("500", 2, 2),
        At("429", 4, 5),
        At("429", 7, 7),
        At("401", 9, math.inf),
    )
    expected = ["empty", "500", "empty", "429", "429", "empty", "429", "empty", "401", "401", "401"]
    assert [pick(faults, 0, n) for n in range(1, 12)] == expected
    with in_background(Options(faults=faults[:4])) as url:
        statuses = [status for status, *_ in ask(url, *[chat()] * 10)]
    assert statuses == [200, 500, 200, 429, 429, 200, 429, 200, 401, 401]


BAD_FAULTS = ("429", "429:2", "429:-1", "429:x", "flood:0.1", "", ":", "429:nan")
BAD_FAULTS += ("429@", "429@0", "429@3-2", "429@x", "429@1.5", "flood@1", "429@-2", "@1", "429@1:1")


@pytest.mark.parametrize("text", BAD_FAULTS)
def test_a_fault_that_is_not_known_is_refused(text):
    """The error names every kind."""
    with pytest.raises(UsageError, match="reset_before"):
        parse_fault(text)
