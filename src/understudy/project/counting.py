"""Counting the rows of generation: calls and examples become the steps of the funnel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

from understudy.project import asked
from understudy.project.asked import Ours
from understudy.project.losses import Losses, Step, short
from understudy.similar import fold
from understudy.store.examples import PURGED, reason_head
from understudy.store.traces import Call, Made


@dataclass(slots=True)
class LeftOut:
    """What is in no step, and why that is told: what was bought does not vanish."""

    calls: int = 0
    cost_micro: int = 0
    examples: int = 0


@dataclass(slots=True)
class _Kept:
    """The example of an input: what became of it, and what its answers cost."""

    id: int
    why: str  # empty: accepted
    cost_micro: int = 0
    sent: bool = False


@dataclass(slots=True)
class _Lost:
    """An input that was sent and is no example: of its calls, the one that came furthest."""

    rank: int
    why: str
    text: str
    note: str
    cost_micro: int = 0


class Counted:
    """What the rows hold. An input is known by a hash, so that memory grows by 0.3 kB for each.

    ``still_wanted`` is True while more examples are: what waits to be sent is needed then.
    """

    def __init__(self, *, still_wanted: bool = False) -> None:
        self.own_accepted = 0
        self._not_sent = "not sent yet" if still_wanted else "not needed any more"
        self.others, self.purged = LeftOut(), LeftOut()
        self._own: set[int] = set()
        self._made: dict[int, _Kept] = {}
        self._lost: dict[int, _Lost] = {}
        self._seen: set[int] = set()
        self._examples = self._accepted = self._again = 0
        self._agreements, self._agreed = 0, 0.0
        self._calls = {"inputs": [0, 0, 0], "answer": [0, 0, 0]}  # calls, sent again, cost
        self._received = 0
        self._at = {name: Losses() for name in ("calls", "received", "different", "examples")}

    @property
    def agreement(self) -> float | None:
        """Mean agreement of the examples that have one, 0 to 1."""
        return self._agreed / self._agreements if self._agreements else None

    def take_examples(self, rows: Iterable[Made]) -> None:
        """Take in the examples; before the calls, which are judged by what became of them."""
        for row in rows:
            mark = _mark(row.input)
            if not row.generated:
                self._own.add(mark)
                self.own_accepted += row.state == "accepted"
                continue
            if row.reason == PURGED:
                self.purged.examples += 1
                continue
            self._examples += 1
            if row.agreement is not None:
                self._agreements += 1
                self._agreed += row.agreement
            why = ""
            if row.state == "rejected":
                why = _rejected(row.reason)
            elif row.state == "new":
                why = "not looked at yet"
            if why:
                self._at["examples"].add(why, row.input, row.answer, twin=row.twin)
            else:
                self._accepted += 1
            if mark in self._made:
                self._again += 1
            else:
                self._made[mark] = _Kept(row.id, why)

    def take_answers(self, rows: Iterable[Call], ours: Ours) -> None:
        """Take in the calls for answers."""
        for call in rows:
            if not self._is_counted(call, ours, "answer"):
                continue
            text = asked.question_of(call)
            mark = _mark(text)
            kept = self._made.get(mark)
            if kept is not None:
                kept.sent = True
                kept.cost_micro += call.cost_micro
                continue
            rank, why = asked.how_far(call)
            lost = self._lost.setdefault(mark, _Lost(-1, "", text[:1000], ""))
            lost.cost_micro += call.cost_micro
            if rank > lost.rank:
                lost.rank, lost.why, lost.note = rank, why, call.note
        for kept in self._made.values():
            if kept.why and kept.cost_micro:
                self._at["examples"].add(kept.why, cost_micro=kept.cost_micro, count=0)

    def take_inputs(self, rows: Iterable[Call], ours: Ours) -> None:
        """Take in the calls for inputs; last, since an input is judged by whether it was sent."""
        for call in rows:
            if not self._is_counted(call, ours, "inputs"):
                continue
            written = asked.inputs_in(call)
            if isinstance(written, str):
                self._at["calls"].add(
                    written, asked.cell_of(call), call.note, cost_micro=call.cost_micro
                )
                continue
            self._received += len(written.texts)
            for number, text in enumerate(written.texts):
                self._receive(text, too_many=number >= written.wanted)

    def _receive(self, text: str, *, too_many: bool) -> None:
        received, mark = self._at["received"], _mark(text)
        if not text.strip():
            received.add("blank")
        elif too_many:
            received.add("more than were asked for", text)
        elif mark in self._seen:
            kept = self._made.get(mark)
            received.add("repeats", text, twin=kept.id if kept else None)
        else:
            self._seen.add(mark)
            if not self._was_sent(mark):
                known = mark in self._own
                why = "already in the project" if known else self._not_sent
                self._at["different"].add(why, text)

    def steps(self) -> tuple[Step, ...]:
        """The steps, from what was taken in."""
        sent = sum(kept.sent for kept in self._made.values())
        brought = sum(mark not in self._seen for mark in self._lost)
        brought += sum(kept.sent and mark not in self._seen for mark, kept in self._made.items())
        no_call = len(self._made) - sent + self._again
        lost = Losses()
        for one in self._lost.values():
            lost.add(one.why, one.text, one.note, cost_micro=one.cost_micro)
        return (
            Step(
                *("calls for inputs", "calls", self._calls["inputs"][0], 0, ""),
                self._at["calls"].all(),
                *self._calls["inputs"],
            ),
            Step("inputs received", "inputs", self._received, 0, "", self._at["received"].all()),
            Step(
                *("different inputs", "inputs", len(self._seen) + brought, brought),
                "brought by you"
                if not self.purged.calls
                else "brought by you, or purged as inputs",
                self._at["different"].all(),
            ),
            Step(
                *("inputs sent", "inputs", sent + len(self._lost), 0, ""),
                lost.all(),
                *self._calls["answer"],
            ),
            Step(
                *("examples", "examples", self._examples, no_call),
                "without a call of their own",
                self._at["examples"].all(),
            ),
            Step("accepted", "examples", self._accepted, 0, "", ()),
        )

    def _was_sent(self, mark: int) -> bool:
        kept = self._made.get(mark)
        return mark in self._lost or (kept is not None and kept.sent)

    def _is_counted(self, call: Call, ours: Ours, purpose: str) -> bool:
        """Count the call where it belongs; True if that is here."""
        if asked.is_purged(call) or not ours.has(call, purpose):
            left_out = self.purged if asked.is_purged(call) else self.others
            left_out.calls += 1
            left_out.cost_micro += call.cost_micro
            return False
        counts = self._calls[purpose]
        counts[0] += 1
        counts[1] += call.sendings - 1
        counts[2] += call.cost_micro
        return True


def _mark(text: str) -> int:
    folded = fold(text).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(folded, digest_size=8).digest(), "big")


def _rejected(reason: str) -> str:
    """The reason without what differs each time; how the spec is broken is worth knowing."""
    return short(reason, 100) if reason.startswith("breaks the spec") else reason_head(reason)
