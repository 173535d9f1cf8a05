"""TRL's SFTTrainer, told what a Recipe says: arguments, optimizer, checks and progress.

Rows come in as tokens with the loss on the answer alone, already in the order of training, so
nothing is shuffled, masked or cut here.
"""

from __future__ import annotations

import math
from inspect import signature
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from understudy.errors import UnderstudyError
from understudy.run import Recipe
from understudy.train import checkpoint, optimizer
from understudy.train.job import Job, reading_order
from understudy.train.progress import MOST_STEP_EVENTS, EventLog, Speed, Stop, peak_memory_mb
from understudy.train.rows import NOT_LEARNT, Encoded

MICRO_BATCH_TOKENS = 8_192
"""Most tokens in one forward pass; a larger batch is accumulated."""


def build(
    job: Job, model: Any, tokenizer: Any, encoded: Encoded, events: EventLog, stop: Stop
) -> AnswerTrainer:
    """Make the trainer that reads ``encoded`` in its order."""
    order = reading_order(encoded.lengths, job.recipe, variants=encoded.variants)
    dataset = Dataset.from_dict({"input_ids": encoded.tokens, "labels": encoded.labels})
    progress = Progress(job, order, encoded, events, stop)
    return AnswerTrainer(
        job.recipe,
        progress,
        model=model,
        args=_arguments(job, longest=max(encoded.lengths), steps=progress.steps),
        train_dataset=dataset.select(order),
        processing_class=tokenizer,
        peft_config=_adapters(job.recipe) if job.recipe.method == "lora" else None,
    )


def on_gpu() -> bool:
    """True if the training runs on a GPU."""
    return torch.cuda.is_available()


def half_precision() -> bool:
    """True if the GPU computes in bfloat16."""
    return on_gpu() and torch.cuda.is_bf16_supported()


def _arguments(job: Job, *, longest: int, steps: int) -> SFTConfig:
    recipe = job.recipe
    micro = _micro_batch(recipe.batch_size, longest)
    return SFTConfig(
        output_dir=str(job.run_folder),
        max_steps=steps,
        per_device_train_batch_size=micro,
        per_device_eval_batch_size=micro,
        gradient_accumulation_steps=recipe.batch_size // micro,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(recipe.warmup_share * steps),
        weight_decay=recipe.weight_decay,
        max_grad_norm=1.0,
        seed=recipe.seed,
        use_cpu=not on_gpu(),
        bf16=half_precision(),
        gradient_checkpointing=on_gpu(),
        loss_type="nll",
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataloader_pin_memory=on_gpu(),
        logging_steps=math.ceil(steps / MOST_STEP_EVENTS),
        logging_nan_inf_filter=False,
        save_steps=recipe.save_steps,
        report_to="none",
        disable_tqdm=True,
    )


