"""One training example: the messages that come in, the answer that goes out, and its story.

States: ``new`` (not looked at yet) -> ``accepted`` or ``rejected`` (with a reason, and the twin's
id if it repeats another). Nothing is ever deleted by cleaning; a rejected example stays readable.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from understudy.task import Cell

Role = Literal["system", "user", "assistant"]
Origin = Literal["generated", "imported", "written"]
State = Literal["new", "accepted", "rejected"]
Split = Literal["train", "validation", "test"]


class Message(NamedTuple):
    """One turn of a conversation."""

    role: Role
    content: str


def valid(text: str) -> str:
    """Text that UTF-8 can carry: surrogate pairs are joined, lone ones replaced (U+FFFD)."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@dataclass(frozen=True, slots=True)
class Example:
    """Messages in, answer out.

    ``messages`` ends with the user's turn. A system message stands first only where the example
    brought its own; otherwise the task's system message is put in front when it is needed.
    """

    messages: tuple[Message, ...]
    answer: str
    origin: Origin = "imported"
    state: State = "new"
    reason: str = ""
    """Why it was rejected, in a few words; empty unless rejected."""
    twin: int | None = None
    """Id of the example that this one repeats."""
    group: str = ""
    """Examples of one group stay on one side of every split; set once, when cleaned."""
    maker: str = ""
    """Who wrote the answer: a model name, or the file it was imported from."""
    source: str = ""
    """Unique key of where it came from (ledger key, or file row): importing twice adds nothing."""
    cell: Cell = field(default_factory=dict)
    task_version: int = 1
    agreement: float | None = None
    """Share of several answers to the same input that were this one; None if one was asked for."""
    parent: int | None = None
    """Id of the example that this input is a harder variant of."""
    terms: str = ""
    """What the maker's terms say of training on its answers, and when that was looked up."""
    id: int | None = None

    @property
    def input(self) -> str:
        """The last user message: what the student is asked."""
        return self.messages[-1].content
