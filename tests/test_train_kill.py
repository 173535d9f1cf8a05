"""The trainer killed with SIGKILL at random moments, started again each time, to its end."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from forked import forks
from students import numbers, recipe, train_here, write_dataset
from understudy import train
from understudy.run import Event, Run

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries that train

SAVE_STEPS = 4
SETTINGS = recipe(epochs=9, save_steps=SAVE_STEPS)  # 54 steps


class Life(NamedTuple):
    """What one trainer process said before it ended or was killed."""

    resumed: int
    steps: list[Event]
    last: Event


def live(run: Run, dataset: Path, *, kill_behind: int | None, delay_s: float) -> Life:
    """Start the trainer; kill it ``delay_s`` behind its n-th step, 0 being while it loads."""
    training = train.start(run, dataset)
    events: list[Event] = []
    for event in train.follow(training):
        events.append(event)
        steps = [said for said in events if said.kind == "train.step"]
        if kill_behind is not None and len(steps) == kill_behind:
            deadline = time.monotonic() + delay_s
            while time.monotonic() < deadline:
                pass
            training.process.kill()
            kill_behind = None
    resumed = [said.data["step"] for said in events if said.kind == "train.resumed"]
    steps = [said for said in events if said.kind == "train.step"]
    return Life(resumed[0] if resumed else 0, steps, events[-1])


def kill_and_go_on(folder: Path, kills: int) -> None:
    """Kill at random moments, go on each time; compare with a training that was left alone."""
    seed = random.randrange(10_000)
    rng = random.Random(seed)
    dataset = write_dataset(folder / "data", numbers(0, 48), numbers(48, 60))
    run = Run(1, 1, "tiny", folder / "run", SETTINGS)
    run.folder.mkdir()
    reached, losses = 0, dict[int, float]()
    for number in range(kills + 1):
        last = number == kills
        behind = None if last else rng.choice(range(9))
        life = live(run, dataset, kill_behind=behind, delay_s=rng.uniform(0, 0.1))
        if life.steps:
            first = life.steps[0].data["step"]
            assert first == life.resumed + 1
            assert reached - life.resumed <= SAVE_STEPS, f"seed {seed}"
            reached = max(reached, life.steps[-1].data["step"])
        losses |= {step.data["step"]: step.data["loss"] for step in life.steps}
        if life.last.kind == "train.done":
            break
        assert not last, (seed, life.last)
        assert life.last.kind == "train.failed", (seed, life.last)
        assert "SIGKILL" in life.last.data["message"]
        assert not (run.folder / "model").exists()
    alone = train_here(folder / "alone", dataset, SETTINGS)
    assert losses == pytest.approx(alone.losses, abs=1e-5)
    ends = [one / "model" / "model.safetensors" for one in (run.folder, folder / "alone")]
    assert ends[0].read_bytes() == ends[1].read_bytes()
    leftovers = {path.name for path in run.folder.iterdir() if path.name.startswith((".", "check"))}
    assert not leftovers


def test_kills_at_random_moments_cost_at_most_one_checkpoint_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five: steps repeated never exceed the interval, and the end is that of a run left alone."""
    forks(monkeypatch)
    kill_and_go_on(tmp_path, 5)


@pytest.mark.sweep
@pytest.mark.parametrize("tenth", range(10))
def test_fifty_kills(tmp_path: Path, tenth: int) -> None:
    """Ten trainings, five kills each, of trainers that were started as the command starts them."""
    kill_and_go_on(tmp_path, 5)
