"""How far the newest wish for examples is, read from events and quotes: also after a crash."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection

from understudy.run import Event
from understudy.store import events, traces


@dataclass(frozen=True, slots=True)
class Standing:
    """What was last asked of ``generate``, and how far it came."""

    wanted: int
    made: int
    is_open: bool
    """True while more of it is to be made: neither reached, nor ended since nothing new came."""
    command: str
    """What goes on with it; the project is not named."""
    seq: int
    """Number of the event with which it was begun, or gone on with."""


def standing(connection: Connection, versions: Collection[int]) -> Standing | None:
    """The newest wish; None if none was made for these versions of the task, or it was purged."""
    start = events.last_of(connection, "generate.start")
    if start is None or start.data["spec"] not in versions:
        return None
    if _since(start, events.last_of(connection, "purge.done")):
        return None
    progress = _since(start, events.last_of(connection, "generate.progress")) or start
    reached = _since(start, events.last_of(connection, "generate.reached"))
    exhausted = _since(start, events.last_of(connection, "generate.exhausted"))
    step: int = start.data["wanted"]
    wanted = max(step, _quoted(connection))
    return Standing(
        wanted=wanted,
        made=progress.data["made"],
        is_open=exhausted is None and (reached is None or wanted > step),
        command=_command(connection, step, wanted),
        seq=start.seq,
    )


def _since(start: Event, event: Event | None) -> Event | None:
    return event if event is not None and event.seq > start.seq else None


def _quoted(connection: Connection) -> int:
    """The whole of which the pilot, and the plain ones of ``evolve``, are steps; 0: not known."""
    quote = traces.last_quote(connection)
    reached = events.last_of(connection, "quote.compared")
    if quote is None or (reached is not None and reached.at >= quote.at):
        return 0
    return quote.wanted


def _command(connection: Connection, step: int, wanted: int) -> str:
    begun = events.last_of(connection, "generate.begun")
    if begun is None or begun.data["wanted"] != step:
        return "understudy generate --inputs FILE"  # nothing is begun where the user brings them
    if begun.data.get("held_out") and (a_round := events.last_of(connection, "improve.begun")):
        return f"understudy improve {a_round.data['examples']}"
    cell = ", ".join(f"{name}={value}" for name, value in (begun.data["cell"] or {}).items())
    only = f" --cell {shlex.quote(cell)}" if cell else ""
    fill = " --fill" if begun.data["fill"] else ""
    return f"understudy generate {wanted}{only}{fill}"
