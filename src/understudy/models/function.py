"""Any Python function as a teacher: an existing slow program or rule set can be distilled too.

It goes through the ledger like any endpoint, at no cost: what it answered once is on disk, and an
interrupted run goes on where it was.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
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

    def __init__(self, function: Teacher, *, timeout_s: float = 120.0) -> None:
        where = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
        self.name = f"python:{'.'.join(filter(None, where)) or type(function).__name__}"
        self.identity = f"{self.name}#{_code_hash(function)}"
        self.quirks = Quirks()
        self._function = function
        self._timeout_s = timeout_s
        self._known: dict[bytes, Received] = {}

    def prepare(self, request: Request) -> bytes:
        """The input alone: the last message."""
        return request.messages[-1].content.encode("utf-8", "replace")

    async def send(self, body: bytes) -> Received:
        """Call the function. Raises Unpaid, for good, if it raises or takes too long."""
        if body in self._known:
            return self._known.pop(body)
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._call(body.decode())
            written = answer_text(answer)
        except TimeoutError:
            what = f"{self.name} gave no answer within {self._timeout_s:g} s"
            raise Unpaid(what, again=False) from None
        except _Raised as error:
            what = f"{self.name} raised {error.kind}: {error}"
            raise Unpaid(what, again=False) from error
        except TypeError as error:
            raise Unpaid(f"{self.name}: {error}", again=False) from None
        return Received(json.dumps({"answer": written}).encode())

    async def probe(self, text: str) -> Reply:
        """The answer to one input, kept for when it is sent. Raises Unpaid."""
        body = text.encode("utf-8", "replace")
        self._known[body] = received = await self.send(body)
        return self.read(received.raw)

    async def _call(self, text: str) -> Any:
        """Run the user's code. Raises _Raised whatever it raises, TimeoutError."""
        if inspect.iscoroutinefunction(self._function):
            return await _guarded(self._function(text))
        answer = await _in_thread(self._function, text)
        return await _guarded(answer) if isinstance(answer, Awaitable) else answer

    def read(self, raw: bytes) -> Reply:
        """The stored answer. Raises Unreadable if it is none."""
        try:
            answer = json.loads(raw)["answer"]
        except (ValueError, LookupError, TypeError, RecursionError):
            raise Unreadable("the stored answer cannot be read") from None
        return Reply(valid(str(answer)), input_tokens=0, output_tokens=0, model=self.name)

    async def close(self) -> None:
        """Nothing to let go of."""


class _Raised(Exception):
    """What the user's code raised; no future could carry some of it, such as StopIteration."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.kind = type(error).__name__


async def _guarded(answer: Awaitable[Any]) -> Any:
    try:
        return await answer
    except (asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException as error:
        raise _Raised(error) from error


async def _in_thread(function: Teacher, text: str) -> Any:
    """Call it in a thread that nobody waits for at the end, should it hang."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()

    def tell(result: Any, error: _Raised | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    def work() -> None:
        result, raised = None, None
        try:
            result = function(text)
        except BaseException as error:  # noqa: BLE001 (also sys.exit in the user's code)
            raised = _Raised(error)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, result, raised)

    threading.Thread(target=work, daemon=True).start()
    return await done


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
