"""What a host means by saying no, in the words that a call's refusal has (models/refusal.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from understudy.errors import ProviderRefused
from understudy.models.address import Address
from understudy.models.protocol import CallFailed
from understudy.models.refusal import explain, refusal
from understudy.train.hosted import Gone, closed

About = Literal["", "tuning", "job", "file"]
"""What was asked for: nothing by its id, fine-tuning as such, a job, a file."""


def said_no(
    address: Address, status: int, headers: Mapping[str, str], raw: bytes, about: About = ""
) -> CallFailed | ProviderRefused:
    """The error that an HTTP status other than 2xx stands for."""
    said = explain(raw)
    message = said.message or f"HTTP {status}"
    if about == "tuning" and (said.code == "model_not_found" or said.parameter == "model"):
        return closed(address, f"the host does not train {address.model}: {message}")
    of_file = about == "tuning" and _names_a_file(message, said.parameter)
    if of_file and status in (400, 404, 422):
        return Gone(f"{address.base_url} knows the file no more: {message}")
    if about == "tuning" and status in (404, 405, 501):
        return closed(address, f"{address.base_url} offers no fine-tuning ({message})")
    if status == 403 and about in ("tuning", "job"):
        return closed(address, f"the host does not fine-tune with this key: {message}")
    if status in (404, 410) and about in ("job", "file"):
        return Gone(f"{address.base_url} knows no such {about}: {message}")
    return refusal(address, status, headers, raw)


def _names_a_file(message: str, parameter: str) -> bool:
    low = message.lower()
    lost = "not exist" in low or "not found" in low or "no such file" in low or "deleted" in low
    return lost and (parameter.endswith("_file") or "file" in low)
