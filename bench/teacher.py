"""A teacher for measuring: chat completions over HTTP/1.1, as little work a request as can be.

It answers after a fixed latency, however many are waiting: a call that asks for inputs with as
many different ones, any other with a short answer. It runs on a core of its own, so that what is
measured is the client.

    python bench/teacher.py LATENCY_SECONDS [CORE]      prints its URL
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import sys

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_ORDER = re.compile(rb'how_many\\": (\d+)')
_BATCH = re.compile(rb'batch\\": (\d+)')


_TEXT = """
order parcel invoice refund shirt lamp kettle blue broken late twice wrong size missing charger
battery screen box courier door neighbour street monday friday april june two seven ninety card
bank voucher account password email phone called nobody answered please help urgent again still
waiting returned exchange warranty receipt store online app crashed login address changed moved
"""
WORDS = _TEXT.split()


def text_of(number: int) -> str:
    """A sentence of twelve words, another one for each number."""
    rng = random.Random(number)
    return f"{' '.join(rng.choices(WORDS, k=12))} {number}"


def reply(body: bytes) -> bytes:
    """The JSON of a chat completion."""
    order, batch = _ORDER.search(body), _BATCH.search(body)
    text = "The order is late; the customer wants it replaced."
    if order and batch:
        how_many, number = int(order[1]), int(batch[1])
        rows = [
            {"text": text_of(number * how_many + n), "probability": 0.1} for n in range(how_many)
        ]
        text = json.dumps({"inputs": rows})
    usage = {"prompt_tokens": len(body) // 4, "completion_tokens": len(text) // 4}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
    }
    found = {"id": "x", "object": "chat.completion", "model": "m", "choices": [choice]}
    return json.dumps({**found, "usage": usage}).encode()


class Wire(asyncio.Protocol):
    """One connection; keeps alive."""

    def __init__(self, latency: float) -> None:
        self._latency = latency
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer a request once it is whole."""
        self._read += data
        head, found, rest = self._read.partition(b"\r\n\r\n")
        if not found:
            return
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        if len(rest) < size:
            return
        self._read = rest[size:]
        body = reply(rest[:size])
        answer = (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        asyncio.get_running_loop().call_later(self._latency, self._write, answer)

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)  # type: ignore[attr-defined]


async def serve(latency: float) -> None:
    """Listen on loopback until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Wire(latency), "127.0.0.1", 0, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    print(f"http://127.0.0.1:{port}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        os.sched_setaffinity(0, {int(sys.argv[2])})
    asyncio.run(serve(float(sys.argv[1])))
