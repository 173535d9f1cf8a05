"""``generate --batch``: half the price, every answer bought once, whatever tears or dies."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import KEY, PRICES, Done, Server, practice_server
from understudy.errors import BudgetReached, ProviderRefused, UnderstudyError, UsageError
from understudy.models.batches import BatchEndpoint
from understudy.money import Price, batch_price, price_of
from understudy.practice.batches import BATCH_FAULTS
from understudy.practice.faults import parse_fault
from understudy.practice.options import Options
from understudy.practice.server import in_background
from understudy.project import Project, batching, views
from understudy.store import account, batch_files, batch_replies, batches

WANTED = 30
FLAGS = {"price_in": 0.5, "price_out": 2.0}
Start = Callable[..., Any]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(batches, "MOST_WAIT_S", 0.1)
    monkeypatch.setattr(batch_replies, "CHUNK", 7)


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """A practice server in a process of its own, whose batches take a fifth of a second."""

    def starting(*options: str, seconds: float = 0.2) -> Any:
        log = tmp_path / "provider.jsonl"
        return practice_server(log, "--batch-seconds", str(seconds), *options)

    return starting


@pytest.fixture
def serve(tmp_path: Path) -> Start:
    """The same in a thread, which starts quicker; faults as on its command line."""

    @contextmanager
    def starting(*batch_faults: str, faults: tuple[str, ...] = ()) -> Iterator[Server]:
        options = Options(
            log=tmp_path / "provider.jsonl",
            batch_seconds=0.1,
            faults=tuple(map(parse_fault, faults)),
            batch_faults=tuple(parse_fault(one, BATCH_FAULTS) for one in batch_faults),
        )
        with in_background(options) as url:
            yield Server(url, tmp_path / "provider.jsonl")

    return starting


def project(folder: Path, provider: Server, **flags: Any) -> Project:
    """The project, made if there is none."""
    flags = {"teacher": provider.teacher("durations"), **FLAGS, **flags}
    if (folder / "understudy.db").exists():
        return Project(folder, flags)
    return Project.new(folder, "durations", flags)


def answers(place: Project) -> dict[str, str]:
    """Input to answer of all examples."""
    with sqlite3.connect(place.folder / "understudy.db") as connection:
        rows = connection.execute("SELECT messages, answer FROM example")
        return {json.loads(messages)[-1][1]: answer for messages, answer in rows}


def rows(place: Project, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(place.folder / "understudy.db") as connection:
        return connection.execute(query).fetchall()


def billed(provider: Server, *, batch: bool | None = None) -> list[dict[str, Any]]:
    """Paid lines of the provider's account, of answers."""
    return [
        line
        for line in provider.account()
        if line["paid"]
        and line["kind"] == "answer"
        and (batch is None or line.get("batch", False) == batch)
    ]


def owed(provider: Server) -> Decimal:
    """Micro-dollars by the provider's own account: half for what came in batches."""
    return sum(
        (
            (Decimal("0.5") * line["input_tokens"] + 2 * line["output_tokens"])
            / (2 if line.get("batch") else 1)
            for line in provider.account()
            if line["paid"]
        ),
        Decimal(0),
    )


def in_order(place: Project, provider: Server) -> None:
    """Each answer was bought once, the books agree with the bill, nothing is held or left over."""
    assert max(provider.paid().values()) == 1, "one request was billed twice"
    with place.database.read() as connection:
        assert account.adds_up(connection)
        assert not account.open_batches(connection)
    ((spent, held),) = rows(place, "SELECT spent_micro, held_micro FROM purse")
    assert held == 0
    bill = owed(provider)
    assert bill <= spent <= bill + len(provider.account())  # each call is rounded up
    assert not list(place.folder.glob("batch-*"))


