"""Curves sent to trackers as they grow: only where asked, with no more than the tracker needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from students import numbers, recipe, write_dataset
from understudy import train
from understudy.errors import SetupError, UsageError
from understudy.run import Run
from understudy.train import trackers
from understudy.train.local import clean_environment

FAKE = """
import json, os
from pathlib import Path

RECORD = Path(os.environ["TMP_RECORD"])


def note(**what):
    with RECORD.open("a") as file:
        file.write(json.dumps(what) + "\\n")


class SummaryWriter:
    def __init__(self, log_dir=None):
        note(log_dir=str(log_dir), secret="HF_TOKEN" in os.environ)

    def add_scalar(self, name, value, step=None):
        note(name=name, value=value, step=step)

    def add_text(self, *what): pass
    def flush(self): pass
    def close(self): pass
"""
"""Stands in for tensorboardX: the same calls, written to a file."""


@pytest.fixture
def fake_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    (folder / "tensorboardX").mkdir(parents=True)
    (folder / "tensorboardX" / "__init__.py").write_text(FAKE)
    info = folder / "tensorboardX-2.6.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tensorboardX\nVersion: 2.6\n")
    record = tmp_path / "record.jsonl"
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("TMP_RECORD", str(record))
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    monkeypatch.syspath_prepend(str(folder))
    return record


def test_a_tracker_that_was_asked_for_hears_every_step(tmp_path: Path, fake_tracker: Path) -> None:
    """Losses and scores arrive as the run's events have them; files lie in the run's folder."""
    dataset = write_dataset(tmp_path / "data", numbers(0, 16), numbers(16, 20))
    run = Run(1, 1, "tiny", tmp_path / "run", recipe(epochs=2))
    training = train.start(run, dataset, report_to=["tensorboard"])
    events = list(train.follow(training))
    assert training.process.stdin is not None
    training.process.stdin.close()
    assert events[-1].kind == "train.done", events[-1]
    said = {e.data["step"]: e.data["loss"] for e in events if e.kind == "train.step"}
    heard: list[dict[str, Any]] = [
        json.loads(line) for line in fake_tracker.read_text().splitlines()
    ]
    assert {line["step"]: line["value"] for line in heard if line.get("name") == "train/loss"} == (
        said
    )
    (measured,) = [event.data for event in events if event.kind == "train.evaluation"]
    named = {line.get("name"): line.get("value") for line in heard}
    assert (named["eval/loss"], named["eval/score"]) == (measured["loss"], measured["score"])
    (opened,) = [line for line in heard if "log_dir" in line]
    assert Path(opened["log_dir"]).is_relative_to(run.folder)
    assert opened["secret"] is False


def test_a_missing_package_is_one_line_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line has the command that installs it; an unknown name, the names that are known."""
    monkeypatch.setitem(trackers.TRACKERS, "wandb", ("no_such_package",))
    run = Run(1, 1, "tiny", tmp_path / "run", recipe())
    with pytest.raises(SetupError) as missing:
        train.start(run, tmp_path, report_to=["wandb"])
    assert "pip install no_such_package" in str(missing.value)
    with pytest.raises(UsageError, match="carrier pigeon") as unknown:
        train.start(run, tmp_path, report_to=["carrier pigeon"])
    assert "tensorboard, trackio, wandb" in str(unknown.value)
    assert not run.folder.exists()


def test_only_weights_and_biases_gets_its_key() -> None:
    """Its own variables pass where it was asked for; the others' secrets never do."""
    environ = {"WANDB_API_KEY": "w", "WANDB_ENTITY": "e", "HF_TOKEN": "h", "OPENAI_API_KEY": "o"}
    without = clean_environment(environ)
    assert without["WANDB_DISABLED"] == "true"
    assert not {"w", "h", "o"} & set(without.values())
    asked = clean_environment(environ, ["wandb"])
    assert (asked["WANDB_API_KEY"], asked["WANDB_ENTITY"]) == ("w", "e")
    assert "WANDB_DISABLED" not in asked
    assert not {"h", "o"} & set(asked.values())
    assert clean_environment(environ, ["trackio"])["HF_HUB_OFFLINE"] == "1"


def test_a_trainer_is_given_what_it_needs_and_no_more() -> None:
    """What is not known to be harmless stays out, whatever its name; one GPU is seen."""
    environ = {
        "PATH": "/bin",
        "DATABASE_URL": "postgres://me:secret@host/db",
        "HTTPS_PROXY": "http://me:secret@proxy",
        "GITHUB_PAT": "secret",
        "CUDA_VISIBLE_DEVICES": "2,3",
    }
    given = clean_environment(environ)
    assert not any("secret" in value for value in given.values())
    assert (given["PATH"], given["CUDA_VISIBLE_DEVICES"]) == ("/bin", "2")
    assert clean_environment(environ, launched=True)["CUDA_VISIBLE_DEVICES"] == "2,3"
