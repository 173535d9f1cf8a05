"""OpenAI's protocol for fine-tuning, spoken by its own SDK: OpenAI, Azure, Nebius, any URL.

    files.create, files.list          fine_tuning.jobs.create, list, retrieve, list_events,
                                      cancel, pause, resume, checkpoints.list;  models.retrieve

The SDK repeats a request by itself after a failure; here it never does (``max_retries=0``), because
each may make a file or a job. It follows no redirect, and takes key and address from nowhere but
address.py. Read: the SDK's own sources, 3.57 and 2.54, and
https://developers.openai.com/api/reference/resources/fine_tuning, 2026-11-29.
"""

from __future__ import annotations

import asyncio
import math
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from understudy.errors import ProviderRefused, SetupError
from understudy.models.address import Address
from understudy.models.hosts import is_no_api
from understudy.models.protocol import Lost, Unpaid
from understudy.models.refusal import not_an_api
from understudy.run import HostedRecipe
from understudy.train.hosted import Checkpoint, Gone, Happening, Job, Order, State, tables
from understudy.train.hosted.saying_no import About, said_no

if TYPE_CHECKING:
    import openai

UPLOAD_S = 3600.0
_MARK = "understudy"
"""Key of the mark in a job's metadata."""
_STATES: dict[str, State] = {
    "validating_files": "queued",
    "pending": "queued",
    "queued": "queued",
    "running": "running",
    "paused": "paused",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
}
_NUMBER = r"([-+.\deE]+|nan|inf)"
_STEP = re.compile(rf"step (\d+)(?:/(\d+))?\b.*?loss ?= ?{_NUMBER}", re.IGNORECASE)


class OpenAIHost:
    """A host that speaks OpenAI's protocol. Raises SetupError without the SDK."""

    def __init__(self, address: Address, *, timeout_s: float) -> None:
        self.address = address
        self._openai = _sdk()
        self._looked_up = False
        self._key = address.key.get_secret_value() if address.key else ""
        inside = self._openai.DefaultAsyncHttpxClient(
            follow_redirects=False, trust_env=False, proxy=address.proxy
        )
        self._client = self._openai.AsyncOpenAI(
            api_key=self._key or "none",
            base_url=address.base_url,
            max_retries=0,
            timeout=timeout_s,
            http_client=inside,
        )
        if tables.provider(address) != "openai":  # they are the user's at OpenAI, and nobody else's
            self._client.organization = self._client.project = None

    async def look(self) -> str:
        """Ask for one job, and for the day on which the model is switched off."""
        async with self._asking("tuning"):
            page = await self._client.fine_tuning.jobs.list(limit=1)
            self._must_be(page, "data")
        try:
            async with self._asking("job"):
                model = await self._client.models.retrieve(self.address.model)
        except (Gone, Unpaid, Lost, ProviderRefused):
            return ""  # not every host lists what it trains
        day = getattr(model, "shutdown_date", None)
        return day if isinstance(day, str) else ""

    async def file_named(self, name: str) -> str | None:
        """Look through the files."""
        async with self._asking():
            seen: set[str] = set()
            async for file in self._client.files.list(purpose="fine-tune"):
                if getattr(file, "filename", "") == name:
                    return str(file.id)
                if file.id in seen:  # a host that knows no pages gives the first one for ever
                    break
                seen.add(file.id)
        return None

    async def upload(self, path: Path, name: str) -> str:
        """Send a file for fine-tuning."""
        with path.open("rb") as file:
            async with self._asking():
                made = await self._client.files.create(
                    file=(name, file, "application/jsonl"),
                    purpose="fine-tune",
                    extra_headers={"Idempotency-Key": name},
                    timeout=UPLOAD_S,
                )
                self._must_be(made, "id")
        return str(made.id)

    async def job_of(self, order: Order) -> Job | None:
        """Look through the jobs for the mark; or for one without any, over that file."""
        async with self._asking("tuning"):
            seen: set[str] = set()
            async for job in self._client.fine_tuning.jobs.list(limit=100):
                mark = (getattr(job, "metadata", None) or {}).get(_MARK)
                if mark == order.mark or (not mark and job.training_file == order.training_file):
                    return self._job(job)
                if job.id in seen:
                    break
                seen.add(job.id)
        return None

    async def create(self, order: Order) -> Job:
        """Make the job, its mark in the metadata."""
        body: dict[str, Any] = {"seed": order.recipe.seed, "metadata": {_MARK: order.mark}}
        if order.validation_file:
            body["validation_file"] = order.validation_file
        if order.recipe.suffix:
            body["suffix"] = order.recipe.suffix
        body |= self._hyperparameters(order.recipe)
        async with self._asking("tuning"):
            made = await self._client.fine_tuning.jobs.create(
                model=order.model,
                training_file=order.training_file,
                extra_headers={"Idempotency-Key": f"{order.mark}-job"},
                **body,
            )
        return self._job(made)

    async def job(self, job_id: str) -> Job:
        """How it stands with a job."""
        async with self._asking("job"):
            found = await self._client.fine_tuning.jobs.retrieve(job_id)
        return self._job(found)

    async def events(self, job_id: str, after: str) -> list[Happening]:
        """The host lists the newest first: read back to the one that is known."""
        new: dict[str, Happening] = {}
        async with self._asking("job"):
            async for event in self._client.fine_tuning.jobs.list_events(job_id, limit=100):
                if event.id == after or event.id in new:
                    break
                new[event.id] = _happening(event)
        return list(reversed(new.values()))

    async def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """Models of steps before the last."""
        found: dict[str, Checkpoint] = {}
        async with self._asking("job"):
            listed = self._client.fine_tuning.jobs.checkpoints.list(job_id, limit=100)
            async for one in listed:
                if one.id in found:
                    break
                loss = getattr(one.metrics, "train_loss", None)
                name = one.fine_tuned_model_checkpoint
                found[one.id] = Checkpoint(int(one.step_number), str(name), loss)
        return sorted(found.values())

    async def act(self, job_id: str, what: Literal["cancel", "pause", "resume"]) -> Job:
        """Cancel, pause or resume."""
        async with self._asking("job"):
            done = await getattr(self._client.fine_tuning.jobs, what)(job_id)
        return self._job(done)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    # -- to and fro ------------------------------------------------------------------------

    def _hyperparameters(self, recipe: HostedRecipe) -> dict[str, Any]:
        """Those that are not left to the host; Nebius knows their older place, and adapters."""
        named = {
            "n_epochs": recipe.epochs,
            "batch_size": recipe.batch_size,
            "learning_rate_multiplier": recipe.learning_rate_multiplier,
        }
        given: dict[str, Any] = {name: one for name, one in named.items() if one != "auto"}
        if recipe.lora_rank:
            return {"hyperparameters": {**given, "lora": True, "lora_r": recipe.lora_rank}}
        if tables.provider(self.address) == "nebius":
            return {"hyperparameters": given}
        method = {"type": "supervised", "supervised": {"hyperparameters": given}}
        return {"method": method}

    def _job(self, body: Any) -> Job:
        self._must_be(body, "status")
        told = str(body.status)
        more = getattr(body, "understudy", None)  # `understudy serve` tells what has no word there
        if isinstance(more, dict) and more.get("state") == "paused":
            told = "paused"
        tokens = getattr(body, "trained_tokens", None)
        error = getattr(getattr(body, "error", None), "message", None)
        return Job(
            id=str(body.id),
            state=_STATES.get(told, "running"),
            told=told,
            model=str(getattr(body, "fine_tuned_model", None) or ""),
            trained_tokens=tokens if isinstance(tokens, int) and tokens >= 0 else None,
            error=" ".join(str(error or "").split())[:500],
        )

    def _must_be(self, body: Any, name: str) -> None:
        if getattr(body, name, None) is None:
            raise not_an_api(self.address, "its reply is no object of fine-tuning")

    @asynccontextmanager
    async def _asking(self, about: About = "") -> AsyncIterator[None]:
        """Turn what the SDK raises into our errors."""
        if not self._looked_up:
            await asyncio.to_thread(_check_host, self.address)
            self._looked_up = True
        try:
            yield
        except self._openai.APIStatusError as error:
            answer = error.response
            raw = answer.content
            if self._key:
                raw = raw.replace(self._key.encode(), b"[key]")
            status = error.status_code
            raise said_no(self.address, status, answer.headers, raw, about) from None
        except self._openai.APITimeoutError:
            raise Lost("no whole reply in time") from None
        except self._openai.APIConnectionError as error:
            why = type(error.__cause__).__name__
            if why in ("ConnectError", "ConnectTimeout"):
                what = f"cannot reach {self.address.base_url}"
                raise Unpaid(what, "Check the address and that it runs") from None
            raise Lost(f"connection lost ({why})") from None
        except (self._openai.OpenAIError, ValueError, AttributeError, TypeError) as error:
            raise Lost(f"the reply cannot be read ({type(error).__name__})", again=True) from None


