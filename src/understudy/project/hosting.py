"""Training at a host: the plan, the question, the money, the job; and what can be done to it later.

The job is the host's: it goes on when this process ends, whatever ends it. The same command finds
it again and follows it to the end.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from understudy import models
from understudy.errors import ProjectBusy, ProviderRefused, UnderstudyError, UsageError
from understudy.models.address import Address
from understudy.models.protocol import Endpoint, Model, Reply, Request
from understudy.money import Price
from understudy.project.handing import Handing
from understudy.project.here import here
from understudy.project.hosted_plan import (
    HostedPlan,
    TrainingQuote,
    host_address,
    must_have_price,
    plan,
)
from understudy.project.paid import Interrupted
from understudy.project.paid import run as run_async
from understudy.project.settling import dropped
from understudy.project.shelf import all_runs
from understudy.project.training import How
from understudy.project.workplace import Workplace
from understudy.run import HostedRun, RunState
from understudy.settings import Settings
from understudy.store import hosted
from understudy.train.hosted import Host, tables
from understudy.train.hosted import host as host_at

T = TypeVar("T")
OPEN: tuple[RunState, ...] = ("created", "running", "paused")
KEPT = ("student", "train_price", "student_price_in", "student_price_out")
"""Flags that later verbs need too: they are written into the project's file."""
Confirm = Callable[[TrainingQuote], None]


def train(
    place: Workplace, overrides: Mapping[str, Any], *, again: bool, confirm: Confirm | None
) -> HostedRun:
    """Have the host train; one that is under way there is followed.

    ``confirm`` is given the price and raises to stop before anything is sent. Raises BudgetReached
    if the price could pass the budget, Closed if the host does not fine-tune.
    """
    planned = plan(place, overrides)
    for old in reversed(hosted_runs(place)) if not again else ():
        if _same(planned, old) and old.state == "succeeded":
            return old
        if _same(planned, old) and old.state in OPEN:
            return follow(place, old)
    quote = planned.quote
    look(place, planned)
    if confirm is not None:
        confirm(quote)
    return follow(place, _held(place, planned))


def must_make_sense(how: How, method: str | None) -> None:
    """Raise UsageError for wishes that only a training on this machine can grant."""
    asked = {
        "--method": method,
        "--trials": how.trials,
        "--launch": how.launch,
        "--report-to": how.report_to,
        "--anyway": how.anyway,
    }
    given = [name for name, value in asked.items() if value]
    if given:
        raise UsageError(
            f"{', '.join(given)}: the host trains, and it decides that", "Leave it away"
        )


def must_be_open(place: Workplace) -> None:
    """Raise before anything is bought if a host does not train, or its price is not known.

    Raises Closed, UsageError, and what a call raises.
    """
    where = host_address(place.settings)
    must_have_price(where, place.settings.train_price)
    _with_host(place, where, lambda host: host.look())


def look(place: Workplace, planned: HostedPlan) -> None:
    """Ask the host whether it fine-tunes, and say what ends there soon; nothing is spent."""

    async def ask(host: Host) -> str:
        return await host.look()

    ends = _with_host(place, planned.address, ask)
    told = planned.notes or (f"the host switches the model off on {ends}" if ends else "")
    if told:
        place.say("hosted.ends", student=planned.student, text=told)


def look_alone(settings: Settings) -> list[tuple[str, bool | None, str, str]]:
    """Without a project: whether the student's host fine-tunes, at what price, and until when.

    In rows of name, whether it is well (None: only told), what was found, what to do. Raises
    Closed, and what a call raises.
    """
    where = host_address(settings)

    async def ask(_: object) -> str:
        host = host_at(where, timeout_s=settings.timeout, max_reply=settings.max_reply)
        try:
            return await host.look()
        finally:
            await host.close()

    day = run_async(ask, lambda *_, **__: None)
    price = tables.price(where, settings.train_price)
    known = "not known" if price is None else f"${price.usd} per million tokens, {price.source}"
    rows: list[tuple[str, bool | None, str, str]] = [
        ("fine-tuning", True, f"{where.base_url} has it; for which models is not told", ""),
        ("training price", None, known, "" if price else "Give --train-price"),
    ]
    ends = tables.soon(where) or (f"the host switches the model off on {day}" if day else "")
    return [*rows, ("ends", None, ends, "")] if ends else rows


def _same(planned: HostedPlan, old: HostedRun) -> bool:
    same = (old.dataset_id, old.student) == (planned.frozen.id, planned.student)
    without = {"why"}
    return same and old.recipe.model_dump(exclude=without) == planned.recipe.model_dump(
        exclude=without
    )


def _held(place: Workplace, planned: HostedPlan) -> HostedRun:
    """The run, recorded, its worst case held against the budget."""
    assert planned.bill is not None  # noqa: S101 (the quote was made of it)
    digests = {side: digest for side, (_, digest) in planned.files.items()}
    with place.database.write() as connection:
        run = hosted.hold(
            connection,
            planned.frozen.id,
            planned.student,
            planned.recipe,
            place.folder / "runs",
            planned.bill,
            digests,
        )
    place.keep(*KEPT)
    place.say("hosted.start", run=run.id, student=run.student, price=str(planned.quote))
    return run


