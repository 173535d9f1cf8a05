"""The ledger against a provider that misbehaves: what is paid, kept, resent, refused (T01-T31)."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from conftest import Server
from understudy.errors import BudgetReached, DiskError, ProviderRefused, UnderstudyError
from understudy.example import Message
from understudy.models import endpoint
from understudy.models.protocol import CallFailed, Reply, Request
from understudy.money import MICRO, Price, to_micro
from understudy.settings import Settings
from understudy.store import account, calls, spool
from understudy.store.commits import GroupCommit
from understudy.store.database import Database
from understudy.store.ledger import Ledger
from understudy.store.spool import spool_file

PRICED = {"price_in": 0.5, "price_out": 2.0}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = Database(tmp_path / "ledger.db")
    found.migrate()
    yield found
    found.close()


def ask(number: int) -> Request:
    """A question with one right answer of its own."""
    return Request((Message("user", f"{number} minutes"),), 50)


ASKED = calls.Asked("k", ask(1), model="m", identity="i", reserve_micro=70)


def complete(
    database: Database,
    provider: Server,
    requests: list[Request],
    *,
    at_once: int = 16,
    resend_unknown: bool = False,
    **settings: Any,
) -> list[Reply | UnderstudyError]:
    """Each request's reply or error, through a ledger opened for this purpose."""
    given = Settings(**{**PRICED, "timeout": 10, **settings})

    async def main() -> list[Reply | UnderstudyError]:
        to, price = endpoint(provider.teacher("durations"), given)
        ledger = Ledger(
            database,
            to,
            price,
            max_attempts=given.max_attempts,
            max_wait_s=given.max_wait,
            concurrency=at_once,
            resend_unknown=resend_unknown,
        )
        gate = asyncio.Semaphore(at_once)

        async def one(request: Request) -> Reply | UnderstudyError:
            async with gate:
                try:
                    return await ledger.complete(request)
                except UnderstudyError as error:
                    return error

        try:
            return await asyncio.gather(*map(one, requests))
        finally:
            await ledger.close()

    return asyncio.run(main())


def states(database: Database) -> dict[str, int]:
    """How many rows of the ledger are in each state."""
    found: dict[str, int] = {}
    with database.read() as connection:
        for line in account.totals(connection):
            found[line["state"]] = found.get(line["state"], 0) + line["calls"]
    return found


def must_add_up(database: Database, provider: Server) -> None:
    """The purse equals the rows, and the ledger never says less than the provider's bill."""
    with database.read() as connection:
        assert account.adds_up(connection)
        purse = calls.read_purse(connection)
    billed = sum(
        0.5 * line["input_tokens"] + 2 * line["output_tokens"]
        for line in provider.account()
        if line["paid"]
    )
    assert purse.held_micro == 0
    assert purse.spent_micro >= int(billed)


def test_the_same_request_is_bought_once(server: Callable[..., Any], database: Database) -> None:
    """Asked again, at once or later, a reply comes from disk."""
    with server() as provider:
        first = complete(database, provider, [ask(1)] * 5 + [ask(2)])
        again = complete(database, provider, [ask(2), ask(1)])
        assert [reply.text for reply in first] == ["PT1M"] * 5 + ["PT2M"]
        assert again == [replace(first[5], stored=True), replace(first[0], stored=True)]
        assert sum(provider.paid().values()) == 2
        must_add_up(database, provider)


@pytest.mark.parametrize("kind", ["429", "503"])
def test_a_busy_provider_is_waited_for(
    kind: str, server: Callable[..., Any], database: Database
) -> None:
    """T01: refused calls owe nothing, and all are answered in the end."""
    with server("--fault", f"{kind}:0.3", "--retry-after", "0.05") as provider:
        replies = complete(database, provider, [ask(n) for n in range(1, 61)])
        assert all(isinstance(reply, Reply) for reply in replies)
        assert sum(provider.paid().values()) == 60
        assert states(database)["failed_unpaid"] >= 10
        must_add_up(database, provider)


