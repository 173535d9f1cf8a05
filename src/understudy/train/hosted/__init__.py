"""Fine-tuning at a host: what every host is to the rest, whichever protocol it speaks.

    openai_sdk.py   OpenAI's protocol, by its own SDK: OpenAI, Azure, Nebius, any URL
    together.py     Together's /fine-tunes
    fireworks.py    Fireworks' supervisedFineTuningJobs
    recipe.py       the settings of a training at a host, and its tokens
    tables.py       prices, dates, what becomes of a model

A host makes a thing once for each time that it is asked, and a reply may be lost; so everything
that is made has a name of ours by which it is found again: a file its name, a job the mark in its
metadata, or the file that it is made over.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from understudy.errors import ProviderRefused
from understudy.models.address import Address
from understudy.models.protocol import CallFailed
from understudy.run import HostedRecipe
from understudy.train.hosted import tables

State = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]
ENDED: tuple[State, ...] = ("succeeded", "failed", "cancelled")
"""States from which a job does not come back."""


class Order(NamedTuple):
    """A job that is to be made."""

    mark: str
    """Ours alone: what the job is found again by."""
    model: str
    training_file: str
    """The host's id of it."""
    validation_file: str
    """Empty: there is none."""
    recipe: HostedRecipe


class Job(NamedTuple):
    """A job as the host tells of it."""

    id: str
    state: State
    told: str
    """The host's own word for the state."""
    model: str = ""
    """Name of the resulting model, without its provider; empty until there is one."""
    trained_tokens: int | None = None
    """What is billed, once it is known."""
    error: str = ""


class Happening(NamedTuple):
    """One event of a job. ``step`` is None where it tells of no step."""

    id: str
    message: str = ""
    level: str = "info"
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    valid_loss: float | None = None


class Checkpoint(NamedTuple):
    """A model of a step before the last."""

    step: int
    model: str
    loss: float | None = None


class Gone(CallFailed):
    """The host does not know that file or job (any more)."""


class Closed(ProviderRefused):
    """The host does not fine-tune: not any more, not for this key, or not this model."""


class Host(Protocol):
    """A host. Every method may raise Unpaid, Lost and ProviderRefused, as a call does."""

    address: Address

    async def look(self) -> str:
        """Whether it fine-tunes, and when the model is switched off: ``YYYY-MM-DD``, or "".

        Nothing is spent. Raises Closed.
        """
        ...

    async def file_named(self, name: str) -> str | None:
        """Id of the uploaded file of that name, or None."""
        ...

    async def upload(self, path: Path, name: str) -> str:
        """Send a file under that name; its id."""
        ...

    async def job_of(self, order: Order) -> Job | None:
        """The job that was made of an order, or None."""
        ...

    async def create(self, order: Order) -> Job:
        """Make the job. Raises Gone if the host does not know its files any more."""
        ...

    async def job(self, job_id: str) -> Job:
        """How it stands with a job. Raises Gone."""
        ...

    async def events(self, job_id: str, after: str) -> list[Happening]:
        """What happened since the event of that id (empty: since the start), oldest first."""
        ...

    async def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """Models of steps before the last; none where the host keeps none."""
        ...

    async def act(self, job_id: str, what: Literal["cancel", "pause", "resume"]) -> Job:
        """Cancel, pause or resume a job. Raises UsageError where the host cannot do that."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


def host(address: Address, *, timeout_s: float, max_reply: int) -> Host:
    """The host at an address. Raises Closed if none is known there, SetupError without the SDK."""
    protocol = tables.protocol_of(address)
    if protocol == "together":
        from understudy.train.hosted.together import Together

        return Together(address, timeout_s=timeout_s, max_reply=max_reply)
    if protocol == "fireworks":
        from understudy.train.hosted.fireworks import Fireworks

        return Fireworks(address, timeout_s=timeout_s, max_reply=max_reply)
    if protocol == "openai":
        from understudy.train.hosted.openai_sdk import OpenAIHost

        return OpenAIHost(address, timeout_s=timeout_s)
    raise closed(address, f"{address.provider} offers no fine-tuning that is known here")


def closed(address: Address, why: str) -> Closed:
    """The error for a host that does not fine-tune, with the dates that are known and ways out."""
    dates = tables.soon(address)
    return Closed(f"{address.name}: {why}{f'. {dates}' if dates else ''}", tables.WAYS_OUT)
