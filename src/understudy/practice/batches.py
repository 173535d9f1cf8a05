"""Batches of the practice server: files in, a while later files out.

    POST /v1/files     GET /v1/files     GET /v1/files/{id}     GET /v1/files/{id}/content
    POST /v1/batches   GET /v1/batches   GET /v1/batches/{id}   POST /v1/batches/{id}/cancel

Every line is one request that may cost, with a number, a fault and lines in the bill like any
other (marked ``"batch": true``: it costs half), but outside the rate limits; a refusal becomes a
line of the error file. Nothing outlives the server.

Protocol: https://platform.openai.com/docs/api-reference/batch
"""

from __future__ import annotations

import asyncio
import copy
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from aiohttp import web

from understudy.practice import tuning, tuning_work
from understudy.practice.chat import ApiError, error_body
from understudy.practice.exchange import OPENAI, account, json_of, work
from understudy.practice.faults import pick
from understudy.practice.limits import Allowance
from understudy.practice.provider import Provider
from understudy.practice.shelf import Filed, Job
from understudy.practice.wires import Delivery, deliver

MOST_REQUESTS = 50_000
MOST_BYTES = 200 * 1024 * 1024
_AT_ONCE = 200
"""Lines worked on before others have a turn."""
_EXPIRED = "This request could not be executed before the completion window expired."
BATCH_FAULTS = {
    "upload_lost": "upload",
    "create_lost": "create",
    "create_500": "create",
    "poll_500": "poll",
    "download_torn": "download",
    "download_cut": "download",
    "expired": "batch",
    "cancelled": "batch",
    "failed": "batch",
    "doubled": "batch",
}
"""Kind to what it hits. ``upload_lost``, ``create_lost``: done, but the wire is torn before the
reply. ``download_torn``: torn in the middle; ``download_cut``: half of it, as if it were whole.
``expired``, ``cancelled``: after half of the lines; ``failed``: no line is taken; ``doubled``:
every reply twice, and one that nobody asked for."""


class _Asked(NamedTuple):
    """One line of a file of requests."""

    custom_id: str
    body: object


async def upload(request: web.Request, provider: Provider) -> web.StreamResponse:
    """Keep a file. Raises ApiError if it is none."""
    fault = _fault(provider, "upload")
    filed = await taken(request, provider, ("batch", "fine-tune"))
    if filed.purpose == "fine-tune":
        fault = tuning.next_fault(provider, "upload")
        await tuning_work.note(provider, filed, "file")
    return await _reply(request, provider, filed.body(), lost=fault == "upload_lost")


async def taken(
    request: web.Request, provider: Provider, purposes: Sequence[str], purpose: str = ""
) -> Filed:
    """Keep the file of a form. Raises ApiError if it is none.

    ``purpose`` is what it is for where the form does not say it.
    """
    name, content = "", None
    if not request.content_type.startswith("multipart/"):
        raise ApiError(400, "Files are sent as multipart/form-data.")
    async for part in await request.multipart():
        if part.name == "purpose":  # type: ignore[union-attr]
            purpose = (await part.read()).decode(errors="replace")  # type: ignore[union-attr]
        elif part.name == "file_name":  # type: ignore[union-attr]
            name = (await part.read()).decode(errors="replace")  # type: ignore[union-attr]
        elif part.name == "file":  # type: ignore[union-attr]
            content = await _limited(part)
            name = name or part.filename or ""  # type: ignore[union-attr]
    if purpose not in purposes:
        raise ApiError(400, f"There is no purpose {purpose!r} here.", param="purpose")
    if content is None:
        raise ApiError(400, "There is no file.", param="file")
    return _keep(provider, name, purpose, content)


async def _limited(part: Any) -> bytes:
    content = bytearray()
    while chunk := await part.read_chunk(1 << 16):
        content += chunk
        if len(content) > MOST_BYTES:
            raise ApiError(413, "The file is larger than 200 MB.", param="file")
    return bytes(content)


async def files(request: web.Request, provider: Provider) -> web.StreamResponse:
    """List the files, the newest first, a page at a time."""
    slow = tuning.refused(provider, "list") == "list_slow"
    purpose = request.query.get("purpose")
    found = [
        filed.body()
        for filed in reversed(provider.shelf.files.values())
        if purpose in (None, filed.purpose)
        and not (slow and provider.seconds() - filed.since < provider.options.tune_list_seconds)
    ]
    return tuning.page(request, found)


