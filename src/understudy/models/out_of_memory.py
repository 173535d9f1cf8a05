"""Out of memory: how it is told from other failures.

A processor's allocator, CUDA, cuBLAS, a reader of weights and Python itself each have words of
their own for it.
"""

from __future__ import annotations

from collections.abc import Iterator

_WORDS = (
    "out of memory",  # CUDA, MPS, mimalloc
    "allocate memory",  # ENOMEM, torch's allocator on a processor
    "ALLOC_FAILED",  # cuBLAS, cuDNN, cuSPARSE
    "not enough memory",  # torch's allocator
    "std::bad_alloc",
    "failed to map segment",  # a library that is being loaded
    "MemoryError",
)


def said(error: BaseException) -> str:
    """What ``error``, or one that it came from, says of memory; empty if that was not the cause.

    A reader may have put its own words on top ("the model cannot be read").
    """
    for one in _chain(error):
        text = f"{type(one).__name__}: {one}"
        if any(words in text for words in _WORDS):
            return (str(one).strip() or type(one).__name__).splitlines()[0][:300]
    return ""


def forget(error: BaseException) -> None:
    """Let go of the frames of ``error``, which hold the tensors that filled the memory."""
    for one in list(_chain(error)):
        one.__traceback__ = None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it was raised from or in the handling of."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__context__, one.__cause__]
