"""The spec as a person edits it: JSON, in a file or in the user's own editor."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import get_args, get_origin

from pydantic import ValidationError

from understudy.errors import SetupError, UsageError
from understudy.task import Kind, Spec

SHOWN = 60
"""Most characters of a refused value that are repeated."""


def edited(spec: Spec) -> Spec:
    """The spec after the user closed $VISUAL or $EDITOR; the same one if nothing was changed.

    Raises UsageError naming the file that keeps the edit if it is not a spec any more.
    """
    if not sys.stdin.isatty():
        raise UsageError("--edit needs a terminal", "Use --file SPEC.json")
    handle, name = tempfile.mkstemp(prefix="understudy-spec-", suffix=".json")
    os.close(handle)
    path = Path(name)
    path.write_text(spec.model_dump_json(indent=2), encoding="utf-8")
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        done = subprocess.run([*shlex.split(command), name], check=False)
    except FileNotFoundError:
        raise SetupError(f"there is no editor {command!r}", "Set EDITOR") from None
    if done.returncode:
        raise UsageError(f"{command} ended with {done.returncode}", "Nothing was changed")
    changed = read_spec(path.read_text(encoding="utf-8", errors="replace"), name)
    path.unlink()
    return changed


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


def changed(spec: Spec, changes: Sequence[str]) -> Spec:
    """The spec with fields set, each written FIELD=VALUE. Raises UsageError naming the field."""
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise UsageError(f"--set {change!r} is not FIELD=VALUE", "For example --set kind=text")
        spec = with_field(spec, name.strip(), value)
    return spec


def with_field(spec: Spec, name: str, value: str) -> Spec:
    """The spec with one field set: to JSON, or to plain text where that is no JSON of its kind."""
    if name not in Spec.model_fields:
        there = ", ".join(Spec.model_fields)
        raise UsageError(f"a spec has no field {name!r}", f"There are: {there}")
    body, told = spec.model_dump(), ""
    for read in (json.loads, str):
        try:
            return Spec.model_validate(body | {name: read(value)})
        except ValidationError as error:
            told = told or str(error.errors()[0]["msg"])
        except ValueError:
            continue
    raise UsageError(f"--set {name}: {_in_words(name, value, told)}", _how_to_set(name, value))


def _is_list(name: str) -> bool:
    return get_origin(Spec.model_fields[name].annotation) is tuple


def _in_words(name: str, value: str, told: str) -> str:
    """What is wrong with a value, without the checker's own words for its types."""
    shown = value if len(value) <= SHOWN else f"{value[: SHOWN - 1]}…"
    if _is_list(name):
        return f"{shown!r} is no list of what belongs there"
    own = told.removeprefix("Value error, ")  # the spec's own check says all
    return own if own != told else f"{told[:1].lower()}{told[1:]}, not {shown!r}"


def _how_to_set(name: str, value: str) -> str:
    """An example that works where the kind of the field is what was wrong."""
    if name == "fields":
        example = '[{"name": "order", "type": "string", "description": "its number"}]'
    elif _is_list(name):
        example = json.dumps([value, "another"], ensure_ascii=False)
    elif name == "kind":
        return f"There are: {', '.join(get_args(Kind))}; set labels or fields before it"
    else:
        return f"{name}: {Spec.model_fields[name].description}"
    return f"Lists are JSON: --set {shlex.quote(f'{name}={example}')}"