def test_no_credit_stops_at_once(server: Callable[..., Any], database: Database) -> None:
    """T03: insufficient quota is not waited for."""
    with server("--fault", "429_quota:1") as provider:
        (error,) = complete(database, provider, [ask(1)])
        assert isinstance(error, ProviderRefused)
        assert "credit" in str(error)
        assert provider.requests() == 1
        must_add_up(database, provider)


def test_server_errors_are_sent_again_a_few_times(
    server: Callable[..., Any], database: Database
) -> None:
    """T04: at most max_attempts for a call; each attempt is counted as spent."""
    with server("--fault", "500:1") as provider:
        (error,) = complete(database, provider, [ask(1)], max_attempts=3)
        assert isinstance(error, CallFailed)
        assert provider.requests() == 3
        assert states(database) == {"unknown": 3}
        must_add_up(database, provider)


def test_a_provider_that_always_fails_is_given_up(
    server: Callable[..., Any], database: Database
) -> None:
    """T04: the circuit breaker opens after 20 failures in a row, naming the commonest."""
    with server("--fault", "500:1") as provider:
        errors = complete(database, provider, [ask(n) for n in range(200)], max_attempts=1)
        refused = [error for error in errors if isinstance(error, ProviderRefused)]
        assert refused
        assert "HTTP 500" in str(refused[0])


def test_a_closed_port_owes_nothing(database: Database, tmp_path: Path) -> None:
    """T06: never arrived, never paid; the address is named."""
    nobody = Server("http://127.0.0.1:9/v1", tmp_path / "none")
    (error,) = complete(database, nobody, [ask(1)], max_attempts=2)
    assert isinstance(error, ProviderRefused)
    assert "127.0.0.1:9" in str(error)
    assert states(database) == {"failed_unpaid": 2}


@pytest.mark.parametrize("kind", ["reset_after", "cut_body"])
def test_a_torn_connection_is_unknown_and_resent_only_on_request(
    kind: str, server: Callable[..., Any], database: Database
) -> None:
    """T08, T09: it may have been paid for, so its reserve counts as spent."""
    with server("--fault", f"{kind}:1") as provider:
        for _ in range(2):
            (error,) = complete(database, provider, [ask(1)])
            assert isinstance(error, CallFailed)
        assert provider.requests() == 1
        assert states(database) == {"unknown": 1}
        complete(database, provider, [ask(1)], resend_unknown=True)
        assert provider.requests() == 2
        must_add_up(database, provider)


@pytest.mark.parametrize("kind", ["drip", "hang"])
def test_the_deadline_holds_for_the_whole_call(
    kind: str, server: Callable[..., Any], database: Database
) -> None:
    """T10-T12: a byte now and then does not keep a call alive."""
    with server("--fault", f"{kind}:1") as provider:
        started = time.monotonic()
        errors = complete(database, provider, [ask(n) for n in range(8)], timeout=0.7)
        assert time.monotonic() - started < 5
        assert all("0.7 s" in str(error) for error in errors)
        assert states(database) == {"unknown": 8}


def test_broken_json_is_kept_and_paid_for_and_not_bought_again(
    server: Callable[..., Any], database: Database
) -> None:
    """T14: the raw bytes stay; the same request is not sent a second time."""
    with server("--fault", "cut_json:1") as provider:
        for _ in range(2):
            (error,) = complete(database, provider, [ask(1)])
            assert isinstance(error, CallFailed)
        assert provider.requests() == 1
        with sqlite3.connect(database.path) as connection:
            raw, cost = connection.execute("SELECT raw, cost_micro FROM call").fetchone()
        assert raw.startswith(b'{"id"')
        assert cost > 0


def test_a_web_page_is_not_an_api(server: Callable[..., Any], database: Database) -> None:
    """T15: a login page stops everything with the address."""
    with server("--fault", "html:1") as provider:
        (error,) = complete(database, provider, [ask(1)])
        assert isinstance(error, ProviderRefused)
        assert "not an OpenAI-compatible API" in str(error)


