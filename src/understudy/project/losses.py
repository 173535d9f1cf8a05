"""What was lost on the way from a call to an accepted example: how many, why, and what helps."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from understudy.store.calls import DONE
from understudy.store.traces import Call

SAMPLES = 3
"""Examples shown of each loss."""
_LONGEST = 200
"""Characters of a text that is shown."""
_MOST_REASONS = 30
"""Reasons told apart in one step; rarer ones that come later are counted together."""
OTHERS = "other reasons"

PLAN_HELPS = "a plan with more attributes brings more that is new"
STORED = "answered, and not made into an example yet"
ADVICE = {
    "already in the project": "your own examples are not bought again",
    "blank": "nothing was spent on answering them",
    "breaks the spec": "look at `understudy describe`: is the rule what you want?",
    "contradicts": "make the rule exact: `understudy describe --edit`",
    "cut off": "raise --max-answer-tokens",
    "cut off while writing inputs": "ask for fewer at once: --per-call",
    "duplicate": PLAN_HELPS,
    "empty": "another teacher may answer",
    "held out": "it would give a held-out item away or move the split: improve takes others",
    "interrupted": "counted as spent; --resend-unknown sends them again",
    "malformed": "fewer fields, or a teacher that writes JSON more surely",
    "more than were asked for": "the teacher counts badly; no harm is done",
    "no majority": "the teacher is not sure of these: make the rules exact, `understudy describe`",
    "not looked at yet": "`understudy clean` decides",
    "not needed any more": "they wait, paid for; a higher number of examples takes them first",
    "not sent yet": "they wait, paid for; the same `understudy generate` sends them",
    "not the JSON asked for": "a teacher that writes JSON more surely",
    "outcome unknown": "counted as spent; --resend-unknown sends them again",
    "refusal": "say what is in scope, `understudy describe --edit`, or take another teacher",
    "refused": "nothing is owed; the same command sends them again",
    "repeats": PLAN_HELPS,
    "server failed": "counted as spent; the same command sends them again",
    "under way": "another process is at it, or died: the next command finds out",
    "unreadable": "paid for, and not sent again; `understudy doctor --teacher NAME` looks closer",
    "waits in a batch": "`understudy generate --batch` fetches it when it is ready",
    STORED: "`understudy generate` takes them from disk, for nothing",
}
"""By the reason up to its colon: what to do about it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One of those lost. Texts of strangers: whoever shows them makes them harmless."""

    input: str
    """The input, or what was asked for; shortened."""
    other: str = ""
    """The answer, or what was said instead; shortened."""
    twin: int | None = None
    """Id of the example that it repeats or contradicts."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Those that were lost for one reason."""

    reason: str
    count: int
    cost_micro: int
    """What they had cost by then in this step, micro-dollars."""
    advice: str
    """What to do about it; empty if nothing."""
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the way."""

    name: str
    unit: str
    """What is counted: calls, inputs or examples."""
    count: int
    """All that went into it."""
    joined: int
    """Those of them that did not come from the step before."""
    joined_how: str
    losses: tuple[Loss, ...]
    calls: int = 0
    """Calls made in this step, and how often one of them was sent again."""
    resent: int = 0
    cost_micro: int = 0

    @property
    def left(self) -> int:
        """What came out."""
        return self.count - sum(loss.count for loss in self.losses)


@dataclass
class _Heap:
    count: int = 0
    cost_micro: int = 0
    samples: list[Sample] = field(default_factory=list)


class Losses:
    """Counts losses by reason, and keeps the first few of each."""

    def __init__(self) -> None:
        self._heaps: dict[str, _Heap] = {}

    def add(
        self,
        reason: str,
        text: str = "",
        other: str = "",
        *,
        twin: int | None = None,
        cost_micro: int = 0,
        count: int = 1,
    ) -> None:
        """Count what was lost; ``text`` and ``other`` are kept where they are among the first."""
        if reason not in self._heaps and len(self._heaps) >= _MOST_REASONS:
            reason = OTHERS
        heap = self._heaps.setdefault(reason, _Heap())
        heap.count += count
        heap.cost_micro += cost_micro
        if text and len(heap.samples) < SAMPLES:
            heap.samples.append(Sample(short(text), short(other), twin))

    def all(self) -> tuple[Loss, ...]:
        """The losses, the commonest first."""
        ordered = sorted(self._heaps.items(), key=lambda item: (-item[1].count, item[0]))
        return tuple(
            Loss(reason, heap.count, heap.cost_micro, advice(reason), tuple(heap.samples))
            for reason, heap in ordered
        )


def advice(reason: str) -> str:
    """What to do about a loss for that reason; empty if nothing is known."""
    return ADVICE.get(reason.partition(":")[0], "")


def why_no_reply(call: Call) -> str:
    """Why a call has no answer on disk that can be read; empty if it has one.

    A reply that was not settled yet is not judged.
    """
    if call.state in DONE:
        unreadable = call.state == "settled" and call.finish is None
        return f"unreadable: {head(call.note)}" if unreadable else ""
    if call.state == "failed_unpaid":
        return f"refused: {head(call.note)}"
    if call.state == "unknown":
        return f"{_how_lost(call.note)}: {head(call.note)}"
    return {"sent": "under way", "batched": "waits in a batch"}.get(call.state, call.state)


def _how_lost(note: str) -> str:
    if note.startswith("HTTP 5"):
        return "server failed"
    return "interrupted" if note.startswith("the process ended") else "outcome unknown"


_VARYING = re.compile(r"""'[^']*'|"[^"]*"|(?<![\w$.])(?=[\w-]*\d)(?!HTTP \d)[\w-]{5,}""")
"""Names, numbers and ids, which differ from one message to the next."""


def head(note: str) -> str:
    """A message without what differs each time, so that equal failures have equal reasons."""
    return short(_VARYING.sub("…", note), 100) or "without a reason"


def short(text: str, longest: int = _LONGEST) -> str:
    """The beginning of a text, on one line."""
    flat = " ".join(text[: 4 * longest].split())
    return flat if len(flat) <= longest else f"{flat[: longest - 1]}…"
