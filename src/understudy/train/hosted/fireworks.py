"""Fireworks' supervised fine-tuning, by its REST API below ``/v1/accounts/{account}``.

    POST /datasets   GET /datasets/{id}   POST /datasets/{id}:upload
    POST /supervisedFineTuningJobs?supervisedFineTuningJobId={id}   GET .../{id}
    POST .../{id}:cancel   POST .../{id}:resume   GET /v1/accounts

Datasets and jobs get ids of our choosing, so asking twice makes one: the second is told that it is
there already. It keeps no events; how far a job is stands in the job itself. It cannot pause.

The account is ``FIREWORKS_ACCOUNT_ID``, else the first one that the key can see. Read 2026-11-29:
https://docs.fireworks.ai/api-reference (create-dataset, upload-dataset-files,
create- and get-supervised-fine-tuning-job, resume-supervised-fine-tuning-job) and
https://docs.fireworks.ai/fine-tuning/fine-tuning-via-api. The path of cancel and the list of
accounts are from memory. Never tried against the real host.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from understudy.errors import ProviderRefused, UsageError
from understudy.models.address import Address
from understudy.models.protocol import CallFailed, Unpaid
from understudy.models.refusal import not_an_api
from understudy.train.hosted import Checkpoint, Gone, Happening, Job, Order, State
from understudy.train.hosted.recipe import passes
from understudy.train.hosted.rest import Rest

_INFERENCE = "/inference/v1"
_STATES: dict[str, State] = {
    "CREATING": "queued",
    "PENDING": "queued",
    "VALIDATING": "queued",
    "RUNNING": "running",
    "COMPLETED": "succeeded",
    "EARLY_STOPPED": "succeeded",
    "FAILED": "failed",
    "EXPIRED": "failed",
    "CANCELLED": "cancelled",
    "PAUSED": "paused",
}


class Fireworks:
    """Fireworks, behind the protocol of hosts."""

    def __init__(self, address: Address, *, timeout_s: float, max_reply: int) -> None:
        self.address = address
        base = address.base_url.removesuffix(_INFERENCE).removesuffix("/v1") + "/v1"
        self._api = Rest(address, base, timeout_s=timeout_s, max_reply=max_reply)
        self._account = os.environ.get("FIREWORKS_ACCOUNT_ID", "").strip()

    async def look(self) -> str:
        """The list of jobs tells whether there are such."""
        path = await self._path("/supervisedFineTuningJobs?pageSize=1")
        await self._api.ask("GET", path, about="tuning")
        return ""

    async def file_named(self, name: str) -> str | None:
        """The dataset of that id, if its file has come whole."""
        try:
            found = await self._api.ask("GET", await self._dataset(name), about="file")
        except Gone:
            return None
        return _id_of(name) if str(found.get("state")) == "READY" else None

    async def upload(self, path: Path, name: str) -> str:
        """Make the dataset, unless it is there, and send its file."""
        with path.open("rb") as file:
            rows = sum(1 for _ in file)
        body = {
            "datasetId": _id_of(name),
            "dataset": {"displayName": name[:63], "userUploaded": {}, "exampleCount": str(rows)},
        }
        try:
            await self._api.ask("POST", await self._path("/datasets"), body)
        except Unpaid as error:
            if not _is_there(error):
                raise
        await self._api.upload(f"{await self._dataset(name)}:upload", {}, path, name)
        return _id_of(name)

    async def job_of(self, order: Order) -> Job | None:
        """The job of that id."""
        try:
            return await self.job(_id_of(order.mark))
        except Gone:
            return None

    async def create(self, order: Order) -> Job:
        """Make the job under an id of ours."""
        recipe = order.recipe
        account = f"accounts/{await self._account_id()}"
        body: dict[str, Any] = {
            "displayName": order.mark,
            "dataset": f"{account}/datasets/{order.training_file}",
            "baseModel": order.model,
            "outputModel": f"{account}/models/{_id_of(order.mark)}",
            "epochs": passes(recipe),
        }
        if order.validation_file:
            body["evaluationDataset"] = f"{account}/datasets/{order.validation_file}"
        if recipe.learning_rate:
            body["learningRate"] = recipe.learning_rate
        if recipe.lora_rank:
            body["loraRank"] = recipe.lora_rank
        if recipe.batch_size != "auto":
            body["batchSize"] = recipe.batch_size
        wanted = f"?supervisedFineTuningJobId={quote(_id_of(order.mark), safe='')}"
        path = await self._path("/supervisedFineTuningJobs" + wanted)
        try:
            return self._job(await self._api.ask("POST", path, body, about="tuning"))
        except Unpaid as error:
            if _is_there(error):
                return await self.job(_id_of(order.mark))
            raise

    async def job(self, job_id: str) -> Job:
        """How it stands with a job; billed are its rows' tokens as often as they were read."""
        body = await self._told(job_id)
        job = self._job(body)
        if job.state != "succeeded":
            return job
        name = str(body.get("dataset") or "").rpartition("/")[2]
        dataset = await self._api.ask("GET", await self._dataset(name), about="file")
        counted, times = str(dataset.get("estimatedTokenCount") or ""), body.get("epochs")
        if not (counted.isdigit() and isinstance(times, int)):
            return job
        return job._replace(trained_tokens=int(counted) * times)

    async def events(self, job_id: str, after: str) -> list[Happening]:
        """One, when the job has come further."""
        progress = (await self._told(job_id)).get("jobProgress") or {}
        percent = progress.get("percent")
        if not isinstance(percent, int) or str(percent) == after:
            return []
        return [Happening(id=str(percent), message=f"{percent} %", step=percent, steps=100)]

    async def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """None: the host keeps none."""
        return []

    async def act(self, job_id: str, what: Literal["cancel", "pause", "resume"]) -> Job:
        """Cancel or resume."""
        if what == "pause":
            raise UsageError("Fireworks cannot pause a job", "It can cancel one")
        await self._api.ask("POST", f"{await self._job_path(job_id)}:{what}", {}, about="job")
        return await self.job(job_id)

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def _told(self, job_id: str) -> dict[str, Any]:
        return await self._api.ask("GET", await self._job_path(job_id), about="job")

    async def _account_id(self) -> str:
        if not self._account:
            found = (await self._api.ask("GET", "/accounts")).get("accounts") or []
            if not found:
                what = "the key sees no account of Fireworks"
                raise ProviderRefused(what, "Set FIREWORKS_ACCOUNT_ID")
            self._account = str(found[0].get("name", "")).rpartition("/")[2]
        return self._account

    async def _path(self, path: str) -> str:
        return f"/accounts/{quote(await self._account_id(), safe='')}{path}"

    async def _dataset(self, name: str) -> str:
        return await self._path(f"/datasets/{_id_of(name)}")

    async def _job_path(self, job_id: str) -> str:
        return await self._path(f"/supervisedFineTuningJobs/{quote(job_id, safe='')}")

    def _job(self, body: dict[str, Any]) -> Job:
        if not isinstance(body.get("name"), str):
            raise not_an_api(self.address, "its reply is no job")
        told = str(body.get("state") or "").removeprefix("JOB_STATE_")
        state = _STATES.get(told, "running")
        why = (body.get("status") or {}).get("message")
        return Job(
            id=body["name"].rpartition("/")[2],
            state=state,
            told=told.lower() or "unknown",
            model=str(body.get("outputModel") or "") if state == "succeeded" else "",
            error=" ".join(str(why or "").split())[:500] if state == "failed" else "",
        )


def _id_of(name: str) -> str:
    """A name as Fireworks takes it for an id: lower-case letters, digits and dashes, 63 at most."""
    return re.sub(r"[^a-z0-9-]+", "-", name.removesuffix(".jsonl").lower()).strip("-")[:63]


def _is_there(error: CallFailed) -> bool:
    return "already exists" in error.what.lower() or "HTTP 409" in error.what
