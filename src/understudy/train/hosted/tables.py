"""What is known of hosts, as data, each with the day and the page where it was read.

Prices and dates change: the host's own pages count, not this one. A price that is not in here is
not guessed: ``--train-price`` gives it.
"""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from understudy.models.address import Address
from understudy.models.providers import PROVIDERS, Tuning

CHECKED_ON = "2026-11-29"
WAYS_OUT = (
    "Ways out: train here (--student hf:Qwen/Qwen3-0.6B, or tiny), at a host that is open "
    "(--student nebius:MODEL), or on a machine of yours that runs `understudy serve` "
    "(--student http://HOST/v1#NAME)"
)
_OPENAI = "https://developers.openai.com/api/docs/deprecations"


class Closing(NamedTuple):
    """A host that ends its fine-tuning."""

    on: str
    """The day from which nobody can train there, ``YYYY-MM-DD``; empty: it is over."""
    told: str
    source: str


CLOSINGS = {
    "openai": Closing(
        "2027-01-06",
        "OpenAI ends self-serve fine-tuning: closed since 7 May 2026 to organisations that never "
        "fine-tuned, since 2 July 2026 to those without a fine-tuned model in use, and to all on "
        "6 January 2027",
        _OPENAI,
    ),
    "mistral": Closing(
        "",
        "Mistral's fine-tuning API is deprecated and no longer supported",
        "https://docs.mistral.ai/resources/deprecated",
    ),
}


class Retirement(NamedTuple):
    """Models that a provider switches off; their fine-tuned versions go with them."""

    provider: str
    pattern: str
    """Of the whole name."""
    on: str
    """``YYYY-MM-DD``"""
    source: str = _OPENAI


RETIREMENTS = (
    Retirement("openai", r"gpt-3\.5-turbo.*", "2026-10-23"),
    Retirement("openai", r"gpt-4(-turbo.*|-\d{4}.*)?", "2026-10-23"),
    Retirement("openai", r"gpt-4\.1-nano.*", "2026-10-23"),
    Retirement("openai", r"o4-mini.*", "2026-10-23"),
    Retirement("openai", r"gpt-4o(-mini)?(-2024-(07-18|08-06|11-20))?", "2027-01-14"),
    Retirement("openai", r"gpt-4\.1(-mini)?(-2025-04-14)?", "2027-01-14"),
)


class TrainingPrice(NamedTuple):
    """US dollars for a million tokens of training, epochs counted."""

    usd: Decimal
    source: str
    """Who says so, and when it was read."""


class _Priced(NamedTuple):
    provider: str
    pattern: str
    usd: str
    source: str


_TOKENMIX = f"tokenmix.ai/blog/openai-fine-tuning-pricing, read {CHECKED_ON}"
_PRICES = (
    _Priced("openai", r"gpt-4o-mini(-2024-07-18)?", "3", _TOKENMIX),
    _Priced("openai", r"gpt-4o(-2024-08-06)?", "25", _TOKENMIX),
)


class _Sized(NamedTuple):
    steps: tuple[tuple[float, str], ...]
    """Billions of parameters up to which, and the price."""
    source: str


_SIZED = {
    "fireworks": _Sized(
        ((16.0, "0.50"), (80.0, "3.00")),
        f"fireworks.ai/pricing, adapters by size of the model, read {CHECKED_ON}",
    ),
}
_BILLIONS = re.compile(r"(?<![\d.p])(\d+(?:[.p]\d+)?)b(?![a-z0-9])", re.IGNORECASE)


class HostFacts(NamedTuple):
    """What becomes of a model at a host once it is trained."""

    deploy: str
    """What must be done before it answers; empty: nothing."""
    weights: str
    """Whether the weights can be had."""


