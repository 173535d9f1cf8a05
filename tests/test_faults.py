"""Every way in which a provider fails, met by ``understudy generate``: the row that is left, what
it cost, why no example came of it, and that the rest went on (T03-T30)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from conftest import PRICES, Done, Server, understudy_command
from rehearsal import (
    billed_micro,
    calls,
    cost_micro,
    environment,
    examples,
    in_environment,
    made_project,
    must_agree,
    one_line,
    purse,
    select,
    serving,
    states,
    teacher,
)
from understudy.clean.refusals import refuses
from understudy.example import Message
from understudy.models.protocol import Request
from understudy.practice import support, wires
from understudy.practice.faults import PAID, At
from understudy.practice.refusals import REFUSALS
from understudy.task import Spec

Cli = Callable[..., Done]

NOTHING, RESERVE, USAGE = "nothing", "its worst case", "its tokens"
"""What a call costs in the ledger."""


class Expected(NamedTuple):
    """What is left of a call that met a fault."""

    state: str
    cost: str
    note: str = ""
    """Words of the row's note."""
    reason: str | None = None
    """Why its example is set apart; "" for a usable one, None where there is none."""


UNPAID = Expected("failed_unpaid", NOTHING)
TORN = Expected("unknown", RESERVE, "connection lost")
LATE = Expected("unknown", RESERVE, "no whole reply within 1 s")
TOO_LONG = Expected("unknown", RESERVE, "longer than 8,000,000 bytes")
FAILED = Expected("unknown", RESERVE, "HTTP 5")
FILTERED = Expected("unknown", RESERVE, "HTTP 400: The response was filtered")
NO_COMPLETION = Expected("settled", RESERVE, "not a chat completion")
GOOD = Expected("settled", USAGE, reason="")
ESTIMATED = Expected("settled", RESERVE, reason="")


def apart(reason: str) -> Expected:
    return Expected("settled", USAGE, reason=reason)


EXPECTED = {
    # T01, T05: asks to wait
    **dict.fromkeys(("429", "503", "529"), UNPAID),
    # T04: the endpoint says that it failed
    **dict.fromkeys(("500", "500_paid", "502", "504"), FAILED),
    # T28 and its like: this call alone cannot be
    "400": UNPAID._replace(note="malformed"),
    "context_length": UNPAID._replace(note="maximum context length"),
    # T22
    "content_filter": FILTERED,
    "content_filter_paid": FILTERED,
    "content_filter_200": apart("refusal"),
    # T07-T09
    **dict.fromkeys(("reset_before", "reset_after", "cut_body", "length_lie"), TORN),
    # T10-T13
    **dict.fromkeys(("hang", "drip", "slow_headers"), LATE),
    # T14, T16, T18
    **dict.fromkeys(("cut_json", "empty_body", "204", "not_utf8", "deep"), NO_COMPLETION),
    **dict.fromkeys(("choices_empty", "choices_null"), NO_COMPLETION),
    "error_200": Expected("settled", RESERVE, "answered with an error: Provider returned error"),
    "two_choices": GOOD,
    "duplicate_index": GOOD,
    # T17
    "headers": TORN,
    "huge": TOO_LONG,
    "gzip_bomb": TOO_LONG,
    # T19
    **dict.fromkeys(("empty", "blank", "null"), apart("empty")),
    "invisible": apart("malformed"),  # the task's answers are JSON
    # T20
    "refusal": apart("malformed"),
    "refusal_any": apart("malformed"),
    "refusal_field": apart("refusal"),
    # T21
    **dict.fromkeys(("length", "length_valid", "length_null"), apart("cut off")),
    # T23
    "tool_calls": apart("empty"),
    "finish_unknown": apart("ended by eos_reached"),
    "finish_missing": GOOD,
    # T24
    "wrong_schema": apart("breaks the spec: missing key order"),
    "wrong_types": apart("breaks the spec: order is not a string"),
    "nan": apart("breaks the spec: order is not a string"),
    "controls": apart("breaks the spec: not a JSON object"),
    **dict.fromkeys(("duplicate_keys", "fenced", "chatty", "surrogate"), GOOD),
    # T25
    **dict.fromkeys(("no_usage", "usage_zero", "usage_negative"), ESTIMATED),
    **dict.fromkeys(("usage_text", "usage_huge"), ESTIMATED),
    # T26
    "model_other": GOOD._replace(note="answered by practice-mini-2020-01-01"),
    # T33
    "usage_10x": GOOD._replace(note="billed more than the limit"),
}
"""Kind of fault to what it leaves; those that end the command are in ``ENDS``."""

