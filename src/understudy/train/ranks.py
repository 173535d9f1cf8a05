"""The processes of one training: which is first, what all agree on, what the first does alone.

Training with one process, each of these is trivial. With several (train/launch), torchrun or
accelerate has put this process's place into its environment.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from understudy.errors import UsageError

MEETING = "UNDERSTUDY_MEETING"
"""Environment variable: the file by which the processes of one machine find each other."""
SUPERVISED = "UNDERSTUDY_SUPERVISED"
"""Environment variable: a supervisor holds the other end of this process's standard input.

Its value is the size of the run's events file when the supervisor began, in bytes.
"""
_PATIENCE = timedelta(hours=2)
"""How long a process waits for the others, for example while the first saves or evaluates."""

_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo/transport")
"""What gloo says of it."""

T = TypeVar("T")


def world_size() -> int:
    """Processes of this training, on all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process's number, from 0."""
    return int(os.environ.get("RANK", "0")) if world_size() > 1 else 0


def first() -> bool:
    """True for the one process that speaks, seals checkpoints and saves."""
    return rank() == 0


def sharded() -> bool:
    """True if the weights are divided among the processes (FSDP)."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"


def supervised() -> bool:
    """True if the end of standard input means that whoever started this is gone."""
    return world_size() == 1 or SUPERVISED in os.environ


def events_before() -> int:
    """Bytes of the run's events file that earlier processes have written."""
    return int(os.environ.get(SUPERVISED, "0"))


def lost_another(error: Exception) -> bool:
    """True if the error says no more than that another process of this training is gone."""
    if world_size() == 1:
        return False
    by_torch = type(error).__name__ in {"DistBackendError", "DistNetworkError", "DistStoreError"}
    return by_torch or any(words in str(error) for words in _LOST)


def join() -> None:
    """Meet the other processes.

    Raises UsageError if this machine has too few GPUs for them, or for a DeepSpeed configuration.
    """
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true":
        raise UsageError("DeepSpeed is not supported here", "Use FSDP2: --launch fsdp2")
    if world_size() == 1:
        return
    import torch
    from torch import distributed

    gpus = torch.cuda.device_count()
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if gpus and local_rank >= gpus:
        raise UsageError(
            f"There are more processes than GPUs on this machine ({gpus})",
            f"Launch {gpus} at most",
        )
    if gpus:
        torch.cuda.set_device(local_rank)
    meeting = os.environ.get(MEETING)
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if gpus else "gloo",
        init_method=f"file://{meeting}" if meeting else "env://",
        rank=rank(),
        world_size=world_size(),
        timeout=_PATIENCE,
    )


def agreed(number: int) -> int:
    """The largest ``number`` of all processes; each waits for the others."""
    if world_size() == 1:
        return number
    import torch
    from torch import distributed

    shared = torch.tensor(number)
    distributed.all_reduce(shared, op=distributed.ReduceOp.MAX)
    return int(shared)


def by_first(work: Callable[[], T], *, together: bool = False) -> T:
    """Have the first process do ``work`` while the others wait; all get what it returned.

    ``together``: all have to work, because the weights are divided among them; the first one's
    result counts.
    """
    if world_size() == 1:
        return work()
    import torch
    from torch import distributed

    box: list[Any] = [work() if first() or together else None]
    distributed.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    result: T = box[0]
    return result
