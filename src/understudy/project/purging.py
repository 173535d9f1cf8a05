"""Erasing what one teacher wrote, for example because its terms turn out to forbid the use."""

from __future__ import annotations

import shutil

from understudy.errors import UsageError
from understudy.project.examples import clean
from understudy.project.folder import DATABASE
from understudy.project.workplace import Workplace
from understudy.store import examples, runs
from understudy.store import purge as erasing


def purge(place: Workplace, teacher: str) -> int:
    """Erase every example by ``teacher`` and its stored replies; how many examples that were.

    Examples that were set apart only because they repeat one of those are looked at again. Raises
    UsageError if no example is by that teacher.
    """
    with place.database.write() as connection:
        erased = erasing.purge(connection, teacher)
        makers = [] if erased else erasing.makers(connection)
        tainted = runs.datasets_with(connection, examples.PURGED)
    if not erased:
        there = f"There are examples by: {', '.join(makers)}" if makers else "There are none at all"
        raise UsageError(f"no example is by {teacher}", there)
    for number in tainted:
        shutil.rmtree(place.folder / "datasets" / str(number), ignore_errors=True)
    for copy in place.folder.glob(f"{DATABASE}.format*"):  # made before a migration
        copy.unlink()
    place.say("purge.done", teacher=teacher, examples=erased, datasets=tainted)
    clean(place)
    return erased