def on_provider(provider: Server, path: str, method: str = "GET", key: str = "") -> Any:
    asked = urllib.request.Request(  # noqa: S310 (a server of ours)
        provider.url + path, method=method, headers={"Authorization": f"Bearer {key}"}
    )
    with urllib.request.urlopen(asked, timeout=10) as response:  # noqa: S310
        return json.load(response)


def sizes(provider: Server) -> list[int]:
    """Requests of each batch that the provider knows, oldest first."""
    found = on_provider(provider, "/batches?limit=100")["data"]
    return [one["request_counts"]["total"] for one in reversed(found)]


# -- the whole way -------------------------------------------------------------------------


def test_it_gives_what_single_calls_give_at_half_the_price(start: Start, tmp_path: Path) -> None:
    """Same examples; every answer but the first, which is asked as a trial, costs half."""
    with practice_server(tmp_path / "live.jsonl") as live:
        one_by_one = project(tmp_path / "live", live, concurrency=1)
        dear = one_by_one.generate(WANTED)
    with start() as provider:
        place = project(tmp_path / "p", provider)
        result = place.generate(WANTED, batch=True)
        assert result.made == result.accepted == WANTED
        assert answers(place) == answers(one_by_one)
        assert (len(billed(provider, batch=True)), len(billed(provider))) == (WANTED - 1, WANTED)
        assert result.spent_micro < dear.spent_micro
        assert sizes(provider) == [WANTED - 1]
        in_order(place, provider)
        again = place.generate(WANTED, batch=True)
        more = place.generate(WANTED + 10, batch=True)
        assert (again.calls, more.made) == (0, 10)
        in_order(place, provider)


def test_several_answers_and_own_inputs_go_in_batches(serve: Start, tmp_path: Path) -> None:
    """All k samples of each input that the user brought; none of the inputs is asked for."""
    texts = [f"{number} hours" for number in range(2, 12)]
    with serve() as provider:
        place = project(tmp_path / "p", provider, answers=3)
        place.describe()
        result = place.generate(inputs=texts, batch=True)
        assert (result.made, result.agreement) == (len(texts), 1.0)
        assert sizes(provider) == [3 * len(texts) - 1]
        assert set(answers(place)) == set(texts)
        kinds = {line["kind"] for line in provider.account() if line["phase"] == "answered"}
        assert kinds == {"spec", "answer"}


