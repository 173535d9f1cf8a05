"""What the tests of fine-tuning jobs share: a task learnt in seconds, a client, a wait."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

COLOURS = ["red", "blue", "green", "black", "white", "brown", "pink", "grey", "gold", "teal"]
THINGS = ["car", "hat", "dog", "tree", "house", "bike", "shoe", "cup", "pen", "lamp"]
SYSTEM = "Name the colour."
TRAINED = {"n_epochs": 2, "batch_size": 4}
"""A training of a few steps: it learns nothing, but it is one."""


def colours() -> list[dict[str, Any]]:
    """A hundred conversations in which the answer is a word of the question."""
    rows = [
        conversation(f"I saw a {colour} {thing} today", colour)
        for colour in COLOURS
        for thing in THINGS
    ]
    random.Random(1).shuffle(rows)
    return rows


def conversation(text: str, answer: str, system: str = SYSTEM) -> dict[str, Any]:
    turns = [("system", system)] if system else []
    turns += [("user", text), ("assistant", answer)]
    return {"messages": [{"role": role, "content": said} for role, said in turns]}


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def client(home: Any, **options: Any) -> Any:
    """The SDK that is installed, pointed at a server, with nothing tried again."""
    from openai import OpenAI

    return OpenAI(base_url=home.url, api_key=home.token, max_retries=0, **options)


def sent(sdk: Any, path: Path) -> str:
    """The id of an uploaded file."""
    with path.open("rb") as file:
        return str(sdk.files.create(file=file, purpose="fine-tune").id)


def ended(sdk: Any, id: str, *, seconds: float = 250) -> Any:
    """The job once it ended."""
    return until(sdk, id, lambda job: job.status in ("succeeded", "failed", "cancelled"), seconds)


def until(sdk: Any, id: str, right: Any, seconds: float = 200) -> Any:
    """The job as soon as it is ``right``."""
    deadline = time.monotonic() + seconds
    while not right(job := sdk.fine_tuning.jobs.retrieve(id)):
        assert time.monotonic() < deadline, (job, messages(sdk, id))
        time.sleep(0.05)
    return job


def messages(sdk: Any, id: str) -> list[str]:
    """What was said of a job, the oldest first."""
    told = [event.message for event in sdk.fine_tuning.jobs.list_events(id, limit=100)]
    return told[::-1]


def steps(sdk: Any, id: str) -> int:
    """The last step that was told."""
    found = [
        event.data["step"]
        for event in sdk.fine_tuning.jobs.list_events(id, limit=20).data
        if event.type == "metrics"
    ]
    return max(found, default=0)
