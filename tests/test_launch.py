"""One training by several processes: the same result, told together to stop, none left behind."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from students import Heard, numbers, recipe, train_here, write_dataset
from understudy import train
from understudy.errors import UsageError
from understudy.run import Event, Run
from understudy.train import launch

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries that train

SETTINGS = recipe(epochs=4, save_steps=4)  # 24 steps
SECRET = "hf_canary_0123456789"
LOSS, WEIGHT = 1e-5, 1e-4
"""How far two processes may be from one; measured: 5e-7 and 1e-6."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "1", numbers(0, 48), numbers(48, 60))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> tuple[Path, Heard]:
    """The same training by one process."""
    folder = tmp_path_factory.mktemp("alone")
    return folder, train_here(folder, dataset, SETTINGS)


class Process(NamedTuple):
    """One process that works for a run."""

    pid: int
    environ: dict[str, str]

    @property
    def rank(self) -> str:
        return self.environ.get("RANK", "")


def processes(run: Run) -> list[Process]:
    """Every process whose command names the run's folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            variables = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if str(run.folder) in command:
            environ = dict(line.split("=", 1) for line in variables if "=" in line)
            found.append(Process(int(folder.name), environ))
    return found


def listening(pid: int) -> set[str]:
    """Local addresses, in hexadecimal, that a process listens on."""
    held = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            held.add(str(link.readlink()))
        except OSError:
            continue
    tables = [Path(f"/proc/{pid}/net/{name}").read_text() for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in held}


LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


def two(
    run: Run,
    dataset: Path,
    at: int = 0,
    do: Callable[[train.Training], None] | None = None,
    *,
    how: str = "2",
) -> Heard:
    """Train by two processes; ``do`` something to the training when it says step ``at``."""
    training = train.start(run, dataset, launch=how)
    heard = Heard()
    for event in train.follow(training):
        heard.say(event.kind, **event.data)
        if do and event == Event("train.step", {**event.data, "step": at}):
            do(training)
    assert training.process.stdin is not None
    training.process.stdin.close()
    deadline = time.monotonic() + 10
    while processes(run) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes(run) == [], "processes were left behind"
    return heard


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "model" / "model.safetensors")


def look_and_interrupt(training: train.Training) -> None:
    """Ctrl-C, behind a look at who works for it: no secret, no door but to this machine."""
    seen = processes(training.run)
    assert {process.rank for process in seen} >= {"0", "1"}
    assert not any(SECRET in process.environ.values() for process in seen)
    assert set[str]().union(*(listening(process.pid) for process in seen)) <= LOOPBACK
    training.process.send_signal(signal.SIGINT)


def lose_one(training: train.Training) -> None:
    """The second process is killed."""
    (second,) = [process.pid for process in processes(training.run) if process.rank == "1"]
    os.kill(second, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("end", "least"),
    [(look_and_interrupt, 6), pytest.param(lose_one, 4, marks=pytest.mark.sweep)],
)
def test_two_processes_learn_what_one_learns(
    tmp_path: Path,
    dataset: Path,
    alone: tuple[Path, Heard],
    monkeypatch: pytest.MonkeyPatch,
    end: Callable[[train.Training], None],
    least: int,
) -> None:
    """Loss curve and weights are those of one process, also after Ctrl-C or the loss of a process;
    steps taken twice go alike; nothing listens beyond loopback, and no secret is seen."""
    monkeypatch.setenv("HF_TOKEN", SECRET)
    run = Run(1, 1, "tiny", tmp_path / "run", SETTINGS)
    first = two(run, dataset, 6, end)
    kind, said = first.events[-1]
    if end is lose_one:
        assert kind == "train.failed"
        assert "ended unexpectedly" in said["message"]
    else:
        assert first.of("train.interrupted") == [said]
    assert not (run.folder / "model").exists()

    last = two(run, dataset)
    resumed = last.of("train.resumed")[0]["step"]
    assert resumed >= least
    assert resumed == said.get("step", resumed)
    twice = first.losses.keys() & last.losses.keys()
    assert len(twice) == max(first.losses) - resumed
    assert {step: first.losses[step] for step in twice} == {
        step: last.losses[step] for step in twice
    }
    folder, one = alone
    for part in (first, last):
        steps = [step["step"] for step in part.of("train.step")]
        assert steps == list(range(steps[0], steps[0] + len(steps))), "each is said once"
    assert first.losses | last.losses == pytest.approx(one.losses, abs=LOSS)
    for name, weight in weights(run.folder).items():
        assert weight.sub(weights(folder)[name]).abs().max() < WEIGHT, name


def test_an_error_of_all_processes_is_said_once_in_its_own_words(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By accelerate, with the shipped FSDP2 settings: without GPUs, one line says what is wrong."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    config = tmp_path / "two.yaml"
    config.write_text(f"{launch.FSDP2_CONFIG.read_text()}\nnum_processes: 2\n")
    run = Run(3, 1, "tiny", tmp_path / "run", SETTINGS)
    heard = two(run, dataset, how=str(config))
    (failed,) = heard.of("train.failed")
    assert "GPUs only" in failed["message"]
    assert heard.events[-1] == ("train.failed", failed)


def test_without_a_gpu_no_process_is_launched_to_share_the_weights(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor says so itself, in one line, before it starts anything."""
    from understudy.train.launch.__main__ import main

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(launch.FSDP2, tmp_path, dataset) == UsageError.exit_code
    (said,) = (tmp_path / "events.jsonl").read_text().splitlines()
    assert json.loads(said)["kind"] == "train.failed"
    assert json.loads(said)["data"]["message"].startswith("There is no GPU")