async def file(request: web.Request, provider: Provider) -> web.StreamResponse:
    """Tell of a file."""
    return web.json_response(_filed(request, provider).body())


async def content(request: web.Request, provider: Provider) -> web.StreamResponse:
    """Send a file, or part of it."""
    filed, fault = _filed(request, provider), _fault(provider, "download")
    wires = {"download_torn": "cut_body", "download_cut": "cut_json"}
    options = replace(provider.options, cut_bytes=len(filed.content) // 2)
    delivery = Delivery(request, filed.content, {}, options)
    return await deliver(wires.get(fault, ""), delivery)


async def create(request: web.Request, provider: Provider) -> web.StreamResponse:
    """Start a batch. Raises ApiError if its file or its endpoint is none."""
    fault = _fault(provider, "create")
    if fault == "create_500":
        raise ApiError(500, "The server had an error.", kind="server_error")
    body = await json_of(request)
    if not isinstance(body, dict) or body.get("input_file_id") not in provider.shelf.files:
        raise ApiError(400, "There is no such input file.", param="input_file_id")
    if body.get("endpoint") != "/v1/chat/completions":
        raise ApiError(400, "Only /v1/chat/completions is served.", param="endpoint")
    shelf = provider.shelf
    job = Job(
        id=f"batch_{len(shelf.jobs) + 1:06}",
        input_file_id=body["input_file_id"],
        endpoint=body["endpoint"],
        completion_window=str(body.get("completion_window")),
        metadata=body.get("metadata"),
        created_at=int(time.time()),
        fault=_fault(provider, "batch"),
    )
    shelf.jobs[job.id] = job
    task = asyncio.create_task(_work(job, provider))
    shelf.working.add(task)
    task.add_done_callback(shelf.working.discard)
    return await _reply(request, provider, job.body(), lost=fault == "create_lost")


async def batch(request: web.Request, provider: Provider) -> web.StreamResponse:
    """Tell how far a batch is."""
    if _fault(provider, "poll") == "poll_500":
        raise ApiError(500, "The server had an error.", kind="server_error")
    return web.json_response(_job(request, provider).body())


async def batches(request: web.Request, provider: Provider) -> web.StreamResponse:
    """List the batches, the newest first, a page at a time."""
    jobs = list(reversed(provider.shelf.jobs.values()))
    names = [job.id for job in jobs]
    after, limit = request.query.get("after"), request.query.get("limit", "20")
    if not limit.isdigit() or not 1 <= int(limit) <= 100:
        raise ApiError(400, "limit is 1 to 100.", param="limit")
    start = names.index(after) + 1 if after in names else 0
    page = jobs[start : start + int(limit)]
    more = start + len(page) < len(jobs)
    body = {"object": "list", "data": [job.body() for job in page], "has_more": more}
    return web.json_response(body)


async def cancel(request: web.Request, provider: Provider) -> web.StreamResponse:
    """Have a batch end; what is done by then stays done."""
    job = _job(request, provider)
    if job.status in ("validating", "in_progress"):
        job.status = "cancelling"
    return web.json_response(job.body())


async def _work(job: Job, provider: Provider) -> None:
    """From ``validating`` to the end, in about ``batch_seconds``."""
    third = provider.options.batch_seconds / 3
    await asyncio.sleep(third)
    asked = _understood(job, provider.shelf.files[job.input_file_id].content)
    if asked is None:
        job.status = "failed"
        return
    job.total = len(asked)
    if job.status == "validating":
        job.status = "in_progress"
    halved = job.fault in ("expired", "cancelled")
    end = len(asked) // 2 if halved else len(asked)
    lines: list[tuple[bool, dict[str, Any]]] = []
    for start in range(0, end, _AT_ONCE):
        if job.status == "cancelling":
            break
        part = asked[start : min(start + _AT_ONCE, end)]
        lines += await asyncio.gather(*(_line(one, job, provider) for one in part))
        await asyncio.sleep(third * len(part) / len(asked))
    last = "completed"
    if halved or job.status == "cancelling":
        last = job.fault if halved else "cancelled"
    job.status = "finalizing"
    await asyncio.sleep(third)
    if last == "expired":
        told = {"code": "batch_expired", "message": _EXPIRED}
        lines += [(False, _told(one, error=told)) for one in asked[end:]]
    _write(job, provider, lines)
    job.status = last


def _understood(job: Job, content: bytes) -> list[_Asked] | None:
    """The requests of a file; None, and ``job.errors``, if it is not as it should be."""
    if job.fault == "failed":
        _refuse(job, "token_limit_exceeded", "Enqueued token limit reached.", None)
        return None
    asked: list[_Asked] = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            row = json.loads(line)
            asked.append(_Asked(row["custom_id"], row["body"]))
            if (row["method"], row["url"]) != ("POST", job.endpoint):
                raise ValueError("another method or url")
        except (ValueError, LookupError, TypeError) as error:
            _refuse(job, "invalid_json_line", f"This line cannot be read: {error}", number)
            return None
    if len({one.custom_id for one in asked}) < len(asked):
        _refuse(job, "duplicate_custom_id", "A custom_id comes twice.", None)
        return None
    if not 0 < len(asked) <= MOST_REQUESTS:
        _refuse(job, "invalid_request", f"A batch has 1 to {MOST_REQUESTS} requests.", None)
        return None
    return asked


def _refuse(job: Job, code: str, message: str, line: int | None) -> None:
    said = {"code": code, "message": message, "line": line, "param": None}
    job.errors = {"object": "list", "data": [said]}


async def _line(one: _Asked, job: Job, provider: Provider) -> tuple[bool, dict[str, Any]]:
    """Work on one request and bill it; whether it was answered, and its line."""
    arrived, n = provider.seconds(), next(provider.numbers)
    unlimited = copy.copy(provider)
    unlimited.allowance = Allowance(None, None, 1)
    outcome = work(one.body, n, arrived, unlimited, OPENAI)
    await account(one.body, n, arrived, outcome, provider, batch=True)
    if outcome.error is not None:
        job.failed += 1
        return False, _told(one, outcome.error.status, error_body(outcome.error))
    job.completed += 1
    return True, _told(one, 200, outcome.reply)


def _told(
    one: _Asked, status: int = 0, body: object = None, error: dict[str, str] | None = None
) -> dict[str, Any]:
    response = {"status_code": status, "request_id": f"req_{one.custom_id[:8]}", "body": body}
    line = {"id": f"batch_req_{one.custom_id[:8]}", "custom_id": one.custom_id}
    return {**line, "response": response if status else None, "error": error}


def _write(job: Job, provider: Provider, lines: Sequence[tuple[bool, dict[str, Any]]]) -> None:
    good = [line for answered, line in lines if answered]
    bad = [line for answered, line in lines if not answered]
    if job.fault == "doubled" and good:
        good = [*good, {**good[0], "custom_id": "nobody-asked"}, *good]
    if good:
        job.output_file_id = _keep(provider, "output.jsonl", "batch_output", _jsonl(good)).id
    if bad:
        job.error_file_id = _keep(provider, "error.jsonl", "batch_output", _jsonl(bad)).id


def _jsonl(lines: Sequence[dict[str, Any]]) -> bytes:
    def written() -> Iterator[bytes]:
        for line in lines:
            yield json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"

    return b"".join(written())


def _keep(provider: Provider, name: str, purpose: str, content: bytes) -> Filed:
    shelf = provider.shelf
    shelf.asked["kept"] += 1
    number, at = shelf.asked["kept"], int(time.time())
    filed = Filed(f"file-{number:06}", name, purpose, content, at, provider.seconds())
    shelf.files[filed.id] = filed
    return filed


def _filed(request: web.Request, provider: Provider) -> Filed:
    found = provider.shelf.files.get(request.match_info["id"])
    if found is None:
        raise ApiError(404, f"No such File object: {request.match_info['id']}", param="id")
    return found


def _job(request: web.Request, provider: Provider) -> Job:
    found = provider.shelf.jobs.get(request.match_info["id"])
    if found is None:
        raise ApiError(404, f"No batch found with id '{request.match_info['id']}'.", param="id")
    return found


def _fault(provider: Provider, hits: str) -> str:
    """Count a request of a kind; the fault that it meets, or none."""
    provider.shelf.asked[hits] += 1
    faults = [one for one in provider.options.batch_faults if BATCH_FAULTS[one[0]] == hits]
    return pick(faults, provider.options.seed, provider.shelf.asked[hits])


async def _reply(
    request: web.Request, provider: Provider, body: dict[str, Any], *, lost: bool
) -> web.StreamResponse:
    raw = json.dumps(body).encode()
    kind = "reset_after" if lost else ""
    return await deliver(kind, Delivery(request, raw, {}, provider.options))
