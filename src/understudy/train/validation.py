"""Watch the student learn: loss, score and sample answers on validation rows while it trains.

A few times in a training the student answers up to 64 validation rows, greedily, as it will be
asked later, and is graded by the task's own metric. Where the recipe has patience, the weights of
the best evaluation are kept and the training ends once no evaluation is better (L. Prechelt, "Early
Stopping - But When?", 1998). Nothing here moves a weight or draws from a generator of random
numbers: a training is the same, bit for bit, however often it is looked at.

What was measured stands in the trainer's own ``log_history``, so that it is sealed with every
checkpoint and known to a training that goes on from one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch.nn.functional import cross_entropy
from transformers import TrainerCallback

from understudy import score
from understudy.models.engine.text import answer_text
from understudy.models.plain import generate
from understudy.models.rendering import encode_examples, stop_ids
from understudy.run import Recipe
from understudy.task import Spec
from understudy.train import ranks
from understudy.train.progress import EventLog, Stop
from understudy.train.recipe import SCORED_ROWS
from understudy.train.rows import NOT_LEARNT, Row

SAMPLES = 3
"""Rows that are shown with their answers, the same ones each time."""
_SHOWN = 400
"""Most characters of a text in a sample."""
_LOGITS = 1 << 26
"""Most logits in one forward pass of the loss: 256 MB in float32."""
_ROOM = 1.25
"""An answer may get so many times as long as the longest right one."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the student was worth after a step."""

    step: int
    loss: float
    """Mean cross-entropy of the right answers' tokens, in nats."""
    score: float
    """Share of right answers, by the task's metric."""
    rows: int

    @property
    def rank(self) -> tuple[float, float]:
        """The greater, the better: the score, and among equal scores the loss."""
        return self.score, -self.loss


class HeldOut(NamedTuple):
    """Validation rows and their tokens."""

    rows: list[Row]
    prompts: list[list[int]]
    answers: list[list[int]]


def held_out(
    tokenizer: Any, rows: Sequence[Row], *, max_tokens: int, most: int = SCORED_ROWS
) -> HeldOut | None:
    """Draw up to ``most`` rows that fit into ``max_tokens``: always the same ones.

    None if there are none: that is no fault of the training.
    """
    drawn = rows if len(rows) <= most else random.Random(0).sample(rows, most)
    pairs = encode_examples(tokenizer, [row.prompt for row in drawn], [row.answer for row in drawn])
    kept = [
        (row, prompt, answer[: max_tokens - len(prompt)])
        for row, (prompt, answer) in zip(drawn, pairs, strict=True)
        if len(prompt) < max_tokens
    ]
    return HeldOut(*map(list, zip(*kept, strict=True))) if kept else None


# -- when, and when to stop ----------------------------------------------------------------------


def due(recipe: Recipe, steps: int) -> set[int]:
    """Steps behind which the student is evaluated: evenly spread, the last one always."""
    times = max(1, recipe.evaluations)
    return {max(1, round(number * steps / times)) for number in range(1, times + 1)}


def evaluations(log_history: Sequence[dict[str, Any]]) -> list[Evaluation]:
    """Every evaluation so far, also of the processes that this one goes on from."""
    return [Evaluation(**entry["evaluation"]) for entry in log_history if "evaluation" in entry]


def best(measured: Sequence[Evaluation]) -> Evaluation:
    """The best evaluation, the earliest of equals."""
    return max(measured, key=lambda one: one.rank)


def out_of_patience(measured: Sequence[Evaluation], patience: int) -> bool:
    """True if the last ``patience`` evaluations were no better than one before them."""
    return bool(patience and measured) and best(measured) not in measured[-patience:]


class Validation(TrainerCallback):  # type: ignore[misc]
    """Evaluates when it is time; keeps the best, and ends the training, if the recipe asks."""

    def __init__(
        self,
        recipe: Recipe,
        spec: Spec | None,
        tokenizer: Any,
        rows: HeldOut,
        events: EventLog,
        stop: Stop,
    ) -> None:
        self._recipe, self._spec, self._tokenizer = recipe, spec, tokenizer
        self._rows, self._events, self._stop = rows, events, stop
        self.report: Callable[[dict[str, float]], None] = lambda _measured: None
        """Told what was measured: the trainer's ``log``, if trackers listen."""

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        """Make up for an evaluation that a signal left no time for."""
        if state.global_step:
            self._evaluate(state, control, model)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        """Evaluate; ask for a checkpoint of the best weights, and for an end without a better."""
        if not self._stop.agreed or state.global_step == state.max_steps:
            self._evaluate(state, control, model)
        if out_of_patience(evaluations(state.log_history), self._recipe.patience):
            control.should_save = control.should_training_stop = True

    def _evaluate(self, state: Any, control: Any, model: Any) -> None:
        measured = evaluations(state.log_history)
        step = state.global_step
        done = any(one.step == step for one in measured)
        if done or step not in due(self._recipe, state.max_steps):
            return
        now, answers = ranks.by_first(
            lambda: evaluate(
                model, self._tokenizer, self._rows, self._spec, self._recipe, step=step
            ),
            together=ranks.sharded(),
        )
        state.log_history.append({"step": step, "evaluation": asdict(now)})
        self.report({"eval_loss": now.loss, "eval_score": now.score})
        self._events.say(
            "train.evaluation",
            steps=state.max_steps,
            metric=score.METRICS[self._spec.kind if self._spec else "text"],
            samples=_samples(self._rows.rows, answers, self._spec),
            **asdict(now),
        )
        if self._recipe.patience and best([*measured, now]) is now:
            state.best_metric, state.best_global_step = now.score, step
            control.should_save = True


