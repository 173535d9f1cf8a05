"""Generation killed at random moments: nothing received is lost or bought twice (T38, I1-I4)."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import PRICES, Done, Server, understudy_command

EXAMPLES = 150
WORKERS = 8


def accepted(project: Path) -> set[str]:
    """Sources of the accepted examples."""
    with sqlite3.connect(project / "understudy.db") as connection:
        rows = connection.execute("SELECT source FROM example WHERE state = 'accepted'")
        return {row[0] for row in rows}


def stored_replies(project: Path) -> int:
    with sqlite3.connect(project / "understudy.db") as connection:
        query = "SELECT count(*) FROM call WHERE state IN ('received', 'settled')"
        return int(connection.execute(query).fetchone()[0])


def kill_often(
    understudy: Callable[..., Done], provider: Server, project: Path, kills: int, seed: int
) -> dict[str, int]:
    """Kill ``generate`` at random moments, check after each, finish; the counts."""
    teacher = ("--teacher", provider.teacher("durations"), *PRICES)
    assert understudy("new", project, "--describe", "durations", *teacher).code == 0
    # Spec and plan first: one that is killed in flight is asked for again only on request.
    assert understudy("plan", "-p", project).code == 0
    command = understudy_command(
        *("generate", EXAMPLES, "-p", project, "-q", "--concurrency", WORKERS)
    )
    drawn = random.Random(seed)
    before: set[str] = set()
    done = 0
    while done < kills:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ)
        # Until the first call there is nothing to lose: start-up alone takes about half a second.
        time.sleep(drawn.uniform(0.4, 1.6))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        done += process.returncode == -signal.SIGKILL
        now = accepted(project)
        assert before <= now, "an accepted example is gone"
        before = now
        if process.returncode == 0:
            break
    finish = understudy(*command[3:], "--json")
    assert finish.code == 0, finish.err
    ledger = understudy("ledger", "-p", project, "--json").json
    paid = provider.paid()
    twice = sum(times - 1 for times in paid.values())
    assert twice == 0, "the provider billed one request twice"
    answered = sum(paid.values())
    lost = answered - stored_replies(project) - ledger["unknown"]
    assert lost <= 0, f"{lost} billed replies are neither stored nor counted as unknown"
    assert ledger["unknown"] <= done * WORKERS
    assert ledger["in_flight"] == 0
    with sqlite3.connect(project / "understudy.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        made = connection.execute("SELECT count(*), count(DISTINCT source) FROM example").fetchone()
        held, spent, rows = connection.execute(
            "SELECT (SELECT held_micro FROM purse), (SELECT spent_micro FROM purse),"
            " (SELECT sum(cost_micro) FROM call)"
        ).fetchone()
    assert made[0] == made[1] == EXAMPLES
    assert (held, spent) == (0, rows)
    billed = sum(
        0.5 * line["input_tokens"] + 2 * line["output_tokens"]
        for line in provider.account()
        if line["paid"]
    )
    assert spent >= int(billed), "the ledger says less than the bill"
    return {"kills": done, "paid": answered, "twice": twice, "unknown": ledger["unknown"]}


def test_ten_kills_lose_nothing_and_buy_nothing_twice(
    understudy: Callable[..., Done], server: Callable[..., Any], tmp_path: Path
) -> None:
    """After each of 10 kills the ledger agrees with the provider's own count."""
    with server("--latency", "0.5") as provider:
        counts = kill_often(understudy, provider, tmp_path / "project", kills=10, seed=1)
    assert counts["kills"] == 10
    print(counts)


@pytest.mark.sweep
@pytest.mark.parametrize("seed", range(10))
def test_a_hundred_kills(
    seed: int, understudy: Callable[..., Done], server: Callable[..., Any], tmp_path: Path
) -> None:
    """T38: ten projects, ten kills each, every one at another moment."""
    with server("--latency", "0.5") as provider:
        counts = kill_often(understudy, provider, tmp_path / "project", kills=10, seed=100 + seed)
    print(seed, counts)
