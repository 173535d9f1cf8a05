"""What a fine-tuning at the practice server does: reads its file, steps, tells, bills, learns."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import time
from typing import Any

from understudy.practice import TASKS, load
from understudy.practice.chat import tokens
from understudy.practice.fine_tuned import base_of
from understudy.practice.provider import Provider
from understudy.practice.shelf import Filed, Tuning

FEWEST_ROWS = 10
TICKS = 20
"""Times that a job tells how far it is."""


class Trained(Exception):
    """A job came to its end early."""


async def worked(job: Tuning, provider: Provider) -> None:
    """From ``validating_files`` to the end, in about ``tune_seconds``."""
    pause_s = provider.options.tune_seconds / (TICKS + 2)
    _tell(job, "Created fine-tuning job: " + job.id)
    await asyncio.sleep(pause_s)
    rows = _rows(job, provider.shelf.files[job.training_file].content)
    if rows is None or job.status == "cancelled":
        return
    if job.status != "paused":
        job.status = "running"
    _tell(job, "Files validated, moving job to queued state")
    _tell(job, "Fine-tuning job started")
    times = 3 if job.epochs == "auto" else int(job.epochs)
    size = 8 if job.batch_size == "auto" else int(job.batch_size)
    job.steps = max(1, -(-len(rows) * times // size))
    job.tokens = times * sum(tokens(*texts) for texts in rows)
    try:
        for tick in range(1, TICKS + 1):
            await _tick(job, tick, pause_s)
    except Trained:
        await note(provider, job, "trained", job.trained_tokens or 0)
        return
    job.task = _learned(rows)
    place = f"practice:{job.suffix}:{job.number:06}"
    job.fine_tuned_model = f"ft:{base_of(job.model)}:{place}"
    await note(provider, job, "trained", job.tokens)
    _tell(job, "The job has successfully completed")
    job.status = "succeeded"


async def _tick(job: Tuning, tick: int, pause_s: float) -> None:
    """A part of the training. Raises Trained if it ends here."""
    half = tick == TICKS // 2 and not job.about.get("resumed")
    if half and job.fault in ("cancelled", "paused"):
        job.status = job.fault
    while job.status == "paused":  # noqa: ASYNC110 (a tick is as soon as it need be)
        await asyncio.sleep(min(pause_s, 0.02))
    if half and job.fault == "failed":
        job.status = "failed"
        job.error = {"code": "server_error", "message": "The training diverged.", "param": None}
    if job.status in ("cancelled", "failed"):
        _tell(job, f"The job {job.status}", "error" if job.status == "failed" else "info")
        raise Trained
    await asyncio.sleep(pause_s)
    step = max(1, job.steps * tick // TICKS)
    if step <= job.done or job.status != "running":
        return
    job.done = step
    loss = loss_of(job, step)
    data = {"step": step, "total_steps": job.steps, "train_loss": loss}
    _tell(job, f"Step {step}/{job.steps}: training loss={loss:.2f}", data=data)


def loss_of(job: Tuning, step: int) -> float:
    """Falls from 2 towards 0, the same each time."""
    wave = int(hashlib.sha256(f"{job.model} {step}".encode()).hexdigest()[:4], 16) / 0xFFFF
    return round(2 * math.exp(-3.5 * step / max(job.steps, 1)) + 0.02 * wave, 4)


def _tell(job: Tuning, message: str, level: str = "info", data: Any = None) -> None:
    row = {
        "id": f"ftevent-{job.number:04}-{len(job.events) + 1:05}",
        "object": "fine_tuning.job.event",
        "created_at": int(time.time()),
        "level": level,
        "message": message,
        "type": "message" if data is None else "metrics",
        "data": data or {},
    }
    job.events.append(row)


def _rows(job: Tuning, content: bytes) -> list[list[str]] | None:
    """The texts of each row; None, and ``job.error``, if the file is not as it should be."""
    rows: list[list[str]] = []
    why = "The host finds fault with the file." if job.fault == "invalid" else ""
    for number, line in enumerate(content.splitlines(), 1):
        try:
            turns = json.loads(line)["messages"]
            texts = [turn["content"] for turn in turns]
            if turns[-1]["role"] != "assistant" or not all(isinstance(one, str) for one in texts):
                raise ValueError("the last turn is not an assistant's text")
            rows.append(texts)
        except (ValueError, LookupError, TypeError) as error:
            why = why or f"Line {number} cannot be read: {error}"
    if len(rows) < FEWEST_ROWS:
        why = why or f"Training file has {len(rows)} example(s), but must have at least 10."
    if not why:
        return rows
    job.status = "failed"
    job.error = {"code": "invalid_training_file", "message": why, "param": "training_file"}
    _tell(job, why, "error")
    return None


def _learned(rows: list[list[str]]) -> str:
    """The task whose answers most rows show: what the model answers like from now on."""
    tasks = {name: load(name) for name in TASKS}
    right = {
        name: sum(task.answer(texts[-2]) == texts[-1] for texts in rows if len(texts) > 1)
        for name, task in tasks.items()
    }
    return max(right, key=lambda name: right[name])


async def note(provider: Provider, about: Tuning | Filed, phase: str, paid: int = 0) -> None:
    """Write into the account that a file or a job was made, or what is billed for one."""
    if provider.bill is None:
        return
    name = about.name if isinstance(about, Filed) else about.id
    digest = hashlib.sha256(f"{phase} {name}".encode()).hexdigest()
    entry = {"n": 0, "t": round(provider.seconds(), 4), "body_sha256": digest, "name": name}
    model = "" if isinstance(about, Filed) else about.model
    entry |= {"model": model, "kind": "tuning", "phase": phase, "paid": paid > 0}
    if isinstance(about, Tuning):
        entry["about"] = about.about
    await provider.bill.write(entry | {"input_tokens": paid, "output_tokens": 0, "fault": ""})
