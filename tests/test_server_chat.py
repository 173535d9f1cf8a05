"""Chat completions over the wire: OpenAI's two SDKs, every parameter, every error."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sdk_tour
from serving_project import SYSTEM, Home, make_project, older_sdk, serving
from understudy.models.protocol import Generation
from understudy.server import parameters

TOUR = Path(sdk_tour.__file__)
ASK: dict[str, Any] = {"model": "run:1", "messages": [{"role": "user", "content": "number 370"}]}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("chat") / "p")


@pytest.fixture(scope="module")
def home(project: Path) -> Iterator[Home]:
    base = f"base-model={project / 'runs' / '2' / 'model'}"
    with serving(project, "--base", "gpt-3.5-turbo=run:1", "--base", base) as running:
        yield running
        running.process.terminate()
        _, logged = running.process.communicate(timeout=30)
        assert logged == "understudy: stopped. Run the same command to go on\n"  # nothing else


def post(home: Home, body: Any) -> tuple[int, dict[str, Any]]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection = http.client.HTTPConnection(home.host, timeout=60)
    headers = {"Authorization": f"Bearer {home.token}"}
    connection.request("POST", "/v1/chat/completions", raw, headers)
    answer = connection.getresponse()
    found = answer.status, json.load(answer)
    connection.close()
    return found


def ask(home: Home, **changes: Any) -> dict[str, Any]:
    status, body = post(home, {**ASK, **changes})
    assert status == 200, body
    return body


def said(body: dict[str, Any]) -> list[str]:
    return [choice["message"]["content"] for choice in body["choices"]]


def test_the_newest_sdk_goes_round(home: Home) -> None:
    """Whole, streamed, at the same time; every answer is strictly what the SDK's types say."""
    assert sdk_tour.tour(home.url, home.token).startswith("3.")


def test_the_generation_before_goes_round(home: Home) -> None:
    done = subprocess.run(
        [sys.executable, TOUR, home.url, home.token],
        env={**os.environ, **older_sdk()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("2."), done.stderr


USER = {"role": "user", "content": "x"}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"model": ""}, "model"),
    ({"model": 7}, "model"),
    ({"model": "tiny"}, "model"),
    ({"messages": None}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "x"}, "messages"),
    ({"messages": ["x"]}, "messages[0]"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages[0].role"),
    ({"messages": [USER, {"role": "user"}]}, "messages[1].content"),
    ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0].type"),
    (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "messages[0].content[0].text",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages[0].content[0].type",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        "messages[0].content[0].type",
    ),
    (
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [{}]}, USER]},
        "messages[0].tool_calls",
    ),
    ({"messages": [USER, {"role": "assistant", "content": "y"}]}, "messages"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 10**9}, "max_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"max_completion_tokens": "9"}, "max_completion_tokens"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 1.1}, "top_p"),
    ({"n": 0}, "n"),
    ({"n": 129}, "n"),
    ({"seed": 0.5}, "seed"),
    ({"seed": 2**70}, "seed"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ({"stop": ""}, "stop"),
    ({"stop": [1]}, "stop"),
    ({"stop": {}}, "stop"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"logprobs": 3}, "logprobs"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": []}, "stream_options"),
    ({"response_format": "json"}, "response_format.type"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": ["text"]}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}},
        "response_format.json_schema.name",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": 1}}},
        "response_format.json_schema.schema",
    ),
    ({"frequency_penalty": 0.5}, "frequency_penalty"),
    ({"presence_penalty": -1}, "presence_penalty"),
    ({"logit_bias": {"50256": -100}}, "logit_bias"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"functions": [{"name": "f"}]}, "functions"),
    ({"function_call": {"name": "f"}}, "function_call"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"audio": {"voice": "x", "format": "wav"}}, "audio"),
    ({"reasoning_effort": "high"}, "reasoning_effort"),
    ({"verbosity": "low"}, "verbosity"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"moderation": {"model": "x"}}, "moderation"),
    ({"top_k": 5}, "top_k"),
]


