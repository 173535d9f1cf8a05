"""Any Python function as a teacher: an existing slow program or rule set can be distilled too.

It goes through the ledger like any endpoint, at no cost: what it answered once is on disk, and an
interrupted run goes on where it was.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from understudy.example import valid
from understudy.models.protocol import Quirks, Received, Reply, Request, Unpaid, Unreadable

Teacher = Callable[[str], Any]
"""Input text to answer: text, or a mapping that becomes a JSON object; may be ``async``."""


class Function:
    """Endpoint around ``function``. A function that is not ``async`` runs in a thread.

    Its name is ``python:`` and where it is defined; its identity also has a hash of its code, so
    that a changed function is asked anew.
    """

    def __init__(self, function: Teacher) -> None:
        where = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
        self.name = f"python:{'.'.join(filter(None, where)) or type(function).__name__}"
        self.identity = f"{self.name}#{_code_hash(function)}"
        self.quirks = Quirks()
        self._function = function

    def prepare(self, request: Request) -> bytes:
        """The input alone: the last message."""
        return request.messages[-1].content.encode("utf-8", "replace")

    async def send(self, body: bytes) -> Received:
        """Call the function. Raises Unpaid, not to be sent again, if it raises."""
        text = body.decode()
        try:
            if inspect.iscoroutinefunction(self._function):
                answer = await self._function(text)
            else:
                answer = await asyncio.to_thread(self._function, text)
                if isinstance(answer, Awaitable):
                    answer = await answer
            written = answer_text(answer)
        except Exception as error:
            what = f"{self.name} raised {type(error).__name__}: {error}"
            raise Unpaid(what, again=False) from error
        return Received(json.dumps({"answer": written}).encode())

    def read(self, raw: bytes) -> Reply:
        """The stored answer. Raises Unreadable if it is none."""
        try:
            answer = json.loads(raw)["answer"]
        except (ValueError, LookupError, TypeError, RecursionError):
            raise Unreadable("the stored answer cannot be read") from None
        return Reply(valid(str(answer)), input_tokens=0, output_tokens=0, model=self.name)

    async def close(self) -> None:
        """Nothing to let go of."""


def answer_text(answer: object) -> str:
    """What a function returned, as the text of an answer. Raises TypeError if it is none."""
    if isinstance(answer, str):
        return answer
    if isinstance(answer, Mapping):
        return json.dumps(dict(answer), ensure_ascii=False)
    if isinstance(answer, bool | int | float):
        return json.dumps(answer)
    raise TypeError(f"the answer is {type(answer).__name__}, not text or a mapping")


def _code_hash(function: Teacher) -> str:
    """Hash of the function's source; of its name where there is none (built in, or a callable)."""
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        source = repr(getattr(function, "__qualname__", type(function)))
    return hashlib.sha256(source.encode()).hexdigest()[:16]
