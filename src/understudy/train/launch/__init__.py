"""More than one process for one training: how they are started.

    train.start(run, folder, launch="2")            # two processes on this machine (torchrun)
    train.start(run, folder, launch="fsdp2")        # weights divided among all its GPUs
    train.start(run, folder, launch="mine.yaml")    # as this accelerate configuration says

Between ``start`` and the processes stands a supervisor (``python -m understudy.train.launch``): it
starts torchrun or ``accelerate launch`` and tells all processes at once when to stop. What the
processes agree on among themselves is in train/ranks.py.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from understudy.errors import SetupError, UsageError

FSDP2 = "fsdp2"
FSDP2_CONFIG = Path(__file__).parent / "fsdp2.yaml"
"""The accelerate configuration that ``--launch fsdp2`` stands for."""
_WAYS = f"Give a number of processes, {FSDP2}, or the path of an accelerate configuration"


def check(launch: str, batch_size: int) -> str:
    """Return ``launch`` with its path made absolute.

    Raises UsageError if it is no number, file or known name, or if the batch cannot be shared,
    SetupError if what starts the processes is not installed.
    """
    if find_spec("accelerate") is None:
        raise SetupError("Training needs extra packages", 'pip install "understudy[train]"')
    if launch.isdecimal() and int(launch):
        share(batch_size, int(launch))
        return str(int(launch))
    if launch == FSDP2:
        return launch
    path = Path(launch).expanduser().absolute()
    if path.suffix not in {".yaml", ".yml", ".json"} or not path.is_file():
        raise UsageError(f"There is no way to launch a training called {launch!r}", _WAYS)
    return str(path)


def share(batch_size: int, processes: int) -> int:
    """Rows of each batch that every process reads. Raises UsageError if they cannot be equal."""
    if batch_size % processes:
        nearest = max(processes, round(batch_size / processes) * processes)
        raise UsageError(
            f"A batch of {batch_size} rows cannot be shared equally among {processes} processes",
            f"Set batch_size to {nearest}, or use a number of processes that divides it",
        )
    return batch_size // processes


def supervisor(launch: str, run_folder: Path, dataset_folder: Path) -> list[str]:
    """The command that trains with several processes until they have all ended."""
    given = [launch, str(run_folder), str(dataset_folder)]
    return [sys.executable, "-m", "understudy.train.launch", *given]


def launcher(launch: str, run_folder: Path, dataset_folder: Path, meeting: Path) -> list[str]:
    """The command of torchrun or accelerate that starts the processes.

    On one machine they meet in the folder ``meeting``: torch's TCP store would listen on every
    network interface.
    """
    trainer = ["-m", "understudy.train.local", str(run_folder), str(dataset_folder)]
    by_file = ["--rdzv_backend=c10d", "--rdzv_conf=store_type=file"]
    if launch.isdecimal():
        here = ["--nnodes=1", f"--nproc_per_node={launch}", "--local_addr=127.0.0.1"]
        endpoint = [f"--rdzv_endpoint={meeting / 'launcher'}"]
        module = "torch.distributed.run"
        return [sys.executable, "-m", module, *here, *by_file, *endpoint, *trainer]
    config = FSDP2_CONFIG if launch == FSDP2 else Path(launch)
    machines, processes = numbers(config)
    options = [f"--config_file={config}", f"--num_processes={processes or _gpus()}"]
    meet = [] if machines > 1 else by_file
    return [sys.executable, "-m", "accelerate.commands.launch", *options, *meet, *trainer]


def numbers(config: Path) -> tuple[int, int]:
    """Machines and processes of an accelerate configuration; 0 processes: it does not say.

    Raises UsageError if it is none.
    """
    import yaml  # type: ignore[import-untyped]  # comes with transformers

    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
        return int(content.get("num_machines", 1)), int(content.get("num_processes", 0))
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{config} is no accelerate configuration ({reason})", _WAYS) from None


def _gpus() -> int:
    """GPUs of this machine. Raises UsageError if there are none."""
    import torch

    if not torch.cuda.is_available():
        raise UsageError(
            "There is no GPU to share the weights among", "Give a number of processes instead"
        )
    return torch.cuda.device_count()
