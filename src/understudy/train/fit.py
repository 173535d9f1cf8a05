"""The training itself, in the order of events: load, encode, resume, train, keep the best, save.

The algorithm is TRL's SFTTrainer (with PEFT for LoRA). Imported by the trainer's process alone.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from transformers import TrainerState

from understudy.errors import UsageError
from understudy.models.huggingface import load_tokenizer
from understudy.models.rendering import folds_system
from understudy.train import (
    checkpoint,
    forgetting,
    ranks,
    sft,
    sharded,
    trackers,
    validation,
    weights,
)
from understudy.train.job import RESULT_FILE, Job
from understudy.train.progress import EventLog, Stop, peak_memory_mb
from understudy.train.recipe import TINY
from understudy.train.recut import recut
from understudy.train.rows import Row, encode_rows, read_rows

GENERAL_FILE = "general.json"
"""In the run's folder: what the base answered before it was trained."""
_STATE_FILE = "trainer_state.json"
_LAST_STEPS = 10
"""Steps that the final loss is the mean of."""
_WORSE_THAN_GUESSING = 1.5
"""A final loss of so many times that of a blind guess means that the weights were destroyed."""


class Interrupted(Exception):
    """The training stopped at a checkpoint because it was told to."""

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.step = step


def fit(job: Job, events: EventLog, stop: Stop) -> dict[str, Any]:
    """Train, or go on training, and save. Returns the run's metrics.

    Raises Interrupted if told to stop, and UnderstudyError if the data or the recipe is at fault.
    The model folder exists only after a training that ended well.
    """
    if (earlier := _result(job)) is not None:
        ranks.by_first(lambda: checkpoint.rotate(job.run_folder, keep=0))  # killed before it did
        return earlier
    began = time.monotonic()
    events.say("train.loading", student=job.student)
    rows = read_rows(job.dataset_folder / "train.jsonl")
    from_step = ranks.by_first(lambda: _prepare(job, rows, events))
    if job.student == TINY:
        torch.set_num_threads(1)  # its matrices are too small to share between processors
    tokenizer, model = load_tokenizer(job.base_folder), weights.load(job)
    if folds_system(tokenizer):
        text = "the chat template takes no system message: it goes in front of the first question"
        events.say("train.system_folded", text=text)
    general = ranks.by_first(lambda: _ask_base(job, model, tokenizer, len(rows)))
    rows += general.kept
    encoded = encode_rows(tokenizer, rows, max_tokens=job.recipe.max_tokens)
    events.say("train.data", rows=len(rows), cut=encoded.cut, dropped=encoded.dropped)
    if job.recipe.recut_share:
        encoded = recut(tokenizer, encoded, job.recipe)
    watch = _validation(job, tokenizer, events, stop)
    trainer = sft.build(job, model, tokenizer, encoded, events, stop, callbacks=watch)
    if trackers.asked_for(job.run_folder):
        for callback in watch:
            callback.report = trainer.log
    sharded.check(job.recipe, trainer)

    if ranks.agreed(stop.signal):
        raise Interrupted(from_step)
    _train(job, trainer, from_step)
    metrics = _metrics(trainer) | _keep_best(job, trainer, events)
    metrics["seconds"] = ranks.by_first(lambda: round(time.monotonic() - began, 2))
    trained = sharded.whole_model(trainer, lambda: weights.load(job))

    def end() -> None:
        metrics.update(_forgotten(general.probe, trained, tokenizer, events))
        if job.saves:
            weights.save(job, trained, tokenizer)
        _finish(job, metrics)

    ranks.by_first(end)
    return metrics


def _ask_base(job: Job, model: Any, tokenizer: Any, rows: int) -> forgetting.General:
    """What the base can do in general. A tiny student can do nothing yet; a trial is not asked."""
    count = round(job.recipe.base_share * rows)
    probed = job.student != TINY and job.saves and not ranks.sharded()  # too large for one process
    if not (probed or count):
        return forgetting.General([], [])
    if sft.on_gpu():
        model.to("cuda")
    path = job.run_folder / GENERAL_FILE
    seed = job.recipe.seed
    return forgetting.before(model, tokenizer, path, count=count, seed=seed, probed=probed)


def _forgotten(base: list[bool], model: Any, tokenizer: Any, events: EventLog) -> dict[str, Any]:
    """Say whether the student lost more of what the base could do than chance explains."""
    if not base:
        return {}
    found = forgetting.compare(base, forgetting.probe(model, tokenizer))
    told = {**found._asdict(), "worse": found.worse}
    events.say("train.forgetting", **told, text=found.text)
    return {"forgetting": told}


def _train(job: Job, trainer: sft.AnswerTrainer, from_step: int) -> None:
    """Train to the last step, or until patience ends. Raises Interrupted if told to stop."""
    newest, patience = str(_checkpoint(job, from_step)), job.recipe.patience
    if from_step:
        trainer.state = TrainerState.load_from_json(f"{newest}/{_STATE_FILE}")
    if _out_of_patience(trainer, patience):  # it ended early, and was killed before it was saved
        trainer._load_from_checkpoint(newest)  # noqa: SLF001  knows adapters and shards
    else:
        trainer.train(resume_from_checkpoint=newest if from_step else None)
    step, last = trainer.state.global_step, trainer.state.max_steps
    if step < last and not _out_of_patience(trainer, patience):
        raise Interrupted(step)


