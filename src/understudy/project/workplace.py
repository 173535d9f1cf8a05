"""What every verb works in: the folder, the store, the settings, the lock, the teacher."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection

from understudy.errors import ProviderRefused, UsageError
from understudy.example import Example, valid
from understudy.models.protocol import Model
from understudy.money import to_micro
from understudy.project.folder import LOCK, create, open_existing, write_settings
from understudy.run import Event
from understudy.settings import Settings, load
from understudy.store import account, calls, events, examples, spool, tasks
from understudy.store.lock import locked
from understudy.store.spool import spool_file
from understudy.task import Plan, Spec, Task

T = TypeVar("T")


class Workplace:
    """A project's folder, opened. ``flags`` override environment, understudy.toml and defaults.

    Raises ProjectError if ``folder`` is not a project, UsageError for a bad setting.
    """

    def __init__(self, folder: str | Path, flags: Mapping[str, Any] | None = None) -> None:
        self.folder = Path(folder)
        self._flags = {name: value for name, value in (flags or {}).items() if value is not None}
        self.configured = load(self.folder, self._flags)
        """The settings, and where each came from."""
        self.database = open_existing(self.folder)
        self._writer: int | None = None  # the thread that writes

    def close(self) -> None:
        """Let go of the database."""
        self.database.close()

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.configured.settings

    # -- one writer ------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the project's only writer for the length of the block. Raises ProjectBusy.

        The first time, what a dead process left behind is put in order, and the budget takes force;
        one that was given as a flag is kept, since it holds for all that the project ever spends.
        """
        if self._writer == threading.get_ident():
            yield
            return
        with locked(self.folder / LOCK):
            self._writer = threading.get_ident()
            try:
                self._put_in_order()
                yield
            finally:
                self._writer = None

    def _put_in_order(self) -> None:
        """After a crash: store replies that were spooled, call what was in flight unknown."""
        waiting = spool_file(self.database.path)
        budget = self.settings.budget
        if "budget" in self._flags:
            self.keep("budget")
        with self.database.write() as connection:
            for arrived in spool.load(waiting):
                calls.receive(connection, [arrived])
            lost = calls.recover(connection)
            calls.set_budget(connection, None if budget is None else to_micro(budget))
        waiting.unlink(missing_ok=True)
        if lost:
            self.say("ledger.unknown", calls=lost)

    def keep(self, *names: str) -> None:
        """Write those flags, as far as they were given, into the project's file."""
        given = {name: getattr(self.settings, name) for name in names if name in self._flags}
        write_settings(self.folder, given)

    def keep_teacher(self) -> None:
        """Write a flagged teacher that has answered, and its prices, into a file that names none.

        What the project is learning from is remembered; a later flag holds for its command alone.
        """
        if "teacher" not in self._flags or load(self.folder, {}, {}).settings.teacher:
            return
        with self.database.read() as connection:
            answered = account.has_answered(connection, self.teacher)
        if answered:
            self.keep("teacher", "price_in", "price_out")

    def say(self, kind: str, /, **data: object) -> None:
        """Append an event: what a bar, the studio, ``--json`` and a restart read."""
        with self.database.write() as connection:
            events.add(connection, Event(kind, data))

    # -- the teacher -----------------------------------------------------------------------

    @cached_property
    def teacher(self) -> str:
        """The teacher's model name. Raises ProviderRefused if none is named and no key is set."""
        if self.settings.teacher:
            return self.settings.teacher
        from understudy.models.address import CHECKED_ON, default_teacher

        name = default_teacher()
        self.say("teacher.chosen", teacher=name, table_checked_on=CHECKED_ON)
        return name

    def has_teacher(self) -> bool:
        """True if a teacher is named, or some provider's key is set."""
        try:
            return bool(self.teacher)
        except ProviderRefused:
            return False

    def paid(self, work: Callable[[Model], Coroutine[Any, Any, T]]) -> T:
        """Run asynchronous work with the teacher, through the ledger. Needs ``writing``."""
        from understudy import models
        from understudy.project.paid import with_models

        endpoint = models.endpoint(self.teacher, self.settings)  # unknown providers end here
        self.tell_terms()
        return with_models(self.database, self.settings, [endpoint], work, self.say)

    def tell_terms(self) -> None:
        """Say once in a project what a teacher's terms say of training on its answers."""
        from understudy.models.terms import terms

        with self.database.read() as connection:
            told = events.of_kind(connection, "teacher.terms")
        if all(event.data["teacher"] != self.teacher for event in told):
            self.say("teacher.terms", teacher=self.teacher, terms=str(terms(self.teacher)))

    # -- the task --------------------------------------------------------------------------

    def find_task(self) -> Task | None:
        """The newest version of the task, or None if nothing was described."""
        with self.database.read() as connection:
            return tasks.latest(connection)

    @property
    def task(self) -> Task:
        """The newest version of the task. Raises UsageError if nothing was described."""
        task = self.find_task()
        if task is None:
            raise UsageError(
                "this project has no description",
                'Say what is to be learned: understudy describe "A model that ..."',
            )
        return task

    @property
    def spec(self) -> Spec:
        """The newest spec. Raises UsageError if nobody wrote one yet."""
        spec = self.task.spec
        if spec is None:
            _ = self.teacher  # if there is none, that is what is missing
            raise UsageError("the task has no spec yet", "`understudy describe` asks the teacher")
        return spec

    def find_plan(self) -> Plan | None:
        """The newest plan under which the same is learnt as now."""
        with self.database.read() as connection:
            return tasks.latest_plan(connection, self.versions(connection))

    def store_task(self, description: str, spec: Spec | None, author: str) -> Task:
        """Store a new version of the task."""
        with self.database.write() as connection:
            task = tasks.add(connection, description, spec, author)
        self.say(
            "task.version",
            version=task.version,
            title=spec.title if spec else "",
            kind=spec.kind if spec else "",
            author=author,
        )
        return task

    def own_examples(self) -> list[Example]:
        """Accepted examples that the user brought."""
        with self.database.read() as connection:
            return list(examples.stream(connection, (), state="accepted"))

    def versions(self, connection: Connection) -> list[int]:
        """Versions of the task under which the same is learnt as under the newest."""
        task = tasks.latest(connection)
        return [] if task is None else tasks.alike(connection, task)


def new(folder: Path, description: str, flags: Mapping[str, Any]) -> None:
    """Make a project folder, its settings file holding the flags that were given."""
    description = valid(description).strip()
    given = {name: value for name, value in flags.items() if value is not None}
    load(folder, given)  # a bad setting is told before anything is made
    database = create(folder, {name: given[name] for name in given if name not in NOT_KEPT})
    if description:
        with database.write() as connection:
            tasks.add(connection, description, None, "you")
    database.close()


NOT_KEPT = {"offline", "resend_unknown"}
"""Flags that hold for one command only."""
