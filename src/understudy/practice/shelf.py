"""What the practice server keeps, in memory: files, batches, fine-tunings, and who is at work."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Filed:
    """An uploaded file, or one that a batch wrote."""

    id: str
    name: str
    purpose: str
    content: bytes
    created_at: int
    since: float = 0.0
    """Seconds from the server's start to when it came."""

    def body(self) -> dict[str, Any]:
        """Its JSON, as OpenAI's reference has the file object."""
        told = {"id": self.id, "filename": self.name, "purpose": self.purpose}
        size = {"bytes": len(self.content), "created_at": self.created_at}
        return {"object": "file", "status": "processed", **told, **size}


@dataclass
class Job:
    """One batch; ``status`` as OpenAI's reference has it."""

    id: str
    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None
    created_at: int
    status: str = "validating"
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: dict[str, Any] | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    fault: str = ""

    def body(self) -> dict[str, Any]:
        """Its JSON, as OpenAI's reference has the batch object."""
        told = {name: value for name, value in vars(self).items() if name != "fault"}
        counts = {name: told.pop(name) for name in ("total", "completed", "failed")}
        return {"object": "batch", **told, "request_counts": counts}


@dataclass
class Tuning:
    """One fine-tuning; ``status`` as OpenAI's reference has it, and ``paused``."""

    id: str
    number: int
    model: str
    training_file: str
    validation_file: str | None
    epochs: Any
    batch_size: Any
    suffix: str
    about: dict[str, Any]
    """What else was said when it was made."""
    created_at: int
    since: float
    """Seconds from the server's start to when it was made."""
    fault: str = ""
    status: str = "validating_files"
    error: dict[str, Any] | None = None
    fine_tuned_model: str | None = None
    task: str = ""
    """What the resulting model answers like."""
    steps: int = 0
    done: int = 0
    tokens: int = 0
    """Of all passes over the file."""
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def trained_tokens(self) -> int | None:
        """Tokens that were trained on, once it is over."""
        if self.status not in ("succeeded", "failed", "cancelled"):
            return None
        return self.tokens * self.done // self.steps if self.steps else 0

    def body(self) -> dict[str, Any]:
        """Its JSON, as OpenAI's reference has the job object."""
        given = {"n_epochs": self.epochs, "batch_size": self.batch_size}
        chosen = {**given, "learning_rate_multiplier": "auto", **self.about["hyperparameters"]}
        over = self.status in ("succeeded", "failed", "cancelled")
        return {
            "id": self.id,
            "object": "fine_tuning.job",
            "created_at": self.created_at,
            "finished_at": self.created_at if over else None,
            "model": self.model,
            "fine_tuned_model": self.fine_tuned_model,
            "organization_id": "org-practice",
            "result_files": [],
            "status": self.status,
            "training_file": self.training_file,
            "validation_file": self.validation_file,
            "hyperparameters": chosen,
            "method": {"type": "supervised", "supervised": {"hyperparameters": chosen}},
            "trained_tokens": self.trained_tokens,
            "error": self.error or {},
            "seed": self.about.get("seed") or 0,
            "metadata": self.about.get("metadata") or {},
        }


@dataclass
class Shelf:
    """All of them. ``asked`` counts requests by kind, so that faults can be chosen."""

    files: dict[str, Filed] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    tuned: dict[str, Tuning] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    working: set[asyncio.Task[None]] = field(default_factory=set)

    async def close(self) -> None:
        """Stop working."""
        for task in self.working:
            task.cancel()
        await asyncio.gather(*self.working, return_exceptions=True)