def test_large_ones_are_split_by_number_and_by_bytes(
    serve: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file passes either limit, and each request is in one."""
    monkeypatch.setattr(batch_files, "MOST_REQUESTS", 12)
    with serve() as provider:
        place = project(tmp_path / "p", provider)
        assert place.generate(WANTED, batch=True).made == WANTED
        assert sizes(provider) == [12, 12, 5]
        monkeypatch.setattr(batch_files, "MOST_BYTES", 3000)
        assert place.generate(WANTED + 10, batch=True).made == 10
        files = [
            on_provider(provider, f"/files/{one['input_file_id']}")
            for one in on_provider(provider, "/batches?limit=100")["data"]
        ]
        assert len(files) > 4
        assert max(one["bytes"] for one in files[:-3]) <= 3000
        in_order(place, provider)


def test_the_command_line_says_what_it_does(
    start: Start, tmp_path: Path, understudy: Callable[..., Done]
) -> None:
    """The price and the batch are told; a teacher without batches is a usage error."""
    with start() as provider:
        understudy(
            "new",
            "p",
            "--describe",
            "durations",
            *PRICES,
            "--teacher",
            provider.teacher("durations"),
        )
        done = understudy("generate", "20", "--batch", "-p", "p")
        assert done.code == 0, done.err
        assert "$0.25 in, $1 out per million tokens: half of the ordinary price" in done.err
        assert "are with the provider as batch_" in done.err
        refused = understudy("generate", "30", "--batch", "-p", "p", "--teacher", "practice:dates")
        assert refused.code == 2
        assert "practice:dates takes no batches" in refused.err


# -- what tears ----------------------------------------------------------------------------


def test_lost_replies_and_torn_files_cost_nothing_twice(serve: Start, tmp_path: Path) -> None:
    """The reply to the creation lost, 500 while waiting, a file torn and cut, lines twice: one
    batch all the same, each line booked once."""
    faults = ("upload_lost@1", "create_lost@1", "poll_500@1-3", "download_torn@1")
    faults += ("download_cut@2", "doubled@1")
    with serve(*faults) as provider:
        place = project(tmp_path / "p", provider)
        assert place.generate(WANTED, batch=True).made == WANTED
        assert sizes(provider) == [WANTED - 1]
        (done,) = [event for event in place.events() if event.kind == "batch.done"]
        assert (done.data["answers"], done.data["strangers"]) == (WANTED - 1, 1)
        in_order(place, provider)


def test_a_creation_that_failed_is_repeated(serve: Start, tmp_path: Path) -> None:
    """HTTP 500 twice: none is found over the file, so it is asked for again, and there is one."""
    with serve("create_500@1-2") as provider:
        place = project(tmp_path / "p", provider)
        assert place.generate(WANTED, batch=True).made == WANTED
        assert sizes(provider) == [WANTED - 1]
        in_order(place, provider)


def test_failures_alone_are_sent_again(serve: Start, tmp_path: Path) -> None:
    """An expired batch and lines with 429 and 400: the second batch has just what failed, and what
    is malformed for good is replaced by another input."""
    # Requests 1-13 are spec, plan, ten of inputs and the trial; the batch begins with the 14th.
    with serve("expired@1", faults=("429@15-17", "400@19")) as provider:
        place = project(tmp_path / "p", provider)
        result = place.generate(WANTED, batch=True)
        assert result.made == WANTED
        worked = (WANTED - 1) // 2
        # The replacement comes with them.
        assert sizes(provider) == [WANTED - 1, WANTED - 1 - worked + 3 + 1]
        assert result.reasons["HTTP 400: The request is malformed"] == 1
        in_order(place, provider)


def test_what_keeps_failing_is_given_up_in_the_end(serve: Start, tmp_path: Path) -> None:
    """After max_attempts batches the calls are told as failures and the command ends."""
    with serve(faults=("500@7-",)) as provider:
        place = project(tmp_path / "p", provider, max_attempts=2)
        place.describe()
        result = place.generate(inputs=[f"{n} hours" for n in range(2, 9)], batch=True)
        assert result.made == 5  # spec, the trial and four more came before the seventh request
        assert sum(result.reasons.values()) == 2
        assert sizes(provider) == [6, 2]
        in_order(place, provider)


def test_a_batch_refused_as_a_whole_frees_its_reserve(serve: Start, tmp_path: Path) -> None:
    """The provider's reason is told; the same command sends a new one."""
    with serve("failed@1") as provider:
        place = project(tmp_path / "p", provider)
        with pytest.raises(ProviderRefused, match="Enqueued token limit reached"):
            place.generate(WANTED, batch=True)
        in_order(place, provider)
        assert place.generate(WANTED, batch=True).total == WANTED
        in_order(place, provider)


def test_one_that_was_cancelled_there_is_kept_as_far_as_it_came(
    serve: Start, tmp_path: Path
) -> None:
    """It is not sent again behind the back of whoever cancelled it, but by the next command."""
    with serve("cancelled@1") as provider:
        place = project(tmp_path / "p", provider)
        with pytest.raises(ProviderRefused, match="was cancelled; 14 answers are kept"):
            place.generate(WANTED, batch=True)
        assert len(answers(place)) == 1 + 14  # they are examples already
        in_order(place, provider)
        assert place.generate(WANTED, batch=True).total == WANTED
        assert sizes(provider)[1] in (WANTED - 15, WANTED - 16)  # less another trial
        in_order(place, provider)


# -- money ---------------------------------------------------------------------------------


def test_the_budget_holds_for_the_whole_batch_or_nothing(serve: Start, tmp_path: Path) -> None:
    """Nothing of it is bought, inputs neither; the error says how many have room, and they go."""
    with serve() as provider:
        place = project(tmp_path / "p", provider, budget=0.03, max_answer_tokens=1000)
        place.pilot(WANTED, batch=True)
        before = len(provider.account())
        with pytest.raises(BudgetReached, match=r"room for 1\d of them") as told:
            place.generate(WANTED, batch=True)
        assert (sizes(provider), len(provider.account())) == ([], before)
        in_order(place, provider)
        fit = place.made() + int(told.value.what.split("room for ")[1].split()[0])
        assert place.generate(fit, batch=True).total == fit
        ((spent,),) = rows(place, "SELECT spent_micro FROM purse")
        assert spent <= 30_000
        in_order(place, provider)


@given(
    usd_in=st.decimals(0, 1000, places=4, allow_nan=False),
    usd_out=st.decimals(0, 1000, places=4, allow_nan=False),
    tokens=st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)),
)
def test_prices_given_by_the_user_are_halved(
    usd_in: Decimal, usd_out: Decimal, tokens: tuple[int, int]
) -> None:
    """Never more than a micro-dollar from half of what the call would cost, and never less."""
    price = Price(usd_in, usd_out, "given by you")
    half = batch_price(price, "openai", "gpt-4o").cost_micro(*tokens)
    whole = usd_in * tokens[0] + usd_out * tokens[1]
    assert whole / 2 <= half < whole / 2 + 1