def test_a_reply_without_usage_costs_its_reserve(
    server: Callable[..., Any], database: Database
) -> None:
    """T25: the upper bound is what is booked, marked as estimated."""
    with server("--fault", "no_usage:1") as provider:
        (reply,) = complete(database, provider, [ask(7)])
        assert isinstance(reply, Reply)
        assert reply.text == "PT7M"
        with sqlite3.connect(database.path) as connection:
            query = "SELECT reserve_micro, cost_micro, estimated FROM call"
            assert connection.execute(query).fetchone() == (reply.cost_micro, reply.cost_micro, 1)
        must_add_up(database, provider)


def test_a_wrong_key_and_an_unknown_model_stop_at_once(
    server: Callable[..., Any], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T27: the key itself is never shown, and goes only where the environment binds it."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-wrong")
    with server("--key", "sk-right") as provider:
        (error,) = complete(database, provider, [ask(1)])
        assert "None was sent" in str(error)
        monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
        (error,) = complete(database, provider, [ask(1)])
        assert isinstance(error, ProviderRefused)
        assert "OPENAI_API_KEY" in str(error)
        assert "sk-canary-wrong" not in str(error)


@pytest.mark.parametrize("name", ["max_tokens", "response_format"])
def test_a_refused_parameter_is_left_out_from_then_on(
    name: str, server: Callable[..., Any], database: Database
) -> None:
    """Many calls in flight are refused together; all are answered in the other form."""
    schema = {"type": "object", "title": "answer", "properties": {}}
    with server("--refuse-parameter", name) as provider:
        requests = [
            Request(ask(n).messages, 50, schema=schema, schema_name="answer") for n in range(1, 21)
        ]
        replies = complete(database, provider, requests)
        assert [getattr(reply, "text", reply) for reply in replies] == [
            f"PT{n}M" for n in range(1, 21)
        ]
        must_add_up(database, provider)


@pytest.mark.parametrize("cents", [0.01, 0.05, 0.1])
def test_the_budget_is_a_hard_stop(
    cents: float, server: Callable[..., Any], database: Database
) -> None:
    """T31: with 64 calls at once, the provider's bill never passes the budget."""
    budget = to_micro(cents / 100)
    with database.write() as connection:
        calls.set_budget(connection, budget)
    with server("--latency", "0.02") as provider:
        replies = complete(database, provider, [ask(n) for n in range(300)], at_once=64)
        assert any(isinstance(reply, BudgetReached) for reply in replies)
        must_add_up(database, provider)
        with database.read() as connection:
            assert calls.read_purse(connection).spent_micro <= budget


def test_nearly_all_of_a_budget_can_be_spent(
    server: Callable[..., Any], database: Database
) -> None:
    """What calls in flight hold is waited for: a budget is not reached while most of it is free."""
    budget = to_micro(0.0005)
    with database.write() as connection:
        calls.set_budget(connection, budget)
    with server("--latency", "0.02") as provider:
        complete(database, provider, [ask(n) for n in range(300)], at_once=64)
        with database.read() as connection:
            spent = calls.read_purse(connection).spent_micro
        assert 0.5 * budget < spent <= budget


def test_a_poisoned_write_fails_alone(database: Database) -> None:
    """One write that cannot be made neither hangs the others nor undoes them."""

    def poisoned(_: Connection) -> None:
        raise OverflowError("too large")

    async def main() -> list[object]:
        commits = GroupCommit(database)
        writes = [
            lambda c: calls.set_budget(c, 5),
            poisoned,
            lambda c: calls.read_purse(c).budget_micro,
        ]
        return await asyncio.gather(*map(commits.submit_one, writes), return_exceptions=True)

    first, second, third = asyncio.run(asyncio.wait_for(main(), 10))
    assert first is None
    assert isinstance(second, OverflowError)
    assert third == 5