def _micro_batch(batch_size: int, longest: int) -> int:
    """Examples in one forward pass: the largest divisor of the batch that memory allows."""
    fitting = max(1, min(batch_size, MICRO_BATCH_TOKENS // longest))
    return next(size for size in range(fitting, 0, -1) if batch_size % size == 0)


def _adapters(recipe: Recipe) -> Any:
    """LoRA on every linear layer but the head (E. Hu et al., 2021, arXiv:2106.09685)."""
    from peft import LoraConfig

    return LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=2 * recipe.lora_rank,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


class AnswerTrainer(SFTTrainer):  # type: ignore[misc]
    """SFTTrainer with Muon where the recipe asks for it; a loss that is no number ends it."""

    def __init__(self, recipe: Recipe, progress: Progress, **arguments: Any) -> None:
        self.recipe, self.progress = recipe, progress
        super().__init__(callbacks=[progress], **arguments)

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Muon and AdamW if the recipe has a matrix learning rate, else AdamW."""
        if self.recipe.matrix_learning_rate:
            self.optimizer = optimizer.for_model(
                model or self.model,
                lr=self.recipe.learning_rate,
                matrix_lr=self.recipe.matrix_learning_rate,
                decay=self.recipe.weight_decay,
            )
        made: torch.optim.Optimizer = super().create_optimizer(model)
        return made

    def training_step(self, *inputs: Any, **options: Any) -> torch.Tensor:
        """One forward and backward pass. Raises UnderstudyError if the loss is not finite."""
        loss: torch.Tensor = super().training_step(*inputs, **options)
        if not torch.isfinite(loss):
            raise diverged(f"the loss was {loss.item()}", self.state.global_step + 1)
        return loss

    def compute_loss(self, model: Any, inputs: dict[str, Any], **options: Any) -> Any:
        """Mean cross-entropy of the answer tokens.

        Without Triton, TRL's own loss scores every position, a fifth of a tiny student's step on
        a processor. Here only the columns of a batch that hold an answer are scored.
        """
        if options.get("return_outputs") or on_gpu() or not _scores_columns(model):
            return super().compute_loss(model, inputs, **options)
        labels = inputs.pop("labels")[:, 1:]  # (B, T - 1): what follows each position
        columns = (labels != NOT_LEARNT).any(0).nonzero().flatten()
        labels = labels[:, columns].flatten()
        logits = model(**inputs, use_cache=False, logits_to_keep=columns).logits  # (B, columns, V)
        scores = logits.float().flatten(0, 1)
        loss = cross_entropy(scores, labels, ignore_index=NOT_LEARNT, reduction="sum")
        count = options.get("num_items_in_batch")
        return loss / ((labels != NOT_LEARNT).sum() if count is None else count)

    def create_model_card(self, *_arguments: Any, **_options: Any) -> None:
        """Checkpoints need no card; the export writes one."""


def _scores_columns(model: Any) -> bool:
    """True if the model can be asked for the logits of some positions alone."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in signature(base.forward).parameters


def diverged(how: str, step: int) -> UnderstudyError:
    """The error of a training whose weights were destroyed."""
    return UnderstudyError(
        f"The training diverged at step {step}: {how}",
        "Train again with a lower learning rate; nothing was saved from this run",
    )


class Progress(TrainerCallback):  # type: ignore[misc]
    """Says each step, seals each checkpoint, and stops when told to."""

    def __init__(
        self, job: Job, order: list[int], encoded: Encoded, events: EventLog, stop: Stop
    ) -> None:
        self.steps = len(order) // job.recipe.batch_size
        self._job, self._inputs, self._events, self._stop = job, job.inputs(), events, stop
        self._tokens = _running_totals(encoded.lengths, order, job.recipe.batch_size)
        self._answer_tokens = _running_totals(encoded.answer_lengths, order, job.recipe.batch_size)
        self.speed = Speed(self._tokens, self._answer_tokens, first_step=0)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock at the step that the training goes on from."""
        self.speed = Speed(self._tokens, self._answer_tokens, first_step=state.global_step)

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any, **_: Any
    ) -> None:
        """Refuse to write a gradient that is no number into the weights."""
        grads = [weight.grad for weight in model.parameters() if weight.grad is not None]
        if not all(grad.isfinite().all() for grad in grads):
            raise diverged("the gradient was not finite", state.global_step + 1)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop behind this step, with a checkpoint, if a signal came."""
        if self._stop.signal and state.global_step < self.steps:
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Say how a step went."""
        if "loss" in (logs or {}):
            self._events.say(
                "train.step",
                step=state.global_step,
                steps=self.steps,
                loss=logs["loss"],
                learning_rate=logs["learning_rate"],
                peak_memory_mb=peak_memory_mb(),
                **self.speed.at(state.global_step),
            )

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Declare the checkpoint that was just written whole, then let old ones go."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        checkpoint.seal(folder, inputs=self._inputs)
        checkpoint.rotate(self._job.run_folder)
        self._events.say("train.checkpoint", step=state.global_step, steps=self.steps)


def _running_totals(lengths: list[int], order: list[int], batch_size: int) -> list[int]:
    """Tokens read once k steps are done, for k from 0 to all."""
    totals = list(accumulate((lengths[row] for row in order), initial=0))
    return totals[::batch_size]
