"""``/v1/fine_tuning/jobs``: trainings of the project, asked for and followed as OpenAI's are.

The SDK knows no status for a job that is paused; such a one is told as ``queued``, with
``understudy.state`` saying what it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from understudy.project import job_results, jobs
from understudy.project.job_results import Checkpoint, Told
from understudy.project.jobs import Job, Refused, Seen
from understudy.project.workplace import Workplace
from understudy.server import asking, paging
from understudy.server.errors import ApiError, bad, not_found
from understudy.server.reading import json_body

MOST_LISTED = 100
MOST_KEY = 255
"""Characters of an Idempotency-Key."""
_PATH = "/v1/fine_tuning/jobs"


def routes() -> list[Route]:
    """Asking for a job, following it, stopping it, having it go on."""
    return [
        Route(_PATH, create, methods=["POST"]),
        Route(_PATH, list_jobs, methods=["GET"]),
        Route(f"{_PATH}/{{id}}", retrieve, methods=["GET"]),
        Route(f"{_PATH}/{{id}}/events", list_events, methods=["GET"]),
        Route(f"{_PATH}/{{id}}/checkpoints", list_checkpoints, methods=["GET"]),
        Route(f"{_PATH}/{{id}}/cancel", _asks(jobs.cancel), methods=["POST"]),
        Route(f"{_PATH}/{{id}}/pause", _asks(jobs.pause), methods=["POST"]),
        Route(f"{_PATH}/{{id}}/resume", _asks(jobs.resume), methods=["POST"]),
    ]


def _place(request: Request) -> Workplace:
    place: Workplace = request.app.state.serving.place
    return place


async def create(request: Request) -> Response:
    """Make a job; a repeated request with the same Idempotency-Key gives the same one."""
    asked = asking.job_of(await json_body(request))
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= MOST_KEY:
        raise bad(f"the Idempotency-Key has more than {MOST_KEY} characters", code="invalid_value")
    return await _answer(_place(request), lambda place: jobs.create(place, asked, key))


def _asks(verb: Callable[[Workplace, Job], Job]) -> Callable[[Request], Any]:
    """A route that asks something of a job and gives the job as it is then."""

    async def asks(request: Request) -> Response:
        job = await _find(request)
        return await _answer(_place(request), lambda place: verb(place, job))

    return asks


async def _answer(place: Workplace, work: Callable[[Workplace], Job]) -> Response:
    def worked() -> dict[str, Any]:
        return body(*jobs.seen(place, work(place)))

    try:
        return JSONResponse(await asyncio.to_thread(worked))
    except Refused as no:
        raise ApiError(400, str(no), code=no.code, param=no.param) from None


async def retrieve(request: Request) -> Response:
    """One job as it is now."""
    job, place = await _find(request), _place(request)
    (found,) = await asyncio.to_thread(jobs.seen, place, job)
    return JSONResponse(body(found))


async def list_jobs(request: Request) -> Response:
    """Jobs, the newest first; with ``metadata[k]=v`` those that carry it."""
    asked = paging.asked(request, most=MOST_LISTED, usual=20, extra=("metadata",))
    place, query = _place(request), request.query_params
    if asked.after is not None and await asyncio.to_thread(jobs.find, place, asked.after) is None:
        raise _unknown(asked.after, "after")
    if query.get("metadata", "null") != "null":
        raise bad("metadata is null, or metadata[KEY]=VALUE", "metadata", "invalid_value")
    wanted = {
        name[len("metadata[") : -1]: value
        for name, value in query.items()
        if name.startswith("metadata[") and name.endswith("]")
    }
    if "metadata" in query and wanted:
        raise bad("metadata=null goes with no other filter", "metadata", "invalid_value")

    def found() -> list[dict[str, Any]]:
        listed = jobs.page(
            place,
            after=asked.after,
            limit=asked.limit + 1,
            metadata=wanted,
            no_metadata="metadata" in query,
        )
        return [body(one) for one in jobs.seen(place, *listed)]

    return JSONResponse(paging.page(await asyncio.to_thread(found), asked.limit))


async def list_events(request: Request) -> Response:
    """What happened, the newest first."""
    asked, job, place = _page(request, 20), await _find(request), _place(request)
    before = None
    if asked.after is not None:
        number = asked.after.removeprefix("ftevent-")
        if not (number.isascii() and number.isdecimal() and len(number) < 18):
            raise _unknown(asked.after, "after")
        before = int(number)
    found = await asyncio.to_thread(
        job_results.told, place, job, before=before, limit=asked.limit + 1
    )
    return JSONResponse(paging.page([_event(one) for one in found], asked.limit))


async def list_checkpoints(request: Request) -> Response:
    """The states of the weights that are on disk, the newest first."""
    asked, job, place = _page(request, 10), await _find(request), _place(request)

    def found() -> list[dict[str, Any]]:
        ((_, run, _),) = jobs.seen(place, job)
        name = job.model or jobs.model_name(place, job)
        there = [] if run is None else job_results.checkpoints(run)
        return [_checkpoint(job, run.id, name, one) for one in there] if run else []

    everything = await asyncio.to_thread(found)
    ids = [one["id"] for one in everything]
    if asked.after is not None:
        if asked.after not in ids:
            raise _unknown(asked.after, "after")
        everything = everything[ids.index(asked.after) + 1 :]
    return JSONResponse(paging.page(everything, asked.limit))


def _page(request: Request, usual: int) -> paging.Asked:
    return paging.asked(request, most=MOST_LISTED, usual=usual)


async def _find(request: Request) -> Job:
    id = request.path_params["id"]  # noqa: A001  (what the protocol calls it)
    job = await asyncio.to_thread(jobs.find, _place(request), id)
    if job is None:
        raise _unknown(id, "id")
    return job


def _unknown(id: str, param: str) -> ApiError:
    return not_found(f"there is no {ascii(id)[1:-1]}", code="not_found", param=param)


# -- in OpenAI's shape ---------------------------------------------------------------------


def body(seen: Seen) -> dict[str, Any]:
    """A job as OpenAI tells it, and under ``understudy`` what it is here."""
    job, run, finish = seen
    chosen = _hyperparameters(seen)
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "created_at": _seconds(job.at),
        "finished_at": None if job.ended_at is None else _seconds(job.ended_at),
        "status": "queued" if job.state == "paused" else job.state,
        "model": job.asked["model"],
        "fine_tuned_model": job.model,
        "organization_id": "understudy",
        "training_file": job.asked["training_file"],
        "validation_file": job.asked["validation_file"],
        "result_files": [] if job.results is None else [job.results],
        "trained_tokens": run.metrics.get("tokens") if run and job.model else None,
        "estimated_finish": None if finish is None else round(finish.timestamp()),
        "error": job.error,
        "hyperparameters": chosen,
        "method": {"type": "supervised", "supervised": {"hyperparameters": chosen}},
        "seed": jobs.seed_of(job),
        "user_provided_suffix": job.asked["suffix"],
        "metadata": job.asked["metadata"],
        "integrations": [],
        "understudy": {
            "state": job.state,
            "student": job.student if run is None else run.student,
            "run": None if run is None else run.model,
            "recipe": None if run is None else run.recipe.model_dump(exclude={"why"}),
        },
    }


def _hyperparameters(seen: Seen) -> dict[str, Any]:
    """As asked; what was left to be chosen as it was chosen, once it is.

    A rate that is not asked for is the usual one. Part of a pass is told as a whole one; the exact
    number is in ``understudy.recipe``.
    """
    asked, run = dict(seen.job.asked["hyperparameters"]), seen.run
    if run is None:
        return asked
    chosen = {
        "n_epochs": max(1, round(run.recipe.epochs)),
        "batch_size": run.recipe.batch_size,
        "learning_rate_multiplier": 1.0,
    }
    return {name: chosen[name] if value == "auto" else value for name, value in asked.items()}


def _event(told: Told) -> dict[str, Any]:
    return {
        "id": f"ftevent-{told.seq}",
        "object": "fine_tuning.job.event",
        "created_at": int(told.at.timestamp()),
        "level": told.level,
        "message": told.message,
        "type": "message" if told.metrics is None else "metrics",
        "data": told.metrics or {},
    }


def _checkpoint(job: Job, run: int, model: str, one: Checkpoint) -> dict[str, Any]:
    return {
        "id": f"ftckpt-{run}-{one.step}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": int(one.at.timestamp()),
        "fine_tuning_job_id": job.id,
        "fine_tuned_model_checkpoint": model if one.is_model else f"{model}:ckpt-step-{one.step}",
        "step_number": one.step,
        "metrics": {
            "step": one.step,
            **{name: one.measured[name] for name in _MEASURED if name in one.measured},
        },
        "understudy": {"can_be_asked": one.is_model},
    }


_MEASURED = ("train_loss", "valid_loss")


def _seconds(at: str) -> int:
    return int(datetime.fromisoformat(at).timestamp())
