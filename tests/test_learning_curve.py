"""learning-curve on a real project: real trainings, killed and gone on with, looks at the test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from conftest import Done, understudy_command
from rehearsal import until
from understudy.errors import UsageError
from understudy.project import Project

Cli = Callable[..., Done]


@pytest.fixture
def colours(understudy: Cli, tmp_path: Path) -> Path:
    """A frozen project of own examples: no teacher, no key."""
    rows = [
        {"prompt": f"paint number {n} of the {colour} kind, please", "completion": colour}
        for n in range(22)
        for colour in ("red", "green", "blue", "black")
    ]
    Path(tmp_path, "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    project = tmp_path / "p"
    flags = ("--student", "tiny", "--validation-share", "0.3")
    assert understudy("new", project, "--describe", "Name the colour", *flags).code == 0
    assert understudy("import", "rows.jsonl", "-p", project).code == 0
    assert understudy("freeze", "-p", project).code == 0
    return project


def steps_of(project: Project) -> Counter[str]:
    """Optimizer steps told by part; those of an ordinary run under ``run``."""
    steps: Counter[str] = Counter()
    after = 0
    while found := project.events(after):
        after = found[-1].seq
        steps.update(str(one.data.get("part", "run")) for one in found if one.kind == "train.step")
    return steps


def processes_of(project: Path) -> list[str]:
    """Numbers of the processes that were started for a project."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has just ended
            if os.fsencode(project) in line.read_bytes():
                found.append(line.parent.name)
    return found


def test_a_killed_curve_goes_on_and_trains_nothing_twice(understudy: Cli, colours: Path) -> None:
    """The finished part is read from disk, the interrupted one ends; the whole is a run."""
    kept = colours / "runs" / "curve"
    with subprocess.Popen(
        understudy_command(
            *("learning-curve", "-p", colours, "--shares", "50,100", "--set", "epochs=2")
        ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        until(lambda: bool(list(kept.glob("*/*/validation-answers.json"))), within_s=200)
        process.send_signal(signal.SIGKILL)
    until(lambda: not processes_of(colours), within_s=200)  # the trainer that it left ends too
    project = Project(colours)
    before = steps_of(project)
    assert before["50 %"] > 0
    found = project.learning_curve([0.5, 1], epochs=2)
    steps = steps_of(project)
    assert steps["50 %"] == before["50 %"]
    sizes = found.curve.sizes
    assert [size.trainings for size in sizes] == [1, 1]
    assert sizes[0].examples < sizes[1].examples
    assert found.curve.items >= 20
    assert found.curve.forecast is None
    assert "2 sizes are too few" in found.sentence
    assert found.more_micro is None  # nothing was bought here, so that no price is known
    assert not list(kept.glob("*/*/model"))
    assert project.learning_curve([0.5, 1], epochs=2).curve == found.curve
    assert steps_of(project) == steps
    assert all(event.kind != "test.looked" for event in project.events())
    project.close()
    status = understudy("status", "-p", colours, "--json").json
    assert [run["state"] for run in status["runs"]] == ["succeeded"]


def test_what_cannot_be_told_is_refused_before_any_training(understudy: Cli, colours: Path) -> None:
    """Too few items, wrong shares, wrong sides: one line each, no run."""
    done = understudy("learning-curve", "-p", colours, "--on", "train")
    assert (done.code, "--on train" in done.err) == (2, True)
    done = understudy("learning-curve", "-p", colours, "--shares", "0,100")
    assert (done.code, "above 0 %" in done.err) == (2, True)
    assert understudy("freeze", "-p", colours, "--validation-share", "0.01").code == 0
    done = understudy("learning-curve", "-p", colours)
    assert done.code == 2
    assert "items are too few to tell" in done.err
    assert "validation_share" in done.err
    project = Project(colours, {"student": "http://127.0.0.1:9/v1#base"})
    with pytest.raises(UsageError, match="trained at a host"):
        project.learning_curve()
    project.close()
    assert understudy("status", "-p", colours, "--json").json["runs"] == []