def test_the_tables_own_price_for_batches_counts() -> None:
    """Where genai-prices has one it is taken; where not, it is half, and the source says so."""
    known = price_of("openai", "gpt-4o-mini", None, None)
    table = batch_price(known, "openai", "gpt-4o-mini")
    assert table.usd_in < known.usd_in
    assert "for batches" in table.source
    other = price_of("together", "meta-llama/Llama-3.3-70B-Instruct-Turbo", None, None)
    half = batch_price(other, "together", "meta-llama/Llama-3.3-70B-Instruct-Turbo")
    assert (half.usd_in, "half" in half.source) == (other.usd_in / 2, True)


# -- who takes none ------------------------------------------------------------------------


def test_teachers_without_batches_are_named(
    serve: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function, Anthropic's API, a server that knows no /batches: nothing is sent or held."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    with serve() as provider:
        place = project(tmp_path / "p", provider)
        place.plan()
        with pytest.raises(UsageError, match="takes no batches"):
            place.generate(5, batch=True, teacher=str.upper)
        nowhere = provider.url.replace("/v1", "/nothing") + "#durations"
        for teacher in ("anthropic:claude-haiku-4-5", nowhere):
            other = Project(place.folder, {**FLAGS, "teacher": teacher})
            with pytest.raises(UsageError, match="takes no batches"):
                other.generate(5, batch=True)
        assert provider.requests() == 2
        in_order(place, provider)


# -- stopping, dying, going on -------------------------------------------------------------

OWNERS = {
    "endpoint": BatchEndpoint,
    "file": batch_files._File,
    "brought": batch_replies.Brought,
    "batching": batching,
}
DEATHS = {
    "file.end.before": "in the transaction that holds the reserve",
    "endpoint.upload.before": "held, not uploaded",
    "endpoint.upload.after": "uploaded, its id not stored",
    "endpoint.create.before": "the file's id stored, not created",
    "endpoint.create.after": "created, its id not stored",
    "endpoint.get.before": "handed over, not asked after",
    "endpoint.download.after": "downloaded, nothing booked",
    "brought._book_lines.after": "some lines booked",
    "brought.free_rest.before": "all lines booked",
    "batching._store.before": "all on disk, no example made",
}


def die(death: str) -> None:
    """Have this process kill itself before or after a function is called."""
    owner, name, when = death.split(".")
    plain = getattr(OWNERS[owner], name)

    def dying(*given: Any, **named: Any) -> Any:
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = plain(*given, **named)

        async def after() -> None:
            await result
            os.kill(os.getpid(), signal.SIGKILL)

        if hasattr(result, "__await__"):
            return after()
        return os.kill(os.getpid(), signal.SIGKILL)

    setattr(OWNERS[owner], name, dying)


def begun(place: Project, death: str = "") -> int:
    """Generate in a process of its own, which may have to die; its id."""
    place.close()
    process = os.fork()
    if process:
        return process
    code = 99
    try:
        if death:
            die(death)
        Project(place.folder).generate(WANTED, batch=True)
        code = 0
    except UnderstudyError as error:
        code = error.exit_code
    finally:
        os._exit(code)


def ended(process: int) -> int:
    """Exit code of a process; negative: the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def test_a_death_at_any_step_loses_nothing_and_buys_nothing_twice(
    start: Start, tmp_path: Path
) -> None:
    """Killed at each durable step in turn; the books add up after each, and one batch did it."""
    with start() as provider:
        place = project(tmp_path / "p", provider)
        place.plan()
        for death, where in DEATHS.items():
            assert ended(begun(place, death)) == -signal.SIGKILL, where
            with place.database.read() as connection:
                assert account.adds_up(connection), where
            assert len(sizes(provider)) <= 1, where
            assert max(provider.paid().values()) == 1, where
        assert ended(begun(place)) == 0
        assert len(answers(place)) == WANTED
        assert sizes(provider) == [WANTED - 1]
        assert rows(place, "SELECT count(*) FROM call WHERE state = 'unknown'") == [(0,)]
        with place.writing():
            in_order(place, provider)


def stopped_while_waiting(place: Project) -> None:
    """Begin, and interrupt it as soon as the batch is with the provider."""
    process = begun(place)
    deadline = time.monotonic() + 30
    while not rows(place, "SELECT 1 FROM batch WHERE provider_id != ''"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process, signal.SIGINT)
    assert ended(process) == 130


def test_ctrl_c_stops_waiting_and_the_next_command_resumes_by_id(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch goes on at the provider meanwhile, even with a wrong key; it is fetched once."""
    with start("--key", KEY, seconds=1) as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        place = project(tmp_path / "p", provider)
        place.plan()
        stopped_while_waiting(place)
        ((held,),) = rows(place, "SELECT held_micro FROM purse")
        assert held > 0
        (waiting,) = views.status(place)["batches"]
        assert (waiting["requests"], waiting["state"]) == (WANTED - 1, "validating")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
        with pytest.raises(ProviderRefused, match="Incorrect API key"):
            project(place.folder, provider).generate(WANTED, batch=True)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        result = project(place.folder, provider).generate(WANTED, batch=True)
        assert (result.made, result.calls) == (WANTED, 0)
        assert len(on_provider(provider, "/batches", key=KEY)["data"]) == 1
        in_order(place, provider)


def test_a_batch_that_is_gone_is_given_up_only_on_request(start: Start, tmp_path: Path) -> None:
    """The provider has forgotten it: its worst case counts as spent before it is bought anew."""
    with start() as provider:
        place = project(tmp_path / "p", provider)
        place.plan()
        assert ended(begun(place, "endpoint.get.before")) == -signal.SIGKILL
        with sqlite3.connect(place.folder / "understudy.db") as connection:
            connection.execute("UPDATE batch SET provider_id = 'batch_of_another'")
        with pytest.raises(ProviderRefused, match="knows no batch batch_of_another"):
            place.generate(WANTED, batch=True)
        anew = project(place.folder, provider, resend_unknown=True)
        assert anew.generate(WANTED, batch=True).total == WANTED
        with place.database.read() as connection:
            assert account.adds_up(connection)
        unknown = "SELECT count(*), min(cost_micro = reserve_micro) FROM call WHERE state='unknown'"
        assert rows(place, unknown) == [(WANTED - 1, 1)]
