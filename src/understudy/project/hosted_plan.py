"""What a training at a host would be: rows, settings, price. Nothing is sent to find out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from understudy.errors import UsageError
from understudy.example import Split
from understudy.formats.conversations import Rules
from understudy.models.address import Address, address
from understudy.models.providers import PROVIDERS
from understudy.money import MICRO, usd, usd_range
from understudy.project.chat_files import SIDES, chat_file, measured, must_be_taken
from understudy.project.shelf import checked_splits, newest_dataset, spec_of
from understudy.project.workplace import Workplace
from understudy.run import HostedRecipe
from understudy.settings import Settings
from understudy.store.hosted import Bill
from understudy.store.runs import Frozen
from understudy.train.hosted import closed, tables
from understudy.train.hosted.recipe import Size, choose, passes

MOST_LINE_TOKENS = 65_536
"""Tokens of a row at the most: the training context of OpenAI's gpt-4o and gpt-4.1 families."""
_RULES = {
    "fireworks": Rules(min_rows=3, max_bytes=150 * 1024**2),
    "together": Rules(min_rows=1, max_bytes=5 * 1024**3),
    "openai": Rules(max_line_tokens=MOST_LINE_TOKENS),
}
"""By protocol. Fireworks: docs.fireworks.ai/fine-tuning/fine-tuning-models; read 2026-11-29."""


@dataclass(frozen=True, slots=True)
class TrainingQuote:
    """What a training at a host costs: a guess, and the most that it can be."""

    student: str
    rows: int
    passes: int
    low_micro: int
    high_micro: int
    usd: Decimal
    """A million tokens, each pass counted."""
    source: str
    made_up: bool = False

    def __str__(self) -> str:
        return (
            f"{self.student} on {self.rows:,} rows, {self.passes} passes: about "
            f"{usd(self.low_micro)}, at most {usd(self.high_micro)} "
            f"({self.rate} per million training tokens, {self.source})"
        )

    @property
    def rate(self) -> str:
        """Dollars a million tokens."""
        return f"${self.usd.normalize():f}" if self.usd else "$0"


@dataclass(frozen=True, slots=True)
class HostedPlan:
    """A training at a host that could begin."""

    frozen: Frozen
    student: str
    address: Address
    recipe: HostedRecipe
    files: dict[Split, tuple[Path, str]]
    """Where each side lies, and its SHA-256; without validation rows, train alone."""
    sizes: dict[Split, Size]
    bill: Bill | None
    """None: the price is not known."""
    notes: str
    """What ends there soon, by the tables."""

    @property
    def quote(self) -> TrainingQuote:
        """The price in words. Raises UsageError if it is not known: it is never taken for 0."""
        if self.bill is None:
            raise _no_price(self.student)
        times = passes(self.recipe)
        guessed = sum(size.guessed for size in self._billed())
        return TrainingQuote(
            self.student,
            self.sizes["train"].rows,
            times,
            int(self.bill.usd * guessed * times),
            int((self.bill.usd * self.bill.tokens).to_integral_value("ROUND_CEILING")),
            self.bill.usd,
            self.bill.source,
        )

    def _billed(self) -> list[Size]:
        return _billed(self.sizes, tables.protocol_of(self.address))


def is_hosted(student: str) -> bool:
    """True for a student that a host trains: an address, or a provider's model."""
    return "://" in student or student.partition(":")[0] in PROVIDERS


def plan(place: Workplace, overrides: Mapping[str, Any]) -> HostedPlan:
    """Write and check the files of the newest dataset, choose the settings, reckon the price.

    Raises UsageError for a wrong setting, a file that breaks the rules, or no dataset;
    ProviderRefused for an address without a key, or where fine-tuning is over.
    """
    where = host_address(place.settings)
    frozen = newest_dataset(place)
    splits, spec = checked_splits(place, frozen), spec_of(place, frozen)
    protocol = tables.protocol_of(where)
    recipe = choose(len(splits["train"]), protocol, overrides, place.settings.seed)
    files = {side: chat_file(place, frozen.id, side) for side in SIDES if splits[side]}
    rules = _RULES[protocol] if protocol else Rules()
    for side, (path, _) in files.items():
        must_be_taken(path, rules if side == "train" else rules._replace(min_rows=1))
    sizes = {side: measured(splits[side], spec.system_message) for side in files}
    price = tables.price(where, place.settings.train_price)
    tokens = passes(recipe) * sum(size.most for size in _billed(sizes, protocol))
    bill = None
    if price is not None:
        bill = Bill(tokens, price.usd, price.source, where.name, where.identity)
    notes = tables.soon(where)
    return HostedPlan(frozen, where.name, where, recipe, files, sizes, bill, notes)


def host_address(settings: Settings, student: str = "") -> Address:
    """Where the student is trained. Raises Closed where that is over, by the tables."""
    where = address(student or settings.student, offline=settings.offline)
    why = tables.over(where, date.today())  # noqa: DTZ011 (the day where the user is)
    if why:
        from understudy.train.hosted import Closed

        raise Closed(f"{where.name}: {why}", tables.WAYS_OUT)
    if not tables.protocol_of(where):
        raise closed(where, "no fine-tuning is known there")
    return where


def must_have_price(where: Address, given: float | None) -> None:
    """Raise UsageError if no training price is known there."""
    if tables.price(where, given) is None:
        raise _no_price(where.name)


def _no_price(student: str) -> UsageError:
    return UsageError(
        f"no training price is known for {student}",
        "Give --train-price, US dollars per million training tokens "
        "(0 for a host that costs you nothing)",
    )


def _billed(sizes: Mapping[Split, Size], protocol: str) -> list[Size]:
    """Sides that are billed: validation too, where the host may bill it."""
    return [size for side, size in sizes.items() if side == "train" or protocol != "openai"]


def explained(found: HostedPlan) -> list[tuple[str, str]]:
    """What is planned, in pairs of name and value, for people."""
    lines = [
        ("host", found.address.base_url),
        ("model", found.address.model),
        *((f"{side} rows", f"{size.rows:,}") for side, size in found.sizes.items()),
        *(
            (f"{side} tokens", f"about {size.guessed:,}, at most {size.most:,} (UTF-8 bytes)")
            for side, size in found.sizes.items()
        ),
    ]
    if found.bill is None:
        lines.append(("price", "not known: give --train-price"))
    else:
        quote = found.quote
        lines.append(("price", usd_range(quote.low_micro, quote.high_micro)))
        lines.append(("by", f"{quote.rate} per million training tokens, {quote.source}"))
    if found.notes:
        lines.append(("ends", found.notes))
    return lines


def as_json(found: HostedPlan) -> dict[str, Any]:
    """The same for programs; prices in US dollars."""
    quote = None if found.bill is None else found.quote
    return {
        "dataset": found.frozen.id,
        "student": found.student,
        "recipe": found.recipe.model_dump(exclude={"why", "kind"}),
        "why": list(found.recipe.why),
        "rows": {side: size.rows for side, size in found.sizes.items()},
        "tokens": {
            side: {"about": size.guessed, "at_most": size.most}
            for side, size in found.sizes.items()
        },
        "usd": quote and {"about": quote.low_micro / MICRO, "at_most": quote.high_micro / MICRO},
        "price": found.bill and {"usd": float(found.bill.usd), "source": found.bill.source},
        "ends": found.notes,
    }
