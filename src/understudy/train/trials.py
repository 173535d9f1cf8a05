"""Try a few recipes around the chosen one, and keep the one that answers validation best.

Successive halving (K. Jamieson and A. Talwalkar, 2016, arXiv:1502.07943; the inner loop of L. Li et
al., "Hyperband", 2018, arXiv:1603.06560): all trials train a quarter of their steps, the better
half of them half of theirs, the better half of those all. What counts is the generated score on
validation rows, and among equal scores the loss; the test split is never opened.

Each training begins from fresh weights in a process of its own, also that of a trial that was
promoted: its learning rate falls along a cosine to the training's end, so the first quarter of a
long training is not a short training, and to go on from one would measure something else.

The best of several measurements is flattered by chance. So the winner's recipe comes with another
seed: the training that follows confirms it once, with weights and order that chose nothing.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from understudy.errors import UnderstudyError, UsageError
from understudy.run import Event, Recipe, Run
from understudy.task import Spec
from understudy.train.checkpoint import write_atomically
from understudy.train.halving import RUNGS, about_s, grid, halved
from understudy.train.job import Job
from understudy.train.recipe import TRIALS
from understudy.train.shrinking import fitted

RESULT = "trial.json"

Say = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One trial at one rung."""

    trial: int
    """Its number, from 1: the chosen recipe as it is."""
    rung: float
    settings: dict[str, Any]
    """What differs from the chosen recipe."""
    score: float | None
    """Share of right validation answers; None: the training diverged."""
    loss: float | None
    seconds: float

    @property
    def rank(self) -> tuple[float, float, int]:
        """The greater, the better: score, then loss, then how near the chosen recipe it is."""
        if self.score is None or self.loss is None:
            return -1.0, 0.0, -self.trial
        return self.score, -self.loss, -self.trial


@dataclass(frozen=True, slots=True)
class Found:
    """What the search ended with."""

    recipe: Recipe
    """To train with: the winner's settings under another seed."""
    winner: Outcome
    outcomes: tuple[Outcome, ...]

    def confirmed(self, metrics: Mapping[str, Any]) -> str:
        """Say in a sentence how the winner did in the training that followed, by its metrics."""
        was, now = self.winner.score or 0.0, metrics.get("validation_score") or 0.0
        return (
            f"trial {self.winner.trial} won with {was:.3f} on validation; "
            f"trained once more with another seed it has {now:.3f}"
        )


def search(
    run: Run,
    dataset_folder: Path,
    count: int,
    *,
    folder: Path,
    say: Say,
    spec: Spec | None = None,
    training_s: float | None = None,
    launch: str | None = None,
) -> Found:
    """Find the best of ``count`` recipes around ``run.recipe``; trials lie in ``folder``/K/RUNG.

    ``say`` hears ``train.trials`` {trials, trainings, minutes, text} before anything is trained
    (``training_s``: seconds of one whole training, if known), ``train.trial`` {trial, of, rung,
    settings, score, loss, seconds} behind each training, ``train.step`` and others with their
    trial, and at last ``train.chosen`` {trial, settings, score, loss, recipe, text}. Trainings that
    ended are not repeated when the search is called again. Raises UsageError without validation
    rows, and what the trainer failed with; a recipe that diverges has merely lost.
    """
    points = grid(run.recipe, count)
    validation = dataset_folder / "validation.jsonl"
    if not (validation.is_file() and validation.stat().st_size):
        raise UsageError(
            "Trials are chosen by validation rows, and there are none", "Freeze more examples"
        )
    say(_announced(run.recipe, len(points), training_s))
    alive, outcomes = list(range(1, len(points) + 1)), list[Outcome]()
    for rung, size in zip(RUNGS, halved(len(points)), strict=True):
        reached = []
        for trial in alive[:size]:
            outcome = _tried(
                run, dataset_folder, folder / str(trial), trial, points[trial - 1], rung,
                of=len(points), say=say, spec=spec, launch=launch,
            )  # fmt: skip
            reached.append(outcome)
        reached.sort(key=lambda outcome: outcome.rank, reverse=True)
        alive = [outcome.trial for outcome in reached if outcome.score is not None]
        outcomes += reached
        if not alive:
            raise UnderstudyError(
                "Every trial diverged", "Train with a lower learning rate; nothing was kept"
            )
        best = reached[0]
    return _chosen(run.recipe, best, outcomes, say)


