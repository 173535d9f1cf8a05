"""What the verbs hand back: plain values."""

from __future__ import annotations

from dataclasses import dataclass, replace

from understudy.money import usd
from understudy.pages import html
from understudy.store.runs import Frozen
from understudy.task import Kind

SHOWN = 10
"""Bad rows that a notebook shows."""


@dataclass(frozen=True, slots=True)
class Generated:
    """What ``generate`` did."""

    asked: int
    """Generated examples that the project should have in all."""
    total: int
    """Generated examples that it has now."""
    made: int
    """Examples made by this command."""
    accepted: int
    """How many of those cleaning accepted."""
    calls: int
    spent_micro: int
    """Micro-dollars that this command spent."""
    seconds: float
    reasons: dict[str, int]
    """Why the others were set apart, or did not come, with counts."""
    agreement: float | None = None
    """Where several answers were asked: the mean share that agreed with the one kept, which is
    about the best that a student can reach."""

    def after(self, first: Generated) -> Generated:
        """Both together, of which ``first`` came before."""
        reasons = dict(self.reasons)
        for reason, number in first.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + number
        return replace(
            self,
            made=first.made + self.made,
            accepted=first.accepted + self.accepted,
            calls=first.calls + self.calls,
            spent_micro=first.spent_micro + self.spent_micro,
            seconds=first.seconds + self.seconds,
            reasons=reasons,
            agreement=first.agreement if self.agreement is None else self.agreement,
        )

    def _repr_html_(self) -> str:
        return html.facts(
            made=self.made,
            accepted=self.accepted,
            set_apart=self.reasons,
            in_all=f"{self.total:,} of {self.asked:,}",
            calls=self.calls,
            spent=usd(self.spent_micro),
            agreement=self.agreement,
        )


@dataclass(frozen=True, slots=True)
class Imported:
    """What ``import`` did."""

    rows: int
    """Good rows in the file."""
    added: int
    """Rows that were not in the project yet."""
    accepted: int
    bad: tuple[tuple[int, str], ...]
    """Line number and reason of each bad row."""

    def _repr_html_(self) -> str:
        bad = {f"line {number}": reason for number, reason in self.bad[:SHOWN]}
        return html.facts(
            good_rows=self.rows,
            new=self.added,
            accepted=self.accepted,
            bad_rows=len(self.bad),
            first_bad_rows=bad,
        )


@dataclass(frozen=True, slots=True)
class AdoptedFile:
    """What one adopted file holds."""

    path: str
    kind: str
    """That of most rows: chat, sharegpt, chatgpt, completions, pairs."""
    conversations: int
    examples: int
    """Learned turns that answer a user."""
    bad: tuple[tuple[int, str], ...]
    """Line number (row, in an array) and reason of each that was left out."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """What ``adopt`` did."""

    files: tuple[AdoptedFile, ...]
    description: str
    kind: Kind
    system_message: str
    """The task's: that of most conversations; empty if none is."""
    system_messages: int
    """How many different ones there are."""
    own_system: int
    """Conversations that keep a system message of their own."""
    no_system: int
    """Conversations without one: they are given the task's, if there is one."""
    secrets: dict[str, int]
    """Cut, by kind."""
    places: tuple[tuple[str, int, dict[str, int]], ...]
    """File, line and kinds of each row that held secrets."""
    personal: dict[str, int]
    """Personal data by kind, cut only with ``cut_personal``."""
    cut_personal: bool
    added: int
    """Examples that were not in the project yet."""
    accepted: int
    reasons: dict[str, int]
    """Why the others were set apart."""
    dataset: Frozen


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What ``clean`` did."""

    looked_at: int
    accepted: int
    reasons: dict[str, int]
    """Why the others were set apart, with counts."""

    def _repr_html_(self) -> str:
        return html.facts(looked_at=self.looked_at, accepted=self.accepted, set_apart=self.reasons)


@dataclass(frozen=True, slots=True)
class Exported:
    """What ``export`` wrote."""

    path: str
    files: int
    bytes: int
    rows: int = 0
    """Examples written; 0 for a model."""
    parity: int = 0
    """Held-out prompts that the exported model answered to the letter as the trained one did."""