@given(st.integers(1, 512), st.integers(1, 64))
def test_a_batch_is_shared_equally_or_refused(batch_size: int, processes: int) -> None:
    """Shares add up to the batch; otherwise the line names a batch size that can be shared."""
    try:
        assert launch.share(batch_size, processes) * processes == batch_size
    except UsageError as error:
        proposed = int(error.fix.split()[3].rstrip(","))
        assert launch.share(proposed, processes) * processes == proposed


@pytest.mark.parametrize("how", ["0", "two", "missing.yaml", "-1", ""])
def test_an_unknown_way_to_launch_is_refused_before_anything_starts(
    tmp_path: Path, dataset: Path, how: str
) -> None:
    """One line names what was given; no folder and no process comes of it."""
    if how:
        with pytest.raises(UsageError, match=f"{how!r}"):
            launch.check(how, 8)
    with pytest.raises(UsageError, match="5 processes"):
        train.start(Run(4, 1, "tiny", tmp_path / "run", SETTINGS), dataset, launch="5")
    assert not (tmp_path / "run").exists()


def test_the_shipped_configuration_is_one_that_accelerate_reads() -> None:
    """FSDP2 with whole weights in its checkpoints, for one machine."""
    from accelerate.commands.config import load_config_from_file

    config = load_config_from_file(str(launch.FSDP2_CONFIG))
    assert config.fsdp_config["fsdp_version"] == 2
    assert config.fsdp_config["fsdp_state_dict_type"] == "FULL_STATE_DICT"
    assert launch.numbers(launch.FSDP2_CONFIG) == (1, 0)


def test_several_machines_meet_by_network_one_machine_by_a_file(tmp_path: Path) -> None:
    """Only a configuration for one machine is made to meet in a file."""
    config = tmp_path / "two.yaml"
    several = "num_machines: 2\nnum_processes: 8\nmain_process_ip: 10.0.0.1\n"
    config.write_text(several)
    alone = tmp_path / "one.yaml"
    alone.write_text(several.replace("2", "1"))
    for how, by_file in ((str(config), False), (str(alone), True), ("2", True)):
        command = launch.launcher(how, tmp_path, tmp_path, tmp_path)
        assert ("--rdzv_conf=store_type=file" in command) is by_file
