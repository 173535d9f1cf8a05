"""What a training says while it works: one JSON object a line, appended to its events file."""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from pathlib import Path
from typing import Any

EVENTS = "events.jsonl"
MOST_STEP_EVENTS = 500
"""Long trainings report an average over several steps, so that their event table stays small."""


class Stop:
    """Set by a signal or by the parent's end; looked at after each step."""

    signal: int = 0
    agreed: int = 0
    """The same in all processes of a training: what any of them had heard at its last step."""


class EventLog:
    """Appends events to a file, a line at a time."""

    def __init__(self, path: Path) -> None:
        mend(path)
        self._file = path.open("ab", buffering=0)

    def say(self, kind: str, **data: Any) -> None:
        """Append one event. A number that is not finite is written as null."""
        clean = {key: _finite(value) for key, value in data.items()}
        line = json.dumps({"kind": kind, "data": clean}, ensure_ascii=False, allow_nan=False)
        self._file.write(line.encode("utf-8", "replace") + b"\n")


def mend(path: Path) -> int:
    """Cut what a killed training left behind the last whole line. Returns the file's size."""
    path.touch()
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("rb+") as file:
            file.truncate(whole)
    return whole


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Speed:
    """Tokens a second since the start of this process's part of the training.

    ``tokens`` and ``answer_tokens`` are running totals: entry k counts those of the first k steps.
    """

    def __init__(self, tokens: list[int], answer_tokens: list[int], *, first_step: int) -> None:
        self._tokens, self._answer_tokens = tokens, answer_tokens
        self._first = first_step
        self._began = time.monotonic()

    def at(self, step: int) -> dict[str, float]:
        """Speed and time left once ``step`` steps are done."""
        steps = len(self._tokens) - 1
        seconds = max(time.monotonic() - self._began, 1e-9)
        done = step - self._first
        left = seconds / done * (steps - step) if done else 0.0
        return {
            "tokens_per_s": round((self._tokens[step] - self._tokens[self._first]) / seconds, 1),
            "answer_tokens_per_s": round(
                (self._answer_tokens[step] - self._answer_tokens[self._first]) / seconds, 1
            ),
            "seconds": round(seconds, 2),
            "seconds_left": round(left, 1),
        }


def peak_memory_mb() -> float:
    """Most memory this process has used: of the GPU if there is one, else of the machine, in MB."""
    import torch

    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 1e6, 1)
    status = Path("/proc/self/status")
    if status.is_file():  # a child's ru_maxrss begins at what its parent had
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return round(int(peak.split()[1]) * 1024 / 1e6, 1)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on macOS bytes
    return round(most / (1e6 if sys.platform == "darwin" else 1e6 / 1024), 1)
