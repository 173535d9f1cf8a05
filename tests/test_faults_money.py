"""Money under fire: the budget at every instant, bills that break their limit, cut replies, other
programs that hold the database (T13-T14, T26, T31-T37, T42, T44-T46)."""

from __future__ import annotations

import ast
import asyncio
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from conftest import Done, Server, understudy_command
from rehearsal import (
    asked,
    billed_micro,
    calls,
    environment,
    examples,
    in_environment,
    ledger_database,
    made_project,
    must_agree,
    one_line,
    purse,
    serving,
    states,
    teacher,
    until,
)
from test_ledger import PRICED, ask, complete
from understudy.errors import BudgetReached, ProjectBusy, UnderstudyError
from understudy.models import endpoint
from understudy.models.protocol import CallFailed, Endpoint, Reply, Unreadable
from understudy.money import Price
from understudy.practice.faults import At
from understudy.project.paid import with_models
from understudy.run import Event
from understudy.settings import Settings
from understudy.store import account, events, spool
from understudy.store import calls as ledger_rows
from understudy.store.database import Database
from understudy.store.ledger import Ledger
from understudy.store.spool import spool_file

Cli = Callable[..., Done]
PACKAGE = Path(__file__).parent.parent / "src" / "understudy"


# -- the budget --------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [300, 1000, 20_000])
def test_the_budget_holds_at_every_instant(budget: int, tmp_path: Path) -> None:
    """T31, I3: 64 calls at once; whenever one looks, budget >= spent and held >= the bill."""
    seen: list[tuple[float, int]] = []
    ended = threading.Event()

    def watch(provider: Server) -> None:
        watching = Database(tmp_path / "ledger.db")
        while not ended.is_set():
            billed = billed_micro(provider)  # first the bill: what the ledger says comes later
            with watching.read() as connection:
                now_in = ledger_rows.read_purse(connection)
            seen.append((billed, now_in.spent_micro + now_in.held_micro))
        watching.close()

    with (
        ledger_database(tmp_path / "ledger.db") as database,
        serving(tmp_path / "bill", latency=0.02) as provider,
    ):
        with database.write() as connection:
            ledger_rows.set_budget(connection, budget)
        watcher = threading.Thread(target=watch, args=(provider,))
        watcher.start()
        replies = complete(database, provider, [ask(n) for n in range(300)], at_once=64)
        ended.set()
        watcher.join()
        assert any(isinstance(one, BudgetReached) for one in replies) == (budget < 20_000)
        assert billed_micro(provider) <= budget
    assert len(seen) > 3
    assert all(int(billed) <= booked <= budget for billed, booked in seen)


def test_a_budget_that_is_reached_can_be_raised(understudy: Cli, tmp_path: Path) -> None:
    """T31: exit code 4 with the work saved; the same command with more goes on to the end."""
    with serving(tmp_path / "bill") as provider:
        project = made_project(understudy, tmp_path / "p")
        command = ("generate", "150", "-p", project, *teacher(provider, "durations"))
        env = environment(concurrency=64)
        one_line(understudy(*command, "--budget", "0.016", env=env), 4, "--budget")
        kept = examples(project)
        assert kept
        assert billed_micro(provider) <= 16_000
        done = understudy(*command, "--budget", "1", env=env)
        assert done.code == 0, done.err
        assert kept.items() <= examples(project).items()
        assert set(provider.paid().values()) == {1}
        must_agree(project, provider)


def test_a_provider_that_bills_more_than_its_limit(understudy: Cli, tmp_path: Path) -> None:
    """T33: the true cost is booked, the command stops and says why; the overshoot is at most what
    the calls brought that were sent and not yet booked: two or three for each slot."""
    at_once, budget = 4, 20_000
    with serving(tmp_path / "bill", faults=(At("usage_10x", 4, float("inf")),)) as provider:
        project = made_project(understudy, tmp_path / "p")
        command = ("generate", "100", "-p", project, *teacher(provider, "durations"), "-y")
        env = environment(concurrency=at_once, budget=budget / 1e6)
        one_line(understudy(*command, env=env), 4, "billed more than the limit")
        dearest = max(row["cost_micro"] for row in calls(project))
        assert budget < billed_micro(provider) <= purse(project).spent_micro
        assert purse(project).spent_micro <= budget + 3 * at_once * dearest
        must_agree(project, provider)
        seen = provider.requests()
        one_line(understudy(*command, env=env), 4, "more than the budget")
        assert provider.requests() == seen


