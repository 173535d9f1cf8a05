"""Project: a folder, its store, and the verbs in the order of the data.

    describe, plan, pilot, generate (or import), clean, freeze, train, evaluate, export

Each verb reads what the one before it stored, and stores what it makes; each can be run alone,
again, and after a crash. This is the one place where stages meet storage and money.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from understudy.errors import UsageError
from understudy.example import valid
from understudy.generate import plan as planning
from understudy.generate import spec as specs
from understudy.generate.coverage import Coverage
from understudy.generate.plan import parse_cell
from understudy.models.function import Function, Teacher
from understudy.money import Quote
from understudy.project import (
    adopting,
    bulk,
    hosting,
    making,
    preparing,
    proving,
    purging,
    quoting,
    students,
    talk,
    training,
    views,
    workplace,
)
from understudy.project import examples as data
from understudy.project.hosted_plan import HostedPlan, is_hosted
from understudy.project.hosted_plan import plan as plan_hosted
from understudy.project.progress import Wish
from understudy.project.results import Adopted, Cleaned, Exported, Generated, Imported
from understudy.run import AnyRun, Event, HostedRun, Method
from understudy.store import events, tasks
from understudy.store.runs import Frozen
from understudy.task import Cell, Plan, Spec, Task

__all__ = ["Project"]


class Project(proving.Proving):
    """One project folder, opened. Every public method is a verb of the command line."""

    @classmethod
    def new(
        cls, folder: str | Path, description: str = "", flags: Mapping[str, Any] | None = None
    ) -> Project:
        """Make a project folder; needs no teacher and no key.

        Raises UsageError if the folder is a project already, DiskError if it cannot be made.
        """
        workplace.new(Path(folder), description, flags or {})
        return cls(folder, flags)

    # -- what is to be learned -------------------------------------------------------------

    def describe(self, description: str = "") -> Task:
        """Have the teacher write the spec. One that is there is kept, unless described anew.

        Without a teacher the description alone is stored: own examples will show the rest.

        Raises UsageError if there is no description, CallFailed if the teacher's spec is unusable.
        """
        found = self.find_task()
        description = valid(description).strip() or (found.description if found else "")
        if not description:
            raise UsageError("the description is empty", "Say what is to be learned in a sentence")
        written = found is not None and found.spec is not None and found.author != "examples"
        if found is not None and written and found.description == description:
            return found
        if not self.has_teacher():
            if found is not None and found.description == description:
                return found
            with self.writing():
                return self.store_task(description, None, "you")
        with self.writing():
            if found is None or found.description != description:
                self.store_task(description, None, "you")  # it outlives a teacher that fails
            own = self.own_examples()
            self.say("describe.start", teacher=self.teacher, description=description)
            spec = self.paid(lambda model: specs.describe(model, description, own))
            self.keep_teacher()
            return self.store_task(description, spec, self.teacher)

    def edit_spec(self, spec: Spec) -> Task:
        """Store a changed spec as a new version; what was made under the old one stays."""
        if spec == self.task.spec:
            return self.task
        with self.writing():
            return self.store_task(self.task.description, spec, "you")

    def answer(self, answers: Mapping[str, str]) -> Task:
        """Have the spec written anew by answers to its questions; without any nothing changes."""
        with self.writing():
            return talk.answer_questions(self, answers)

    def purge(self, teacher: str) -> int:
        """Erase what a teacher wrote; how many examples that were. What it cost stays booked.

        Datasets and models that were made with them stay as they are: freeze and train anew.
        """
        with self.writing():
            return purging.purge(self, teacher)

    def plan(self) -> Plan:
        """The plan of what to cover; asked of the teacher once for each version of the task."""
        self.describe()
        task, spec = self.task, self.spec
        found = self.find_plan()
        if found is not None:
            return found
        with self.writing():
            plan = self.paid(lambda model: planning.plan(model, spec))
            self.keep_teacher()
            next(planning.cells(plan, self.settings.seed))  # a plan without a cell is refused now
            with self.database.write() as connection:
                tasks.add_plan(connection, task.version, plan, self.teacher)
            self.say("plan.done", attributes=[attribute.name for attribute in plan.attributes])
            return plan

    # -- examples --------------------------------------------------------------------------

    def made(self) -> int:
        """Examples generated so far for the newest version of the task."""
        return making.made(self, Wish(0))

    def pilot(
        self,
        wanted: int | None = None,
        *,
        cell: Cell | str | None = None,
        fill: bool = False,
        inputs: Iterable[str] | None = None,
        batch: bool = False,
        check: bool | None = None,
    ) -> Quote:
        """Make a few examples end to end; quote the rest of ``wanted`` by what they cost and took.

        The pilot's examples are ordinary ones: what was paid for is used. The quote is kept, and
        compared with what was spent when all are made. ``check``: whether the quote warns of what
        ``check`` finds; None: if it is above a dollar of real money. The other arguments are those
        of ``generate``.
        """
        with self.writing():
            plan, wish = self._wish(wanted, cell, inputs, fill=fill)
            share = bulk.batch_share(self) if batch else 1.0
            return quoting.pilot(self, plan, wish, answer_share=share, check=check)

    def worst_of_pilot(self, inputs: Iterable[str]) -> int:
        """The most that the pilot's answers to own inputs can cost, in micro-dollars."""
        return quoting.worst_of_pilot(self, making.different(inputs))

    def _wish(
        self,
        wanted: int | None,
        cell: Cell | str | None,
        inputs: Iterable[str] | None,
        *,
        fill: bool,
    ) -> tuple[Plan | None, Wish]:
        """What is to be made, and the plan for it: none where the user brings the inputs."""
        if inputs is not None:
            if self.find_task() is None or self.task.spec is None:
                self.describe()
            if isinstance(inputs, str):
                raise UsageError("the inputs are one text", "Give a list of texts: inputs=[text]")
            texts = making.different(inputs)
            return None, Wish(min(wanted or len(texts), len(texts)), texts=texts)
        plan = self.plan()
        fixed = parse_cell(cell, plan) if isinstance(cell, str) else cell
        return plan, Wish(wanted or self.settings.examples, cell=fixed, fill=fill)

    def generate(
        self,
        wanted: int | None = None,
        *,
        cell: Cell | str | None = None,
        fill: bool = False,
        inputs: Iterable[str] | None = None,
        teacher: Teacher | None = None,
        batch: bool = False,
    ) -> Generated:
        """Generate until there are ``wanted`` generated examples in all, and clean the new ones.

        The same command again goes on where it stopped; what was received is never bought twice.
        ``cell`` (``"form=words, length=long"``) makes only such examples, and counts only those.
        ``fill`` takes the cells that have the fewest accepted ones, until ``wanted`` are accepted.
        ``inputs`` are the user's own, to be answered as they are (``wanted`` defaults to all of
        them). ``teacher`` is a function from input to answer that answers in the teacher's place.
        ``batch`` buys the answers in batches of the provider: about half the price, within a day.
        Raises BudgetReached, ProviderRefused, DiskError or Interrupted, with everything saved.
        """
        timeout_s = self.settings.timeout
        function = None if teacher is None else Function(teacher, timeout_s=timeout_s)
        with self.writing():
            if function is not None and inputs is not None:
                inputs = list(inputs)
                quoting.spec_of_function(self, function, inputs)
            plan, wish = self._wish(wanted, cell, inputs, fill=fill)
            return making.make(
                self, plan, wish, function, bulk.in_batches(function) if batch else None
            )

    def coverage(self, wanted: int | None = None) -> Coverage | None:
        """How the generated examples cover the plan; None if there is none yet. Asks nobody."""
        return views.coverage(self, wanted)

    def import_examples(
        self,
        path: str | Path,
        *,
        format: str | None = None,
        prompt: str | None = None,
        response: str | None = None,
        system: str | None = None,
    ) -> Imported:
        """Read own examples from a file; the same file again adds nothing. Needs no teacher.

        Raises UsageError if the file has no such columns, or none that can be guessed.
        """
        columns = {"prompt": prompt, "response": response, "system": system}
        with self.writing():
            return data.import_file(self, Path(path), format, columns)

    def adopt(
        self,
        files: Sequence[str | Path] | adopting.Survey,
        *,
        description: str = "",
        cut_personal: bool = False,
    ) -> Adopted:
        """Take over fine-tuning files, exported chats, stored completions: task, rows, dataset.

        Secrets are cut before anything is stored; ``cut_personal`` cuts e-mail addresses, phone and
        card numbers too. The same file again adds nothing. ``files`` may have been looked at
        before. Raises UsageError if the project was not made by adopting.
        """
        survey = files if isinstance(files, adopting.Survey) else adopting.look(files)
        with self.writing():
            return adopting.adopt(self, survey, description, cut_personal=cut_personal)

    def clean(self) -> Cleaned:
        """Accept or set apart, with a reason, every example that was not looked at yet."""
        with self.writing():
            return data.clean(self)

    def freeze(self) -> Frozen:
        """Split the accepted examples into train, validation and test, for good.

        Raises UsageError if there are none, or too few to split.
        """
        with self.writing():
            return data.freeze(self)

    # -- the student -----------------------------------------------------------------------

    def train(
        self,
        *,
        method: Method | None = None,
        again: bool = False,
        anyway: bool = False,
        trials: int = 0,
        launch: str | None = None,
        report_to: Sequence[str] = (),
        confirm: hosting.Confirm | None = None,
        **recipe: Any,
    ) -> AnyRun:
        """Fine-tune the student on the newest dataset: in a process of its own, or at a host.

        An unfinished run goes on from its last checkpoint; a finished one with the same settings is
        returned as it is, unless ``again``. ``method``: None chooses. ``trials``: recipes to try
        first. ``launch``: processes on this machine, ``fsdp2``, or an accelerate configuration.
        ``report_to``: trackers. ``recipe`` overrides fields of run.Recipe (run.HostedRecipe for a
        host's model). ``confirm`` is given the price of a host and raises to stop before the spend.

        Raises SetupError, before anything is downloaded, if it does not fit this machine; not with
        ``anyway``. When memory runs out all the same, it goes on smaller and says so. For a host,
        BudgetReached before anything is sent, and Closed if it does not fine-tune.
        """
        how = training.How(again, anyway, trials, launch, tuple(report_to))
        with self.writing():
            if is_hosted(self.settings.student):
                hosting.must_make_sense(how, method)
                return hosting.train(self, recipe, again=again, confirm=confirm)
            prepared = preparing.prepare(self, method=method, overrides=recipe)
            return training.train(self, prepared, how)

    def explain(
        self,
        *,
        method: Method | None = None,
        launch: str | None = None,
        report_to: Sequence[str] = (),
        **recipe: Any,
    ) -> preparing.Prepared | HostedPlan:
        """What ``train`` would do, and why: recipe, memory, disk, time; or the price of a host.

        Starts nothing.
        """
        how = training.How(launch=launch, report_to=tuple(report_to))
        with self.writing():
            if is_hosted(self.settings.student):
                hosting.must_make_sense(how, method)
                return plan_hosted(self, recipe)
            prepared = preparing.prepare(self, method=method, overrides=recipe)
        training.check(prepared, how)
        return prepared

    def cancel(self, run: str) -> HostedRun:
        """Have the host end a training (``run:7``); what it bills for the steps done is booked."""
        return hosting.cancel(self, run)

    def pause(self, run: str) -> HostedRun:
        """Have the host pause a training. Raises UsageError where the host cannot."""
        return hosting.pause(self, run)

    def resume(self, run: str) -> HostedRun:
        """Have a paused training go on at its host, and follow it to its end."""
        with self.writing():
            return hosting.resume(self, run)

    def predict(self, text: str, model: str = "run:latest") -> str:
        """The answer of a model to one input."""
        if model.startswith("run:"):
            return students.predict(self, text, model)
        with self.writing():
            return students.predict(self, text, model)

    def export(self, target: str | Path | None = None) -> Exported:
        """Write the newest trained student as a folder to hand over; prove that it is the same."""
        with self.writing():
            return students.export_model(self, Path(target) if target else self.folder / "export")

    def export_examples(
        self, path: str | Path, *, format: str | None = None, raw: bool = False
    ) -> Exported:
        """Write the accepted examples to a file, with a manifest beside it."""
        return data.export_file(self, Path(path), format, raw=raw)

    # -- what happened ---------------------------------------------------------------------

    def events(self, after: int = 0) -> list[Event]:
        """Events after that sequence number, oldest first."""
        with self.database.read() as connection:
            return events.after(connection, after)

    def last_event(self) -> int:
        """Sequence number of the newest event."""
        with self.database.read() as connection:
            return events.last(connection)
