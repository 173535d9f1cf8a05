"""Fine-tuning at the practice server: files, jobs, and what becomes of them. OpenAI's protocol.

    POST /v1/files  GET /v1/files  GET /v1/files/{id}       (files themselves: batches.py)
    POST /v1/fine_tuning/jobs   GET /v1/fine_tuning/jobs    GET /v1/fine_tuning/jobs/{id}
    GET .../{id}/events   GET .../{id}/checkpoints   POST .../{id}/cancel  /pause  /resume

A job reads its file as a host does, goes through its steps in about ``--tune-seconds``, with losses
that fall the same way each time, and ends as a model that answers like the task its rows show. Each
file, each job and each bill is a line of the account. Together's and Fireworks' words for the same
are in tuning_words.py.

Protocol: https://platform.openai.com/docs/api-reference/fine-tuning
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from aiohttp import web

from understudy.practice import TASKS
from understudy.practice.chat import ApiError
from understudy.practice.exchange import json_of
from understudy.practice.faults import pick
from understudy.practice.fine_tuned import NOVICE, base_of
from understudy.practice.provider import Provider
from understudy.practice.shelf import Tuning
from understudy.practice.tuning_work import loss_of, note, worked
from understudy.practice.wires import Delivery, deliver

TUNING_FAULTS = {
    "closed": "any",
    "upload_lost": "upload",
    "list_slow": "list",
    "create_lost": "create",
    "create_500": "create",
    "create_403": "create",
    "file_gone": "create",
    "poll_500": "poll",
    "forgotten": "poll",
    "invalid": "job",
    "failed": "job",
    "cancelled": "job",
    "paused": "job",
}
"""Kind to what it hits. ``closed``: every look and creation is told 403. ``upload_lost``,
``create_lost``: done, but the wire is torn before the reply. ``list_slow``: the list does not show
what is younger than ``--tune-list-seconds``. ``file_gone``: the file is forgotten, and the job is
not made. ``forgotten``: the job is not known. ``invalid``: the job fails before it trains;
``failed``, ``cancelled``, ``paused``: half-way."""


async def create(request: web.Request, provider: Provider) -> web.StreamResponse:
    """Start a job. Raises ApiError if its model or its file is none."""
    body = await json_of(request)
    fault = refused(provider, "create")
    if not isinstance(body, dict):
        raise ApiError(400, "The body is not a JSON object.")
    method = body.get("method") or {}
    given = (method.get("supervised") or {}).get("hyperparameters") or body.get("hyperparameters")
    job = await started(
        provider,
        model=body.get("model"),
        training_file=body.get("training_file"),
        validation_file=body.get("validation_file"),
        epochs=(given or {}).get("n_epochs", "auto"),
        batch_size=(given or {}).get("batch_size", "auto"),
        suffix=body.get("suffix") or "",
        about={
            "metadata": body.get("metadata") or {},
            "seed": body.get("seed") or 0,
            "key": request.headers.get("Idempotency-Key", ""),
            "hyperparameters": given or {},
        },
        fault=fault,
    )
    return await reply(request, provider, job.body(), lost=fault == "create_lost")


async def jobs(request: web.Request, provider: Provider) -> web.StreamResponse:
    """List the jobs, the newest first, a page at a time."""
    shown = listed(provider)
    wanted = {
        name.removeprefix("metadata[").removesuffix("]"): value
        for name, value in request.query.items()
        if name.startswith("metadata[")
    }
    found = [
        job for job in shown if wanted.items() <= dict(job.about.get("metadata") or {}).items()
    ]
    return page(request, [job.body() for job in found])


async def job(request: web.Request, provider: Provider) -> web.StreamResponse:
    """Tell how far a job is."""
    return web.json_response(polled(request, provider).body())


async def events(request: web.Request, provider: Provider) -> web.StreamResponse:
    """What happened to a job, the newest first."""
    found = known(request, provider)
    return page(request, list(reversed(found.events)))


async def checkpoints(request: web.Request, provider: Provider) -> web.StreamResponse:
    """Models of a job before its last step: of one that succeeded, two."""
    found = known(request, provider)
    if found.status != "succeeded":
        return page(request, [])
    steps = sorted({max(1, found.steps * share // 3) for share in (1, 2)}, reverse=True)
    rows = [
        {
            "id": f"ftckpt_{found.id}_{step}",
            "object": "fine_tuning.job.checkpoint",
            "created_at": found.created_at,
            "fine_tuning_job_id": found.id,
            "fine_tuned_model_checkpoint": f"{found.fine_tuned_model}:ckpt-step-{step}",
            "step_number": step,
            "metrics": {"step": step, "train_loss": loss_of(found, step)},
        }
        for step in steps
    ]
    return page(request, rows)


async def cancel(request: web.Request, provider: Provider) -> web.StreamResponse:
    """End a job. Raises ApiError if it is over."""
    return _acted(
        request, provider, ("validating_files", "queued", "running", "paused"), "cancelled"
    )


async def pause(request: web.Request, provider: Provider) -> web.StreamResponse:
    """Have a job wait. Raises ApiError unless it runs."""
    return _acted(request, provider, ("queued", "running"), "paused")


async def resume(request: web.Request, provider: Provider) -> web.StreamResponse:
    """Have a job go on. Raises ApiError unless it is paused."""
    return _acted(request, provider, ("paused",), "running")


def _acted(
    request: web.Request, provider: Provider, of: tuple[str, ...], to: str
) -> web.StreamResponse:
    return web.json_response(acted(known(request, provider), of, to).body())


# -- what every protocol shares --------------------------------------------------------------


def acted(found: Tuning, of: tuple[str, ...], to: str) -> Tuning:
    """Change a job's state. Raises ApiError if it is in none of those that this can follow."""
    if found.status not in of:
        raise ApiError(400, f"The job is {found.status} and cannot become {to}.")
    found.status = to
    if to == "running":
        found.about["resumed"] = True
    return found


