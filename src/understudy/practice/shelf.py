"""What the practice server keeps of batches, in memory: files, batches, and who works on them."""

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
class Shelf:
    """All of them. ``asked`` counts requests by kind, so that faults can be chosen."""

    files: dict[str, Filed] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    working: set[asyncio.Task[None]] = field(default_factory=set)

    async def close(self) -> None:
        """Stop working."""
        for task in self.working:
            task.cancel()
        await asyncio.gather(*self.working, return_exceptions=True)
