"""How a hint names the project, so that it can be pasted into a shell as it stands."""

from __future__ import annotations

import shlex
from pathlib import Path


def here(folder: Path) -> str:
    """The option that names the project, a space before it; empty if it is where one stands."""
    return "" if folder == Path() else f" -p {shlex.quote(str(folder))}"