ENDS = {
    "429_quota": ("Add credit",),  # T03
    "html": ("not an OpenAI-compatible API",),  # T15
    "401": ("OPENAI_API_KEY",),  # T27
    "403": ("OPENAI_API_KEY",),
    "404_model": ("knows no model", "doctor"),
    "307": ("redirects elsewhere, which is not followed",),  # T29
    "308": ("redirects elsewhere, which is not followed",),
}
"""Kind of fault to the words in which the command ends, with exit code 5."""

FIRST, STEP = 10, 3
"""Number of the first request that fails, after the pilot; of three that follow one fails."""
RESENT = {"429", "503", "529", "500", "500_paid", "502", "504"}
# Those that are resent come last: a call that waits to be resent takes some later number.
ORDER = sorted(EXPECTED, key=lambda kind: kind in RESENT)
NUMBER = {kind: FIRST + STEP * place for place, kind in enumerate(ORDER)}


def test_every_kind_of_fault_is_expected_somewhere() -> None:
    """A kind that the practice server learns must be met by generation too."""
    assert EXPECTED.keys() | ENDS.keys() == PAID.keys()


class Rehearsed(NamedTuple):
    """A generation that met every fault once."""

    project: Path
    provider: Server
    code: int
    err: str
    peak_kib: int


def made(project: Path) -> int:
    return int(select(project, "SELECT count(*) AS number FROM example")[0]["number"])


def question(number: int) -> str:
    return f"My order number is {40000 + number}. I want my money back for the kettle."


# In a small process of its own: a child's peak is never below its parent's size when it was made.
MEASURED = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsed]:
    """One command whose every third call meets another fault; one call in flight at a time."""
    folder = tmp_path_factory.mktemp("rehearsed")
    project = folder / "p"
    wanted = max(NUMBER.values()) + STEP
    (folder / "inputs.txt").write_text("".join(f"{question(n)}\n" for n in range(wanted)))
    faults = tuple(At(kind, number, number) for kind, number in NUMBER.items())
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("OPENAI_", "UNDERSTUDY_", "HTTP", "http")):
                patch.delenv(name)
        patch.setattr(wires, "BOMB_BYTES", 50_000_000)
        wires._bomb(wires.BOMB_BYTES)  # made now, not within the deadline of the call
        with (
            serving(folder / "bill", faults=faults) as provider,
            (folder / "err").open("w") as errors,
        ):
            new = understudy_command("new", project, "--describe", "support")
            subprocess.run(new, check=True, capture_output=True)
            command = ("generate", "-p", project, "--inputs", folder / "inputs.txt")
            done = subprocess.run(
                [
                    *(sys.executable, "-c", MEASURED),
                    *understudy_command(*command, "--json", *teacher(provider, "support")),
                ],
                stdout=subprocess.PIPE,
                stderr=errors,
                env=in_environment(timeout=1, concurrency=1, pilot=1),
                text=True,
                check=True,
            )
            code, peak_kib = map(int, done.stdout.split())
            yield Rehearsed(project, provider, code, (folder / "err").read_text(), peak_kib)


def test_the_command_goes_on_through_all_of_them(rehearsed: Rehearsed) -> None:
    """Done in part, each loss with its reason; never a traceback; every book agrees (I1-I5, I7)."""
    assert rehearsed.code == 6, rehearsed.err
    assert "Traceback" not in rehearsed.err
    assert len(calls(rehearsed.project)) == rehearsed.provider.requests()
    must_agree(rehearsed.project, rehearsed.provider)
    assert purse(rehearsed.project).held_micro == 0


