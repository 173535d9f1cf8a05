"""Which columns hold the prompt, the answer and the system message.

Names given by the user come first. Without them: a column of turns (``messages``,
``conversations``) if there is one; else the usual names below, whatever their case. A name of the
first rank wins over those of the second; two of the same rank are not chosen between: the user is
asked. ``instruction`` with ``input`` (Alpaca) or ``context`` (Dolly) are one prompt, joined by a
line break. With exactly two columns besides the system message, knowing one is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from understudy.errors import UsageError

TURNS = ("messages", "conversations", "conversation")
PROMPT = ("prompt",)
PROMPT_SECOND = (
    "instruction",
    "input",
    "context",
    "question",
    "text",
    "query",
    "message",
    "user",
    "request",
    "sentence",
    "utterance",
    "problem",
    "content",
)
RESPONSE = ("response", "completion")
RESPONSE_SECOND = (
    "output",
    "answer",
    "label",
    "target",
    "assistant",
    "category",
    "class",
    "intent",
    "reply",
    "solution",
    "expected",
)
SYSTEM = ("system", "system_message", "system_prompt")
MORE = ("input", "context")

NAME_THEM = "Name them: --prompt COL --response COL"


@dataclass(frozen=True, slots=True)
class Named:
    """What the user said: a format, and names of columns; "" where nothing was said."""

    format: str = ""
    prompt: str = ""
    response: str = ""
    system: str = ""
    nested: bool = True
    """False for CSV and TSV, whose cells hold text and no turns."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns to read, "" where there is none: either ``turns``, or prompt and response."""

    turns: str = ""
    prompt: str = ""
    more: str = ""
    history: str = ""
    response: str = ""
    system: str = ""

    def columns(self) -> list[str]:
        """The columns that are needed, once each."""
        names = (self.turns, self.prompt, self.more, self.history, self.response, self.system)
        return list(dict.fromkeys(name for name in names if name))


def find_layout(columns: Sequence[str], named: Named) -> Layout:
    """Choose among ``columns``.

    Raises UsageError, which lists them, if a named one does not exist, if none or several would
    do, or if the one chosen is there twice.
    """
    system = _named(columns, named.system) or _first(columns, SYSTEM)
    turns = _turns(columns, named)
    layout = (
        Layout(turns=turns, system=system)
        if turns
        else _prompt_and_response(columns, named, system)
    )
    for name in layout.columns():
        if columns.count(name) > 1:
            raise UsageError(f"column {_show(name)} is there twice", "Rename one of the two")
    return layout


def _turns(columns: Sequence[str], named: Named) -> str:
    if named.prompt or named.response or not named.nested or named.format in ("prompt", "alpaca"):
        return ""
    found = _first(columns, TURNS)
    if not found and named.format in ("chat", "sharegpt"):
        wanted = "messages" if named.format == "chat" else "conversations"
        raise UsageError(f"no column {wanted!r}; there are: {_list(columns)}", NAME_THEM)
    return found


def _prompt_and_response(columns: Sequence[str], named: Named, system: str) -> Layout:
    prompt, more = _named(columns, named.prompt), ""
    response = _named(columns, named.response)
    rest = [name for name in columns if name not in (prompt, response, system)]
    if not prompt:
        prompt, more = _usual_prompt(rest)
    if not response:
        response = _usual(rest, "response", RESPONSE, RESPONSE_SECOND)
    both = [name for name in columns if name != system]
    if len(both) == 2 and bool(prompt) != bool(response):
        other = both[both[0] == (prompt or response)]
        prompt, response = prompt or other, response or other
    if not (prompt and response):
        missing = "response" if prompt else "prompt"
        raise UsageError(f"no known column for the {missing} among: {_list(columns)}", NAME_THEM)
    alpaca = not named.prompt and prompt.strip().lower() == "instruction"
    history = _first(columns, ("history",)) if alpaca else ""
    return Layout(prompt=prompt, more=more, history=history, response=response, system=system)


def _usual_prompt(columns: Sequence[str]) -> tuple[str, str]:
    """The prompt's column, and the one that continues it (Alpaca, Dolly) or ""."""
    second = _present(columns, PROMPT_SECOND)
    if len(second) == 2 and not _present(columns, PROMPT):
        first, more = (name.strip().lower() for name in second)
        if first == "instruction" and more in MORE:
            return second[0], second[1]
    return _usual(columns, "prompt", PROMPT, PROMPT_SECOND), ""


def _usual(columns: Sequence[str], part: str, best: Sequence[str], second: Sequence[str]) -> str:
    found = _present(columns, best) or _present(columns, second)
    if len(found) > 1:
        raise UsageError(f"several columns could be the {part}: {_list(found)}", NAME_THEM)
    return found[0] if found else ""


def _first(columns: Sequence[str], names: Sequence[str]) -> str:
    return next(iter(_present(columns, names)), "")


def _present(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """The columns that have one of these names, in the order of the names."""
    known = {column.strip().lower(): column for column in reversed(columns)}
    return [known[name] for name in names if name in known]


def _named(columns: Sequence[str], name: str) -> str:
    """The column that the user named: to the letter, or else whatever its case."""
    if not name or name in columns:
        return name
    found = _first(columns, (name.strip().lower(),))
    if not found:
        raise UsageError(f"no column {_show(name)}; there are: {_list(columns)}", NAME_THEM)
    return found


def _list(columns: Sequence[str]) -> str:
    shown = ", ".join(_show(column) for column in columns[:20])
    return shown + (f" and {len(columns) - 20} more" if len(columns) > 20 else "")


def _show(column: str) -> str:
    return repr(column if len(column) <= 40 else column[:40] + "…")
