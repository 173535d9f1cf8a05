"""Fetching a model's files into the Hugging Face cache, with room checked and progress told."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.utils.tqdm import tqdm

from understudy.errors import DiskError

_TELL_S = 0.5
_MARGIN = 200_000_000
"""Bytes kept free beyond what a model needs."""


def check_room(repo: str, files: Mapping[str, int], folder: Path) -> None:
    """Raise DiskError unless what of ``files`` is not in ``folder`` yet fits with room to spare."""
    cache = Path(constants.HF_HUB_CACHE)
    there = next(one for one in (cache, *cache.parents) if one.exists())
    needed = _MARGIN + sum(size for file, size in files.items() if not (folder / file).is_file())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise DiskError(
            f"{there} has {free / 1e9:,.1f} GB free, fetching hf:{repo} needs "
            f"{needed / 1e9:,.1f} GB",
            "Make room, choose a smaller student, or set HF_HOME to a folder on another disk",
        )


def fetch_small(repo: str, revision: str, commit: str, files: Sequence[str]) -> Path:
    """Fetch small files of one commit at once; returns their folder. Raises as the library does."""
    bar = _Progress().bar()
    # By its branch first, so that the cache knows offline what the branch was.
    huggingface_hub.hf_hub_download(repo, "config.json", revision=revision, tqdm_class=bar)
    return Path(
        huggingface_hub.snapshot_download(
            repo, revision=commit, allow_patterns=list(files), tqdm_class=bar
        )
    )


def download(
    repo: str,
    commit: str,
    files: Mapping[str, int],
    folder: Path,
    say: Callable[..., None] | None = None,
) -> None:
    """Fetch ``files`` (name to bytes) of one commit; those that are whole in ``folder`` stay.

    The work is done in a thread, so that a Ctrl-C is heard at once; ``say`` hears
    ``student.fetch`` from the caller's. Raises what the library raises.
    """
    tell = say or (lambda *_, **__: None)
    progress = _Progress()

    def work() -> None:
        try:
            huggingface_hub.snapshot_download(
                repo, revision=commit, allow_patterns=list(files), tqdm_class=progress.bar()
            )
        except Exception as error:  # noqa: BLE001  raised below, in the caller's thread
            progress.error = error

    had = sum(size for file, size in files.items() if (folder / file).is_file())
    total, name = sum(files.values()), f"hf:{repo}@{commit}"
    thread = threading.Thread(target=work, name="fetch", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            tell("student.fetch", student=name, done=had + progress.bytes, total=total)
            thread.join(_TELL_S)
    finally:
        progress.stopped = True
    if progress.error is not None:
        raise progress.error
    tell("student.fetch", student=name, done=total, total=total)


class _Progress:
    """Bytes that came so far, and whether they are still wanted."""

    def __init__(self) -> None:
        self.bytes, self.stopped = 0, False
        self.error: Exception | None = None

    def bar(self) -> Any:
        """A progress bar for the library that draws nothing: it counts, and can break off."""
        progress = self
        drawn: Any = tqdm

        class Bar(drawn):  # type: ignore[misc]
            def __init__(self, *args: Any, **options: Any) -> None:
                self._counts = options.get("name") == "huggingface_hub.snapshot_download"
                super().__init__(*args, **{**options, "disable": True})

            def update(self, n: float | None = 1) -> None:
                if progress.stopped:
                    raise InterruptedError("no longer wanted")
                if self._counts:
                    progress.bytes += int(n or 0)

        return Bar