@pytest.mark.parametrize("kind", EXPECTED)
def test_what_a_fault_leaves(kind: str, rehearsed: Rehearsed) -> None:
    """T01-T26: state, cost and reason; the call never costs less than the bill says."""
    expected = EXPECTED[kind]
    row = calls(rehearsed.project)[NUMBER[kind] - 1]
    assert row["state"] == expected.state, row["note"]
    assert expected.note in row["note"]
    cost = {NOTHING: 0, RESERVE: row["reserve_micro"]}.get(expected.cost)
    if cost is None:
        assert row["estimated"] == 0
        assert 0 < row["cost_micro"] < row["reserve_micro"] or kind == "usage_10x"
    else:
        assert row["cost_micro"] == cost
    assert row["estimated"] == (expected.state == "settled" and expected.cost == RESERVE)
    found = select(rehearsed.project, "SELECT * FROM example WHERE source = ?", row["key"])
    query = "SELECT * FROM call WHERE key = ? AND attempt > ? ORDER BY attempt"
    later = select(rehearsed.project, query, row["key"], row["attempt"])
    if kind in RESENT:
        assert later[-1]["state"] == "settled"
        assert [one["state"] for one in found] == ["accepted"]
        return
    assert later == [], "it was sent again"
    reasons = [one["reason"] for one in found]
    assert reasons == ([] if expected.reason is None else [expected.reason])
    if expected.reason == "":
        (example,) = found
        asked = json.loads(example["messages"])[-1][1]
        assert (example["state"], example["answer"]) == ("accepted", support.answer(asked))


@pytest.mark.parametrize("kind", EXPECTED)
def test_what_a_fault_is_billed(kind: str, rehearsed: Rehearsed) -> None:
    """I3: of each single request the ledger says at least what the provider's own bill says."""
    row = calls(rehearsed.project)[NUMBER[kind] - 1]
    lines = [line for line in rehearsed.provider.account() if line["n"] == NUMBER[kind]]
    assert {line["fault"] for line in lines} == {kind}
    assert row["cost_micro"] >= int(sum(map(cost_micro, lines)))


def test_bytes_that_came_are_kept(rehearsed: Rehearsed) -> None:
    """T09, T14: torn ones for the record, whole ones to be understood by a later version."""
    rows = calls(rehearsed.project)
    assert len(rows[NUMBER["cut_body"] - 1]["raw"]) == 40
    for kind in ("cut_json", "not_utf8", "deep", "choices_null", "error_200"):
        assert rows[NUMBER[kind] - 1]["raw"], kind


def test_nothing_wrong_is_accepted(rehearsed: Rehearsed) -> None:
    """T14-T24: every accepted answer is the one that a perfect teacher gives."""
    found = examples(rehearsed.project)
    assert len(found) > len(EXPECTED)
    assert {asked: support.answer(asked) for asked in found} == found


def test_refusals_in_fifty_wordings() -> None:
    """T20: where nothing but the text can tell, four of five; where the spec has a check, all."""
    spec = support.spec()
    assert all(spec.violation(text) for text in REFUSALS)
    free = Spec(title="t", input="i", output="o", kind="text", system_message="s")
    caught = [text for text in REFUSALS if refuses(text, free)]
    assert len(caught) >= 0.8 * len(REFUSALS) == 40


def test_memory_stays_bounded(rehearsed: Rehearsed) -> None:
    """T17: 50 MB of text, a bomb of 50 MB and a header of 1 MB leave the process below 140 MB.

    Measured: 86 MB without any fault, 90 MB with them.
    """
    assert rehearsed.peak_kib < 140_000


def test_unknown_ones_are_sent_again_only_on_request(rehearsed: Rehearsed, understudy: Cli) -> None:
    """T08, T09, T13, T14: the same command buys nothing of them; with --resend-unknown it does."""
    project, provider = rehearsed.project, rehearsed.provider
    before, had, seen = states(project), made(project), provider.requests()
    command = ("generate", "-p", project, "--inputs", project.parent / "inputs.txt")
    again = understudy(*command, *teacher(provider, "support"))
    one_line(again, 6, "examples were made")
    refused = ("400", "context_length")  # nothing is owed for them, so they are asked again
    assert provider.requests() - seen == len(refused)
    assert states(project)["unknown"] == before["unknown"]
    assert made(project) - had == len(refused)
    env = environment(resend_unknown=True)
    one_line(understudy(*command, *teacher(provider, "support"), env=env), 6, "were made")
    torn = [kind for kind, one in EXPECTED.items() if one.state == "unknown" and kind not in RESENT]
    assert made(project) - had == len(refused) + len(torn)
    must_agree(project, provider)


# -- what ends the command ---------------------------------------------------------------------

AT_ONCE = 4