def test_a_reply_that_the_database_cannot_take_is_spooled(
    server: Callable[..., Any], database: Database
) -> None:
    """T45, T48: it waits in a file of its own and is not bought again."""
    real = calls.receive

    def full(*_: object) -> None:
        raise DiskError("the disk is full")

    with server() as provider, pytest.MonkeyPatch.context() as patch:
        patch.setattr(calls, "receive", full)
        (error,) = complete(database, provider, [ask(1)])
        assert isinstance(error, DiskError)
        waiting = spool.load(spool_file(database.path))
        assert len(waiting) == 1
        patch.setattr(calls, "receive", real)
        with database.write() as connection:
            for arrived in waiting:
                calls.receive(connection, [arrived])
            assert calls.recover(connection) == 0
        (reply,) = complete(database, provider, [ask(1)])
        assert isinstance(reply, Reply)
        assert (reply.text, reply.stored) == ("PT1M", True)
        assert provider.requests() == 1
        must_add_up(database, provider)


def test_a_call_declared_unknown_while_in_flight_is_put_right(database: Database) -> None:
    """Whoever else touched the row, the purse equals the rows and is never below nothing."""
    with database.write() as connection:
        (sent,) = calls.begin(connection, [ASKED])
        assert isinstance(sent, calls.Sent)
        calls.recover(connection)
        calls.receive(connection, [calls.Arrived(sent, b"{}", 0.1)])
        assert account.adds_up(connection)
        calls.end(connection, [calls.Ended(sent, "settled", 9)])
        assert calls.read_purse(connection) == calls.Purse(None, 9, 0)
        assert account.adds_up(connection)


def test_calls_of_a_dead_process_become_unknown(database: Database) -> None:
    """T34: what was in flight counts as spent, once."""
    with database.write() as connection:
        calls.begin(connection, [ASKED])
    with database.write() as connection:
        assert calls.recover(connection) == 1
        assert calls.recover(connection) == 0
        assert calls.read_purse(connection) == calls.Purse(None, 70, 0)
        assert account.adds_up(connection)


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=50),
    st.decimals("0", "100", places=3),
    st.decimals("0", "100", places=3),
)
def test_costs_are_whole_micro_dollars_and_never_too_low(
    tokens: list[tuple[int, int]], price_in: Any, price_out: Any
) -> None:
    """Each call is rounded up, so a sum is exact and at most a micro-dollar a call too high."""
    price = Price(price_in, price_out, "test")
    total = sum(price.cost_micro(a, b) for a, b in tokens)
    exact = sum(price_in * a + price_out * b for a, b in tokens)
    assert exact <= total <= exact + len(tokens)


def test_a_wait_that_is_too_long_ends_with_the_time(
    server: Callable[..., Any], database: Database
) -> None:
    """T02: above max_wait the command stops and says how long."""
    with server("--fault", "429:1", "--retry-after", "9000") as provider:
        (error,) = complete(database, provider, [ask(1)])
        assert isinstance(error, ProviderRefused)
        assert "9000 s" in str(error)


def test_micro_dollars_are_a_millionth() -> None:
    """A budget in dollars is never rounded up."""
    assert to_micro(1) == MICRO
    assert to_micro(0.0000019) == 1


@pytest.mark.parametrize(
    ("reserve", "note", "resend_unknown", "again"),
    [
        (70, "connection lost", False, False),
        (70, "connection lost", True, True),
        (70, "HTTP 500: overloaded", False, True),
        (0, "connection lost", False, True),
    ],
)
def test_what_may_be_bought_again_when_the_outcome_is_unknown(
    reserve: int, note: str, resend_unknown: bool, again: bool, database: Database
) -> None:
    """Bought again alone or in a batch: on request, by the endpoint's word, or for nothing."""
    asked = ASKED._replace(reserve_micro=reserve)
    with database.write() as connection:
        (sent,) = calls.begin(connection, [asked])
        assert isinstance(sent, calls.Sent)
        calls.end(connection, [calls.lost(sent, note)])
        (found,) = calls.begin(connection, [asked], resend_unknown=resend_unknown)
        assert isinstance(found, calls.Sent) is again
        assert account.adds_up(connection)