def _out_of_patience(trainer: sft.AnswerTrainer, patience: int) -> bool:
    measured = validation.evaluations(trainer.state.log_history)
    return validation.out_of_patience(measured, patience)


def _keep_best(job: Job, trainer: sft.AnswerTrainer, events: EventLog) -> dict[str, Any]:
    """Take the weights of the best evaluation if the recipe has patience, else the last ones.

    A best checkpoint that is damaged is put aside, which is said, and the last weights are taken.
    Returns what the weights that are taken were worth on validation.
    """
    measured = validation.evaluations(trainer.state.log_history)
    if not measured:
        return {"validation_loss": None, "validation_score": None, "best_step": None}
    taken = measured[-1]
    if job.recipe.patience and (best := validation.best(measured)) is not taken:
        folder = _checkpoint(job, best.step)
        if reason := checkpoint.fault(folder, inputs=job.inputs()):
            events.say("train.best", step=taken.step, ignored=[f"{folder.name} {reason}"])
        else:
            trainer._load_from_checkpoint(str(folder))  # noqa: SLF001  knows adapters and shards
            events.say("train.best", step=best.step, ignored=[])
            taken = best
    return {
        "validation_loss": taken.loss,
        "validation_score": taken.score,
        "validation_rows": taken.rows,
        "best_step": taken.step,
    }


def _result(job: Job) -> dict[str, Any] | None:
    """Metrics of a training of the same inputs that ended well before."""
    path = job.run_folder / RESULT_FILE
    if not path.is_file() or (job.saves and not job.model_folder.is_dir()):
        return None
    result = json.loads(path.read_text(encoding="utf-8"))
    metrics: dict[str, Any] = result["metrics"]
    return metrics if result["inputs"] == job.inputs() else None


def _prepare(job: Job, rows: list[Row], events: EventLog) -> int:
    """Make the folder ready to train in. Returns the step to go on from."""
    shutil.rmtree(job.model_folder, ignore_errors=True)  # of other inputs, or of a torn save
    from_step = _resume_from(job, events)
    if job.student == TINY:
        _make_tiny(job, rows, keep=from_step > 0)
    return from_step


def _make_tiny(job: Job, rows: list[Row], *, keep: bool) -> None:
    """Build the untrained student; ``keep`` the one that a checkpoint was trained from."""
    from understudy.train import tiny

    if job.recipe.method != "full":
        raise UsageError("A tiny student is trained in full", "Leave the method out")
    if not (keep and job.base_folder.exists()):
        fresh = weights.fresh_folder(job.base_folder)
        prompts, answers = [row.prompt for row in rows], [row.answer for row in rows]
        tiny.build(prompts, answers, fresh, seed=job.recipe.seed)
        weights.put_in_place(fresh, job.base_folder)


def _resume_from(job: Job, events: EventLog) -> int:
    """Step of the newest whole checkpoint, 0 if there is none; says what it had to put aside."""
    found = checkpoint.newest(job.run_folder, inputs=job.inputs())
    if found.step or found.removed:
        events.say("train.resumed", step=found.step, ignored=list(found.removed))
    return found.step


def _checkpoint(job: Job, step: int) -> Path:
    return job.run_folder / f"checkpoint-{step}"


def _metrics(trainer: sft.AnswerTrainer) -> dict[str, Any]:
    """What the run reports. Raises UnderstudyError if it ended worse than a blind guess."""
    state, model = trainer.state, trainer.model
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    loss = fmean(losses[-_LAST_STEPS:])
    blind = math.log(model.config.get_text_config().vocab_size)
    if loss > _WORSE_THAN_GUESSING * blind:
        raise sft.diverged(
            f"the loss ended at {loss:.3g}, a blind guess has {blind:.2g}", len(losses)
        )
    parameters = list(model.parameters())
    speed = trainer.progress.speed.at(state.global_step)
    return {
        "steps": state.global_step,
        "loss": loss,
        "tokens": trainer.progress.tokens(state.global_step),
        "tokens_per_s": speed["tokens_per_s"],
        "answer_tokens_per_s": speed["answer_tokens_per_s"],
        "peak_memory_mb": peak_memory_mb(),
        "parameters": sum(weight.numel() for weight in parameters),
        "trained_parameters": sum(weight.numel() for weight in parameters if weight.requires_grad),
    }


def _validation(
    job: Job, tokenizer: Any, events: EventLog, stop: Stop
) -> list[validation.Validation]:
    """What watches the training on validation rows; nothing if there are none that fit."""
    path = job.dataset_folder / "validation.jsonl"
    rows = read_rows(path) if path.is_file() else []
    held_out = validation.held_out(tokenizer, rows, max_tokens=job.recipe.max_tokens)
    if held_out is None:
        return []
    return [validation.Validation(job.recipe, job.spec, tokenizer, held_out, events, stop)]


def _finish(job: Job, metrics: dict[str, Any]) -> None:
    """Write the result beside the weights; checkpoints have then served their purpose."""
    result = {"inputs": job.inputs(), "metrics": metrics}
    checkpoint.write_atomically(job.run_folder / RESULT_FILE, json.dumps(result, indent=1))
    checkpoint.rotate(job.run_folder, keep=0)
