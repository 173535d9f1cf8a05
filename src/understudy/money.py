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
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal

from understudy.errors import UsageError

MICRO = 1_000_000
CLIENT_CALLS_PER_S = 1000.0
"""What one core sends and stores a second when nothing else limits; see bench/generation.py."""
INPUT_LEAST, INPUT_MOST = 0.75, 1.5
"""What an input may cost in a long run, as a share of what was measured in a few calls."""
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


TABLE = "genai-prices table"
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
    return Price(found.input_price * 1000, found.output_price * 1000, TABLE)


def batch_price(price: Price, provider: str, model: str) -> Price:
    """Price of the same calls in a batch: as genai-prices has it, else half of ``price``.

    Half is OpenAI's discount, and that of most who speak its protocol.
    Source: https://platform.openai.com/docs/guides/batch
    """
    if price.source == TABLE:
        from genai_prices import Usage, calc_price

        context, now = {"processing": "batch"}, datetime.now(UTC)
        usage = Usage(input_tokens=1000, output_tokens=1000)
        found = calc_price(usage, model_ref=model, provider_id=provider, price_context=context)
        # A model without a price for batches is given its ordinary one.
        if any(
            one.when == context and (one.constraint is None or one.constraint.active(now))
            for one in found.model.price_variants or ()
        ):
            source = f"{TABLE}, for batches"
            return Price(found.input_price * 1000, found.output_price * 1000, source)
    source = f"half of the ordinary price ({price.source})"
    return Price(price.usd_in / 2, price.usd_out / 2, source)


@dataclass(frozen=True, slots=True)
class Quote:
    """What the rest will cost and take: a range of about 90 %, from the pilot's own calls."""

    examples: int
    low_micro: int
    high_micro: int
    low_s: float
    high_s: float
    made_up: bool = False
    what: str = "examples"
    """What it is for."""
    warning: str = ""
    """What the reality check found against the spend."""

    def __str__(self) -> str:
        made_up = " (made-up prices)" if self.made_up else ""
        money = f"{usd_range(self.low_micro, self.high_micro)}{made_up}"
        time = _range(duration(self.low_s), duration(self.high_s))
        return f"{self.examples:,} {self.what}: {money}, {time}"

    def _repr_html_(self) -> str:
        from understudy.pages import html

        return html.facts(quote=str(self))


def quote(
    examples: int,
    input_micro: float,
    answer_costs: Sequence[int],
    latencies_s: Sequence[float],
    *,
    concurrency: int,
    answers: int = 1,
    input_calls: float = 0.0,
    calls_per_s: float = CLIENT_CALLS_PER_S,
    made_up: bool = False,
) -> Quote:
    """Extrapolate from the pilot's calls.

    ``input_micro`` is what one input costs, ``answer_costs`` what each answer cost, in
    micro-dollars. ``answers`` and ``input_calls`` (calls for inputs, a share of one) are bought for
    each example. Inputs may cost up to half as much again, by duplicates and by the examples that
    later questions show; or a quarter less, where the calls measured asked for few: what a reply
    wraps them in is then counted for each.
    ``calls_per_s`` is the most that rate limits and this machine let through.
    """
    answer = statistics.fmean(answer_costs)
    spread = 0.0
    if len(answer_costs) > 1:
        t = _T90.get(len(answer_costs) - 1, 1.7)
        spread = t * statistics.stdev(answer_costs) / math.sqrt(len(answer_costs))
    low = answers * (answer - spread) + INPUT_LEAST * input_micro
    high = answers * (answer + spread) + INPUT_MOST * input_micro
    calls = answers + input_calls
    latency = statistics.fmean(latencies_s)
    seconds = calls * max(latency / concurrency, 1 / calls_per_s)
    # However many are in flight, the last answer comes two calls after the first input is asked.
    first = 2 * latency if examples else 0.0
    return Quote(
        examples=examples,
        low_micro=math.floor(examples * max(low, 0)),
        high_micro=math.ceil(examples * high),
        low_s=first + examples * seconds * 0.8,
        high_s=first + examples * seconds * 3,
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
