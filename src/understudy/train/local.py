"""The trainer's process: ``python -m understudy.train.local RUN_FOLDER DATASET_FOLDER``.

It holds the run's lock, appends events to RUN_FOLDER/events.jsonl, and ends with an exit code of
``errors.py``. SIGINT, SIGTERM and the end of its parent (its standard input is a pipe that the
parent holds open) make it save a checkpoint behind the current step and exit with 130 or 143; the
same command then goes on from there. It talks to no network and runs no code from a model folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import stat
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from understudy.errors import DiskError, ProjectBusy, UnderstudyError
from understudy.models.huggingface import first_line, missing_extra
from understudy.models.out_of_memory import forget, said
from understudy.train import out_of_memory, ranks, trackers
from understudy.train.job import LOCK_FILE, read_job
from understudy.train.progress import EVENTS, EventLog, Stop

_KEPT = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "TZ", "LANG", "LC_", "TMP", "TEMP", "XDG_",
    "LD_", "DYLD_", "PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX", "COVERAGE", "HF_HOME", "HF_HUB_CACHE",
    "TORCH", "PYTORCH", "TRITON", "CUDA", "NVIDIA", "NCCL", "GLOO", "OMP", "MKL", "KMP", "OPENBLAS",
    "GOTO", "ACCELERATE", "FSDP", "MASTER_", "RANK", "LOCAL_", "WORLD_SIZE", "NODE_RANK", "GROUP_",
    "ROLE_", "UNDERSTUDY_TRAIN", "SystemRoot",
)  # fmt: skip
"""How the names begin of what a trainer is given; all else may be somebody's secret."""
_SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL")
_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

_LAST_SAVE_S = 600
"""How long one process of several may go on once it was told to stop, before it ends itself."""

_REASONS = ("train.failed", out_of_memory.KIND)
_NO_DISK = ("No space left", "PytorchStreamWriter", "inline_container", "File too large")
"""What torch and safetensors say, in errors of their own kinds."""


def clean_environment(
    environ: Mapping[str, str], report_to: Sequence[str] = (), *, launched: bool = False
) -> dict[str, str]:
    """What a trainer needs of ``environ``: no secrets, no leave to run remote code, no network.

    A tracker of ``report_to`` is left what it needs of them; ``launched`` processes see all GPUs.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if name.startswith(_KEPT) and not any(part in name.upper() for part in _SECRET)
    }
    first = environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    one_gpu = {} if launched else {"CUDA_VISIBLE_DEVICES": first}
    return kept | one_gpu | _QUIET | trackers.environment(report_to, environ)


def main(run_folder: Path, dataset_folder: Path) -> int:
    """Train, and return the exit code."""
    os.environ.update(_QUIET | trackers.environment(trackers.asked_for(run_folder), os.environ))
    os.environ.pop("HF_TRUST_REMOTE_CODE", None)
    if not ranks.first():
        return _train(run_folder, dataset_folder, EventLog(Path(os.devnull)))
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
        return _failed(run_folder, missing_extra("Training", error))
    except Exception as error:  # noqa: BLE001  libraries that find no memory to be loaded into
        return _failed(run_folder, error)
    try:
        ranks.join()
        metrics = fit(read_job(run_folder, dataset_folder), events, stop)
        events.say("train.done", **metrics)
    except Interrupted as end:
        code = 128 + (stop.signal or signal.SIGTERM)  # another process may have heard it
        message = f"The training was interrupted at step {end.step}"
        fix = "The same command goes on from there"
        events.say("train.interrupted", message=message, fix=fix, step=end.step, exit_code=code)
        return code
    except Exception as error:  # noqa: BLE001  whatever it was, the run's record says it
        return _failed(run_folder, error)
    return 0


def _listen(stop: Stop) -> None:
    """Have signals and the parent's end set ``stop``; a second signal ends the process at once."""

    def note(number: int, _frame: Any) -> None:
        stop.signal = number
        if ranks.world_size() == 1:  # a launcher sends each process several on the way to its end
            signal.signal(number, signal.SIG_DFL)

    def watch_parent() -> None:
        while os.read(0, 1024):
            pass
        stop.signal = stop.signal or signal.SIGTERM
        if ranks.world_size() > 1:  # it may wait in vain for one that is gone
            time.sleep(_LAST_SAVE_S)
            os._exit(128 + stop.signal)

    signal.signal(signal.SIGINT, note)
    signal.signal(signal.SIGTERM, note)
    if stat.S_ISFIFO(os.fstat(0).st_mode) and ranks.supervised():  # not started by hand
        threading.Thread(target=watch_parent, daemon=True).start()


def _failed(run_folder: Path, error: Exception) -> int:
    """Say why, unless another process of this training has already."""
    with contextlib.suppress(MemoryError):
        traceback.print_exception(error)
    if message := said(error):
        forget(error)
        EventLog(run_folder / EVENTS).say(
            out_of_memory.KIND, **out_of_memory.data(run_folder, message)
        )
        return out_of_memory.EXIT_CODE
    known = error if isinstance(error, UnderstudyError) else _explained(error)
    with contextlib.suppress(OSError):  # on a full disk the exit code has to do
        if ranks.world_size() > 1 and _last_words(run_folder) in _REASONS:
            return known.exit_code
        data = {"message": known.what, "fix": known.fix, "exit_code": known.exit_code}
        EventLog(run_folder / EVENTS).say("train.failed", **data)
    return known.exit_code


def _last_words(run_folder: Path) -> str:
    """The kind of the last event that the processes of this training have said."""
    lines = (run_folder / EVENTS).read_bytes()[ranks.events_before() :].splitlines()
    return str(json.loads(lines[-1])["kind"]) if lines else ""


def _explained(error: Exception) -> UnderstudyError:
    """The error of our tree for what a library or the system raised."""
    said = first_line(error)
    if ranks.lost_another(error):
        return UnderstudyError(
            "A process of the training ended unexpectedly, perhaps for want of memory",
            "Start again: it goes on from its last checkpoint; trainer.log has the details",
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
