"""Out of memory in training: what the trainer's last event says, and how its parent knows.

The trainer itself knows by the error (models/out_of_memory); the kernel has no words, it kills.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

from understudy.errors import UnderstudyError
from understudy.train.progress import EVENTS

KIND = "train.out_of_memory"
EXIT_CODE = 12
"""Of the trainer's process (ENOMEM); the command that runs it ends with 1."""
_NEAR = 0.9
"""Share of the memory that the last step used, from which on a kill is put down to memory."""
_FIX = "Start again: it goes on smaller, from its last checkpoint where it can"
_FIX_OVER = "Free some memory; the same command goes on from there, with no step left to train"
_TELLING = ("train.loading", "train.resumed", "train.checkpoint", "train.best")
"""Events from which it follows whether a step is left to train."""


def data(run_folder: Path, message: str) -> dict[str, Any]:
    """What the event says: the last finished step, whether all is trained, what happened."""
    step, over = last_step(run_folder).get("step", 0), trained(run_folder)
    where = f"behind step {step:,}" if step else "before the first step"
    where = "when all was trained and had to be saved" if over else where
    return {
        "step": step,
        "trained": over,
        "message": f"The training ran out of memory {where}: {message}",
        "fix": _FIX_OVER if over else _FIX,
        "exit_code": UnderstudyError.exit_code,
    }


def trained(run_folder: Path) -> bool:
    """True if the last trainer had no step left to take, and a checkpoint of the last one.

    It is so behind the checkpoint of the last step, and where the best weights were chosen; or
    from the start, if it went on from such a checkpoint.
    """
    said = _telling(run_folder)
    begun = max((at for at, one in enumerate(said) if one["kind"] == "train.loading"), default=0)
    done = [one for one in said[begun:] if one["kind"] != "train.loading"]
    if not done or done[-1]["kind"] == "train.best":
        return bool(done)
    step = done[-1]["data"]["step"]
    sealed = [one["data"] for one in said if one["kind"] == "train.checkpoint"]
    steps = [one["steps"] for one in sealed if one["step"] == step]
    return bool(steps) and steps[-1] == step


def _telling(run_folder: Path) -> list[dict[str, Any]]:
    """Those events, the oldest first; the last line may have been torn by a kill."""
    path = run_folder / EVENTS
    whole = path.read_bytes().rpartition(b"\n")[0] if path.is_file() else b""
    marks = [f'"{kind}"'.encode() for kind in _TELLING]
    lines = [line for line in whole.splitlines() if any(mark in line for mark in marks)]
    return [event for event in map(json.loads, lines) if event["kind"] in _TELLING]


def last_step(run_folder: Path) -> dict[str, Any]:
    """Data of the last ``train.step``; empty if there is none."""
    path = run_folder / EVENTS
    lines = path.read_bytes().splitlines() if path.is_file() else []
    for line in reversed(lines):
        if b'"train.step"' in line:
            found: dict[str, Any] = json.loads(line)["data"]
            return found
    return {}


def killed(code: int, run_folder: Path, *, kills: int, memory_bytes: int) -> str:
    """Say why a trainer that ended with ``code`` was killed for want of memory; empty if not.

    ``kills``: processes that the kernel has killed for it since the trainer began.
    ``memory_bytes``: all the memory there is. A kill that nobody asked for counts if the kernel
    owns up to it, or if the last step had nearly all memory.
    """
    if code not in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return ""
    if kills > 0:
        return "the kernel killed the trainer"
    peak = float(last_step(run_folder).get("peak_memory_mb") or 0) * 1e6
    if peak > _NEAR * memory_bytes:
        return f"the trainer was killed while it held {peak / 1e9:,.1f} GB"
    return ""
