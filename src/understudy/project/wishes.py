"""Which inputs a wish asks for: the very same until it is reached, and then on from there.

Through the plan's cells a project goes in stretches. In one stretch all calls are of one size and
show the same examples; the pilot's is the first. What comes later repeats the earlier stretches
word for word, so that what was bought is found on disk, and goes on behind them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from sqlalchemy import Connection

from understudy.example import Example
from understudy.generate import sources
from understudy.generate.inputs import Shown
from understudy.generate.plan import cells
from understudy.generate.spec import SHOWN
from understudy.project.progress import Wish
from understudy.project.workplace import Workplace
from understudy.run import Event
from understudy.store import events, examples
from understudy.task import Plan

SHOWN_MADE = 3
"""Accepted examples that the teacher is shown beside the user's own."""
STRETCH = ("per_call", "own", "made")
"""What makes a stretch: inputs a call, and ids of the examples shown."""


def batches(place: Workplace, plan: Plan | None, wish: Wish) -> Iterator[sources.Batch]:
    """Where the inputs come from."""
    if plan is None:
        return sources.of_texts(wish.texts or (), place.settings.per_call)
    begun = _begun(place, wish)
    of_plan = _of_plan(place, plan, wish, begun)
    if not wish.evolve:
        return of_plan
    fixed, size = (wish.cell or {}).items(), begun["per_call"]
    parents = [one for one in _accepted(place) if one.parent is None]
    parents = [one for one in parents if fixed <= one.cell.items()]
    whole = len(parents) // size * size
    return chain(sources.of_parents(parents[:whole], size), of_plan)


def _of_plan(
    place: Workplace, plan: Plan, wish: Wish, begun: dict[str, Any]
) -> Iterator[sources.Batch]:
    """The stretches one after the other; each takes the cells before it for seen."""
    seen = [one.cell for one in _accepted(place, begun["accepted"])] if wish.fill else []
    first, found = 0, []
    for stretch in (*begun["before"], begun):
        size = stretch["per_call"]
        drawn = cells(
            plan,
            place.settings.seed + first,
            fixed=wish.cell,
            seen=seen,
            per_call=size,
            every_pair=True,
        )
        shown = Shown(_by_id(place, stretch["own"]), _by_id(place, stretch["made"]))
        if stretch is not begun:
            drawn = iter(taken := list(islice(drawn, stretch["calls"])))
            seen = [*seen, *(cell for cell in taken for _ in range(size))]
        found.append(sources.of_cells(drawn, size, shown, first=first))
        first += stretch.get("calls", 0)
    return chain(*found)


def _begun(place: Workplace, wish: Wish) -> dict[str, Any]:
    """What questions for inputs depend on, as it was when this wish was begun.

    Until it is reached the same command asks the very same, whatever was imported or made in
    between: what was bought is found again.
    """
    hidden = wish.held_out.ids if wish.held_out else frozenset[int]()
    key = {
        "wanted": wish.wanted,
        "cell": wish.cell,
        "fill": wish.fill,
        "evolve": wish.evolve,
        "held_out": bool(hidden),
    }
    with place.database.read() as connection:
        versions = place.versions(connection)
        known = _known(connection, versions)
        newest = events.last_of(connection, "generate.begun")
        reached = events.last_of(connection, "generate.reached")
        accepted = examples.generated(connection, versions, state="accepted")
        generated = examples.generated(connection, versions, cell=wish.cell)
    is_open = newest in known and (reached is None or reached.seq < known[-1].seq)
    if is_open and all(known[-1].data.get(name, False) == key[name] for name in key):
        return dict(known[-1].data)
    stretch = {
        "per_call": sources.inputs_a_call(place.settings.per_call, wish.wanted),
        "own": _shown(place.own_examples(), hidden, SHOWN),
        "made": _shown(_accepted(place, SHOWN_MADE + len(hidden)), hidden, SHOWN_MADE),
        "generated": generated,
        "before": [],
    }
    # What fills goes by what was accepted, and so begins anew each time; what may show less too.
    anew = wish.fill or hidden
    same = [] if anew else [one.data for one in known if one.data["cell"] == wish.cell]
    if last := next((data for data in reversed(same) if not data["fill"]), None):
        stretch |= _after(last, stretch)
    data = key | {"spec": place.task.version, "accepted": accepted} | stretch
    place.say("generate.begun", **data)
    return data


def _shown(found: Sequence[Example], hidden: Collection[int], most: int) -> list[int | None]:
    """Ids of the first so many that may be shown."""
    return [one.id for one in found if one.id not in hidden][:most]


def _known(connection: Connection, versions: Collection[int]) -> list[Event]:
    """Wishes whose questions can be asked again: for these versions, of nothing that was purged."""
    purged = events.last_of(connection, "purge.done")
    return [
        event
        for event in events.of_kind(connection, "generate.begun")
        if event.data.get("spec") in versions and (purged is None or purged.seq < event.seq)
    ]


def _after(last: dict[str, Any], stretch: dict[str, Any]) -> dict[str, Any]:
    """What came before a stretch, and the number of examples when it began.

    It goes on with the last one if that asked the same way; else so many of its calls are kept as
    its examples needed.
    """
    if all(last[name] == stretch[name] for name in STRETCH):
        return {name: last[name] for name in ("before", "generated")}
    calls = -(-(stretch["generated"] - last["generated"]) // last["per_call"])
    if calls <= 0:
        return {"before": last["before"]}
    ended = {name: last[name] for name in STRETCH} | {"calls": calls}
    return {"before": [*last["before"], ended]}


def _by_id(place: Workplace, ids: list[int]) -> tuple[Example, ...]:
    with place.database.read() as connection:
        return tuple(examples.by_id(connection, ids))


def _accepted(place: Workplace, first: int | None = None) -> list[Example]:
    """The first so many (None: all) of the accepted examples that a teacher made."""
    with place.database.read() as connection:
        found = examples.stream(connection, place.versions(connection), state="accepted")
        return list(islice((one for one in found if one.origin == "generated"), first))
