"""kill -9 at named points: what is on disk then, and that the same command finishes (T34, T39).

One call is in flight at a time; a slot is free as soon as its reply has come, so that the next call
is booked while that reply is being stored. Requests 1 to 3 are spec, plan and inputs.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from conftest import Done, Server
from rehearsal import (
    asked,
    environment,
    examples,
    in_environment,
    must_agree,
    purse,
    select,
    serving,
    states,
    teacher,
)

Cli = Callable[..., Done]
WANTED = 12
CALLS = 2 + 2 * WANTED
"""Spec and plan; so few inputs are asked for one by one."""


class Left(NamedTuple):
    """What a crash leaves."""

    open: dict[str, int]
    """Calls that are not settled, by state."""
    requests: int
    """That came to the provider."""
    unknown: int
    """Calls whose outcome nobody knows, once the command is run again."""


SENT, RECEIVED, BOTH = {"sent": 1}, {"received": 1}, {"sent": 1, "received": 1}
POINTS = {
    # The fifth reply has come and is being stored, in one transaction with booking the sixth call.
    "before:begin:6": Left(SENT, 5, 1),
    "after:begin:6": Left(SENT, 5, 1),
    # The sixth is booked and does not go out; nobody can tell, so it counts as spent.
    "before:send:6": Left(BOTH, 5, 1),
    "flying:send:6": Left(SENT, 6, 1),
    "after:send:6": Left(SENT, 6, 1),
    "before:receive:6": Left(SENT, 6, 1),
    "after:receive:6": Left(SENT, 6, 1),
    # The sixth reply is safe, nobody has looked at it; the seventh is booked.
    "before:read:6": Left(BOTH, 6, 1),
    "before:end:6": Left(BOTH, 5, 1),
    "after:end:6": Left(BOTH, 5, 1),
    "before:commit:9": Left({}, 2, 0),
    "after:commit:9": Left({}, 2, 0),
    # Everything is bought; only what was made of it is not stored yet.
    "before:examples:2": Left({}, CALLS, 0),
    "after:examples:2": Left({}, CALLS, 0),
    "before:decide:1": Left({}, 12, 0),
    "after:decide:1": Left({}, 12, 0),
    "after:plan:1": Left({}, 2, 0),
    "after:event:8": Left({}, 12, 0),
}
QUICK = (
    *("after:begin:6", "flying:send:6", "after:receive:6", "before:read:6"),
    *("before:examples:2", "after:decide:1"),
)


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project to copy."""
    from understudy import Project

    folder = tmp_path_factory.mktemp("blank") / "p"
    Project.new(folder, "durations").close()
    return folder


def command(project: Path, provider: Server) -> tuple[str | Path, ...]:
    return ("generate", str(WANTED), "-p", project, *teacher(provider, "durations"))


def crashed(project: Path, provider: Server, point: str) -> None:
    """Run ``generate`` until it kills itself at that point."""
    where, _, nth = point.rpartition(":")
    script = Path(__file__).with_name("crash_at.py")
    done = subprocess.run(
        [sys.executable, script, where, nth, *map(str, command(project, provider))],
        capture_output=True,
        text=True,
        env=in_environment(concurrency=1),
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.fixture(scope="module")
def undisturbed(blank: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The examples that a run without a crash makes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    project = shutil.copytree(blank, folder / "p")
    with serving(folder / "bill") as provider:
        subprocess.run(
            [sys.executable, "-m", "understudy", *map(str, command(project, provider))],
            check=True,
            capture_output=True,
            env=in_environment(concurrency=1),
        )
    return examples(project)


@pytest.mark.parametrize(
    "point",
    [point if point in QUICK else pytest.param(point, marks=pytest.mark.sweep) for point in POINTS],
)
def test_a_crash_at_a_named_point(
    point: str, blank: Path, undisturbed: dict[str, str], understudy: Cli, tmp_path: Path
) -> None:
    """T39: the exact state afterwards; then nothing is lost, nothing bought twice, and the same
    examples are made but for those that the unknown one changes."""
    expected = POINTS[point]
    project = shutil.copytree(blank, tmp_path / "p")
    with serving(tmp_path / "bill", latency=0.2 if "flying" in point else 0) as provider:
        crashed(project, provider, point)
        left = states(project)
        settled = left.pop("settled", 0)
        assert dict(left) == expected.open
        assert asked(provider) == expected.requests
        assert settled + sum(left.values()) >= expected.requests
        must_agree(project, provider)
        spent = purse(project)
        assert (spent.held_micro > 0) == bool(expected.open)
        done = understudy(*command(project, provider), env=environment(concurrency=1))
        assert done.code == 0, done.err
        assert states(project).get("unknown", 0) == expected.unknown
        assert ("calls of a process that died" in done.err) == bool(expected.unknown)
        assert set(provider.paid().values()) == {1}
        assert purse(project).held_micro == 0
        must_agree(project, provider)
    found = examples(project)
    assert len(found) == WANTED
    # Another input takes the place of the unknown one, and the pilot takes one that comes later.
    assert len(found.items() & undisturbed.items()) >= WANTED - 2 * expected.unknown


def test_crashes_while_putting_a_crash_in_order(
    blank: Path, understudy: Cli, tmp_path: Path
) -> None:
    """T34, T39: a call in flight becomes unknown, and spent, exactly once however often it dies."""
    project = shutil.copytree(blank, tmp_path / "p")
    with serving(tmp_path / "bill", latency=0.2) as provider:
        crashed(project, provider, "flying:send:2")
        held = purse(project).held_micro
        assert held > 0
        for point in ("before:recover:1", "after:recover:1"):
            crashed(project, provider, point)
            assert states(project) == {"settled": 1, "sent": 1}
            assert purse(project).held_micro == held
        done = understudy(*command(project, provider), env=environment(concurrency=1))
        # The call for the plan is unknown, and that is told; it is not asked for again by itself.
        assert done.code != 0
        assert "--resend-unknown" in done.err
        (row,) = select(project, "SELECT * FROM call WHERE state = 'unknown'")
        assert row["cost_micro"] == row["reserve_micro"] == held
        must_agree(project, provider)
        again = understudy(
            *command(project, provider), env=environment(concurrency=8, resend_unknown=True)
        )
        assert again.code == 0, again.err
        assert sorted(provider.paid().values())[-2:] == [1, 2]
        must_agree(project, provider)
