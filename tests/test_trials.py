"""Trials: which recipes are tried, who is promoted, what is never done twice, what may vary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from students import Heard, numbers, recipe, train_here, write_dataset
from understudy.errors import UnderstudyError, UsageError
from understudy.run import Event, Recipe, Run
from understudy.train import halving, trials

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries that train

LORA = recipe(method="lora", lora_rank=16, learning_rate=3e-4, matrix_learning_rate=0, epochs=4)
Score = Callable[[Recipe], tuple[float | None, float]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "1", numbers(0, 48), numbers(48, 60))


class Trained:
    """Stands for the trainer: scores a recipe by a rule, and notes what it was asked to train."""

    def __init__(self, score: Score) -> None:
        self.score, self.runs, self.stop_at = score, list[Run](), 0

    def __call__(self, run: Run, _dataset: Path, **options: Any) -> Iterator[Event]:
        assert options["saves"] is False
        if len(self.runs) + 1 == self.stop_at:
            raise KeyboardInterrupt
        self.runs.append(run)
        (run.folder / "base").mkdir(parents=True)
        score, loss = self.score(run.recipe)
        yield Event("train.step", {"step": 1})
        if score is None:
            yield Event("train.failed", {"message": "The training diverged at step 1", "fix": ""})
        else:
            yield Event("train.done", {"validation_score": score, "validation_loss": loss})


def find(
    monkeypatch: pytest.MonkeyPatch,
    dataset: Path,
    folder: Path,
    trained: Trained,
    count: int = 8,
    asked: Recipe = LORA,
) -> tuple[trials.Found, list[Event]]:
    monkeypatch.setattr(trials, "fitted", trained)
    heard: list[Event] = []
    run = Run(1, 1, "/models/student", folder, asked)
    found = trials.search(run, dataset, count, folder=folder / "trials", say=heard.append)
    return found, heard


def prefers(rate: float) -> Score:
    """The nearer the learning rate, the better; longer trainings are better too."""
    return lambda one: (1 - abs(one.learning_rate - rate) / (rate + one.learning_rate), one.epochs)


def test_the_better_half_goes_on_and_the_best_wins(
    monkeypatch: pytest.MonkeyPatch, dataset: Path, tmp_path: Path
) -> None:
    """Eight trials at a quarter, four at half, two whole; the rate that scores best is chosen."""
    trained = Trained(prefers(9e-4))
    found, heard = find(monkeypatch, dataset, tmp_path, trained)
    assert heard[0].kind == "train.trials"
    assert heard[0].data["trainings"] == len(trained.runs) == 14
    said = [event.data for event in heard if event.kind == "train.trial"]
    assert [one["rung"] for one in said] == [0.25] * 8 + [0.5] * 4 + [1.0] * 2
    for rung, after in ((0.25, 0.5), (0.5, 1.0)):
        here = {one["trial"]: one["score"] for one in said if one["rung"] == rung}
        promoted = {one["trial"] for one in said if one["rung"] == after}
        left = here.keys() - promoted
        assert min(here[trial] for trial in promoted) >= max(here[trial] for trial in left)
    assert found.recipe.learning_rate == pytest.approx(9e-4)
    assert found.recipe.seed == LORA.seed + 1
    assert heard[-1].kind == "train.chosen"
    assert Recipe(**heard[-1].data["recipe"]) == found.recipe
    assert "learning_rate 0.0009" in found.recipe.why[-1]


def test_equal_scores_are_told_apart_by_loss_and_then_the_chosen_recipe_stays(
    monkeypatch: pytest.MonkeyPatch, dataset: Path, tmp_path: Path
) -> None:
    """Where the metric sees no difference the loss decides; where neither does, nothing changes."""
    by_loss, _ = find(
        monkeypatch, dataset, tmp_path / "a", Trained(lambda one: (0.0, one.learning_rate))
    )
    assert by_loss.recipe.learning_rate == pytest.approx(1e-4)
    same, _ = find(monkeypatch, dataset, tmp_path / "b", Trained(lambda _: (0.5, 1.0)))
    assert same.winner.settings == {}


def test_a_search_that_was_killed_repeats_no_trial(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Interrupted in the sixth training and called again: only the rest is trained."""
    dataset = write_dataset(tmp_path / "data", numbers(0, 48), numbers(48, 60))
    first = Trained(prefers(9e-4))
    first.stop_at = 6
    with pytest.raises(KeyboardInterrupt):
        find(monkeypatch, dataset, tmp_path, first)
    rest = Trained(prefers(9e-4))
    found, heard = find(monkeypatch, dataset, tmp_path, rest)
    assert (len(first.runs), len(rest.runs)) == (5, 9)
    assert not {run.folder for run in first.runs} & {run.folder for run in rest.runs}
    assert len([event for event in heard if event.kind == "train.trial"]) == 14
    whole, _ = find(monkeypatch, dataset, tmp_path / "whole", Trained(prefers(9e-4)))
    assert found.recipe == whole.recipe
    again = Trained(prefers(9e-4))
    find(monkeypatch, dataset, tmp_path, again)
    assert again.runs == []
    (dataset / "validation.jsonl").write_text((dataset / "validation.jsonl").read_text() + "\n")
    find(monkeypatch, dataset, tmp_path, again)
    assert len(again.runs) == 14  # other validation rows: what was measured counts no more


