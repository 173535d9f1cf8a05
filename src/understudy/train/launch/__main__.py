"""The supervisor: ``python -m understudy.train.launch HOW RUN_FOLDER DATASET_FOLDER``.

All processes of the training inherit the reading end of one pipe, its standard input; this process
holds the writing end. Its closing tells all of them at once to save and stop: on SIGINT, SIGTERM,
the end of the parent, or the death of this process, however it died. The launcher's own way, a
signal and thirty seconds until SIGKILL, is kept for a second signal.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from understudy.errors import ProjectBusy, UnderstudyError
from understudy.train.launch import launcher
from understudy.train.local import lock
from understudy.train.progress import EVENTS, EventLog, Stop, mend
from understudy.train.ranks import MEETING, SUPERVISED

_POLL_S = 0.1


def main(launch: str, run_folder: Path, dataset_folder: Path) -> int:
    """Train with several processes; return once all have ended, with the exit code."""
    told = mend(run_folder / EVENTS)
    with tempfile.TemporaryDirectory(prefix="understudy-") as meeting:
        try:
            command = launcher(launch, run_folder, dataset_folder, Path(meeting))
        except UnderstudyError as error:
            return _refused(run_folder, error)
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            env=_environment(os.environ, command, Path(meeting)) | {SUPERVISED: str(told)},
            start_new_session=True,  # Ctrl-C in the terminal reaches this process alone
        )
        heard = _listen(process)
        code = process.wait()
        _stop(process)  # a launcher that was killed leaves processes behind
        _wait_until_free(run_folder)
    if heard.signal and code:
        return 128 + heard.signal
    return min(abs(code), 1)


def _refused(run_folder: Path, error: UnderstudyError) -> int:
    data = {"message": error.what, "fix": error.fix, "exit_code": error.exit_code}
    EventLog(run_folder / EVENTS).say("train.failed", **data)
    return error.exit_code


def _environment(environ: Mapping[str, str], command: list[str], meeting: Path) -> dict[str, str]:
    """The processes' environment: their share of the processors, loopback only on one machine."""
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    alone = {
        MEETING: str(meeting / "processes"),
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "GLOO_SOCKET_IFNAME": loopback,
        "NCCL_SOCKET_IFNAME": loopback,
        "MASTER_ADDR": "127.0.0.1",
    }
    on_one_machine = "--rdzv_backend=c10d" in command
    return {**environ, **(alone if on_one_machine else {})}


def _listen(process: subprocess.Popen[bytes]) -> Stop:
    heard = Stop()

    def stop(number: int, _frame: FrameType | None) -> None:
        if heard.signal:
            process.terminate()
        heard.signal = heard.signal or number
        _stop(process)

    def watch_parent() -> None:
        while os.read(0, 1024):
            pass
        heard.signal = heard.signal or signal.SIGTERM
        _stop(process)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    threading.Thread(target=watch_parent, daemon=True).start()
    return heard


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Tell every process that inherited the pipe to save and stop."""
    if process.stdin is not None:
        process.stdin.close()


def _wait_until_free(run_folder: Path) -> None:
    """Wait until no process of the training is left that could write to its folder."""
    while True:
        try:
            lock(run_folder).close()
        except ProjectBusy:
            time.sleep(_POLL_S)
        else:
            return


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("Usage: python -m understudy.train.launch HOW RUN_FOLDER DATASET_FOLDER")
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
