"""A tour of the server with OpenAI's SDK, whichever generation is imported: ``tour(url, token)``.

Every answer is validated in strict mode against the SDK's own types, and has to come out of them as
it went in. Run as a script it prints the SDK's version: the generation before lies in a folder.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any, Literal

import openai
from openai.types import Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

ASK: dict[str, Any] = {
    "model": "gpt-3.5-turbo",
    "messages": [{"role": "user", "content": "number 370"}],
    "max_tokens": 12,
}
EVERYTHING: dict[str, Any] = {
    **ASK,
    "logprobs": True,
    "top_logprobs": 3,
    "n": 3,
    "seed": 5,
    "temperature": 1.2,
    "top_p": 0.9,
    "stop": ["zzz", "\n\n"],
    "user": "somebody",
    "metadata": {"a": "b"},
    "store": False,
}


def same(sent: str, kind: type[BaseModel]) -> Any:
    """The text as that type, strictly; it holds what was sent, no more and no less."""
    made = kind.model_validate_json(sent, strict=True)
    assert made.model_dump(mode="json", exclude_unset=True) == json.loads(sent)
    return made


def events(raw: Any) -> list[str]:
    """What a stream sent, line by line."""
    return [line.removeprefix("data: ") for line in raw.iter_lines() if line]


def joined(chunks: Any) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def tour(url: str, token: str) -> str:
    """Raises AssertionError where something is not as it should be; the SDK's version."""
    client = openai.OpenAI(base_url=url, api_key=token, max_retries=0)
    models(client, url)
    chats(client)
    streams(client)
    schemas(client)
    asyncio.run(at_the_same_time(openai.AsyncOpenAI(base_url=url, api_key=token, max_retries=0)))
    client.close()
    return openai.__version__


def models(client: openai.OpenAI, url: str) -> None:
    listed = [model.id for model in client.models.list()]
    assert {"run:1", "run:latest", "gpt-3.5-turbo", "tiny"} <= set(listed)
    for name in listed:
        raw = client.models.with_raw_response.retrieve(name)
        assert same(raw.text if isinstance(raw.text, str) else raw.text(), Model).id == name
    assert client.models.retrieve("gpt-3.5-turbo").understudy_model == "run:1"
    for call in (
        lambda: client.models.retrieve("gpt-4"),
        lambda: client.chat.completions.create(**{**ASK, "model": "gpt-4"}),
    ):
        refused(call, openai.NotFoundError, code="model_not_found", param="model")
    stranger = openai.OpenAI(base_url=url, api_key="x" * 20, max_retries=0)
    refused(stranger.models.list, openai.AuthenticationError, code="invalid_api_key")
    stranger.close()


def refused(call: Callable[[], Any], kind: type[openai.APIStatusError], **told: str) -> None:
    """The call is refused by that error, which tells these things and the request's id."""
    caught = None
    try:
        call()
    except kind as error:
        caught = error
    assert caught is not None
    assert {name: getattr(caught, name) for name in told} == told
    assert caught.request_id


def chats(client: openai.OpenAI) -> None:
    for ask in (ASK, EVERYTHING, {**ASK, "n": 2, "logprobs": True}):
        raw = client.chat.completions.with_raw_response.create(**ask)
        assert raw.headers["x-understudy-model"] == "run:1"
        made = same(raw.http_response.text, ChatCompletion)
        assert raw.parse() == made
        assert made.model == "gpt-3.5-turbo"
        assert made.understudy_model == "run:1"
        assert len(made.choices) == ask.get("n", 1)
        assert made.usage.total_tokens == made.usage.prompt_tokens + made.usage.completion_tokens
    top = client.chat.completions.create(**EVERYTHING).choices[1].logprobs.content
    for token in top:
        assert len(token.top_logprobs) == 3
        assert token.logprob <= max(one.logprob for one in token.top_logprobs) <= 0
        assert bytes(token.bytes).decode(errors="replace") == token.token or "\ufffd" in token.token
    refused(
        lambda: client.chat.completions.create(**ASK, frequency_penalty=1),
        openai.BadRequestError,
        param="frequency_penalty",
        type="invalid_request_error",
    )


def streams(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(**ASK)
    wanted = whole.choices[0].message.content
    asks = [ASK, {**ASK, "stream_options": {"include_usage": True}}, EVERYTHING]
    for ask in asks:
        with client.chat.completions.with_streaming_response.create(**ask, stream=True) as raw:
            assert raw.headers["content-type"].startswith("text/event-stream")
            *sent, last = events(raw)
        assert last == "[DONE]"
        chunks = [same(text, ChatCompletionChunk) for text in sent]
        assert len({chunk.id for chunk in chunks}) == 1
        for index in range(ask.get("n", 1)):
            of_choice = [c.choices[0] for c in chunks if c.choices and c.choices[0].index == index]
            assert of_choice[0].delta.role == "assistant"
            assert [c.finish_reason for c in of_choice[:-1]] == [None] * (len(of_choice) - 1)
            assert of_choice[-1].finish_reason in ("stop", "length")
        if ask is not EVERYTHING:
            assert joined(chunks) == wanted
        assert (chunks[-1].usage is not None) == ("stream_options" in ask)
    assert chunks[-1].usage is None
    usage = list(client.chat.completions.create(**asks[1], stream=True))[-1]
    assert (usage.choices, usage.usage) == ([], whole.usage)
    assert joined(client.chat.completions.create(**ASK, stream=True)) == wanted
    with client.chat.completions.stream(**ASK) as helper:
        helper.until_done()
        assert helper.get_final_completion().choices[0].message.content == wanted


class Shape(BaseModel):
    """What a model that babbles is held to."""

    kind: Literal["big", "small"]
    right: bool


def schemas(client: openai.OpenAI) -> None:
    ask = {**ASK, "model": "run:2", "max_tokens": 200}
    made = client.chat.completions.parse(**ask, response_format=Shape)
    assert isinstance(made.choices[0].message.parsed, Shape)
    assert made.choices[0].finish_reason == "stop"
    with client.chat.completions.stream(**ask, response_format=Shape) as helper:
        helper.until_done()
        parsed = helper.get_final_completion().choices[0].message.parsed
    assert parsed == made.choices[0].message.parsed


async def at_the_same_time(client: openai.AsyncOpenAI) -> None:
    async def streamed() -> str:
        stream = await client.chat.completions.create(**ASK, stream=True)
        return joined([chunk async for chunk in stream])

    async def whole() -> str:
        made = await client.chat.completions.create(**ASK)
        return made.choices[0].message.content

    found = await asyncio.gather(*(work() for work in (streamed, whole) * 8))
    assert len(set(found)) == 1
    assert "run:1" in [model.id async for model in client.models.list()]
    await client.close()


if __name__ == "__main__":
    print(tour(*sys.argv[1:]))
