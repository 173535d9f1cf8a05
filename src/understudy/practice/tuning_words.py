"""The routes of fine-tuning at the practice server: OpenAI's, Together's and Fireworks' words.

One and the same work (tuning.py) told in three ways. What is known of the two others stands in
train/hosted/together.py and fireworks.py, with the pages that were read.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from understudy.practice import batches, tuning, tuning_work
from understudy.practice.chat import ApiError, tokens
from understudy.practice.exchange import json_of
from understudy.practice.provider import Provider
from understudy.practice.shelf import Filed, Tuning

_OPEN = ("validating_files", "queued", "running", "paused")
_TOGETHER = {
    "validating_files": "pending",
    "succeeded": "completed",
    "failed": "error",
}
_FIREWORKS = {"validating_files": "VALIDATING", "queued": "PENDING", "succeeded": "COMPLETED"}
_ACCOUNT = "practice"


# -- Together --------------------------------------------------------------------------------


async def _t_upload(request: web.Request, provider: Provider) -> web.StreamResponse:
    filed = await batches.taken(request, provider, ("fine-tune",))
    fault = tuning.next_fault(provider, "upload")
    await tuning_work.note(provider, filed, "file")
    return await tuning.reply(request, provider, filed.body(), lost=fault == "upload_lost")


async def _t_create(request: web.Request, provider: Provider) -> web.StreamResponse:
    body, fault = await json_of(request), tuning.refused(provider, "create")
    if not isinstance(body, dict):
        raise ApiError(400, "The body is not a JSON object.")
    job = await tuning.started(
        provider,
        model=body.get("model"),
        training_file=body.get("training_file"),
        validation_file=body.get("validation_file"),
        epochs=body.get("n_epochs", 1),
        batch_size=body.get("batch_size", "auto"),
        suffix=body.get("suffix") or "",
        about={"hyperparameters": {}, "n_evals": body.get("n_evals", 0)},
        fault=fault,
        job_id=f"ft-{len(provider.shelf.tuned) + 1:06}",
    )
    return await tuning.reply(request, provider, _t_body(job), lost=fault == "create_lost")


async def _t_jobs(_: web.Request, provider: Provider) -> web.StreamResponse:
    return web.json_response({"data": [_t_body(job) for job in tuning.listed(provider)]})


async def _t_job(request: web.Request, provider: Provider) -> web.StreamResponse:
    return web.json_response(_t_body(tuning.polled(request, provider)))


async def _t_events(request: web.Request, provider: Provider) -> web.StreamResponse:
    job = tuning.known(request, provider)
    rows = [
        {
            "object": "fine-tune-event",
            "created_at": one["created_at"],
            "message": one["message"],
            "type": "training_start" if not one["data"] else "epoch_complete",
            "level": one["level"],
            "step": one["data"].get("step"),
            "total_steps": one["data"].get("total_steps"),
        }
        for one in job.events
    ]
    return web.json_response({"data": rows})


async def _t_checkpoints(request: web.Request, provider: Provider) -> web.StreamResponse:
    tuning.known(request, provider)
    return web.json_response({"data": []})


async def _t_cancel(request: web.Request, provider: Provider) -> web.StreamResponse:
    job = tuning.acted(tuning.known(request, provider), _OPEN, "cancelled")
    return web.json_response({"data": {"object": "job", "status": job.status}})


def _t_body(job: Tuning) -> dict[str, Any]:
    return {
        "id": job.id,
        "status": _TOGETHER.get(job.status, job.status),
        "model": job.model,
        "model_output_name": job.fine_tuned_model or f"practice/{job.model}-{job.number}",
        "training_file": job.training_file,
        "validation_file": job.validation_file or "",
        "n_epochs": job.epochs,
        "token_count": job.trained_tokens or 0,
        "events": [{"message": one["message"]} for one in job.events],
    }


# -- Fireworks -------------------------------------------------------------------------------


async def _f_accounts(_: web.Request, __: Provider) -> web.StreamResponse:
    return web.json_response({"accounts": [{"name": f"accounts/{_ACCOUNT}"}]})


async def _f_dataset_new(request: web.Request, provider: Provider) -> web.StreamResponse:
    body = await json_of(request)
    wanted = str(body.get("datasetId") or "") if isinstance(body, dict) else ""
    if not wanted:
        raise ApiError(400, "datasetId is missing.")
    if wanted in provider.shelf.files:
        raise ApiError(409, f"dataset {wanted} already exists")
    provider.shelf.files[wanted] = Filed(wanted, wanted, "fine-tune", b"", 0)
    return web.json_response(_f_dataset_body(provider.shelf.files[wanted]))


async def _f_dataset(request: web.Request, provider: Provider) -> web.StreamResponse:
    return web.json_response(_f_dataset_body(_f_known(request, provider)))


async def _f_upload(request: web.Request, provider: Provider) -> web.StreamResponse:
    dataset = _f_known(request, provider)
    kept = await batches.taken(request, provider, ("fine-tune",), "fine-tune")
    dataset.content = provider.shelf.files.pop(kept.id).content
    fault = tuning.next_fault(provider, "upload")
    await tuning_work.note(provider, dataset, "file")
    return await tuning.reply(request, provider, dataset.body(), lost=fault == "upload_lost")


def _f_known(request: web.Request, provider: Provider) -> Filed:
    found = provider.shelf.files.get(request.match_info["id"])
    if found is None:
        raise ApiError(404, f"dataset {request.match_info['id']} not found")
    return found


def _f_dataset_body(dataset: Filed) -> dict[str, Any]:
    lines = dataset.content.decode(errors="replace").splitlines()
    return {
        "name": f"accounts/{_ACCOUNT}/datasets/{dataset.id}",
        "state": "READY" if lines else "UPLOADING",
        "exampleCount": str(len(lines)),
        "estimatedTokenCount": str(sum(map(tokens, lines))),
    }


async def _f_create(request: web.Request, provider: Provider) -> web.StreamResponse:
    body, fault = await json_of(request), tuning.refused(provider, "create")
    if not isinstance(body, dict):
        raise ApiError(400, "The body is not a JSON object.")
    wanted = request.query.get("supervisedFineTuningJobId", "")
    if wanted in provider.shelf.tuned:
        raise ApiError(409, f"job {wanted} already exists")
    evaluation = str(body.get("evaluationDataset") or "").rpartition("/")[2]
    job = await tuning.started(
        provider,
        model=body.get("baseModel"),
        training_file=str(body.get("dataset") or "").rpartition("/")[2],
        validation_file=evaluation or None,
        epochs=body.get("epochs", 1),
        batch_size="auto",
        suffix="",
        about={"hyperparameters": {}, "output": body.get("outputModel")},
        fault=fault,
        job_id=wanted,
    )
    return await tuning.reply(request, provider, _f_body(job), lost=fault == "create_lost")


async def _f_jobs(_: web.Request, provider: Provider) -> web.StreamResponse:
    rows = [_f_body(job) for job in tuning.listed(provider)]
    return web.json_response({"supervisedFineTuningJobs": rows, "totalSize": len(rows)})


async def _f_job(request: web.Request, provider: Provider) -> web.StreamResponse:
    return web.json_response(_f_body(tuning.polled(request, provider)))


async def _f_cancel(request: web.Request, provider: Provider) -> web.StreamResponse:
    tuning.acted(tuning.known(request, provider), _OPEN, "cancelled")
    return web.json_response({})


def _f_body(job: Tuning) -> dict[str, Any]:
    done = 100 * job.done // job.steps if job.steps else 0
    return {
        "name": f"accounts/{_ACCOUNT}/supervisedFineTuningJobs/{job.id}",
        "state": "JOB_STATE_" + _FIREWORKS.get(job.status, job.status.upper()),
        "baseModel": job.model,
        "outputModel": job.fine_tuned_model or job.about.get("output"),
        "dataset": f"accounts/{_ACCOUNT}/datasets/{job.training_file}",
        "epochs": job.epochs,
        "status": {"code": "OK", "message": (job.error or {}).get("message", "")},
        "jobProgress": {"percent": done},
    }


_JOBS = "/v1/fine_tuning/jobs"
OPENAI = (
    ("POST", _JOBS, tuning.create),
    ("GET", _JOBS, tuning.jobs),
    ("GET", _JOBS + "/{id}", tuning.job),
    ("GET", _JOBS + "/{id}/events", tuning.events),
    ("GET", _JOBS + "/{id}/checkpoints", tuning.checkpoints),
    ("POST", _JOBS + "/{id}/cancel", tuning.cancel),
    ("POST", _JOBS + "/{id}/pause", tuning.pause),
    ("POST", _JOBS + "/{id}/resume", tuning.resume),
)
TOGETHER = (
    ("POST", "/v1/files/upload", _t_upload),
    ("POST", "/v1/fine-tunes", _t_create),
    ("GET", "/v1/fine-tunes", _t_jobs),
    ("GET", "/v1/fine-tunes/{id}", _t_job),
    ("GET", "/v1/fine-tunes/{id}/events", _t_events),
    ("GET", "/v1/fine-tunes/{id}/checkpoints", _t_checkpoints),
    ("POST", "/v1/fine-tunes/{id}/cancel", _t_cancel),
)
_OF_ACCOUNT = "/v1/accounts/{account}"
FIREWORKS = (
    ("GET", "/v1/accounts", _f_accounts),
    ("POST", _OF_ACCOUNT + "/datasets", _f_dataset_new),
    ("GET", _OF_ACCOUNT + "/datasets/{id:[a-z0-9-]+}", _f_dataset),
    ("POST", _OF_ACCOUNT + "/datasets/{id:[a-z0-9-]+}:upload", _f_upload),
    ("POST", _OF_ACCOUNT + "/supervisedFineTuningJobs", _f_create),
    ("GET", _OF_ACCOUNT + "/supervisedFineTuningJobs", _f_jobs),
    ("GET", _OF_ACCOUNT + "/supervisedFineTuningJobs/{id:[a-z0-9-]+}", _f_job),
    ("POST", _OF_ACCOUNT + "/supervisedFineTuningJobs/{id:[a-z0-9-]+}:cancel", _f_cancel),
)
