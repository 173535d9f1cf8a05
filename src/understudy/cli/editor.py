"""Editing a text in the user's own editor."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from understudy.errors import SetupError, UsageError


def edit(text: str, suffix: str) -> str:
    """The text after the user closed $VISUAL or $EDITOR. Raises UsageError if nothing changed."""
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"edit{suffix}")
        path.write_text(text, encoding="utf-8")
        try:
            done = subprocess.run([*shlex.split(command), str(path)], check=False)
        except FileNotFoundError:
            raise SetupError(f"there is no editor {command!r}", "Set EDITOR") from None
        edited = path.read_text(encoding="utf-8")
    if done.returncode:
        raise UsageError(f"{command} ended with {done.returncode}", "Nothing was changed")
    if edited == text:
        raise UsageError("nothing was changed", "The spec stays as it is")
    return edited