async def started(
    provider: Provider,
    *,
    model: Any,
    training_file: Any,
    validation_file: Any,
    epochs: Any,
    batch_size: Any,
    suffix: str,
    about: dict[str, Any],
    fault: str,
    job_id: str = "",
) -> Tuning:
    """Make a job and set it to work. Raises ApiError."""
    shelf = provider.shelf
    if not isinstance(model, str) or base_of(model) is None:
        known_ones = ", ".join((*TASKS, NOVICE))
        message = f"Model {model} is not available for fine-tuning; there are: {known_ones}."
        raise ApiError(404, message, code="model_not_found", param="model")
    if fault == "file_gone":
        shelf.files.pop(str(training_file), None)
    for name, file_id in (("training_file", training_file), ("validation_file", validation_file)):
        if file_id is not None and file_id not in shelf.files:
            raise ApiError(400, f"File {file_id} does not exist.", param=name)
    if training_file is None:
        raise ApiError(400, "training_file is missing.", param="training_file")
    number = len(shelf.tuned) + 1
    made = Tuning(
        id=job_id or f"ftjob-{number:06}",
        number=number,
        model=model,
        training_file=training_file,
        validation_file=validation_file,
        epochs=epochs,
        batch_size=batch_size,
        suffix=suffix,
        about=about,
        created_at=int(time.time()),
        since=provider.seconds(),
        fault=next_fault(provider, "job"),
    )
    shelf.tuned[made.id] = made
    await note(provider, made, "job")
    task = asyncio.create_task(worked(made, provider))
    shelf.working.add(task)
    task.add_done_callback(shelf.working.discard)
    return made


def refused(provider: Provider, hits: str) -> str:
    """The fault of a request of that kind. Raises ApiError where that is all there is to it."""
    if next_fault(provider, "any") == "closed":
        message = "Fine-tuning is not available to your organization."
        raise ApiError(403, message, code="training_not_allowed")
    fault = next_fault(provider, hits)
    if fault in ("create_500", "poll_500"):
        raise ApiError(500, "The server had an error.", kind="server_error")
    if fault == "create_403":
        raise ApiError(403, "Your organization cannot create fine-tuning jobs.")
    return fault


def next_fault(provider: Provider, hits: str) -> str:
    """Count a request of a kind; the fault that it meets, or none."""
    provider.shelf.asked[f"tuning {hits}"] += 1
    faults = [one for one in provider.options.tune_faults if TUNING_FAULTS[one[0]] == hits]
    return pick(faults, provider.options.seed, provider.shelf.asked[f"tuning {hits}"])


def listed(provider: Provider) -> list[Tuning]:
    """The jobs that the list shows, the newest first."""
    slow = refused(provider, "list") == "list_slow"
    return [
        job
        for job in reversed(provider.shelf.tuned.values())
        if not (slow and provider.seconds() - job.since < provider.options.tune_list_seconds)
    ]


def known(request: web.Request, provider: Provider) -> Tuning:
    """The job that is asked for. Raises ApiError."""
    found = provider.shelf.tuned.get(request.match_info["id"])
    if found is None:
        raise ApiError(404, f"Could not find fine tune: {request.match_info['id']}", param="id")
    return found


def polled(request: web.Request, provider: Provider) -> Tuning:
    """The same, where looking may fail."""
    if refused(provider, "poll") == "forgotten":
        raise ApiError(404, f"Could not find fine tune: {request.match_info['id']}", param="id")
    return known(request, provider)


def page(request: web.Request, rows: list[dict[str, Any]]) -> web.Response:
    """A page of a list, as ``after`` and ``limit`` ask for it."""
    names = [row["id"] for row in rows]
    after, limit = request.query.get("after"), request.query.get("limit", "20")
    if not limit.isdigit() or int(limit) < 1:
        raise ApiError(400, "limit is 1 or more.", param="limit")
    start = names.index(after) + 1 if after in names else 0
    shown = rows[start : start + int(limit)]
    more = start + len(shown) < len(rows)
    return web.json_response({"object": "list", "data": shown, "has_more": more})


async def reply(
    request: web.Request, provider: Provider, body: dict[str, Any], *, lost: bool
) -> web.StreamResponse:
    """Send a reply, or tear the wire when all is done."""
    kind = "reset_after" if lost else ""
    return await deliver(kind, Delivery(request, json.dumps(body).encode(), {}, provider.options))