def _check_host(address: Address) -> None:
    """Refuse a name that resolves to a cloud's metadata service; a proxy resolves by itself."""
    place = urlsplit(address.base_url)
    if address.proxy or not place.hostname:
        return
    try:
        found = socket.getaddrinfo(place.hostname, place.port or 443, type=socket.SOCK_STREAM)
    except OSError:
        return  # whoever connects will say it
    if any(is_no_api(str(where[0])) for *_, where in found):
        raise ProviderRefused(
            f"{place.hostname} resolves to an address that is no API's", "Check the address"
        )


def _sdk() -> Any:
    try:
        import openai
    except ImportError:
        raise SetupError(
            "training at a host needs OpenAI's SDK", 'pip install "understudy[hosted]"'
        ) from None
    return openai


def _happening(event: openai.types.fine_tuning.FineTuningJobEvent) -> Happening:
    data: Any = getattr(event, "data", None)
    data = data if isinstance(data, dict) else {}
    message = " ".join(str(event.message or "").split())
    in_words = _STEP.search(message)
    step, steps = data.get("step"), data.get("total_steps")
    loss = data.get("train_loss")
    if step is None and in_words:
        step, steps, loss = in_words.groups()
    return Happening(
        id=str(event.id),
        message=message[:500],
        level=str(getattr(event, "level", "") or "info"),
        step=_number(step, int),
        steps=_number(steps, int),
        loss=_number(loss, float),
        valid_loss=_number(data.get("full_valid_loss", data.get("valid_loss")), float),
    )


def _number(value: Any, kind: Any) -> Any:
    try:
        number = None if value is None else kind(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number is not None and math.isfinite(number) else None