@pytest.mark.parametrize(
    ("changes", "param"), BAD, ids=[f"{p}-{i}" for i, (_, p) in enumerate(BAD)]
)
def test_what_cannot_be_done_is_refused_by_name(
    changes: dict[str, Any], param: str, home: Home
) -> None:
    """Nothing is dropped in silence: 400, and ``param`` says which."""
    status, body = post(home, {**ASK, **changes})
    assert (status, body["error"]["param"]) == (400, param), body
    assert set(body["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'"x"', b'{"n": NaN}', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(raw: bytes, home: Home) -> None:
    assert post(home, raw)[0] == 400


def test_every_parameter_of_the_sdk_was_looked_at() -> None:
    """A new one in the SDK fails here until somebody decides: done, ignored or refused."""
    from openai.types.chat import completion_create_params as sdk

    params = set(sdk.CompletionCreateParamsBase.__annotations__)
    known = parameters.DONE | parameters.IGNORED | set(parameters.NEUTRAL)
    assert known - params == {"stream"}  # in the two classes on top of that one
    assert params - known == set()


def test_what_changes_nothing_is_taken(home: Home) -> None:
    """Parameters that ask for nothing, or only for bookkeeping, leave the answer as it is."""
    neutral = {name: values[0] for name, values in parameters.NEUTRAL.items() if values}
    plain = ask(home, max_tokens=8)
    for changes in (
        neutral,
        dict.fromkeys(parameters.NEUTRAL),
        {"user": "me", "metadata": {"a": "b"}, "store": True, "service_tier": "auto"},
        {"response_format": {"type": "text"}, "stop": None, "n": None, "seed": None},
        {"temperature": 0, "top_p": 0.3, "seed": 7},
        {"temperature": 2, "top_p": 0},
    ):
        assert said(ask(home, max_tokens=8, **changes)) == said(plain), changes


def test_the_tasks_system_message_leads_where_there_is_none(home: Home) -> None:
    """As in ``predict``; one that the request brings stands in its place."""
    user = ASK["messages"][0]

    def tokens(*messages: dict[str, Any], model: str = "run:1") -> tuple[int, list[str]]:
        body = ask(home, model=model, messages=list(messages), max_tokens=8)
        return body["usage"]["prompt_tokens"], said(body)

    alone = tokens(user)
    for role in ("system", "developer"):
        assert tokens({"role": role, "content": SYSTEM}, user) == alone
    assert tokens({"role": "system", "content": "x"}, user)[0] != alone[0]
    parts = [{"type": "text", "text": "number "}, {"type": "text", "text": "370"}]
    assert tokens({"role": "user", "content": parts}) == alone
    # A base has no task.
    assert tokens(user, model="base-model")[0] < tokens(user, model="run:2")[0]


def test_a_conversation_of_several_turns_is_read(home: Home) -> None:
    turns = [USER, {"role": "assistant", "content": "y"}, USER]
    longer = ask(home, messages=turns, max_tokens=4)["usage"]["prompt_tokens"]
    assert longer > ask(home, messages=[USER], max_tokens=4)["usage"]["prompt_tokens"]


def test_a_name_says_what_it_stands_for(home: Home) -> None:
    """``model`` is the name that was asked for; beside it stands what answered."""
    for name, stands in (
        ("run:1", "run:1"),
        ("run:latest", "run:2"),
        ("gpt-3.5-turbo", "run:1"),
    ):
        body = ask(home, model=name, max_tokens=2)
        assert (body["model"], body["understudy_model"]) == (name, stands)
    mapped = said(ask(home, model="gpt-3.5-turbo", max_tokens=8))
    assert mapped == said(ask(home, max_tokens=8))
    for name in ("run:3", "run:x", "gpt-4", "ft:x", "../../etc", "hf:org/name", "a\x00b"):
        status, body = post(home, {**ASK, "model": name})
        assert (status, body["error"]["code"]) == (404, "model_not_found")


BABBLE = {"model": "run:2", "max_tokens": 40}


def test_lengths_ends_and_counts(home: Home) -> None:
    cut = ask(home, **{**BABBLE, "max_tokens": 3})
    assert (cut["choices"][0]["finish_reason"], cut["usage"]["completion_tokens"]) == ("length", 3)
    same = ask(home, model="run:2", max_completion_tokens=3)
    assert said(same) == said(cut)
    whole = ask(home, model="run:1")
    assert whole["choices"][0]["finish_reason"] == "stop"
    far = ask(home, model="run:2", max_tokens=1_000_000)
    used = far["usage"]
    assert (far["choices"][0]["finish_reason"], used["total_tokens"]) == ("length", 512)


def test_stop_strings_end_the_answer_and_are_not_in_it(home: Home) -> None:
    drawn = {**BABBLE, "temperature": 1.0, "seed": 1}
    (whole,) = said(ask(home, **drawn))
    stop = whole[len(whole) // 2 :][:3]
    for stops in (stop, [stop], ["\x01never", stop]):
        body = ask(home, **drawn, stop=stops)
        assert said(body) == [whole[: whole.index(stop)]]
        assert body["choices"][0]["finish_reason"] == "stop"


def test_the_same_seed_draws_the_same(home: Home) -> None:
    """Several choices differ; without a temperature one choice is the likeliest answer."""
    drawn = {**BABBLE, "temperature": 1.3}
    first = ask(home, **drawn, seed=3, n=3)
    assert said(first) == said(ask(home, **drawn, seed=3, n=3))
    assert len(set(said(first))) == 3
    assert said(first) != said(ask(home, **drawn, seed=4, n=3))
    assert first["system_fingerprint"] == ask(home, **drawn)["system_fingerprint"]
    assert said(ask(home, **BABBLE)) == said(ask(home, **BABBLE, temperature=0))
    assert len(set(said(ask(home, **BABBLE, n=4)))) > 1
    one = ask(home, **BABBLE)["usage"]
    three = first["usage"]
    assert three["prompt_tokens"] == one["prompt_tokens"]
    assert three["completion_tokens"] == 120


def test_logprobs_are_of_the_tokens_of_the_answer(home: Home) -> None:
    body = ask(home, **BABBLE, logprobs=True)
    content = body["choices"][0]["logprobs"]["content"]
    assert len(content) == body["usage"]["completion_tokens"]
    spelled = b"".join(bytes(token["bytes"]) for token in content)
    assert spelled.decode(errors="replace").strip() == said(body)[0].strip()
    assert all(token["top_logprobs"] == [] for token in content)
    assert ask(home, **BABBLE)["choices"][0]["logprobs"] is None


def test_json_is_json(home: Home) -> None:
    """A schema is followed to the letter, by a model that knows nothing."""
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer", "maximum": 9, "minimum": 0}, "b": {"const": "x"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    }
    wanted = {
        "type": "json_schema",
        "json_schema": {"name": "it", "schema": schema, "strict": True},
    }
    body = ask(home, model="run:2", max_tokens=300, response_format=wanted)
    found = json.loads(said(body)[0])
    assert (found["b"], found["a"] in range(10)) == ("x", True)
    status, told = post(
        home,
        {
            **ASK,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "it", "schema": {"type": "nonsense"}},
            },
        },
    )
    assert (status, "schema" in told["error"]["message"]) == (400, True)


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_does_not_fit_is_the_clients_error(home: Home, stream: bool) -> None:
    """Also of a stream: it is told by the status, before anything is streamed."""
    long = [{"role": "user", "content": "9 " * 2000}]
    status, body = post(home, {**ASK, "model": "run:2", "messages": long, "stream": stream})
    assert (status, body["error"]["code"]) == (400, "context_length_exceeded")
    assert "reads 512" in body["error"]["message"]


def test_odd_text_goes_through(home: Home) -> None:
    """Lone surrogates, control characters, control tokens spelled out, every script."""
    for text in ("\ud800", "a\x00b", "<|im_end|><|im_start|>system", "日本語 🙂‍↔️", "\u2028", " "):
        assert ask(home, messages=[{"role": "user", "content": text}], max_tokens=2)


def test_parameters_reach_the_engine_as_they_are() -> None:
    """A body becomes one Generation for each choice, each with a seed of its own."""
    asked = parameters.asked(
        {**ASK, "seed": 2**63 - 1, "n": 2, "stop": "x", "top_p": 0.5, "max_tokens": 7}
    )
    first, second = asked.generations(asked.messages, 99)
    assert first == Generation(asked.messages, 7, 1.0, 0.5, 2**63 - 1, ("x",))
    assert second.seed == 0
    assert parameters.asked(ASK).generations((), 99) == [Generation((), 99)]
