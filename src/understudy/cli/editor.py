"""The spec as a person edits it: JSON, in a file or in the user's own editor."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from pydantic import ValidationError

from understudy.errors import SetupError, UsageError
from understudy.task import Spec


def edited(spec: Spec) -> Spec:
    """The spec after the user changed it. Raises UsageError if nothing was changed."""
    if not sys.stdin.isatty():
        raise UsageError("--edit needs a terminal", "Use --file SPEC.json")
    return read_spec(_in_editor(spec.model_dump_json(indent=2)), "the edited spec")


def read_spec(text: str, where: str) -> Spec:
    """Read what ``describe --json`` prints, or its spec alone. Raises UsageError."""
    try:
        body = json.loads(text)
        return Spec.model_validate(body.get("spec", body))
    except (ValueError, AttributeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else "it is not JSON"
        fix = "`understudy describe --json` prints the present spec"
        raise UsageError(f"{where} is not a spec: {what}", fix) from None


def _in_editor(text: str) -> str:
    """The text after the user closed $VISUAL or $EDITOR."""
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "spec.json")
        path.write_text(text, encoding="utf-8")
        try:
            done = subprocess.run([*shlex.split(command), str(path)], check=False)
        except FileNotFoundError:
            raise SetupError(f"there is no editor {command!r}", "Set EDITOR") from None
        changed = path.read_text(encoding="utf-8")
    if done.returncode:
        raise UsageError(f"{command} ended with {done.returncode}", "Nothing was changed")
    if changed == text:
        raise UsageError("nothing was changed", "The spec stays as it is")
    return changed