# -- measuring -----------------------------------------------------------------------------------


def evaluate(
    model: Any,
    tokenizer: Any,
    rows: HeldOut,
    spec: Spec | None,
    recipe: Recipe,
    *,
    step: int,
) -> tuple[Evaluation, list[str]]:
    """Measure loss and score on ``rows``; also what was answered to each. Leaves no trace."""
    with looked_at(model), torch.no_grad():
        loss = _loss(model, rows, tokenizer.pad_token_id)
        answers = _answers(model, tokenizer, rows, recipe.micro_batch_tokens)
    grades = [
        score.grade(spec, row.answer, answer).score
        for row, answer in zip(rows.rows, answers, strict=True)
    ]
    return Evaluation(step, loss, fmean(grades), len(grades)), answers


@contextmanager
def looked_at(model: Any) -> Iterator[None]:
    """Evaluation mode for a while; mode, generators and generation settings stay as they were."""
    training, settings = model.training, model.generation_config
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = model.config.get_text_config()
    routed = getattr(config, "output_router_logits", None)  # experts' scores break cached answering
    gpus = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    model.eval()
    if routed:
        config.output_router_logits = False
    try:
        with torch.random.fork_rng(devices=gpus):
            yield
    finally:
        model.generation_config = bare.generation_config = settings
        if routed:
            config.output_router_logits = routed
        model.train(training)


def _loss(model: Any, rows: HeldOut, pad: int) -> float:
    """Mean cross-entropy of all answer tokens."""
    most = _LOGITS // model.config.get_text_config().vocab_size
    lengths = [len(prompt) + len(answer) for prompt, answer in zip(*rows[1:], strict=True)]
    total, count = 0.0, 0
    for batch in _batches(lengths, most):
        shape = len(batch), max(lengths[row] for row in batch)
        tokens, labels = torch.full(shape, pad), torch.full(shape, NOT_LEARNT)
        mask = torch.zeros(shape, dtype=torch.long)
        for at, row in enumerate(batch):
            prompt, answer, end = rows.prompts[row], rows.answers[row], lengths[row]
            tokens[at, :end] = torch.tensor([*prompt, *answer])
            labels[at, len(prompt) : end] = torch.tensor(answer)
            mask[at, :end] = 1
        device = model.device
        given = {"input_ids": tokens.to(device), "attention_mask": mask.to(device)}
        logits = model(**given, use_cache=False).logits[:, :-1]  # (B, T - 1, V)
        follows = labels[:, 1:].to(device)
        learnt = follows != NOT_LEARNT
        total += cross_entropy(logits[learnt].float(), follows[learnt], reduction="sum").item()
        count += int(learnt.sum())
    return total / count


def _answers(model: Any, tokenizer: Any, rows: HeldOut, most_tokens: int) -> list[str]:
    """What the model says to each prompt, greedily."""
    ends = stop_ids(tokenizer, model)
    room = round(_ROOM * max(len(answer) for answer in rows.answers)) + 8
    lengths = [len(prompt) + room for prompt in rows.prompts]
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    answers = [""] * len(rows.prompts)
    for batch in _batches(lengths, most_tokens):
        beyond = max(0, lengths[batch[-1]] - (context or lengths[batch[-1]]))
        written = generate(
            model,
            [rows.prompts[row] for row in batch],
            ends=ends,
            pad=tokenizer.pad_token_id,
            max_tokens=max(1, room - beyond),
        )
        for row, ids in zip(batch, written, strict=True):
            end = next((at for at, token in enumerate(ids) if token in ends), None)
            answers[row] = answer_text(tokenizer, ids[:end])
    return answers


def _batches(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Rows of like length together, padded to at most ``most`` tokens (or one row alone)."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        if batch and (len(batch) + 1) * lengths[row] > most:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _samples(
    rows: Sequence[Row], answers: Sequence[str], spec: Spec | None
) -> list[dict[str, Any]]:
    """The first rows with what was expected and what was answered, long texts cut."""
    return [
        {
            "input": _cut(row.prompt[-1].content),
            "expected": _cut(row.answer),
            "answer": _cut(answer),
            "right": score.grade(spec, row.answer, answer).score == 1,
        }
        for row, answer in zip(rows[:SAMPLES], answers, strict=False)
    ]


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