def _announced(recipe: Recipe, count: int, training_s: float | None) -> Event:
    trainings = sum(halved(count))
    minutes = None if training_s is None else about_s(recipe, count, training_s) / 60
    text = f"trials {count}: {trainings} trainings"
    if minutes is not None:
        text += f", about {max(1, round(minutes)):,} min"
    data = {"trials": count, "trainings": trainings, "minutes": minutes, "text": text}
    return Event("train.trials", data)


def _chosen(recipe: Recipe, best: Outcome, outcomes: Sequence[Outcome], say: Say) -> Found:
    told = ", ".join(f"{name} {value:g}" for name, value in best.settings.items())
    text = (
        f"trial {best.trial} of {len({one.trial for one in outcomes})} answers validation best "
        f"({best.score:.3f}): {told or 'the settings as they were chosen'}"
    )
    update = {**best.settings, "seed": recipe.seed + 1, "why": (*recipe.why, f"{TRIALS}{text}.")}
    if "epochs" in best.settings:
        update["save_steps"] = _scaled(recipe.save_steps, best.settings["epochs"] / recipe.epochs)
    chosen = recipe.model_copy(update=update)
    data = {name: value for name, value in asdict(best).items() if name != "rung"}
    say(Event("train.chosen", {**data, "recipe": chosen.model_dump(), "text": text}))
    return Found(chosen, best, tuple(outcomes))


# -- one training --------------------------------------------------------------------------------


def _tried(
    run: Run,
    dataset_folder: Path,
    folder: Path,
    trial: int,
    settings: dict[str, Any],
    rung: float,
    *,
    of: int,
    say: Say,
    spec: Spec | None,
    launch: str | None,
) -> Outcome:
    """Train one trial for one rung, or read what it ended with before."""
    recipe = _at_rung(run.recipe, settings, rung)
    at_rung = replace(run, recipe=recipe, folder=folder / f"{rung:g}")
    inputs = Job(at_rung.folder, dataset_folder, run.student, recipe, spec, saves=False).inputs()
    outcome = _known(at_rung.folder / RESULT, inputs)
    if outcome is None:
        started = time.monotonic()

        def tell(event: Event) -> None:
            say(replace(event, data={"trial": trial, "rung": rung, **event.data}))

        metrics = _train(at_rung, dataset_folder, spec, launch, tell)
        seconds = round(time.monotonic() - started, 1)
        score, loss = metrics["validation_score"], metrics["validation_loss"]
        outcome = Outcome(trial, rung, settings, score, loss, seconds)
        _keep(at_rung.folder, inputs, outcome)
    say(Event("train.trial", {"of": of, **asdict(outcome)}))
    return outcome


def _at_rung(recipe: Recipe, settings: Mapping[str, Any], rung: float) -> Recipe:
    """The recipe of a trial: so much shorter, scored at its end alone, never ended early."""
    passes = settings.get("epochs", recipe.epochs) * rung
    update = {
        **settings,
        "epochs": passes,
        "save_steps": _scaled(recipe.save_steps, passes / recipe.epochs),
        "evaluations": 0,
        "patience": 0,
        "why": (),
    }
    return recipe.model_copy(update=update)


def _scaled(steps: int, share: float) -> int:
    return max(1, round(steps * share))


def _train(
    run: Run, dataset_folder: Path, spec: Spec | None, launch: str | None, tell: Say
) -> dict[str, Any]:
    """Follow a trainer to its end. Raises what it failed with, unless the weights diverged."""
    last = Event("train.failed", {"message": "the trainer said nothing"})
    with closing(fitted(run, dataset_folder, spec=spec, saves=False, launch=launch)) as events:
        for last in events:
            if last.kind not in ("train.done", "train.failed"):
                tell(last)
    if last.kind == "train.done":
        if last.data.get("validation_score") is None:
            raise UsageError(
                "No validation row fits, so trials cannot be compared", "Allow more max_tokens"
            )
        return last.data
    message = str(last.data["message"])
    if "diverged" in message:
        return {"validation_score": None, "validation_loss": None}
    error = UnderstudyError(message, str(last.data.get("fix", "")))
    error.exit_code = int(last.data.get("exit_code", 1))
    raise error


def _known(path: Path, inputs: str) -> Outcome | None:
    """The outcome of a trial that ended before, if it was the same."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Outcome(**kept["outcome"]) if kept["inputs"] == inputs else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(folder: Path, inputs: str, outcome: Outcome) -> None:
    """Note the outcome; what else a trial left (a tiny base, checkpoints) has served."""
    text = json.dumps({"inputs": inputs, "outcome": asdict(outcome)}, indent=1)
    write_atomically(folder / RESULT, text)
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
