"""Files and jobs through OpenAI's own SDK, of this generation and the one before."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from conftest import Done
from fine_tuning import client, colours, written
from serving_project import Home, older_sdk, serving
from understudy import Project

HERE = Path(__file__).parent
EXAMPLE = HERE.parent / "examples" / "openai_fine_tuning.py"
GENERATIONS = {"3.57.0": dict[str, str], "2.54.0": older_sdk}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("sdk") / "p"
    Project.new(folder).close()
    with (folder / "understudy.toml").open("a") as file:
        file.write('[bases]\n"gpt-3.5-turbo" = "tiny"\n')
    with serving(folder) as running:
        yield running


@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_answer_is_what_the_sdk_calls_it(home: Home, generation: str, tmp_path: Path) -> None:
    """Files, a job, its events, checkpoints and results: strictly of the SDK's types, unchanged."""
    script = str(HERE / "sdk_of_jobs.py")
    said = run([script, home.url, home.token, str(tmp_path)], generation)
    assert said.split() == ["done", generation]


def test_the_notebooks_calls_run_as_they_are_written(home: Home, tmp_path: Path) -> None:
    """Upload, create, list events, retrieve, chat: the model answers what it was never shown."""
    rows = colours()
    path = written(tmp_path / "training.jsonl", rows[:80])
    unseen = rows[80]["messages"]
    said = run(
        [str(EXAMPLE), str(path), unseen[1]["content"]],
        "3.57.0",
        OPENAI_BASE_URL=home.url,
        OPENAI_API_KEY=home.token,
        POLL_SECONDS="0.5",
    )
    told, answer = said.splitlines()[:-1], said.splitlines()[-1]
    assert answer == unseen[2]["content"]
    assert any("training loss=" in line for line in told), told


def test_the_hosted_trainer_trains_here(
    home: Home, understudy: Callable[..., Done], tmp_path: Path
) -> None:
    """Both halves of the protocol: a project's own `train` has its student made by this server."""
    rows = written(tmp_path / "own.jsonl", colours()[:40])
    with closing(Project.new(tmp_path / "client", "Name the colour")) as project:
        project.import_examples(rows)
        project.freeze()
    student = ["--student", f"{home.url}#gpt-3.5-turbo", "--train-price", "0"]
    done = understudy(
        *("train", "-p", tmp_path / "client", "--json", "-y", "--epochs", "1", *student),
        env={"OPENAI_BASE_URL": home.url, "OPENAI_API_KEY": home.token},
    )
    assert done.code == 0, done.err
    assert done.json["state"] == "succeeded"
    assert done.json["remote"].startswith(f"{home.url}#ft:gpt-3.5-turbo:understudy:")
    assert done.json["trained_tokens"] > 0
    made = client(home).fine_tuning.jobs.retrieve(done.json["job"])
    assert done.json["remote"] == f"{home.url}#{made.fine_tuned_model}"


def run(arguments: list[str], generation: str, **environment: str) -> str:
    """A script in a process of its own, under that generation of the SDK."""
    paths = GENERATIONS[generation]().get("PYTHONPATH", os.pathsep.join(sys.path))
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join([paths, str(HERE)])},
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout
