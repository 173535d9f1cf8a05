"""What every model is to the rest: a Request in, a Reply out.

``Model`` is all that a stage sees. ``Endpoint`` is a model behind a wire, taken apart into sending
and reading, so that the ledger can put the raw bytes on disk between the two.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Protocol

from understudy.errors import ProviderRefused, UnderstudyError
from understudy.example import Message


@dataclass(frozen=True, slots=True)
class Request:
    """One call. ``sample`` counts independent answers to the same messages."""

    messages: tuple[Message, ...]
    max_tokens: int
    schema: dict[str, Any] | None = None
    """JSON Schema that the reply should follow."""
    schema_name: str = ""
    temperature: float | None = None
    """None: the model's own default; many models refuse any other."""
    sample: int = 0
    purpose: str = ""
    """What the call is for (spec, plan, inputs, answer, evaluate); not part of its key."""

    def key(self, identity: str) -> str:
        """Hash of everything that may change the reply; the same call has the same key."""
        canon = json.dumps(
            [
                identity,
                self.messages,
                self.max_tokens,
                self.schema,
                self.temperature,
                self.sample,
            ],
            ensure_ascii=False,
            sort_keys=True,
        )
        return hashlib.sha256(canon.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. ``finish`` is ``stop`` when the model ended by itself, ``length`` if cut."""

    text: str
    finish: str = "stop"
    refusal: bool = False
    input_tokens: int | None = None
    output_tokens: int | None = None
    model: str = ""
    latency_s: float = 0.0
    cost_micro: int | None = None
    """Micro-dollars; None when the price is not known. Filled in by the ledger."""
    key: str = ""
    """Key of the ledger's row; empty for models that cost nothing."""
    stored: bool = False
    """True if it was on disk already, so that nothing was bought."""


class Model(Protocol):
    """Anything that answers."""

    name: str

    async def complete(self, request: Request) -> Reply:
        """Answer. Raises CallFailed if this one call failed, UnderstudyError if all will."""
        ...


class Endpoint(Protocol):
    """A model behind a wire."""

    name: str
    identity: str
    """What makes its answers its own (address and model); part of every call's key."""

    def size(self, request: Request) -> int:
        """Bytes of the body that would be sent: a bound of its tokens, whatever the tokenizer."""
        ...

    async def send(self, request: Request) -> bytes:
        """Send once and return the whole body of a 200. Raises Unpaid, Lost or ProviderRefused."""
        ...

    def read(self, raw: bytes) -> Reply:
        """Understand a stored body. Raises Unreadable if there is no answer in it."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class CallFailed(UnderstudyError):
    """One call gave no answer; others may. ``what`` is the reason in a few words."""

    exit_code = ProviderRefused.exit_code
    stored = False
    """True if the ledger knew it from an earlier run: nothing was sent."""


class Unreadable(CallFailed):
    """A whole reply came, but there is no answer in it. It is paid for and never sent again."""


class Unpaid(CallFailed):
    """Refused or never arrived, so nothing is owed.

    ``wait_s`` is how many seconds the endpoint asks to wait; ``busy`` is True where waiting is all
    that it takes (HTTP 429, 503); ``again`` is False where sending it again cannot help (400).
    """

    def __init__(
        self,
        what: str,
        fix: str = "",
        *,
        wait_s: float | None = None,
        busy: bool = False,
        again: bool = True,
    ) -> None:
        super().__init__(what, fix)
        self.wait_s = wait_s
        self.busy = busy
        self.again = again


class Lost(CallFailed):
    """Sent, but no whole reply came back: it may have been paid for. Counted as spent.

    ``again`` is True when the endpoint itself said that it failed (HTTP 5xx), so that sending
    again is the rule; a torn connection is resent only on request.
    """

    def __init__(self, what: str, fix: str = "", *, again: bool = False, torn: bytes = b"") -> None:
        super().__init__(what, fix)
        self.again = again
        self.torn = torn
