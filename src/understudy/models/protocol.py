"""What every model is to the rest: a Request in, a Reply out.

``Model`` is all that a stage sees. ``Endpoint`` is a model behind a wire, taken apart into writing
the body, sending it and reading what came back, so that the ledger can hold money for the very
bytes that are sent, and put the raw reply on disk before anybody reads it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

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


@dataclass(frozen=True, slots=True)
class Generation:
    """What a local model is asked to write, piece by piece."""

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float = 0.0
    """0: greedy."""
    top_p: float = 1.0
    """Share of probability, from the likeliest token down, that is drawn from."""
    seed: int | None = None
    """The same seed draws the same text, whatever is written at the same time; None: any."""
    stop: tuple[str, ...] = ()
    """Strings that end the text where the first of them is complete; they are not shown."""
    top_logprobs: int | None = None
    """How many likeliest tokens are told with each token; 0: its own alone; None: no logprobs."""
    schema: dict[str, Any] | None = None
    """JSON Schema that the text must follow; ``{}``: any JSON object; None: any text."""


Likely = tuple[str, float, bytes]
"""A token, its logprob, its bytes."""


class TokenLogprob(NamedTuple):
    """A token that was written, with natural logarithms of the model's own probabilities.

    Neither temperature nor top_p nor a schema is in them. ``bytes`` may be part of a character.
    """

    token: str
    logprob: float
    bytes: bytes
    top: tuple[Likely, ...]
    """The likeliest tokens, the likeliest first."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A bit of a text that is being written. The texts of all pieces, joined, are the answer."""

    text: str
    """Whole characters that no stop string can take back."""
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: str | None = None
    """On the last piece: ``stop`` if the text ended by itself or at a stop string, else
    ``length``."""
    input_tokens: int = 0
    """On the last piece; also the next."""
    output_tokens: int = 0


class Model(Protocol):
    """Anything that answers."""

    name: str

    async def complete(self, request: Request) -> Reply:
        """Answer. Raises CallFailed if this one call failed, UnderstudyError if all will."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What an endpoint says of its rate limits: per minute, left, and seconds until refilled.

    None: not said.
    """

    requests: float | None = None
    requests_left: float | None = None
    requests_reset_s: float | None = None
    tokens: float | None = None
    tokens_left: float | None = None
    tokens_reset_s: float | None = None


@dataclass(frozen=True, slots=True)
class Quirks:
    """What an endpoint was found to want otherwise; learned once, remembered in the project."""

    json_mode: Literal["json_schema", "json_object", "text"] = "json_schema"
    """How it is asked for JSON: the best of the three that it takes."""
    limit_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    left_out: tuple[str, ...] = ()
    """Parameters that it refuses, so that they are not sent."""


class Received(NamedTuple):
    """The whole body of a 200, unread, and the rate limits that came with it."""

    raw: bytes
    limits: Limits | None = None


class Endpoint(Protocol):
    """A model behind a wire."""

    name: str
    identity: str
    """What makes its answers its own (address and model); part of every call's key."""
    quirks: Quirks

    def prepare(self, request: Request) -> bytes:
        """The body to send; its length bounds its tokens, whatever the tokenizer."""
        ...

    async def send(self, body: bytes) -> Received:
        """Send once. Raises Unpaid, Lost or ProviderRefused."""
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
    limits: Limits | None = None
    """Rate limits that came with the refusal."""


class TooLong(CallFailed):
    """The prompt has more tokens than the model reads."""


class ModelFailed(CallFailed):
    """A local model gave way, or was closed: nothing was wrong with what it was asked."""


class Unreadable(CallFailed):
    """A whole reply came, but there is no answer in it. It is paid for and never sent again."""


class NotServed(ProviderRefused):
    """The model cannot be asked, whatever is paid: it is gone, closed to this user, or unreachable.

    ``evaluate`` goes on without such a one.
    """


class Unpaid(CallFailed):
    """Refused or never arrived, so nothing is owed.

    ``wait_s`` is how many seconds the endpoint asks to wait; ``busy`` is True where waiting is all
    that it takes (HTTP 429, 503); ``again`` is False where sending it again cannot help (400);
    ``unreachable`` is True where nobody was there to refuse it;
    ``learned`` says in words which quirk was learned from it: it can be sent again at once.
    """

    def __init__(
        self,
        what: str,
        fix: str = "",
        *,
        wait_s: float | None = None,
        busy: bool = False,
        again: bool = True,
        unreachable: bool = False,
        learned: str = "",
        limits: Limits | None = None,
    ) -> None:
        super().__init__(what, fix)
        self.wait_s = wait_s
        self.busy = busy
        self.again = again
        self.unreachable = unreachable
        self.learned = learned
        self.limits = limits


class Lost(CallFailed):
    """Sent, but no whole reply came back: it may have been paid for. Counted as spent.

    ``again`` is True when the endpoint itself said that it failed (HTTP 5xx), so that sending
    again is the rule; a torn connection is resent only on request.
    """

    def __init__(self, what: str, fix: str = "", *, again: bool = False, torn: bytes = b"") -> None:
        super().__init__(what, fix)
        self.again = again
        self.torn = torn
