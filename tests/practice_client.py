"""A bare client of the practice server, which hides nothing."""

from __future__ import annotations

import asyncio
import json

import aiohttp


def chat(text="5 March 2024", model="practice:dates", **more):
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


async def post(session, url, body, **more):
    """Send once. Returns status, headers and the text of the body."""
    async with session.post(f"{url}/chat/completions", json=body, **more) as response:
        return response.status, response.headers, await response.text(errors="replace")


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


def named(name):
    return {"type": "json_schema", "json_schema": {"name": name, "schema": {}}}


def inputs_of(url, cell, how_many=5, batch=0):
    order = json.dumps({"cell": cell, "how_many": how_many, "batch": batch})
    text = f"Write inputs for this cell:\n{order}\nAs JSON."
    return json.loads(content(url, chat(text, response_format=named("inputs"))))["inputs"]
