"""A training at a host, killed at every step: one of each file, one job, billed once (T61, T62)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from forked_cli import understudy
from hosts import (
    PRICED,
    billed_micro,
    frozen_project,
    lines,
    made,
    names_are_unique,
    opened,
    practice_host,
    spent_and_held,
    states,
)

POINTS = (
    ("before:hold", 1),
    ("after:hold", 1),
    ("before:upload", 1),
    ("flying:upload", 1),
    ("after:upload", 1),
    ("after:upload", 2),
    ("before:create", 1),
    ("flying:create", 1),
    ("after:create", 1),
    ("before:change", 4),
    ("after:job", 1),
    ("after:host_events", 2),
    ("before:settle", 1),
    ("after:settle", 1),
)


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return frozen_project(tmp_path_factory.mktemp("frozen") / "p")


@pytest.mark.parametrize(("point", "nth"), POINTS)
def test_the_same_command_goes_on(frozen: Path, tmp_path: Path, point: str, nth: int) -> None:
    """Whatever was on its way: nothing is made twice, and the books agree with the bill."""
    project = tmp_path / "p"
    shutil.copytree(frozen, project)
    with practice_host(tmp_path / "log.jsonl") as host:
        train = ("train", "-p", "p", "--student", f"{host.url}#novice", *PRICED)
        killed = understudy(tmp_path, *train, point=point, nth=nth)
        assert killed.code == -9, killed.err
        again = understudy(tmp_path, *train)
        assert again.code == 0, again.err
        assert made(host) == (2, 1, 1)
        assert names_are_unique(host)
        place = opened(project, host)
        assert states(place) == ["succeeded"]
        assert spent_and_held(place) == (billed_micro(host), 0)
        place.close()


def test_killed_over_and_over_it_still_ends(frozen: Path, tmp_path: Path) -> None:
    """Five kills in a row, each a little later; and again what is done is not done again."""
    shutil.copytree(frozen, tmp_path / "p")
    with practice_host(tmp_path / "log.jsonl", seconds=3) as host:
        train = ("train", "-p", "p", "--student", f"{host.url}#novice", *PRICED)
        for point, nth in (("before:upload", 1), ("flying:upload", 1), ("flying:create", 1)):
            assert understudy(tmp_path, *train, point=point, nth=nth).code == -9
        for point in ("after:host_events", "before:job"):
            assert understudy(tmp_path, *train, point=point).code == -9
        for _ in range(2):
            assert understudy(tmp_path, *train).code == 0
        assert made(host) == (2, 1, 1)
        assert lines(host, "job")[0]["about"]["key"].endswith("-job")
        place = opened(tmp_path / "p", host)
        steps = [one.data["step"] for one in place.events() if one.kind == "train.step"]
        place.close()
        assert steps == sorted(set(steps)), "an event was told twice"