def test_a_budget_lowered_from_another_shell(understudy: Cli, tmp_path: Path) -> None:
    """T35: once ``config budget`` has ended nothing new is sent; what is in flight is booked."""
    at_once = 8
    with serving(tmp_path / "bill", latency=0.1) as provider:
        project = made_project(understudy, tmp_path / "p")
        command = ("generate", "2000", "-p", project, *teacher(provider, "durations"), "-y")
        with subprocess.Popen(
            understudy_command(*command),
            stderr=subprocess.PIPE,
            text=True,
            env=in_environment(concurrency=at_once),
        ) as process:
            until(lambda: asked(provider) > 30)
            assert understudy("config", "budget", "0.000001", "-p", project).code == 0
            seen = provider.requests()
            err = process.communicate(timeout=60)[1]
        one_line(Done(process.returncode, "", err), 4, "it was lowered")
        assert provider.requests() - seen <= at_once
        assert states(project)["unknown"] == 0
        must_agree(project, provider)


def test_two_models_draw_on_one_purse(tmp_path: Path) -> None:
    """T36: the bills of two providers together stay within the one budget."""
    budget = 12_000
    settings = Settings(**PRICED)
    with (
        ledger_database(tmp_path / "ledger.db") as database,
        serving(tmp_path / "one", latency=0.01) as one,
        serving(tmp_path / "other", latency=0.02) as other,
    ):
        with database.write() as connection:
            ledger_rows.set_budget(connection, budget)

        async def work(*ledgers: Ledger) -> list[Any]:
            asks = [ledger.complete(ask(n)) for n in range(100) for ledger in ledgers]
            return await asyncio.gather(*asks, return_exceptions=True)

        models = [endpoint(server.teacher("durations"), settings) for server in (one, other)]
        replies = with_models(database, settings, models, work, lambda *_, **__: None)
        assert {type(reply) for reply in replies} <= {Reply, BudgetReached}
        assert min(billed_micro(one), billed_micro(other)) > 0
        assert billed_micro(one) + billed_micro(other) <= budget
        with database.read() as connection:
            assert account.adds_up(connection)
            assert ledger_rows.read_purse(connection).held_micro == 0


@pytest.mark.parametrize("times", [20_000, pytest.param(1_000_000, marks=pytest.mark.sweep)])
def test_many_small_costs_add_up_exactly(times: int, tmp_path: Path) -> None:
    """T37: each of 0.15 micro-dollars counts as one; no sum drifts however many there are."""
    price = Price(Decimal("0.05"), Decimal("0.1"), "test")
    cost = price.cost_micro(1, 1)
    assert cost == 1
    with ledger_database(tmp_path / "ledger.db") as database:
        for start in range(0, times, 1000):
            wanted = [
                ledger_rows.Asked(f"{n:015x}", ask(1), "m", "i", 7)
                for n in range(start, start + 1000)
            ]
            with database.write() as connection:
                sent = ledger_rows.begin(connection, wanted)
                ledger_rows.end(
                    connection, [ledger_rows.Ended(one, "settled", cost) for one in sent]
                )
        with database.read() as connection:
            assert ledger_rows.read_purse(connection) == ledger_rows.Purse(None, times, 0)
            assert account.adds_up(connection)


