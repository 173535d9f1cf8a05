"""Training at a host: the whole way, the price, every fault, both other protocols."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import forked_cli
from conftest import KEY, Done, Server, understudy_command
from hosts import (
    FLAGS,
    PRICED,
    billed_micro,
    frozen_project,
    lines,
    made,
    opened,
    practice_host,
    spent_and_held,
    states,
)
from rehearsal import one_line, until
from understudy.errors import (
    BudgetReached,
    PartlyDone,
    ProviderRefused,
    SetupError,
    UnderstudyError,
    UsageError,
)
from understudy.example import Example, Message
from understudy.formats.conversations import Rules, check
from understudy.formats.writing import write
from understudy.models.address import address
from understudy.models.protocol import Generation, Lost
from understudy.practice.options import At
from understudy.project import Project, flow, handing, hosting, views
from understudy.project.chat_files import must_be_taken
from understudy.project.doctor import doctor
from understudy.project.serving import Serving
from understudy.train.hosted import Closed, Happening, Job, Order, openai_sdk, tables
from understudy.train.hosted.recipe import choose, size


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handing, "LOOK_S", (0.0, 0.05, 0.2, 0.4))
    monkeypatch.setattr(handing, "FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(handing, "TROUBLE_WAIT_S", 0.05)


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return frozen_project(tmp_path_factory.mktemp("frozen") / "p")


@pytest.fixture
def folder(frozen: Path, tmp_path: Path) -> Path:
    shutil.copytree(frozen, tmp_path / "p")
    return tmp_path / "p"


@pytest.fixture
def place(folder: Path) -> Iterator[Callable[..., Project]]:
    """Open the project; it is closed in the end."""
    found: list[Project] = []

    def open_it(*given: Any, **flags: Any) -> Project:
        found.append(opened(folder, *given, **flags))
        return found[-1]

    yield open_it
    for one in found:
        one.close()


def told(project: Project, kind: str) -> list[dict[str, Any]]:
    return [event.data for event in project.events() if event.kind == kind]


# -- the whole way ---------------------------------------------------------------------------


def test_from_the_dataset_to_a_proven_model(
    folder: Path, tmp_path: Path, understudy: Callable[..., Done]
) -> None:
    """Train, evaluate, predict; export says what it cannot; all of it by the command line."""

    def quick(*arguments: str) -> str:
        done = forked_cli.understudy(tmp_path, *arguments, "-p", "p", "-q")
        assert done.code == 0, done.err
        return done.err.strip().splitlines()[-1]

    with practice_host(tmp_path / "log.jsonl") as host:
        student = ("--student", f"{host.url}#novice")
        plan = json.loads(quick("train", *student, *PRICED, "--explain", "--json"))
        assert made(host) == (0, 0, 0)
        assert plan["recipe"]["epochs"] == 3
        trained = understudy("train", "-p", "p", *student, *PRICED, "--json")
        assert trained.code == 0, trained.err
        body = trained.json
        keys = "run state steps loss tokens_per_s answer_tokens_per_s peak_memory_mb seconds model"
        assert set(keys.split()) <= body.keys()
        assert (body["state"], body["model"]) == ("succeeded", "run:1")
        assert body["loss"] < 0.2
        assert [one["step"] for one in body["checkpoints"]] == sorted(
            one["step"] for one in body["checkpoints"]
        )
        assert plan["tokens"]["train"]["at_most"] * 3 >= body["trained_tokens"]
        events = [json.loads(line) for line in trained.out.splitlines()[:-1]]
        steps = [one for one in events if one.get("event") == "train.step"]
        assert steps[-1]["step"] == steps[-1]["steps"] == body["steps"]

        report = json.loads(quick("evaluate", "--json"))
        assert report["systems"]["student"]["score"] == 1.0
        assert report["systems"]["base"]["score"] == 0.0
        assert quick("predict", "2 hours and 5 minutes", "--model", "run:1") == "PT2H5M"
        export = forked_cli.understudy(tmp_path, "export", "-p", "p")
        one_line(export, 2, "lies at the host", "--student hf:")
        ledger = json.loads(quick("ledger", "--json"))
        (row,) = [line for line in ledger["lines"] if line["purpose"] == "train"]
        assert row["usd"] == body["usd"] == pytest.approx(billed_micro(host) / 1e6)
        assert row["input_tokens"] == body["trained_tokens"]
        assert json.loads(quick("train", "--json"))["run"] == 1  # the student was kept
        assert made(host) == (2, 1, 1)


def test_the_host_never_sees_a_test_item(
    folder: Path, tmp_path: Path, place: Callable[..., Project]
) -> None:
    """Train and validation are sent as they were frozen; the test stays at home."""
    with practice_host(tmp_path / "log.jsonl") as host:
        place(host).train()
        sent = b"".join(path.read_bytes() for path in folder.glob("datasets/1/chat-*.jsonl"))
        sizes = {line["name"].split("-")[2]: line for line in lines(host, "file")}
    assert set(sizes) == {"train", "validation"}
    inputs = [json.loads(line)["prompt"][-1]["content"] for line in _rows(folder, "test")]
    assert inputs
    assert not any(one.encode() in sent for one in inputs)
    assert all(
        json.loads(line)["prompt"][-1]["content"].encode() in sent
        for side in ("train", "validation")
        for line in _rows(folder, side)
    )


def _rows(folder: Path, side: str) -> list[str]:
    return (folder / "datasets" / "1" / f"{side}.jsonl").read_text().splitlines()


def test_a_served_project_hands_questions_on(tmp_path: Path, place: Callable[..., Project]) -> None:
    """What `serve` resolves for a run at a host answers as the model there does, and is booked."""
    import asyncio

    with practice_host(tmp_path / "log.jsonl") as host:
        project = place(host)
        project.train()

        async def ask() -> str:
            serving = Serving(project)
            served = serving.find("run:latest")
            assert served is not None
            asked = Generation((Message("user", "3 hours and 4 minutes"),), 50)
            try:
                async with serving.opened(served) as model:
                    whole = (await model.write(asked)).text
                    assert whole == "".join([piece.text async for piece in model.stream(asked)])
                    return whole
            finally:
                await serving.close()

        assert asyncio.run(ask()) == "PT3H4M"
        assert any(row["purpose"] == "serve" for row in views.ledger(project)["lines"])


def test_the_whole_way_ends_at_a_host(tmp_path: Path) -> None:
    """`run` asks the host before it buys anything, and has nothing to export in the end."""
    flags = {**FLAGS, "price_in": 0.5, "price_out": 2.0, "concurrency": 8}

    def run(host: Any, name: str) -> flow.Finished:
        student = {"teacher": host.teacher("durations"), "student": f"{host.url}#novice"}
        with closing(flow.open_or_new(tmp_path / name, "durations", flags | student)) as project:
            return flow.run(project, "durations", 40, lambda _: None)

    with practice_host(tmp_path / "closed.jsonl", "closed@1-") as host:
        with pytest.raises(Closed):
            run(host, "closed")
        assert not host.account()
    with practice_host(tmp_path / "log.jsonl") as host:
        done = run(host, "open")
        assert done.exported is None
        assert done.report.systems["student"].score == 1


# -- the price -------------------------------------------------------------------------------


def test_nothing_is_sent_that_could_pass_the_budget(
    folder: Path, tmp_path: Path, place: Callable[..., Project]
) -> None:
    """Exit 4, no file, no run; a higher budget goes on."""
    with practice_host(tmp_path / "log.jsonl") as host:
        train = ("train", "-p", "p", "--student", f"{host.url}#novice", *PRICED)
        refused = forked_cli.understudy(tmp_path, *train, "--budget", "0.02")
        one_line(refused, 4, "could cost", "--budget")
        assert made(host) == (0, 0, 0)
        project = place(host, budget=5.0)
        assert states(project) == []
        assert spent_and_held(project) == (0, 0)
        project.train()
        assert spent_and_held(project) == (billed_micro(host), 0)
        with pytest.raises(BudgetReached):
            place(host, budget=0.01).train(again=True)
        assert made(host) == (2, 1, 1)


def test_it_asks_above_a_dollar_and_refuses_an_unknown_price(folder: Path, tmp_path: Path) -> None:
    """Nobody is there to say yes; and no price is never taken for none."""
    with practice_host(tmp_path / "log.jsonl") as host:
        train = ("train", "-p", "p", "--student", f"{host.url}#novice")
        unknown = forked_cli.understudy(tmp_path, *train)
        one_line(unknown, 2, "no training price is known", "--train-price")
        dear = forked_cli.understudy(tmp_path, *train, "--train-price", "100")
        one_line(dear, 2, "Go on?", "--yes")
        assert made(host) == (0, 0, 0)


@given(st.lists(st.lists(st.text(max_size=30), min_size=1, max_size=4), min_size=1, max_size=5))
def test_the_bound_is_never_below_what_any_tokenizer_makes(texts: list[list[str]]) -> None:
    """No text has more tokens than UTF-8 bytes, and every turn has room for its marks."""
    rows = [tuple(Message("user", text) for text in row) for row in texts]
    found = size(rows)
    assert found.rows == len(rows)
    bytes_in_all = sum(len(text.encode("utf-8", "replace")) for row in texts for text in row)
    assert bytes_in_all + 3 * sum(map(len, texts)) < found.most
    assert found.guessed <= found.most


def test_prices_come_from_a_dated_table_or_from_the_user() -> None:
    """By exact model, by size, or not at all; elsewhere the same model has no known price."""
    env = {"OPENAI_API_KEY": KEY, "FIREWORKS_API_KEY": KEY}

    def price(name: str, given: float | None = None) -> Any:
        found = tables.price(address(name, offline=False, environ=env), given)
        return found and float(found.usd)

    assert price("openai:gpt-4o-mini-2024-07-18") == 3
    assert price("openai:gpt-9") is None
    assert price("openai:gpt-9", 7.5) == 7.5
    assert price("fireworks:accounts/fireworks/models/llama-v3p1-8b-instruct") == 0.5
    assert price("fireworks:accounts/fireworks/models/llama-v3p1-70b-instruct") == 3
    assert price("fireworks:accounts/fireworks/models/whatever") is None
    assert price("http://127.0.0.1:1/v1#gpt-4o-mini") is None


# -- faults ----------------------------------------------------------------------------------

PASSING = (
    (("upload_lost@1",), (2, 1)),
    (("upload_lost@1-2",), (2, 1)),
    (("create_lost@1",), (2, 1)),
    (("create_500@1-2",), (2, 1)),
    (("poll_500@1-25",), (2, 1)),
    (("upload_lost@1", "create_lost@1", "list_slow@1-"), (2, 1)),
    (("file_gone@1",), (3, 1)),
)


@pytest.mark.parametrize(("faults", "wanted"), PASSING)
def test_what_passes_costs_nothing_twice(
    faults: tuple[str, ...],
    wanted: tuple[int, int],
    tmp_path: Path,
    place: Callable[..., Project],
) -> None:
    """Replies lost, lists that lag behind, 500s, a file forgotten: one job, one bill."""
    with practice_host(tmp_path / "log.jsonl", *faults, tune_list_seconds=0.3) as host:
        project = place(host)
        assert project.train().state == "succeeded"
        assert made(host) == (*wanted, 1)
        assert spent_and_held(project) == (billed_micro(host), 0)
        if faults == ("poll_500@1-25",):
            assert len(told(project, "hosted.trouble")) == 2  # told, and not every time
            assert told(project, "hosted.answers")


@pytest.mark.parametrize(
    ("fault", "words", "state", "pays"),
    [
        ("invalid@1", "finds fault with the file", "failed", False),
        ("failed@1", "The training diverged", "failed", True),
        ("cancelled@1", "was cancelled at the host", "cancelled", True),
    ],
)
def test_the_end_is_the_hosts_own_word(
    fault: str, words: str, state: str, pays: bool, tmp_path: Path, place: Callable[..., Project]
) -> None:
    """It failed or was cancelled there: told with the reason, billed as it was, tried anew."""
    with practice_host(tmp_path / "log.jsonl", fault) as host:
        project = place(host)
        with pytest.raises(UnderstudyError, match=words):
            project.train()
        assert states(project) == [state]
        assert spent_and_held(project) == (billed_micro(host), 0)
        assert bool(billed_micro(host)) == pays
        assert project.train().state == "succeeded"
        assert states(project) == [state, "succeeded"]
        assert spent_and_held(project) == (billed_micro(host), 0)


def test_a_job_that_the_host_forgets_counts_as_spent(
    tmp_path: Path, place: Callable[..., Project]
) -> None:
    """Nobody knows what it bills: its worst case is gone, and the run has failed."""
    with practice_host(tmp_path / "log.jsonl", "forgotten@1-") as host:
        project = place(host)
        with pytest.raises(UnderstudyError, match="knows no such job"):
            project.train()
        assert states(project) == ["failed"]
        spent, held = spent_and_held(project)
        assert spent > billed_micro(host)
        assert held == 0
        assert views.ledger(project)["unknown"] == 1


def test_paused_there_it_waits_to_be_resumed(tmp_path: Path, place: Callable[..., Project]) -> None:
    """Whoever paused it, the command ends and says how to go on; resumed it ends well."""
    with practice_host(tmp_path / "log.jsonl", "paused@1") as host:
        project = place(host)
        with pytest.raises(PartlyDone, match="--resume run:1"):
            project.train()
        assert states(project) == ["paused"]
        assert spent_and_held(project)[1] > 0
        assert views.status(project)["next"].startswith("understudy train")
        assert project.resume("run:1").state == "succeeded"
        assert made(host) == (2, 1, 1)


# -- closed ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["closed@1-", "create_403@1-"])
def test_a_host_that_does_not_fine_tune_says_so_before_it_costs(
    fault: str, tmp_path: Path, place: Callable[..., Project]
) -> None:
    """One line with the ways out, no job, nothing held."""
    with practice_host(tmp_path / "log.jsonl", fault) as host:
        project = place(host)
        with pytest.raises(Closed, match=r"does not fine-tune.*--student hf:"):
            project.train()
        assert made(host)[1:] == (0, 0)
        assert spent_and_held(project) == (0, 0)
        assert states(project) in ([], ["failed"])


def test_a_server_without_fine_tuning_and_a_model_that_is_none(
    tmp_path: Path, place: Callable[..., Project]
) -> None:
    """404 on the route; a base that the host does not train."""
    with practice_host(tmp_path / "log.jsonl") as host:
        elsewhere = place(host, student=f"{host.url.replace('/v1', '/v2')}#novice")
        with pytest.raises(Closed, match="offers no fine-tuning"):
            elsewhere.train()
        with pytest.raises(Closed, match="does not train gpt-9"):
            place(host, "gpt-9").train()
        assert made(host)[1:] == (0, 0)


def test_what_is_over_is_refused_without_asking(folder: Path, tmp_path: Path) -> None:
    """A retired model, a provider that has ended it: exit 5, the day, the page, the ways out."""
    env = {"OPENAI_API_KEY": KEY, "MISTRAL_API_KEY": KEY, "ANTHROPIC_API_KEY": KEY}

    def train(student: str) -> Any:
        command = ("train", "-p", "p", "--student", student)
        return forked_cli.understudy(tmp_path, *command, env=env)

    retired = train("openai:gpt-3.5-turbo")
    one_line(retired, 5, "23 October 2026", "deprecations", "--student hf:", "understudy serve")
    one_line(train("mistral:open-mistral-7b"), 5, "docs.mistral.ai", "nebius")
    one_line(train("anthropic:claude"), 5, "no fine-tuning is known there")


def test_the_dates_of_openai_hold_from_their_day_on() -> None:
    """Open to some until 6 January 2027, told before that; elsewhere nothing is assumed."""
    here = address("openai:gpt-4o-mini", offline=False, environ={"OPENAI_API_KEY": KEY})
    assert tables.over(here, date(2027, 1, 5)) == ""
    assert "6 January 2027" in tables.soon(here)
    assert "14 January 2027" in tables.soon(here)
    assert "6 January 2027" in tables.over(here, date(2027, 1, 6))
    url = address("https://api.openai.com/v1#gpt-3.5-turbo-0125", offline=False, environ={})
    assert "23 October 2026" in tables.over(url, date(2026, 11, 29))
    mine = address("http://127.0.0.1:9/v1#gpt-3.5-turbo", offline=False, environ={})
    assert tables.over(mine, date(2027, 2, 1)) == tables.soon(mine) == ""
    name = "openai:ft:gpt-3.5-turbo-0125:acme:orders:Ab1"
    tuned = address(name, offline=False, environ={"OPENAI_API_KEY": KEY})
    assert tables.switched_off(tuned, date(2026, 10, 22)) == ""
    assert "switched off on 23 October 2026" in tables.switched_off(tuned, date(2026, 10, 23))


def test_the_doctor_asks_a_students_host(tmp_path: Path) -> None:
    """Open with its price and end, or closed with the reason; nothing is made."""
    from understudy.settings import Settings

    with practice_host(tmp_path / "log.jsonl", tune_shutdown="2027-03-01") as host:
        found = {one.name: one for one in doctor(Settings(student=f"{host.url}#novice"), None)}
        assert found["student fine-tuning"].ok
        assert found["student training price"].found == "not known"
        assert "2027-03-01" in found["student ends"].found
        assert made(host) == (0, 0, 0)
    with practice_host(tmp_path / "log.jsonl", "closed@1-") as host:
        found = {one.name: one for one in doctor(Settings(student=f"{host.url}#novice"), None)}
        assert found["student fine-tuning"].ok is False
        assert "not available to your organization" in found["student fine-tuning"].found


def test_a_name_that_leads_to_a_clouds_own_service_is_not_called(
    monkeypatch: pytest.MonkeyPatch, place: Callable[..., Project]
) -> None:
    """Whatever the name is, what it resolves to is looked at before the SDK is let loose."""
    monkeypatch.setattr(
        "socket.getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("169.254.169.254", 443))]
    )
    monkeypatch.setenv("OPENAI_BASE_URL", "https://inner.example/v1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    host = Server("https://inner.example/v1", Path())
    with pytest.raises(ProviderRefused, match="resolves to an address that is no API's"):
        place(host).train()


def test_without_the_sdk_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: Callable[..., Project]
) -> None:
    """The extra is named, before anything is sent."""
    monkeypatch.setitem(sys.modules, "openai", None)
    with practice_host(tmp_path / "log.jsonl") as host:
        with pytest.raises(SetupError, match=r"understudy\[hosted\]"):
            place(host).train()
        assert made(host) == (0, 0, 0)


# -- settings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"method": "lora"}, "--method"),
        ({"trials": 2}, "--trials"),
        ({"launch": "2"}, "--launch"),
        ({"anyway": True}, "--anyway"),
        ({"weight_decay": 0.1}, "weight_decay makes no sense"),
        ({"learning_rate": 1e-4}, "learning_rate is not known"),
        ({"epochs": 0}, "from 1 to 50"),
        ({"epochs": 2.5}, "epochs"),
        ({"batch_size": 1000}, "from 1 to 256"),
        ({"suffix": "no spaces"}, "suffix"),
    ],
)
def test_wishes_that_a_host_cannot_grant_are_told(
    given: dict[str, Any], words: str, place: Callable[..., Project], tmp_path: Path
) -> None:
    """Before anything is written or sent."""
    with practice_host(tmp_path / "log.jsonl") as host:
        with pytest.raises(UsageError, match=words):
            place(host).train(**given)
        assert made(host) == (0, 0, 0)


def test_settings_reach_the_host(tmp_path: Path, place: Callable[..., Project]) -> None:
    """Passes, batch, multiplier, seed and suffix go out; auto is left to the host."""
    with practice_host(tmp_path / "log.jsonl") as host:
        project = place(host, seed=7)
        run = project.train(
            epochs=2, batch_size=4, learning_rate_multiplier=0.5, suffix="durations"
        )
        (job,) = lines(host, "job")
    wanted = {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 0.5}
    assert job["about"]["hyperparameters"] == wanted
    assert job["about"]["seed"] == 7
    assert "durations" in run.remote
    assert run.metrics["steps"] == -(-2 * len(_rows(project.folder, "train")) // 4)


@pytest.mark.parametrize(("rows", "epochs"), [(10, 10), (30, 3), (40, 3), (20_000, 1), (4, 25)])
def test_the_passes_follow_the_number_of_rows(rows: int, epochs: int) -> None:
    """Few rows are read more often, many less."""
    assert choose(rows, "openai", {}, 0).epochs == epochs


# -- the file --------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40).filter(
    lambda text: text.strip()
)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(TEXT, TEXT), min_size=10, max_size=14))
def test_what_is_written_for_a_host_breaks_no_rule(
    rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever the texts are, the file passes the published rules and holds them unchanged."""
    path = tmp_path_factory.mktemp("chat") / "train.jsonl"
    examples = [Example((Message("user", text),), answer) for text, answer in rows]
    write(path, examples, "chat", system_message="Answer.")
    must_be_taken(path, Rules())
    found = [json.loads(line)["messages"] for line in path.read_bytes().splitlines()]
    assert [(turns[1]["content"], turns[2]["content"]) for turns in found] == rows


