"""Which trainings of a project are the same one: what is asked decides, not the memory of a day."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from students import make_folder, numbers
from understudy.errors import SetupError, UsageError
from understudy.project import Project, preparing
from understudy.train.sizing import machine

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries that train
SHORT: dict[str, Any] = {"epochs": 0.2, "evaluations": 0, "patience": 0, "batch_size": 8}


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model") / "qwen")


@pytest.fixture
def project(student: Path, tmp_path: Path) -> Project:
    with (tmp_path / "own.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("prompt", "response"), *numbers(0, 60)])
    made = Project.new(tmp_path / "p", "Reverse a number", {"student": str(student)})
    made.import_examples(tmp_path / "own.csv")
    made.freeze()
    return made


def test_the_same_wishes_are_the_same_training_whatever_the_machine_has(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere the recipe would be another; what is trained already is not trained anew."""
    first = project.train(**SHORT)
    real = machine.look

    def elsewhere(folder: Path) -> machine.Machine:
        here = real(folder)
        return replace(here, bf16=not here.bf16)

    monkeypatch.setattr(preparing, "look", elsewhere)
    assert project.explain(**SHORT).recipe.precision != first.recipe.precision
    again = project.train(**SHORT)
    assert (again.id, again.recipe) == (first.id, first.recipe)
    project.close()


def test_another_wish_is_another_training_and_again_is_one_too(project: Project) -> None:
    """A changed setting trains anew; so does --again."""
    first = project.train(**SHORT)
    other = project.train(**SHORT | {"learning_rate": 1e-5})
    anew = project.train(again=True, **SHORT)
    assert len({first.id, other.id, anew.id}) == 3
    assert anew.metrics["loss"] == first.metrics["loss"]
    project.close()


def test_what_does_not_fit_is_refused_before_a_run_is_made(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line says what is lacking and how to try all the same."""
    real = machine.look
    monkeypatch.setattr(preparing, "look", lambda folder: replace(real(folder), free_bytes=10**8))
    with pytest.raises(SetupError, match="does not fit this machine") as refused:
        project.train(**SHORT)
    assert "--anyway" in refused.value.fix
    assert not [event for event in project.events() if event.kind == "train.start"]
    assert project.explain(**SHORT).lacking
    project.close()


@pytest.mark.parametrize("how", [{"launch": "nonsense"}, {"report_to": ("nonsense",)}])
def test_explain_refuses_what_train_would(project: Project, how: dict[str, Any]) -> None:
    """A launch or a tracker that there is not is told before anything starts."""
    with pytest.raises(UsageError):
        project.explain(**how)
    project.close()


def test_a_folder_without_a_chat_template_is_refused_before_a_run_is_made(
    student: Path, tmp_path: Path
) -> None:
    """As a model of the hub is."""
    bare = make_folder(tmp_path / "bare", template=None)
    with (tmp_path / "own.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("prompt", "response"), *numbers(0, 60)])
    made = Project.new(tmp_path / "p", "Reverse a number", {"student": str(bare)})
    made.import_examples(tmp_path / "own.csv")
    made.freeze()
    with pytest.raises(SetupError, match="no chat template"):
        made.explain()
    made.close()
