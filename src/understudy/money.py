"""Money in integer micro-dollars: prices, the worst case of a call, and the quote for many.

One US dollar for a million tokens is one micro-dollar for one token, so a price per million tokens
in dollars is a price per token in micro-dollars. Every cost is rounded up: the ledger never says
less than the bill.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from understudy.errors import UsageError

MICRO = 1_000_000
# Made up, so that practice has a ledger worth reading; nobody is ever billed.
PRACTICE_USD_IN, PRACTICE_USD_OUT = Decimal("0.50"), Decimal("2.00")
# Two-sided 90 % quantiles of Student's t by degrees of freedom; above 10, the normal one is near.
_T90 = {1: 6.31, 2: 2.92, 3: 2.35, 4: 2.13, 5: 2.02, 6: 1.94, 7: 1.89, 8: 1.86, 9: 1.83, 10: 1.81}


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens, and who says so."""

    usd_in: Decimal
    usd_out: Decimal
    source: str

    def cost_micro(self, input_tokens: int, output_tokens: int) -> int:
        """Cost of one call in micro-dollars, rounded up."""
        exact = self.usd_in * input_tokens + self.usd_out * output_tokens
        return int(exact.to_integral_value(ROUND_CEILING))

    def worst_micro(self, input_bytes: int, max_tokens: int) -> int:
        """The most that one call can cost: no tokenizer makes more tokens than there are bytes."""
        return self.cost_micro(input_bytes, max_tokens)


FREE = Price(Decimal(0), Decimal(0), "runs on your machine")
PRACTICE = Price(PRACTICE_USD_IN, PRACTICE_USD_OUT, "made up for practice; nobody is billed")


def price_of(provider: str, model: str, usd_in: float | None, usd_out: float | None) -> Price:
    """Price of ``model`` at ``provider``: the user's own, else the genai-prices table.

    Raises UsageError if only one of the two prices is given, or none is known.
    """
    if usd_in is not None and usd_out is not None:
        return Price(Decimal(str(usd_in)), Decimal(str(usd_out)), "given by you")
    if usd_in is not None or usd_out is not None:
        raise UsageError(
            "only one of the two prices is given", "Give both --price-in and --price-out"
        )
    from genai_prices import Usage, calc_price

    # A thousand tokens each way stays in the lowest of the tiers that depend on prompt length.
    usage = Usage(input_tokens=1000, output_tokens=1000)
    try:
        found = calc_price(usage, model_ref=model, provider_id=provider)
    except (LookupError, ValueError):
        raise UsageError(
            f"no price is known for {model} at {provider}",
            "Give --price-in and --price-out in US dollars per million tokens "
            "(0 and 0 for a model that costs you nothing)",
        ) from None
    return Price(found.input_price * 1000, found.output_price * 1000, "genai-prices table")


@dataclass(frozen=True, slots=True)
class Quote:
    """What the rest will cost and take: a range of about 90 %, from the pilot's own calls."""

    examples: int
    low_micro: int
    high_micro: int
    low_s: float
    high_s: float
    made_up: bool = False

    def __str__(self) -> str:
        made_up = " (made-up prices)" if self.made_up else ""
        return (
            f"{self.examples:,} examples: {usd_range(self.low_micro, self.high_micro)}{made_up}, "
            f"{_range(duration(self.low_s), duration(self.high_s))}"
        )


def quote(
    examples: int,
    input_costs: Sequence[int],
    inputs_made: int,
    answer_costs: Sequence[int],
    latencies_s: Sequence[float],
    *,
    concurrency: int,
    made_up: bool,
) -> Quote:
    """Extrapolate from the pilot's calls.

    ``input_costs`` and ``answer_costs`` are micro-dollars a call; ``inputs_made`` is the number of
    inputs that the former gave. One answer is bought for each example, and duplicates among the
    inputs make up to a quarter more input calls.
    """
    answers = statistics.fmean(answer_costs)
    spread = 0.0
    if len(answer_costs) > 1:
        t = _T90.get(len(answer_costs) - 1, 1.7)
        spread = t * statistics.stdev(answer_costs) / math.sqrt(len(answer_costs))
    an_input = sum(input_costs) / max(inputs_made, 1)
    seconds = statistics.fmean(latencies_s) * (1 + 1 / max(inputs_made, 1)) / concurrency
    return Quote(
        examples=examples,
        low_micro=math.floor(examples * max(answers - spread + an_input, 0)),
        high_micro=math.ceil(examples * (answers + spread + an_input * 1.25)),
        low_s=examples * seconds * 0.8,
        high_s=examples * seconds * 3,
        made_up=made_up,
    )


def usd(micro: int) -> str:
    """Dollars for people: two digits, more where two would hide the figure."""
    dollars = micro / MICRO
    if micro == 0 or abs(dollars) >= 0.1:
        return f"${dollars:,.2f}"
    return f"${dollars:.4f}" if abs(dollars) >= 0.0001 else f"${dollars:.6f}"


def usd_range(low: int, high: int) -> str:
    """A range of dollars."""
    return _range(usd(low), usd(high))


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def to_micro(dollars: float) -> int:
    """Dollars as micro-dollars, rounded down: a budget is never more than was said."""
    return int(Decimal(str(dollars)) * MICRO)


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 1:
        return "under 1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
