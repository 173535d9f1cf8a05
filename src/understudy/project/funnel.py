"""The funnel: from calls asked to examples accepted, with a reason for every loss.

    calls for inputs -> inputs received -> different inputs -> inputs sent -> examples -> accepted

Everything is counted from the rows of the ledger and of the examples, never from what a verb said
while it ran: it is exact after a crash and over many runs. What goes into a step is what came out
of the one before and what joined it there; what comes out is that less the losses.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import Connection, func, select

from understudy.generate.coverage import OTHER, Coverage, thin
from understudy.money import MICRO
from understudy.project import asked
from understudy.project.counting import Counted, LeftOut
from understudy.project.losses import Step
from understudy.project.standing import standing
from understudy.project.views import coverage
from understudy.project.workplace import Workplace
from understudy.store import account, calls, tasks, traces
from understudy.store.schema import call

THINNEST = 5
"""Values told of those that are thinnest covered."""


@dataclass(frozen=True, slots=True)
class Hundred:
    """What each hundred inputs of the newest run brought; shares are 0 to 1."""

    number: int
    repeats: float
    near: float | None
    """None, as ``novelty`` is, where only repeats were looked for."""
    novelty: float | None


@dataclass(frozen=True, slots=True)
class Quoted:
    """A quote against what was spent; micro-dollars."""

    wanted: int
    """Examples in all."""
    made: int
    """Those that were there: it was for the others."""
    low_micro: int
    high_micro: int
    spent_micro: int
    unknown_micro: int
    """Of what was spent: the worst case of calls of unknown outcome."""
    finished: bool
    """False while there are fewer examples than it was for: it was spent so far."""


@dataclass(frozen=True, slots=True)
class Funnel:
    """The report."""

    description: str
    task_version: int
    versions: tuple[int, ...]
    """Those counted: what is learnt under them is the same."""
    steps: tuple[Step, ...]
    own: int
    """Accepted examples of the user's own; they are in no step."""
    spent: tuple[tuple[str, int, int], ...]
    """Purpose, times sent, micro-dollars: everything that the project ever spent."""
    unknown: tuple[int, int]
    """Calls of unknown outcome, and their worst case in micro-dollars, which counts as spent."""
    quote: Quoted | None
    agreement: float | None
    """Mean share of the answers to one input that agreed, where several were asked."""
    hundreds: tuple[Hundred, ...]
    coverage: Coverage | None
    """None without a plan."""
    others: LeftOut
    """Of versions of the task under which something else is learnt."""
    purged: LeftOut
    """Erased by `understudy purge`."""

    @property
    def accepted(self) -> int:
        """Generated examples that were accepted."""
        return self.steps[-1].count

    @property
    def per_accepted_micro(self) -> float | None:
        """Micro-dollars of inputs and answers for each accepted example; None if there is none."""
        cost = sum(step.cost_micro for step in self.steps)
        return cost / self.accepted if self.accepted else None


def funnel(place: Workplace) -> Funnel:
    """Count it all, in one snapshot of the project. Raises UsageError if nothing was described."""
    task = place.task
    with place.database.read() as connection:
        versions = place.versions(connection)
        alike = [one for one in tasks.versions(connection) if one.version in versions]
        ours = asked.ours(alike, traces.spans(connection, versions))
        wish = standing(connection, versions)
        found = Counted(still_wanted=wish is not None and wish.is_open)
        found.take_examples(traces.examples(connection, versions))
        found.take_answers(traces.calls(connection, "answer", raw=False), ours)
        found.take_inputs(traces.calls(connection, "inputs", raw=True), ours)
        totals = account.totals(connection)
        return Funnel(
            description=task.description,
            task_version=task.version,
            versions=tuple(versions),
            steps=found.steps(),
            own=found.own_accepted,
            spent=_by_purpose(totals),
            unknown=_unknown(totals),
            quote=_quoted(connection),
            agreement=found.agreement,
            hundreds=_hundreds(connection),
            coverage=coverage(place),
            others=replace(found.others, examples=traces.of_other_versions(connection, versions)),
            purged=found.purged,
        )


def _by_purpose(totals: list[dict[str, Any]]) -> tuple[tuple[str, int, int], ...]:
    purposes = dict.fromkeys(row["purpose"] for row in totals)
    return tuple(
        (
            purpose,
            sum(row["calls"] for row in totals if row["purpose"] == purpose),
            sum(row["cost_micro"] or 0 for row in totals if row["purpose"] == purpose),
        )
        for purpose in purposes
    )


def _unknown(totals: list[dict[str, Any]]) -> tuple[int, int]:
    rows = [row for row in totals if row["state"] == "unknown"]
    return sum(row["calls"] for row in rows), sum(row["cost_micro"] or 0 for row in rows)


