"""The training itself, in the order of events: load, encode, resume, train, validate, save.

The algorithm is TRL's SFTTrainer (with PEFT for LoRA). Imported by the trainer's process alone.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from datasets import Dataset

from understudy.errors import UsageError
from understudy.models.huggingface import load_model, load_tokenizer
from understudy.train import checkpoint, sft
from understudy.train.job import RESULT_FILE, Job
from understudy.train.progress import EventLog, Stop, peak_memory_mb
from understudy.train.recipe import TINY
from understudy.train.recut import recut
from understudy.train.rows import Row, encode_rows, read_rows

MOST_VALIDATION_ROWS = 500
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
        return earlier
    began = time.monotonic()
    shutil.rmtree(job.model_folder, ignore_errors=True)  # of other inputs, or of a torn save
    events.say("train.loading", student=job.student)
    rows = read_rows(job.dataset_folder / "train.jsonl")
    from_step = _resume_from(job, events)
    if job.student == TINY:
        _make_tiny(job, rows, keep=from_step > 0)
    tokenizer = load_tokenizer(job.base_folder)
    encoded = encode_rows(tokenizer, rows, max_tokens=job.recipe.max_tokens)
    events.say("train.data", rows=len(rows), cut=encoded.cut, dropped=encoded.dropped)
    if job.recipe.recut_share:
        encoded = recut(tokenizer, encoded, job.recipe)
    trainer = sft.build(job, _load(job), tokenizer, encoded, events, stop)

    if stop.signal:
        raise Interrupted(from_step)
    newest = job.run_folder / f"checkpoint-{from_step}"
    trainer.train(resume_from_checkpoint=str(newest) if from_step else None)
    if trainer.state.global_step < trainer.state.max_steps:
        raise Interrupted(trainer.state.global_step)

    metrics = _metrics(trainer)
    metrics["validation_loss"] = _validation_loss(job, trainer, tokenizer, events)
    _save(job, trainer.model, tokenizer)
    metrics["seconds"] = round(time.monotonic() - began, 2)
    _finish(job, metrics)
    return metrics


def _result(job: Job) -> dict[str, Any] | None:
    """Metrics of a training of the same inputs that ended well before."""
    path = job.run_folder / RESULT_FILE
    if not path.is_file() or not job.model_folder.is_dir():
        return None
    result = json.loads(path.read_text(encoding="utf-8"))
    metrics: dict[str, Any] = result["metrics"]
    return metrics if result["inputs"] == job.inputs() else None


def _make_tiny(job: Job, rows: list[Row], *, keep: bool) -> None:
    """Build the untrained student; ``keep`` the one that a checkpoint was trained from."""
    from understudy.train import tiny

    if job.recipe.method != "full":
        raise UsageError("A tiny student is trained in full", "Leave the method out")
    torch.set_num_threads(1)  # its matrices are too small to share between processors
    if not (keep and job.base_folder.exists()):
        fresh = _fresh_folder(job.base_folder)
        prompts, answers = [row.prompt for row in rows], [row.answer for row in rows]
        tiny.build(prompts, answers, fresh, seed=job.recipe.seed)
        _put_in_place(fresh, job.base_folder)


def _load(job: Job) -> Any:
    """Open the student in the type to train in: float32, or bfloat16 under adapters on a GPU."""
    frozen = job.recipe.method == "lora"
    dtype = "bfloat16" if frozen and sft.half_precision() else "float32"
    return load_model(job.base_folder, dtype=dtype)


def _resume_from(job: Job, events: EventLog) -> int:
    """Step of the newest whole checkpoint, 0 if there is none; says what it had to put aside."""
    found = checkpoint.newest(job.run_folder, inputs=job.inputs())
    if found.step or found.removed:
        events.say("train.resumed", step=found.step, ignored=list(found.removed))
    return found.step


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
    weights = list(model.parameters())
    speed = trainer.progress.speed.at(state.global_step)
    return {
        "steps": state.global_step,
        "loss": loss,
        "tokens_per_s": speed["tokens_per_s"],
        "answer_tokens_per_s": speed["answer_tokens_per_s"],
        "peak_memory_mb": peak_memory_mb(),
        "parameters": sum(weight.numel() for weight in weights),
        "trained_parameters": sum(weight.numel() for weight in weights if weight.requires_grad),
    }


def _validation_loss(
    job: Job, trainer: sft.AnswerTrainer, tokenizer: Any, events: EventLog
) -> float | None:
    """Mean loss on validation rows, once, at the end; None if there are none to measure on."""
    path = job.dataset_folder / "validation.jsonl"
    rows = read_rows(path)[:MOST_VALIDATION_ROWS] if path.is_file() else []
    if not rows:
        return None
    try:
        encoded = encode_rows(tokenizer, rows, max_tokens=job.recipe.max_tokens)
    except UsageError:  # none fits: that is no fault of the training
        return None
    held_out = Dataset.from_dict({"input_ids": encoded.tokens, "labels": encoded.labels})
    loss: float = trainer.evaluate(held_out)["eval_loss"]
    events.say("train.validation", loss=loss, rows=len(encoded.tokens))
    return loss


def _save(job: Job, model: Any, tokenizer: Any) -> None:
    """Write the trained student: whole or not at all. Adapters are kept and merged into it."""
    if job.recipe.method == "lora":
        fresh = _fresh_folder(job.adapter_folder)
        model.save_pretrained(str(fresh))
        _put_in_place(fresh, job.adapter_folder)
        model = model.to("cpu").merge_and_unload()
    fresh = _fresh_folder(job.model_folder)
    model.to(_saved_dtype(job)).save_pretrained(str(fresh))
    tokenizer.save_pretrained(str(fresh))
    _put_in_place(fresh, job.model_folder)


def _saved_dtype(job: Job) -> torch.dtype:
    """The number type that the untrained student was stored in."""
    config = json.loads((job.base_folder / "config.json").read_text(encoding="utf-8"))
    name = config.get("dtype") or config.get("torch_dtype") or "float32"
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _finish(job: Job, metrics: dict[str, Any]) -> None:
    """Write the result beside the weights; checkpoints have then served their purpose."""
    result = {"inputs": job.inputs(), "metrics": metrics}
    checkpoint.write_atomically(job.run_folder / RESULT_FILE, json.dumps(result, indent=1))
    checkpoint.rotate(job.run_folder, keep=0)


def _fresh_folder(target: Path) -> Path:
    """An empty folder beside ``target``, to be renamed to it when all is in it."""
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    return fresh


def _put_in_place(fresh: Path, target: Path) -> None:
    for path in fresh.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    if target.exists():
        shutil.rmtree(target)
    fresh.rename(target)