def test_another_model_than_asked_costs_the_dearer_price(tmp_path: Path) -> None:
    """T26: stored, told once, booked at the higher of the two prices."""
    told: list[str] = []
    settings = Settings(**PRICED)

    async def main(database: Database, provider: Server) -> list[Reply]:
        to, price = endpoint(provider.teacher("durations"), settings)
        ledger = Ledger(
            database,
            to,
            price,
            max_attempts=1,
            max_wait_s=1,
            dearer=lambda _: Price(Decimal(5), Decimal(20), "ten times"),
            say=lambda kind, **_: told.append(kind),
        )
        try:
            return [await ledger.complete(ask(n)) for n in (1, 2)]
        finally:
            await ledger.close()

    with (
        ledger_database(tmp_path / "ledger.db") as database,
        serving(tmp_path / "bill", faults=(("model_other", 1.0),)) as provider,
    ):
        first, _ = asyncio.run(main(database, provider))
        assert first.input_tokens is not None
        assert first.output_tokens is not None
        assert first.cost_micro == 5 * first.input_tokens + 20 * first.output_tokens
        assert told.count("teacher.other_model") == 1


# -- replies that are cut ----------------------------------------------------------------------


def whole_reply(tmp_path: Path) -> tuple[Endpoint, bytes]:
    """An endpoint, and the body of a whole reply of its."""

    async def main(to: Endpoint) -> bytes:
        try:
            return (await to.send(to.prepare(ask(7)))).raw
        finally:
            await to.close()

    with serving(tmp_path / "whole") as provider:
        to, _ = endpoint(provider.teacher("durations"), Settings(**PRICED))
        return to, asyncio.run(main(to))


def test_a_reply_cut_anywhere_is_never_understood(tmp_path: Path) -> None:
    """T14: at every byte; only the whole is a reply."""
    to, whole = whole_reply(tmp_path)
    assert to.read(whole).text == "PT7M"
    for cut in range(len(whole)):
        with pytest.raises(Unreadable):
            to.read(whole[:cut])


@pytest.mark.parametrize("step", [37, pytest.param(1, marks=pytest.mark.sweep)])
def test_a_cut_reply_is_paid_once_and_kept(step: int, tmp_path: Path) -> None:
    """T14: over HTTP, as if it were whole: the bytes are kept, and not bought again."""
    _, whole = whole_reply(tmp_path)
    cuts = range(0, len(whole), step)
    with ledger_database(tmp_path / "ledger.db") as database:
        for cut in cuts:
            faults = (("cut_json", 1.0),)
            with serving(tmp_path / f"{cut}", faults=faults, cut_bytes=cut) as provider:
                for _ in range(2):
                    (error,) = complete(database, provider, [ask(7)])
                    assert isinstance(error, CallFailed)
                assert provider.requests() == 1
        with sqlite3.connect(database.path) as connection:
            rows = connection.execute("SELECT length(raw), state FROM call ORDER BY 1").fetchall()
        connection.close()
    assert rows == [(cut, "settled") for cut in cuts]


# -- other programs ----------------------------------------------------------------------------


def test_somebody_holds_the_database_for_a_while(understudy: Cli, tmp_path: Path) -> None:
    """T45: two seconds of BEGIN EXCLUSIVE in the midst are waited for; nothing is lost."""
    with serving(tmp_path / "bill", latency=0.1) as provider:
        project = made_project(understudy, tmp_path / "p")
        command = ("generate", "100", "-p", project, *teacher(provider, "durations"))
        with subprocess.Popen(
            understudy_command(*command, "-q"), env=in_environment(concurrency=8)
        ) as process:
            until(lambda: asked(provider) > 20)
            outsider = sqlite3.connect(project / "understudy.db", isolation_level=None, timeout=9)
            outsider.execute("BEGIN EXCLUSIVE")
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(2)
            outsider.execute("ROLLBACK")
            outsider.close()
            assert process.wait(60) == 0
        assert len(examples(project)) == 100
        assert set(provider.paid().values()) == {1}
        assert states(project)["unknown"] == 0
        must_agree(project, provider)


