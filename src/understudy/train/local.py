"""The trainer's process: ``python -m understudy.train.local RUN_FOLDER DATASET_FOLDER``.

It holds the run's lock, appends events to RUN_FOLDER/events.jsonl, and ends with an exit code of
``errors.py``. SIGINT, SIGTERM and the end of its parent (its standard input is a pipe that the
parent holds open) make it save a checkpoint behind the current step and exit with 130 or 143; the
same command then goes on from there. It talks to no network and runs no code from a model folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import stat
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from understudy.errors import DiskError, ProjectBusy, UnderstudyError
from understudy.models.huggingface import first_line, missing_extra
from understudy.train.job import LOCK_FILE, read_job
from understudy.train.progress import EVENTS, EventLog, Stop

_SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL")
_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DO_NOT_TRACK": "1",
    "WANDB_DISABLED": "true",
    "TOKENIZERS_PARALLELISM": "false",
}

_NO_MEMORY = ("out of memory", "allocate memory")
_NO_DISK = ("No space left", "PytorchStreamWriter", "inline_container", "File too large")
"""What torch and safetensors say, in errors of their own kinds."""


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a trainer needs of ``environ``: no secrets, no leave to run remote code, no network."""
    kept = {
        name: value
        for name, value in environ.items()
        if name != "HF_TRUST_REMOTE_CODE" and not any(part in name.upper() for part in _SECRET)
    }
    one_gpu = {"CUDA_VISIBLE_DEVICES": "0"}  # several in one process would need a launcher
    return one_gpu | kept | _QUIET


def main(run_folder: Path, dataset_folder: Path) -> int:
    """Train, and return the exit code."""
    os.environ.update(_QUIET)
    os.environ.pop("HF_TRUST_REMOTE_CODE", None)
    try:
        with lock(run_folder):
            return _train(run_folder, dataset_folder, EventLog(run_folder / EVENTS))
    except ProjectBusy as error:
        print(error, file=sys.stderr)  # noqa: T201  the events belong to the process at work
        return error.exit_code


def lock(run_folder: Path) -> TextIO:
    """Take the run's lock, held until the file is closed. Raises ProjectBusy if it is taken."""
    file = (run_folder / LOCK_FILE).open("w", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise ProjectBusy(
            f"Another process is training in {run_folder}", "Wait for it, or cancel it"
        ) from None
    return file


def _train(run_folder: Path, dataset_folder: Path, events: EventLog) -> int:
    stop = Stop()
    _listen(stop)
    try:
        from understudy.train.fit import Interrupted, fit
    except ModuleNotFoundError as error:
        return _failed(events, missing_extra("Training", error))
    try:
        metrics = fit(read_job(run_folder, dataset_folder), events, stop)
        events.say("train.done", **metrics)
    except Interrupted as end:
        code = 128 + stop.signal
        message = f"The training was interrupted at step {end.step}"
        fix = "The same command goes on from there"
        events.say("train.interrupted", message=message, fix=fix, step=end.step, exit_code=code)
        return code
    except Exception as error:  # noqa: BLE001  whatever it was, the run's record says it
        return _failed(events, error)
    return 0


def _listen(stop: Stop) -> None:
    """Have signals and the parent's end set ``stop``; a second signal ends the process at once."""

    def note(number: int, _frame: Any) -> None:
        stop.signal = number
        signal.signal(number, signal.SIG_DFL)

    def watch_parent() -> None:
        while os.read(0, 1024):
            pass
        stop.signal = stop.signal or signal.SIGTERM

    signal.signal(signal.SIGINT, note)
    signal.signal(signal.SIGTERM, note)
    if stat.S_ISFIFO(os.fstat(0).st_mode):  # a pipe: somebody's child, not started by hand
        threading.Thread(target=watch_parent, daemon=True).start()


def _failed(events: EventLog, error: Exception) -> int:
    traceback.print_exception(error)
    known = error if isinstance(error, UnderstudyError) else _explained(error)
    with contextlib.suppress(OSError):  # on a full disk the exit code has to do
        events.say("train.failed", message=known.what, fix=known.fix, exit_code=known.exit_code)
    return known.exit_code


def _explained(error: Exception) -> UnderstudyError:
    """The error of our tree for what a library or the system raised."""
    said = first_line(error)
    if isinstance(error, MemoryError) or any(words in said for words in _NO_MEMORY):
        return UnderstudyError(
            f"The machine ran out of memory while training: {said}",
            "Lower batch_size or max_tokens, or train adapters (lora)",
        )
    if isinstance(error, OSError) or any(words in said for words in _NO_DISK):
        return DiskError(
            f"Reading or writing failed while training: {said}",
            "Make room or mend the disk, then start again: it goes on from its last checkpoint",
        )
    return UnderstudyError(
        f"The training failed: {type(error).__name__}: {said}", "trainer.log has the details"
    )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("Usage: python -m understudy.train.local RUN_FOLDER DATASET_FOLDER")
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