@pytest.mark.parametrize("kind", ["429_quota", "401", "307"])
def test_what_ends_the_command(kind: str, understudy: Cli, tmp_path: Path) -> None:
    """T03, T27, T29: from the sixth call on: exit code 5, no more than the calls in flight are
    tried in vain, nothing is owed for them, and what was made is kept."""
    with (
        serving(tmp_path / "other") as other,
        serving(
            tmp_path / "bill",
            faults=(At(kind, 6, float("inf")),),
            latency=0.02,
            redirect_to=f"{other.url}/chat/completions",
        ) as provider,
    ):
        project = made_project(understudy, tmp_path / "p")
        inputs = tmp_path / "inputs.txt"
        inputs.write_text("".join(f"{number} minutes\n" for number in range(2, 42)))
        command = ("generate", "-p", project, *teacher(provider, "durations"))
        done = understudy(*command, "--inputs", inputs, env=environment(concurrency=AT_ONCE))
        one_line(done, 5, *ENDS[kind])
        assert 5 < provider.requests() <= 5 + AT_ONCE
        assert states(project)["settled"] == 5
        assert states(project)["failed_unpaid"] == provider.requests() - 5
        assert len(examples(project)) == 4  # after the spec
        assert not other.log.read_text()
        must_agree(project, provider)


def test_a_provider_that_always_fails(understudy: Cli, tmp_path: Path) -> None:
    """T04: given up after twenty failures in a row, with the commonest in words; all counted."""
    with serving(tmp_path / "bill", faults=(At("500_paid", 4, float("inf")),)) as provider:
        project = made_project(understudy, tmp_path / "p")
        env = environment(concurrency=8, max_attempts=3)
        command = ("generate", "200", "-p", project, "--per-call", "100")
        done = understudy(*command, *teacher(provider, "durations"), env=env)
        one_line(done, 5, "20 calls in a row failed", "HTTP 500")
        assert provider.requests() <= 3 + 20 + 8
        assert max(provider.paid().values()) <= 3
        assert states(project)["unknown"] == provider.requests() - 3
        must_agree(project, provider)


def test_ten_busy_replies_and_then_a_good_one(understudy: Cli, tmp_path: Path) -> None:
    """T05: all are done in the end, and each is paid once."""
    with serving(tmp_path / "bill", faults=(At("503", 4, 13),)) as provider:
        project = made_project(understudy, tmp_path / "p")
        command = ("generate", "20", "-p", project, "--per-call", "20", "--json")
        done = understudy(*command, *teacher(provider, "durations"))
        assert (done.code, done.json["total"]) == (0, 20), done.err
        assert states(project)["failed_unpaid"] == 10
        assert set(provider.paid().values()) == {1}
        must_agree(project, provider)


def test_a_name_that_does_not_resolve(understudy: Cli, tmp_path: Path) -> None:
    """T06: named, and nothing is owed."""
    project = made_project(understudy, tmp_path / "p")
    name = ("--teacher", "https://nobody.invalid/v1#m", *PRICES)
    done = understudy("generate", "9", "-p", project, *name, env=environment(max_attempts=1))
    one_line(done, 5, "nobody.invalid")
    assert purse(project).spent_micro == 0


def test_no_tls_where_tls_is_asked_for(understudy: Cli, tmp_path: Path) -> None:
    """T06: a server that does not speak TLS is named; nothing is owed."""
    with serving(tmp_path / "bill") as provider:
        project = made_project(understudy, tmp_path / "p")
        name = provider.teacher("durations").replace("http://", "https://")
        command = ("generate", "9", "-p", project, "--teacher", name, *PRICES)
        done = understudy(*command, env=environment(max_attempts=1))
        one_line(done, 5, "https://127.0.0.1")
        assert purse(project).spent_micro == 0
        assert billed_micro(provider) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"messages": (Message("user", "another"),)},
        {"messages": (Message("system", "s"), Message("user", "one"))},
        {"max_tokens": 51},
        {"temperature": 0.5},
        {"schema": {"type": "object"}},
        {"sample": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_is_asked_otherwise_is_another_call(change: dict[str, Any]) -> None:
    """T30: the key is of all that is sent, so that no cached reply answers another question."""
    request = Request((Message("user", "one"),), 50)
    assert request.key("a") == replace(request).key("a")
    assert request.key("a") != request.key("b")
    assert request.key("a") != replace(request, **change).key("a")