def test_somebody_holds_the_database_for_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T45: then the paid replies go to the spool, and from there into the rows."""
    monkeypatch.setattr(Database._engine, "__defaults__", (200,))
    with (
        ledger_database(tmp_path / "ledger.db") as database,
        serving(tmp_path / "bill", latency=0.5) as provider,
    ):
        outsider = sqlite3.connect(database.path, isolation_level=None, check_same_thread=False)

        def hold() -> None:
            until(lambda: asked(provider) == 5)
            outsider.execute("BEGIN EXCLUSIVE")

        holder = threading.Thread(target=hold)
        holder.start()
        replies = complete(database, provider, [ask(n) for n in range(1, 6)])
        holder.join()
        outsider.execute("ROLLBACK")
        outsider.close()
        assert {type(one) for one in replies} == {ProjectBusy}
        waiting = spool.load(spool_file(database.path))
        assert len(waiting) == 5
        with database.write() as connection:
            for one in waiting:
                ledger_rows.receive(connection, [one])
            assert ledger_rows.recover(connection) == 0
        again = complete(database, provider, [ask(n) for n in range(1, 6)])
        assert [one.text for one in again] == [f"PT{n}M" for n in range(1, 6)]
        assert provider.requests() == 5
        with database.read() as connection:
            assert account.adds_up(connection)


def test_somebody_else_writes_all_the_time(tmp_path: Path) -> None:
    """T44: another process's writes and the ledger's take turns; none is lost or refused."""
    with (
        ledger_database(tmp_path / "ledger.db") as database,
        serving(tmp_path / "bill") as provider,
    ):
        other = Database(database.path)

        def review() -> None:
            for number in range(300):
                with other.write() as connection:
                    events.add(connection, Event("review", {"n": number}))

        reviewer = threading.Thread(target=review)
        reviewer.start()
        replies = complete(database, provider, [ask(n) for n in range(1, 301)], at_once=32)
        reviewer.join()
        other.close()
        assert all(isinstance(one, Reply) for one in replies)
        with database.read() as connection:
            found = [one.data["n"] for one in events.after(connection, 0, limit=1000)]
            assert account.adds_up(connection)
    assert found == list(range(300))


# -- the source itself -------------------------------------------------------------------------


def code_of(*rooms: str) -> list[tuple[Path, ast.AST]]:
    """Every node of every module in those rooms."""
    paths = [path for room in rooms for path in sorted((PACKAGE / room).rglob("*.py"))]
    return [(path, node) for path in paths for node in ast.walk(ast.parse(path.read_text()))]


def test_transactions_are_begun_in_one_place_only() -> None:
    """T46: nobody but store/database.py opens a connection, and there writers begin IMMEDIATE."""
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path, node in code_of("store", "project", "cli")
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] in ("create_engine", "connect", "begin")
        and ast.unparse(node.func) != "calls.begin"
    }
    assert found == {"store/database.py"}
    begun = [
        node.value
        for path, node in code_of("store")
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith("BEGIN")
    ]
    assert set(begun) == {"BEGIN", "BEGIN IMMEDIATE"}


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    """T46: so no transaction is ever upgraded from reading to writing."""
    with ledger_database(tmp_path / "ledger.db") as database:
        with pytest.raises(UnderstudyError), database.read() as connection:
            ledger_rows.set_budget(connection, 1)
        with database.read() as connection:
            assert ledger_rows.read_purse(connection).budget_micro is None


def test_no_wait_is_measured_on_the_clock_on_the_wall() -> None:
    """T42: a clock that jumps moves no wait, no deadline and no order; only Retry-After dates,
    what is told to people and clients, the day on which a host ends a model and the number of a
    probe come from it."""
    allowed = {"models/limits.py", "store/database.py", "money.py", "project/probe.py"}
    allowed |= {"server/answers.py", "project/hosted_plan.py", "project/judging.py"}
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path, node in code_of("")
        if isinstance(node, ast.Call)
        and ast.unparse(node.func)
        in ("time.time", "datetime.now", "datetime.utcnow", "time.time_ns", "date.today")
    }
    assert {path for path in found if not path.startswith("practice/")} == allowed
