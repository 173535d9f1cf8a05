"""Together's fine-tuning, by its REST API.

    POST /files/upload (form: file, file_name, purpose)      GET /files
    POST /fine-tunes   GET /fine-tunes   GET /fine-tunes/{id}   GET /fine-tunes/{id}/events
    POST /fine-tunes/{id}/cancel         GET /fine-tunes/{id}/checkpoints

Jobs carry no metadata, so one is found again by its training file, whose name is ours alone. Events
have no ids: their place in the list stands for one. It cannot pause. Billed are the passes over the
training file, and each evaluation's over the validation file; asked for is one evaluation a pass.

Read 2026-11-29: https://docs.together.ai/reference (upload-file, post-fine-tunes, get-fine-tunes,
get-fine-tunes-id, get-fine-tunes-id-events), https://docs.together.ai/docs/fine-tuning/pricing, and
the types of its own clients, github.com/togethercomputer/together-py and together-python. The path
of checkpoints is from memory. Never tried against the real host.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from understudy.errors import UsageError
from understudy.models.address import Address
from understudy.models.refusal import not_an_api
from understudy.train.hosted import Checkpoint, Gone, Happening, Job, Order, State
from understudy.train.hosted.recipe import passes
from understudy.train.hosted.rest import Rest

_STATES: dict[str, State] = {
    "pending": "queued",
    "queued": "queued",
    "running": "running",
    "compressing": "running",
    "uploading": "running",
    "cancel_requested": "running",
    "completed": "succeeded",
    "error": "failed",
    "user_error": "failed",
    "cancelled": "cancelled",
}


class Together:
    """Together, behind the protocol of hosts."""

    def __init__(self, address: Address, *, timeout_s: float, max_reply: int) -> None:
        self.address = address
        self._api = Rest(address, address.base_url, timeout_s=timeout_s, max_reply=max_reply)

    async def look(self) -> str:
        """The list of jobs tells whether there are such."""
        await self._api.ask("GET", "/fine-tunes", about="tuning")
        return ""

    async def file_named(self, name: str) -> str | None:
        """Look through the files."""
        for file in self._rows(await self._api.ask("GET", "/files")):
            if file.get("filename") == name:
                return str(file["id"])
        return None

    async def upload(self, path: Path, name: str) -> str:
        """Send a file for fine-tuning."""
        form = {"purpose": "fine-tune", "file_name": name, "file_type": "jsonl"}
        made = await self._api.upload("/files/upload", form, path, name)
        return self._id(made)

    async def job_of(self, order: Order) -> Job | None:
        """Look for a job over that file."""
        for job in self._rows(await self._api.ask("GET", "/fine-tunes", about="tuning")):
            if job.get("training_file") == order.training_file:
                return self._job(job)
        return None

    async def create(self, order: Order) -> Job:
        """Make the job: adapters, unless the host says otherwise."""
        recipe, times = order.recipe, passes(order.recipe)
        body: dict[str, Any] = {
            "model": order.model,
            "training_file": order.training_file,
            "n_epochs": times,
        }
        if order.validation_file:
            body |= {"validation_file": order.validation_file, "n_evals": times}
        if recipe.batch_size != "auto":
            body["batch_size"] = recipe.batch_size
        if recipe.learning_rate:
            body["learning_rate"] = recipe.learning_rate
        if recipe.lora_rank:
            body["training_type"] = {
                "type": "Lora",
                "lora_r": recipe.lora_rank,
                "lora_alpha": 2 * recipe.lora_rank,
            }
        if recipe.suffix:
            body["suffix"] = recipe.suffix
        return self._job(await self._api.ask("POST", "/fine-tunes", body, about="tuning"))

    async def job(self, job_id: str) -> Job:
        """How it stands with a job."""
        return self._job(await self._api.ask("GET", self._path(job_id), about="job"))

    async def events(self, job_id: str, after: str) -> list[Happening]:
        """Those behind the ones that are known, by their number."""
        body = await self._api.ask("GET", self._path(job_id, "/events"), about="job")
        rows = self._rows(body)
        first = int(after) if after.isdigit() else 0
        return [
            Happening(
                id=str(number),
                message=" ".join(str(row.get("message") or row.get("type") or "").split())[:500],
                level=str(row.get("level") or "info").lower(),
                step=_whole(row.get("step")),
                steps=_whole(row.get("total_steps")),
            )
            for number, row in enumerate(rows, 1)
            if number > first
        ]

    async def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """Models of steps before the last."""
        try:
            body = await self._api.ask("GET", self._path(job_id, "/checkpoints"), about="job")
        except Gone:
            return []
        return [
            Checkpoint(_whole(row.get("step")) or 0, str(row.get("path") or ""))
            for row in self._rows(body)
        ]

    async def act(self, job_id: str, what: Literal["cancel", "pause", "resume"]) -> Job:
        """Cancel."""
        if what != "cancel":
            raise UsageError(f"Together cannot {what} a job", "It can cancel one")
        await self._api.ask("POST", self._path(job_id, "/cancel"), {}, about="job")
        return await self.job(job_id)

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    def _path(self, job_id: str, more: str = "") -> str:
        return f"/fine-tunes/{quote(job_id, safe='')}{more}"

    def _job(self, body: dict[str, Any]) -> Job:
        told = str(body.get("status") or "")
        state = _STATES.get(told, "running")
        events = body.get("events") or []
        last = events[-1].get("message") if state == "failed" and events else ""
        tokens = body.get("token_count")
        return Job(
            id=self._id(body),
            state=state,
            told=told,
            model=str(body.get("model_output_name") or "") if state == "succeeded" else "",
            trained_tokens=tokens if isinstance(tokens, int) and tokens > 0 else None,
            error=" ".join(str(last or "").split())[:500],
        )

    def _id(self, body: dict[str, Any]) -> str:
        if not isinstance(body.get("id"), str):
            raise not_an_api(self.address, "its reply has no id")
        return str(body["id"])

    def _rows(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        rows = body.get("data")
        if not isinstance(rows, list):
            raise not_an_api(self.address, "its reply is no list")
        return [row for row in rows if isinstance(row, dict)]


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