BREACHES: tuple[Callable[[dict[str, Any]], Any], ...] = (
    lambda row: row.pop("messages"),
    lambda row: row["messages"][-1].update(role="user"),
    lambda row: row["messages"][-1].update(weight=2),
    lambda row: row["messages"][0].update(role="narrator"),
    lambda row: row["messages"][-1].update(content=""),
    lambda row: row["messages"].pop(),
    lambda row: row["messages"][1].update(content="x" * 300_000),
)


@settings(max_examples=30, deadline=None)
@given(at=st.integers(0, 11), breach=st.sampled_from(BREACHES))
def test_a_line_that_breaks_a_rule_is_named_before_anything_is_sent(
    at: int, breach: Callable[[dict[str, Any]], Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The first thing that is told is the number of the line."""
    path = tmp_path_factory.mktemp("chat") / "train.jsonl"
    examples = [Example((Message("user", f"{n} hours"),), f"PT{n}H") for n in range(12)]
    write(path, examples, "chat", system_message="Answer.")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    breach(rows[at])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rules = Rules(max_line_tokens=65_536)
    assert {bad.number for bad in check(path, rules)} == {at + 1}
    with pytest.raises(UsageError, match=rf"line {at + 1}: "):
        must_be_taken(path, rules)


# -- stopped, cancelled ----------------------------------------------------------------------


def test_ctrl_c_leaves_the_job_and_the_same_command_follows_it(
    folder: Path, tmp_path: Path, place: Callable[..., Project]
) -> None:
    """Exit 130, with how to go on and how to cancel; with the older SDK too."""
    older = Path(sys.prefix) / "openai-2"
    env = {**os.environ}
    if older.is_dir():
        env["PYTHONPATH"] = os.pathsep.join([str(older), *sys.path])
    with practice_host(tmp_path / "log.jsonl", seconds=4) as host:
        command = understudy_command(
            *("train", "-p", "p", "--student", f"{host.url}#novice", *PRICED)
        )
        process = subprocess.Popen(
            command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True
        )
        until(lambda: bool(lines(host, "job")))
        until(lambda: bool(told(place(host), "train.step")))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130, said
        assert "goes on at the host" in said
        assert "train --cancel run:1" in said
        assert states(place(host)) == ["running"]
        assert place(host).train().state == "succeeded"
        assert made(host) == (2, 1, 1)


def test_a_job_is_cancelled_while_another_process_follows_it(
    tmp_path: Path, folder: Path, place: Callable[..., Project]
) -> None:
    """It needs no lock; whoever follows books what was billed for the steps done."""
    with practice_host(tmp_path / "log.jsonl", seconds=30) as host:
        project = place(host)
        raised: list[BaseException] = []

        def follow() -> None:
            try:
                opened(folder, host).train()
            except UnderstudyError as error:
                raised.append(error)

        follower = threading.Thread(target=follow)
        follower.start()
        until(lambda: bool(told(project, "train.step")))
        cancel = ("train", "-p", "p", "--cancel", "run:1")
        done = forked_cli.understudy(tmp_path, *cancel)
        assert done.code == 0, done.err
        follower.join(30)
        assert "cancelled at the host" in str(raised[0])
        assert states(project) == ["cancelled"]
        until(lambda: bool(lines(host, "trained")))
        assert 0 < billed_micro(host) == spent_and_held(project)[0]
        one_line(forked_cli.understudy(tmp_path, *cancel), 2, "is over")
        pause = ("train", "-p", "p", "--pause", "run:9")
        one_line(forked_cli.understudy(tmp_path, *pause), 2, "no run at a host")


def test_pause_resume_and_cancel_without_a_follower(
    tmp_path: Path, place: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each asks the host; a run of which nothing was sent yet is simply given up."""
    with practice_host(tmp_path / "log.jsonl", seconds=30) as host:
        project = place(host)

        def stop(*_: Any, **__: Any) -> None:
            raise RuntimeError("stopped")

        with monkeypatch.context() as patched:
            patched.setattr(handing.Handing, "see_through", stop)
            with pytest.raises(RuntimeError):
                project.train()
        assert spent_and_held(project)[1] > 0
        assert project.cancel("run:1").state == "cancelled"
        assert spent_and_held(project) == (0, 0)
        assert made(host) == (0, 0, 0)

        with monkeypatch.context() as patched:
            patched.setattr(handing.Handing, "_ended", stop)
            with pytest.raises(RuntimeError):
                project.train()
        until(lambda: _pauses(project))
        assert states(project) == ["cancelled", "paused"]
        assert project.cancel("latest").state == "cancelled"
        assert states(project) == ["cancelled", "cancelled"]
        assert spent_and_held(project)[1] == 0


def _pauses(project: Project) -> bool:
    """The host takes it once it has begun."""
    try:
        return project.pause("run:2").state == "paused"
    except UnderstudyError:
        return False


# -- the model -------------------------------------------------------------------------------


def test_a_base_that_cannot_be_asked_is_missing_and_said(
    tmp_path: Path, place: Callable[..., Project]
) -> None:
    """The evaluation goes on without it; a student that does not answer ends it."""
    with practice_host(tmp_path / "log.jsonl", faults=[At("404_model", 1, 1)]) as host:
        project = place(host)
        project.train()
        report = project.evaluate()
        assert report.systems["student"].score == 1
        base = report.systems["base"]
        assert base.missing == base.items
        assert "knows no model novice" in base.why_missing


def test_what_must_be_deployed_first_is_told() -> None:
    """Azure, Nebius, Together and Fireworks answer only after a step of their own."""
    env = {"AZURE_OPENAI_ENDPOINT": "https://me.openai.azure.com"}
    for one in ("AZURE_OPENAI", "TOGETHER", "FIREWORKS"):
        env[f"{one}_API_KEY"] = KEY
    for name in ("azure:gpt-4o", "together:m", "fireworks:m"):
        assert tables.facts(address(name, offline=False, environ=env)).deploy


# -- Together and Fireworks ------------------------------------------------------------------

OTHERS = {
    "together": ("TOGETHER_BASE_URL", "/v1", "novice"),
    "fireworks": ("FIREWORKS_BASE_URL", "/inference/v1", "accounts/fireworks/models/novice"),
}


@pytest.fixture(params=OTHERS)
def other(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Bind a provider to a practice host; gives the student's name."""
    variable, path, model = OTHERS[request.param]

    def bound(host: Any) -> str:
        monkeypatch.setenv(variable, host.url.removesuffix("/v1") + path)
        monkeypatch.setenv(f"{request.param.upper()}_API_KEY", KEY)
        return f"{request.param}:{model}"

    return bound


def test_the_other_protocols_go_the_whole_way(
    other: Callable[..., str], tmp_path: Path, place: Callable[..., Project]
) -> None:
    """Replies lost on the way; one of each file, one job, its bill; the model answers."""
    faults = ("upload_lost@1", "create_lost@1", "poll_500@1-3")
    with practice_host(tmp_path / "log.jsonl", *faults, key=KEY) as host:
        project = place(host, student=other(host))
        run = project.train(learning_rate=1e-4, epochs=2)
        assert run.state == "succeeded"
        assert made(host) == (2, 1, 1)
        spent, held = spent_and_held(project)
        assert held == 0
        assert spent >= billed_micro(host) * 0.9  # Fireworks tells only an estimate
        assert told(project, "train.step")
        assert project.predict("4 hours and 2 minutes", "run:1") == "PT4H2M"
        assert project.train(learning_rate=1e-4, epochs=2).id == run.id
        with pytest.raises(UsageError, match="learning_rate_multiplier is not known"):
            project.train(learning_rate_multiplier=2)


def test_the_other_protocols_cancel_and_do_not_pause(
    other: Callable[..., str], folder: Path, tmp_path: Path, place: Callable[..., Project]
) -> None:
    """Cancelled, it is booked; what cannot be done there is told."""
    with practice_host(tmp_path / "log.jsonl", seconds=30) as host:
        student = other(host)
        project = place(host, student=student)
        raised: list[BaseException] = []

        def follow() -> None:
            try:
                opened(folder, host, student=student).train()
            except UnderstudyError as error:
                raised.append(error)

        follower = threading.Thread(target=follow)
        follower.start()
        until(lambda: bool(told(project, "hosted.state")))
        with pytest.raises(UsageError, match="cannot pause"):
            project.pause("run:1")
        project.cancel("run:1")
        follower.join(30)
        assert "cancelled at the host" in str(raised[0])
        assert states(project) == ["cancelled"]
        assert spent_and_held(project)[1] == 0


def test_hosted_names_are_those_with_an_address() -> None:
    """A provider or a URL; folders and models of the hub stay here."""
    from understudy.project.hosted_plan import is_hosted

    names = ("openai:gpt-4o", "http://h/v1#b", "azure:x")
    assert all(map(is_hosted, names))
    assert not any(map(is_hosted, ("tiny", "hf:org/name", "/folder", "./x", "gpt-4o")))
    assert hosting.OPEN == ("created", "running", "paused")


# -- two processes, one run ------------------------------------------------------------------


def test_a_job_that_may_be_there_is_not_given_up_because_the_list_is_closed(
    tmp_path: Path, place: Callable[..., Project]
) -> None:
    """The reply was lost, and then nobody may look: the money stays held until it is known."""
    faults = ("create_lost@1", "closed@3-9")
    with practice_host(tmp_path / "log.jsonl", *faults) as host:
        project = place(host)
        with pytest.raises(ProviderRefused):
            project.train()
        assert made(host)[1] == 1, "the host made the job"
        assert states(project) == ["created"]
        assert spent_and_held(project)[1] > 0
        until(lambda: _trained(project))
        assert made(host) == (2, 1, 1)
        assert spent_and_held(project) == (billed_micro(host), 0)


def _trained(project: Project) -> bool:
    try:
        return project.train().state == "succeeded"
    except ProviderRefused:
        return False


def test_what_another_process_is_about_to_hand_over_is_not_cancelled_in_silence(
    tmp_path: Path, place: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would go out all the same: so it is said, and nothing is given back."""

    def stop(*_: Any, **__: Any) -> None:
        raise RuntimeError("stopped")

    with practice_host(tmp_path / "log.jsonl") as host:
        project, follower = place(host), place(host)
        with monkeypatch.context() as patched:
            patched.setattr(handing.Handing, "see_through", stop)
            with pytest.raises(RuntimeError):
                project.train()
        with follower.writing(), pytest.raises(UsageError, match="not at the host yet"):
            project.cancel("run:1")
        assert spent_and_held(project)[1] > 0
        assert follower.train().state == "succeeded"


def test_a_reply_that_comes_late_does_not_undo_the_end(
    tmp_path: Path, place: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever follows has booked it before the host's reply to the pause arrives."""

    def stop(*_: Any, **__: Any) -> None:
        raise RuntimeError("stopped")

    async def late(_: Any, job_id: str, __: str) -> Job:
        await asyncio.to_thread(follower.train)
        return Job(job_id, "running", "running")

    with practice_host(tmp_path / "log.jsonl") as host:
        project, follower = place(host), place(host)
        with monkeypatch.context() as patched:
            patched.setattr(handing.Handing, "_ended", stop)
            with pytest.raises(RuntimeError):
                project.train()
        monkeypatch.setattr(openai_sdk.OpenAIHost, "act", late)
        project.pause("run:1")
        assert states(project) == ["succeeded"]
        assert spent_and_held(project) == (billed_micro(host), 0)


def test_the_last_events_are_asked_for_again(
    tmp_path: Path, place: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No later look would bring them, and what a cancelled job cost is told by its steps."""
    real, asked = openai_sdk.OpenAIHost.events, [0]

    async def torn_at_first(host: Any, job_id: str, after: str) -> list[Happening]:
        asked[0] += 1
        if asked[0] % 2:
            raise Lost("torn")
        return await real(host, job_id, after)

    monkeypatch.setattr(openai_sdk.OpenAIHost, "events", torn_at_first)
    with practice_host(tmp_path / "log.jsonl", seconds=0.0) as host:
        project = place(host)
        run = project.train()
        assert run.metrics["steps"] == told(project, "train.step")[-1]["steps"]


def test_a_job_of_another_run_over_the_same_file_is_not_taken(tmp_path: Path) -> None:
    """A host may give one id to equal files; the mark says whose job it is."""
    recipe = choose(60, "openai", {}, 1)
    with practice_host(tmp_path / "log.jsonl") as host:

        async def made_twice() -> tuple[str, str]:
            where = openai_sdk.OpenAIHost(address(f"{host.url}#novice", offline=False), timeout_s=9)
            rows = tmp_path / "rows.jsonl"
            turns = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]
            rows.write_text((json.dumps({"messages": turns}) + "\n") * 12)
            order = Order("us-1", "novice", await where.upload(rows, "a"), "", recipe)
            first = await where.create(order)
            found = await where.job_of(order._replace(mark="us-2"))
            await where.close()
            return first.id, found.id if found else ""

        assert asyncio.run(made_twice()) == ("ftjob-000001", "")