def follow(place: Workplace, run: HostedRun) -> HostedRun:
    """Hand the run over, if that is not done, and follow it to its end.

    Raises Interrupted when this process is stopped: the job goes on.
    """

    async def work(host: Host) -> HostedRun:
        return await Handing(place, host, run).see_through()

    try:
        return _with_host(place, _address(place, run), work)
    except Interrupted as stop:
        stop.what = f"stopped following {run.model}: what was begun goes on at the host"
        stop.fix = (
            f"The same command goes on; understudy train --cancel {run.model}{here(place.folder)} "
            "ends it there"
        )
        raise


# -- what can be done to a run ---------------------------------------------------------------


def resume(place: Workplace, name: str) -> HostedRun:
    """Have a paused job go on, and follow it; any other that is open is followed."""
    run = _open_run(place, name)
    if run.state == "paused":
        run = _act(place, run, "resume")
    return follow(place, run)


def pause(place: Workplace, name: str) -> HostedRun:
    """Have the host pause a job. Needs no lock: another process may be following it."""
    return _act(place, _open_run(place, name), "pause")


def cancel(place: Workplace, name: str) -> HostedRun:
    """Have the host cancel a job, and book it; whoever follows it in another process does that.

    Raises UsageError while another process is about to hand it over.
    """
    run = _open_run(place, name)

    async def work(host: Host) -> bool:
        handing = Handing(place, host, run)
        if await handing.find() is None:
            return False
        await handing.act("cancel")
        return True

    try:
        with place.writing():  # nobody makes the job while it is looked for
            run = _open_run(place, name)
            if not _with_host(place, _address(place, run), work):
                return dropped(place, run, "cancelled", "cancelled before the job was made")
            return follow(place, _open_run(place, name))
    except ProjectBusy:
        return _act(place, run, "cancel")
    except UnderstudyError:
        ended = _named(place, name)
        if ended.state == "cancelled":
            return ended
        raise


def _act(place: Workplace, run: HostedRun, what: str) -> HostedRun:
    async def work(host: Host) -> HostedRun:
        handing = Handing(place, host, run)
        if await handing.find() is None:
            raise UsageError(f"{run.model} is not at the host yet", "Try again once it is")
        return await handing.act(what)

    return _with_host(place, _address(place, run), work)


def hosted_runs(place: Workplace) -> list[HostedRun]:
    """Every run at a host, oldest first."""
    return [run for run in all_runs(place) if isinstance(run, HostedRun)]


def _named(place: Workplace, name: str) -> HostedRun:
    number = name.removeprefix("run:")
    runs = hosted_runs(place)
    found = runs[-1:] if number == "latest" else [run for run in runs if str(run.id) == number]
    if not found:
        known = ", ".join(run.model for run in runs) or "none"
        raise UsageError(f"{name} is no run at a host", f"There are: {known}")
    return found[0]


def _open_run(place: Workplace, name: str) -> HostedRun:
    run = _named(place, name)
    if run.state not in OPEN:
        raise UsageError(f"{run.model} is over: it {run.state}", "`understudy status` lists them")
    return run


# -- the trained model -----------------------------------------------------------------------


def endpoint(place: Workplace, name: str) -> tuple[Endpoint, Price]:
    """A hosted student or its base, ready to be asked, with its price.

    Raises UsageError if its price is not known: ``--student-price-in`` and ``-out`` give it.
    """
    try:
        return models.endpoint(name, student_settings(place.settings))
    except UsageError as error:
        if "price" not in error.what:
            raise
        fix = error.fix.replace("--price-", "--student-price-")
        raise UsageError(error.what, fix) from None


class Deployed:
    """A hosted student; where it does not answer, what has to be done there first is told."""

    def __init__(self, inner: Model, place: Workplace, run: HostedRun) -> None:
        self.name = inner.name
        self._inner = inner
        self._deploy = tables.facts(host_address_of(place.settings, run.student)).deploy

    async def complete(self, request: Request) -> Reply:
        """Answer. Raises ProviderRefused with the step that is missing."""
        try:
            return await self._inner.complete(request)
        except ProviderRefused as error:
            raise ProviderRefused(error.what, self._deploy or error.fix) from None


def student_settings(settings: Settings) -> Settings:
    """The settings with the prices of a hosted student in place of the teacher's."""
    prices = {"price_in": settings.student_price_in, "price_out": settings.student_price_out}
    return settings.model_copy(update=prices)


def no_export(place: Workplace, run: HostedRun) -> UsageError:
    """What to say to whoever wants the weights of a run at a host."""
    where = host_address_of(place.settings, run.student)
    return UsageError(
        f"{run.model} lies at the host as {run.remote}: {tables.facts(where).weights}",
        "Use it by that name, or train a student here: understudy train --student hf:ORG/NAME"
        f"{here(place.folder)}; export --examples FILE writes the data",
    )


def host_address_of(settings: Settings, student: str) -> Address:
    """Where a run was trained, also if nothing is trained there any more."""
    from understudy.models.address import address

    return address(student, offline=settings.offline)


def _address(place: Workplace, run: HostedRun) -> Address:
    return host_address_of(place.settings, run.student)


def _with_host(
    place: Workplace, where: Address, work: Callable[[Host], Coroutine[Any, Any, T]]
) -> T:
    """Run asynchronous work with a host, its connections closed afterwards."""
    settings = place.settings

    async def main(_: object) -> T:
        host = host_at(where, timeout_s=settings.timeout, max_reply=settings.max_reply)
        try:
            return await work(host)
        finally:
            await host.close()

    return run_async(main, place.say)