_NO_WEIGHTS = "the host keeps the weights and hands out none"
FACTS = {
    "openai": HostFacts("", _NO_WEIGHTS),
    "azure": HostFacts(
        "deploy it first, under its own name: Foundry portal, Deployments, or "
        "`az cognitiveservices account deployment create`; a deployment is billed by the hour",
        _NO_WEIGHTS,
    ),
    "nebius": HostFacts(
        "deploy it in the Token Factory first, under its own name",
        "the host offers the checkpoints' files for download",
    ),
    "together": HostFacts(
        "start a dedicated endpoint for it first; that is billed by the minute",
        "the host offers the weights for download: `together fine-tuning download JOB`",
    ),
    "fireworks": HostFacts(
        "deploy it first: `firectl deployment create MODEL`; that is billed by GPU time",
        "the host offers the adapter's files for download: `firectl model download`",
    ),
}


def provider(address: Address) -> str:
    """The provider whose own address it is; empty for a server that only speaks its protocol."""
    row = PROVIDERS.get(address.provider)
    if row is not None and row.base_url in ("", address.base_url):
        return address.provider
    for name, one in PROVIDERS.items():
        if one.base_url == address.base_url and not one.local:  # a port of one's own is anybody's
            return name
    return ""


def protocol_of(address: Address) -> Tuning:
    """The fine-tuning protocol that is spoken at an address; empty: none is known."""
    row = PROVIDERS.get(provider(address)) or PROVIDERS.get(address.provider)
    return "openai" if row is None else row.tuning


def facts(address: Address) -> HostFacts:
    """What becomes of a model there."""
    return FACTS.get(provider(address), HostFacts("", "the host keeps the weights"))


def price(address: Address, given: float | None) -> TrainingPrice | None:
    """The training price at an address: the user's own, else the table's; None: not known."""
    if given is not None:
        return TrainingPrice(Decimal(str(given)), "given by you")
    name = provider(address)
    for row in _PRICES:
        if row.provider == name and re.fullmatch(row.pattern, address.model):
            return TrainingPrice(Decimal(row.usd), row.source)
    found = _BILLIONS.search(address.model)
    if name not in _SIZED or found is None:
        return None
    billions = float(found[1].lower().replace("p", "."))
    sized = _SIZED[name]
    dollars = next((usd for most, usd in sized.steps if billions <= most), None)
    return None if dollars is None else TrainingPrice(Decimal(dollars), sized.source)


def over(address: Address, today: date) -> str:
    """Why nothing can be trained there any more, by the tables; empty: nothing is known against it.

    Asked before anything is sent.
    """
    if off := switched_off(address, today):
        return off
    closing = CLOSINGS.get(provider(address))
    if closing is not None and (not closing.on or date.fromisoformat(closing.on) <= today):
        return f"{closing.told} ({closing.source})"
    return ""


def soon(address: Address) -> str:
    """What ends there, to be told before it is paid for; empty: nothing that is known."""
    gone, closing = retirement(address), CLOSINGS.get(provider(address))
    parts = [f"{closing.told} ({closing.source})"] if closing is not None else []
    if gone is not None:
        parts.append(f"{address.model} and its fine-tuned models end on {_day(gone.on)}")
    return "; ".join(parts)


def retirement(address: Address) -> Retirement | None:
    """When the model, or the one that it was tuned from, is switched off, if that is known."""
    name = provider(address)
    base = address.model.removeprefix("ft:").partition(":")[0]  # ft:BASE:ORGANISATION:NAME:ID
    for row in RETIREMENTS:
        if row.provider == name and re.fullmatch(row.pattern, base):
            return row
    return None


def switched_off(address: Address, today: date) -> str:
    """Since when the model answers nobody any more; empty: nothing is known of that."""
    gone = retirement(address)
    if gone is None or date.fromisoformat(gone.on) > today:
        return ""
    return f"it was switched off on {_day(gone.on)} ({gone.source})"


def _day(text: str) -> str:
    """``23 October 2026``."""
    day = date.fromisoformat(text)
    return f"{day.day} {day:%B %Y}"
