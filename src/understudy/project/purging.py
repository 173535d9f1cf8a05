"""Erasing what one teacher wrote, for example because its terms turn out to forbid the use."""

from __future__ import annotations

import shutil

from understudy.errors import UsageError
from understudy.project.examples import clean
from understudy.project.folder import DATABASE
from understudy.project.here import here
from understudy.project.workplace import Workplace
from understudy.store import examples, runs
from understudy.store import purge as erasing
from understudy.store.purge import Theirs


def look(place: Workplace, teacher: str) -> Theirs:
    """What ``purge`` would erase. Raises UsageError, naming who there is, if that is nothing."""
    with place.database.read() as connection:
        found = erasing.theirs(connection, teacher) if teacher else None
        makers = erasing.makers(connection)
    if found is not None and (found.examples or found.calls):
        return found
    fix = "There are none at all"
    if makers:
        command = f"understudy purge --teacher NAME{here(place.folder)}"
        fix = f"There are examples by: {', '.join(makers)}; {command}"
    raise UsageError(f"no example is by {teacher}" if teacher else "no teacher is named", fix)


def purge(place: Workplace, teacher: str) -> int:
    """Erase every example by ``teacher`` and its stored replies; how many examples that were.

    Examples that were set apart only because they repeat one of those are looked at again. Raises
    UsageError if nothing is by that teacher.
    """
    look(place, teacher)
    with place.database.write() as connection:
        erased = erasing.purge(connection, teacher).examples
        tainted = runs.datasets_with(connection, examples.PURGED)
    for number in tainted:
        shutil.rmtree(place.folder / "datasets" / str(number), ignore_errors=True)
    for copy in place.folder.glob(f"{DATABASE}.format*"):  # made before a migration
        copy.unlink()
    place.say("purge.done", teacher=teacher, examples=erased, datasets=tainted)
    clean(place)
    return erased
