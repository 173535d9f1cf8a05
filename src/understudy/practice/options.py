"""How the practice server behaves: its options, and how faults are told to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class At(NamedTuple):
    """A fault of the requests from ``first`` to ``last``, counted from 1, both included."""

    kind: str
    first: int
    last: float


Faults = Sequence[tuple[str, float] | At]
"""Kinds and their shares of all requests, or the requests that they hit."""


@dataclass(frozen=True, slots=True)
class Options:
    """How the server behaves."""

    key: str = ""
    """If set, requests need ``Authorization: Bearer KEY`` (or ``x-api-key: KEY``)."""
    faults: Faults = ()
    latency: float = 0.0
    """Seconds from the arrival of a request to its reply."""
    refused_parameters: tuple[str, ...] = ()
    log: Path | None = None
    """File for the provider's own account, see ``bill.py``."""
    seed: int = 0
    repeat: float = 0.0
    """Share of inputs that are one of the few favourites of their cell, see ``repeating.py``."""
    waver: float = 0.0
    """Share of answers that are drawn anew each time, see ``wavering.py``."""
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    burst_seconds: float = 1.0
    """How much of a limit may come at once, as seconds of its even flow."""
    limit_headers: bool = True
    """Whether replies tell the rate limits, and refusals for them how long to wait."""
    retry_after: str = "0.05"
    """``Retry-After`` of the fault ``429`` and its like, sent as it is; empty: not sent."""
    retry_after_ms: str = ""
    """The same of ``retry-after-ms``."""
    refusal_headers: tuple[tuple[str, str], ...] = ()
    """More headers of every refusal."""
    redirect_to: str = "http://127.0.0.1:9/v1/chat/completions"
    """``Location`` of the faults ``307`` and ``308``."""
    cut_bytes: int | None = None
    """Bytes of the body that ``cut_body`` and ``cut_json`` send; None: 40 of it, half of it."""
    drip_seconds: float = 0.1
    """Seconds between the bytes of the fault ``drip``."""
    hang_seconds: float = 30.0
    """Seconds without a byte in the fault ``slow_headers``."""
    batch_seconds: float = 1.0
    """Seconds that a batch takes, about."""
    tune_seconds: float = 2.0
    """Seconds that a fine-tuning takes, about."""
    tune_faults: Faults = ()
    """Kinds of ``tuning.TUNING_FAULTS``, counted among the requests that they can hit."""
    tune_list_seconds: float = 1.0
    """Age from which lists show a file or a job, in the fault ``list_slow``."""
    tune_shutdown: str = ""
    """Day on which its models are switched off, as its list of models says it."""
    batch_faults: Faults = ()
    """Kinds of ``batches.BATCH_FAULTS``, counted among the requests that they can hit."""