def test_a_rate_that_destroys_has_lost_and_other_failures_end_the_search(
    monkeypatch: pytest.MonkeyPatch, dataset: Path, tmp_path: Path
) -> None:
    """A diverged trial is beaten by every other; if all diverge, that is an error."""

    def diverges_high(one: Recipe) -> tuple[float | None, float]:
        return (None if one.learning_rate > 3e-4 else 0.1), 1.0

    found, heard = find(monkeypatch, dataset, tmp_path / "a", Trained(diverges_high))
    assert found.recipe.learning_rate <= 3e-4
    assert any(e.data["score"] is None for e in heard if e.kind == "train.trial")
    with pytest.raises(UnderstudyError, match="Every trial diverged"):
        find(monkeypatch, dataset, tmp_path / "b", Trained(lambda _: (None, 1.0)))

    def full_disk(*_: Any, **__: Any) -> Iterator[Event]:
        yield Event("train.failed", {"message": "No space left", "fix": "", "exit_code": 9})

    monkeypatch.setattr(trials, "fitted", full_disk)
    run = Run(1, 1, "/models/student", tmp_path, LORA)
    with pytest.raises(UnderstudyError, match="No space") as caught:
        trials.search(run, dataset, 2, folder=tmp_path / "c", say=lambda _: None)
    assert caught.value.exit_code == 9


def test_without_validation_rows_nothing_is_tried(tmp_path: Path) -> None:
    """There is nothing to choose by, and the test split is not for that."""
    dataset = write_dataset(tmp_path / "data", numbers(0, 9))
    run = Run(1, 1, "tiny", tmp_path, recipe())
    with pytest.raises(UsageError, match="validation"):
        trials.search(run, dataset, 4, folder=tmp_path / "trials", say=lambda _: None)


@given(st.integers(2, 40), st.sampled_from([LORA, recipe()]))
def test_only_learning_settings_vary(count: int, asked: Recipe) -> None:
    """Every trial differs from every other, and from the recipe in what decides learning alone."""
    points = halving.grid(asked, count)
    assert points[0] == {}
    assert len(points) == min(count, 18 if asked.lora_rank else 9)
    assert len({str(sorted(point.items())) for point in points}) == len(points)
    allowed = {"learning_rate", "matrix_learning_rate", "lora_rank", "epochs"}
    assert all(point.keys() <= allowed for point in points)
    assert [len(point.keys() - {"matrix_learning_rate"}) for point in points] == sorted(
        len(point.keys() - {"matrix_learning_rate"}) for point in points
    )
    for point in points:  # rates of both optimizers move together
        rates = {name: value / getattr(asked, name) for name, value in point.items()}
        if "matrix_learning_rate" in rates:
            assert rates["matrix_learning_rate"] == pytest.approx(rates["learning_rate"], 0.01)


@given(st.integers(2, 30), st.floats(1, 1e5), st.randoms())
def test_the_time_told_covers_every_training(count: int, training_s: float, rng: Random) -> None:
    """Whoever is promoted, it takes no longer than was told; one trial alone is refused."""
    told = halving.about_s(LORA, count, training_s)
    passes = [point.get("epochs", 4) / 4 for point in halving.grid(LORA, count)]
    seconds = 0.0
    for rung, size in zip(halving.RUNGS, halving.halved(len(passes)), strict=True):
        passes = rng.sample(passes, size)
        seconds += rung * training_s * sum(passes)
    assert told >= seconds
    assert halving.about_s(LORA, count, 2 * training_s) > told
    with pytest.raises(UsageError, match="trials"):
        halving.grid(LORA, 1)


def test_real_trials(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained for real: a promoted trial is trained anew, as if alone; no weights are kept."""
    import torch

    from understudy.train.fit import fit
    from understudy.train.job import Job

    torch.set_num_threads(1)
    losses: dict[str, list[float]] = {}

    def in_this_process(run: Run, dataset: Path, **options: Any) -> Iterator[Event]:
        run.folder.mkdir(parents=True)
        heard = Heard()
        job = Job(run.folder, dataset, run.student, run.recipe, saves=options["saves"])
        metrics = fit(job, heard, heard.stop)  # type: ignore[arg-type]
        losses[str(run.folder.relative_to(tmp_path))] = list(heard.losses.values())
        yield Event("train.done", metrics)

    monkeypatch.setattr(trials, "fitted", in_this_process)
    run = Run(1, 1, "tiny", tmp_path / "run", recipe(epochs=2))
    found = trials.search(run, dataset, 2, folder=tmp_path / "trials", say=lambda _: None)
    steps = {name: len(said) for name, said in losses.items()}
    winner = found.winner.trial
    assert steps == {
        "trials/1/0.25": 3, "trials/2/0.25": 3,
        f"trials/{winner}/0.5": 6, f"trials/{winner}/1": 12,
    }  # fmt: skip
    asked = run.recipe.model_copy(update=found.winner.settings)
    alone = train_here(tmp_path / "alone", dataset, asked)
    assert losses[f"trials/{winner}/1"] == list(alone.losses.values())
    assert found.winner.score == alone.of("train.done")[0]["validation_score"]
    assert not list((tmp_path / "trials").rglob("*.safetensors"))
    assert found.winner.score is not None
    assert "won with" in found.confirmed({"validation_score": 0.5})