def _quoted(connection: Connection) -> Quoted | None:
    """The newest quote; once all of it was made, what was spent by then, else what is until now."""
    quote = traces.last_quote(connection)
    if quote is None or quote.made >= quote.wanted:
        return None
    told = [
        (at, data["spent_micro"])
        for _, at, data in traces.events(connection, "quote.compared")
        if at >= quote.at
    ]
    now = ("~", calls.read_purse(connection).spent_micro - quote.spent_micro)
    until, spent = told[0] if told else now
    return Quoted(
        *(quote.wanted, quote.made, quote.low_micro, quote.high_micro, spent),
        _unknown_between(connection, quote.at, until),
        finished=bool(told),
    )


def _unknown_between(connection: Connection, start: str, end: str) -> int:
    """The worst case of what was sent in that time and whose outcome is unknown, micro-dollars."""
    query = select(func.sum(call.c.cost_micro)).where(
        call.c.state == "unknown", call.c.sent_at >= start, call.c.sent_at <= end
    )
    return connection.scalar(query) or 0


def _hundreds(connection: Connection) -> tuple[Hundred, ...]:
    """Those of the newest run that had any; it looks at the inputs on disk again."""
    newest: list[Hundred] = []
    run: list[Hundred] = []
    for kind, _, data in traces.events(connection, "generate.start", "generate.hundred"):
        if kind == "generate.start":
            run = []
            continue
        size, near = data["size"], data["near"]
        share = None if near is None else near / size
        run.append(Hundred(data["number"], data["repeats"] / size, share, data["novelty"]))
        newest = run
    return tuple(newest)


def as_json(funnel: Funnel) -> dict[str, Any]:
    """The report in its documented shape; money in US dollars."""
    per_accepted = funnel.per_accepted_micro
    covered = funnel.coverage
    return {
        "task_version": funnel.task_version,
        "versions": list(funnel.versions),
        "accepted": funnel.accepted,
        "own_accepted": funnel.own,
        "usd_per_accepted": None if per_accepted is None else round(per_accepted / MICRO, 9),
        "steps": [_step_json(step) for step in funnel.steps],
        "spent": [
            {"purpose": purpose, "sent": sent, "usd": cost / MICRO}
            for purpose, sent, cost in funnel.spent
        ],
        "unknown": {"calls": funnel.unknown[0], "usd": funnel.unknown[1] / MICRO},
        "quote": None if funnel.quote is None else _quote_json(funnel.quote),
        "agreement": funnel.agreement,
        "hundreds": [asdict(hundred) for hundred in funnel.hundreds],
        "coverage": None if covered is None else coverage_summary(covered),
        "left_out": _left_out_json(funnel.others),
        "purged": _left_out_json(funnel.purged),
    }


def _left_out_json(left: LeftOut) -> dict[str, Any]:
    return {"calls": left.calls, "usd": left.cost_micro / MICRO, "examples": left.examples}


def _step_json(step: Step) -> dict[str, Any]:
    return {
        "step": step.name,
        "unit": step.unit,
        "count": step.count,
        "joined": step.joined,
        "joined_how": step.joined_how if step.joined else "",
        "left": step.left,
        "calls": step.calls,
        "resent": step.resent,
        "usd": step.cost_micro / MICRO,
        "losses": [
            {
                "reason": loss.reason,
                "count": loss.count,
                "usd": loss.cost_micro / MICRO,
                "advice": loss.advice,
                "samples": [asdict(sample) for sample in loss.samples],
            }
            for loss in step.losses
        ],
    }


def _quote_json(quote: Quoted) -> dict[str, Any]:
    return {
        "wanted": quote.wanted,
        "made": quote.made,
        "low_usd": quote.low_micro / MICRO,
        "high_usd": quote.high_micro / MICRO,
        "spent_usd": quote.spent_micro / MICRO,
        "unknown_usd": quote.unknown_micro / MICRO,
        "finished": quote.finished,
    }


def coverage_summary(covered: Coverage) -> dict[str, Any]:
    """Values and pairs that an accepted example shows, of all; the thinnest values."""
    planned = [row for row in covered.values if row.value != OTHER]
    return {
        "values_covered": sum(row.accepted > 0 for row in planned),
        "values": len(planned),
        "pairs_covered": covered.pairs_covered[0],
        "pairs": covered.pairs_covered[1],
        "thinnest": [
            {
                "attribute": row.attribute,
                "value": row.value,
                "wanted": row.wanted,
                "accepted": row.accepted,
            }
            for row in thin(covered)[:THINNEST]
        ],
    }
