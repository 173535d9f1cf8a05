"""The funnel in words: what a terminal and a page both say of it."""

from __future__ import annotations

from collections.abc import Sequence

from understudy.money import usd, usd_range
from understudy.project.counting import LeftOut
from understudy.project.funnel import Funnel, Hundred, coverage_summary
from understudy.project.losses import Loss, Sample, Step

MOST_SHOWN = 8
"""Losses of one step that are shown; the rarer ones are counted together."""


def summary(funnel: Funnel) -> list[str]:
    """What is worth knowing beside the steps, a line each."""
    lines = [_cost(funnel)]
    number, worst = funnel.unknown
    if number:
        lines.append(
            f"{number:,} times nobody knows whether what was sent is paid for (no reply, or HTTP "
            f"5xx): the worst case, {usd(worst)}, counts as spent"
        )
    if funnel.quote is not None:
        quote = funnel.quote
        doubtful = (
            f"; up to {usd(quote.unknown_micro)} of that is of unknown outcome, at its worst case"
            if quote.unknown_micro
            else ""
        )
        lines.append(
            f"quoted {usd_range(quote.low_micro, quote.high_micro)} for the last "
            f"{quote.wanted - quote.made:,} of {quote.wanted:,} examples, "
            f"{'spent' if quote.finished else 'spent so far'} {usd(quote.spent_micro)}{doubtful}"
        )
    if funnel.agreement is not None:
        lines.append(
            f"of several answers to one input {funnel.agreement:.0%} agree: about the best that a "
            "student can reach"
        )
    lines += _variety(funnel)
    if funnel.own:
        lines.append(f"beside these, {funnel.own:,} accepted examples of your own")
    if funnel.others.calls or funnel.others.examples:
        lines.append(f"left out, of other versions of the task: {_left_out(funnel.others)}")
    if funnel.purged.calls or funnel.purged.examples:
        lines.append(f"left out, since it was purged: {_left_out(funnel.purged)}")
    return lines


def _left_out(left: LeftOut) -> str:
    return f"{left.calls:,} calls ({usd(left.cost_micro)}), {left.examples:,} examples"


def _cost(funnel: Funnel) -> str:
    total = sum(cost for _, _, cost in funnel.spent)
    parts = ", ".join(f"{purpose} {usd(cost)}" for purpose, _, cost in funnel.spent)
    spent = f"spent {usd(total)}" + (f" ({parts})" if parts else "")
    per = funnel.per_accepted_micro
    return f"{usd(round(per))} for each accepted example; {spent}" if per is not None else spent


def _variety(funnel: Funnel) -> list[str]:
    """Novelty along the way, and what of the plan is covered."""
    lines = []
    if funnel.hundreds:
        lines.append(_novelty(funnel.hundreds))
    if funnel.coverage is not None:
        covered = coverage_summary(funnel.coverage)
        thinnest = ", ".join(
            f"{row['attribute']}={row['value']} ({row['accepted']:,} of {row['wanted']:,})"
            for row in covered["thinnest"]
        )
        lines.append(
            f"{covered['values_covered']:,} of {covered['values']:,} values of the plan covered, "
            f"{covered['pairs_covered']:,} of {covered['pairs']:,} pairs"
            + (f"; thinnest: {thinnest}" if thinnest else "")
        )
    return lines


def _novelty(hundreds: Sequence[Hundred]) -> str:
    """How much of the inputs is new, of those hundreds that were looked at so closely."""
    last = hundreds[-1]
    repeats = f"in the last hundred {last.repeats:.0%} are repeats"
    looked_at = [one for one in hundreds if one.novelty is not None]
    if not looked_at:
        return repeats
    newest = looked_at[-1]
    of = "the last one" if newest is last else f"hundred {newest.number:,}"
    among = f", of {of} {newest.novelty:.0%}" if len(looked_at) > 1 else ""
    where = "" if newest is last else f" in hundred {newest.number:,}"
    return (
        f"of the text of the first hundred inputs {looked_at[0].novelty:.0%} is new{among}; "
        f"{repeats}{',' if where else ' and'}{where} {newest.near:.0%} nearly repeats"
    )


def how_many(step: Step, loss: Loss) -> str:
    """``12 (8 %) duplicate``; money where some was spent on them."""
    share = f"{loss.count / step.count:.0%}" if step.count else ""
    cost = f", {usd(loss.cost_micro)}" if loss.cost_micro else ""
    return f"{loss.count:,} ({share}{cost}) {loss.reason}"


def to_do(loss: Loss) -> str:
    """The advice as a sentence begins."""
    return f"{loss.advice[:1].upper()}{loss.advice[1:]}"


def beside(step: Step) -> str:
    """What else is to be said of a step."""
    parts = []
    if step.joined:
        parts.append(f"{step.joined:,} {step.joined_how}")
    if step.calls and step.unit != "calls":
        parts.append(f"{step.calls:,} calls")
    if step.resent:
        parts.append(f"{step.resent:,} sent again")
    if step.cost_micro:
        parts.append(usd(step.cost_micro))
    return ", ".join(parts)


def in_words(sample: Sample) -> str:
    """An example of a loss on one line."""
    text = sample.input
    if sample.other:
        text += f" -> {sample.other}"
    return text if sample.twin is None else f"{text} (example {sample.twin})"
