"""Where a received reply goes when the database cannot take it: a file of its own, at once.

It is read back when the project is next opened for writing, before calls in flight become unknown.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

from understudy.store.calls import Arrived, Sent


def save(path: Path, arrived: Arrived) -> None:
    """Append, and return when it is on disk. Raises OSError."""
    body = {
        "call": arrived.call,
        "raw": base64.b64encode(arrived.raw).decode(),
        "latency_s": arrived.latency_s,
    }
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        # A line of its own, whatever stands before it: a torn one must not swallow this one.
        line = b"\n" + json.dumps(body).encode() + b"\n"
        while line:
            line = line[os.write(handle, line) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def load(path: Path) -> list[Arrived]:
    """What waits there, a torn last line left out."""
    if not path.exists():
        return []
    found = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            body = json.loads(line)
            call, raw = Sent(*body["call"]), base64.b64decode(body["raw"])
            found.append(Arrived(call, raw, body["latency_s"]))
        except (ValueError, KeyError, TypeError):
            continue
    return found


def spool_file(database: Path) -> Path:
    """Where replies wait that the database could not take."""
    return database.with_suffix(".spool")
