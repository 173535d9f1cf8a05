"""TRL's SFTTrainer, told what a Recipe says: arguments, optimizer, checks and progress.

Rows come in as tokens with the loss on the answer alone, already in the order of training, so
nothing is shuffled, masked or cut here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from inspect import signature
from itertools import accumulate
from typing import Any

import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from understudy.errors import UnderstudyError
from understudy.run import Recipe
from understudy.train import attention, checkpoint, launch, optimizer, packing, ranks, trackers
from understudy.train.job import Job, reading_order
from understudy.train.progress import MOST_STEP_EVENTS, EventLog, Speed, Stop, peak_memory_mb
from understudy.train.rows import NOT_LEARNT, Encoded


def build(
    job: Job,
    model: Any,
    tokenizer: Any,
    encoded: Encoded,
    events: EventLog,
    stop: Stop,
    *,
    callbacks: Sequence[TrainerCallback] = (),
) -> AnswerTrainer:
    """Make the trainer that reads ``encoded`` in its order; ``callbacks`` hear what it does."""
    recipe = job.recipe
    order = reading_order(encoded.lengths, recipe, variants=encoded.variants)
    progress = Progress(job, order, encoded, events, stop)
    collator = packing.Collator(encoded, padding=tokenizer.pad_token_id)
    trainer = AnswerTrainer(
        recipe,
        progress,
        callbacks,
        model=model,
        args=_arguments(job, longest=max(encoded.lengths), steps=progress.steps),
        train_dataset=Dataset.from_dict({"row": order}),
        data_collator=collator,
        processing_class=tokenizer,
        peft_config=None if recipe.method == "full" else _adapters(recipe),
    )
    if recipe.packing:
        collator.choose(trainer.model, half=recipe.precision == "bfloat16")
        events.say("train.packing", packed=collator.packs, shared_tokens=collator.shared)
    return trainer


def on_gpu() -> bool:
    """True if the training runs on a GPU."""
    return torch.cuda.is_available()


def _arguments(job: Job, *, longest: int, steps: int) -> SFTConfig:
    recipe = job.recipe
    rows = launch.share(recipe.batch_size, ranks.world_size())
    micro = _micro_batch(rows, longest, recipe.micro_batch_tokens)
    return SFTConfig(
        output_dir=str(job.run_folder),
        max_steps=steps,
        per_device_train_batch_size=micro,
        per_device_eval_batch_size=micro,
        gradient_accumulation_steps=rows // micro,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(recipe.warmup_share * steps),
        weight_decay=recipe.weight_decay,
        max_grad_norm=1.0,
        seed=recipe.seed,
        use_cpu=not on_gpu(),
        bf16=recipe.precision == "bfloat16",
        gradient_checkpointing=recipe.gradient_checkpointing,
        optim=_optimizer(recipe),
        loss_type="nll",
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataloader_pin_memory=on_gpu(),
        logging_steps=math.ceil(steps / MOST_STEP_EVENTS),
        logging_nan_inf_filter=False,
        save_steps=recipe.save_steps,
        disable_tqdm=True,
        **trackers.arguments(job.run_folder),
    )


def _micro_batch(batch_size: int, longest: int, most_tokens: int) -> int:
    """Examples in one forward pass: the largest divisor of the batch that memory allows."""
    fitting = max(1, min(batch_size, most_tokens // longest))
    return next(size for size in range(fitting, 0, -1) if batch_size % size == 0)


def _optimizer(recipe: Recipe) -> str:
    """AdamW in one kernel; its state in 8 bits, paged, where memory is what QLoRA is there for."""
    return "paged_adamw_8bit" if recipe.method == "qlora" and on_gpu() else "adamw_torch_fused"


def _adapters(recipe: Recipe) -> Any:
    """LoRA on every linear layer but the head (E. Hu et al., 2021, arXiv:2106.09685)."""
    from peft import LoraConfig

    return LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=32,  # at every rank: then the best rate is the same for all (train/rules.py)
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


class AnswerTrainer(SFTTrainer):  # type: ignore[misc]
    """SFTTrainer with Muon where the recipe asks for it; a loss that is no number ends it."""

    def __init__(
        self,
        recipe: Recipe,
        progress: Progress,
        callbacks: Sequence[TrainerCallback],
        **arguments: Any,
    ) -> None:
        self.recipe, self.progress = recipe, progress
        super().__init__(callbacks=[progress, *callbacks], **arguments)
        if recipe.method == "qlora":  # TRL rounds adapters on 4-bit weights to bfloat16
            for weight in self.model.parameters():
                if weight.requires_grad:
                    weight.data = weight.data.float()

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
        with (
            attention.apart(packing.bare(self.model)) if self.data_collator.packs else nullcontext()
        ):
            loss: torch.Tensor = super().training_step(*inputs, **options)
        # A GPU would have to be waited for; there the gradient of the whole step tells.
        if not on_gpu() and not torch.isfinite(loss):
            raise diverged(f"the loss was {loss.item()}", self.state.global_step + 1)
        return loss

    def compute_loss(self, model: Any, inputs: dict[str, Any], **options: Any) -> Any:
        """Mean cross-entropy of the answer tokens, the only ones that are scored.

        TRL's own loss counts entropy and accuracy too, waits for each, and without Triton scores
        every position; it stays for models with a loss of their own beside it (routers).
        """
        if options.get("return_outputs") or self.aux_loss_enabled:
            if "position_ids" not in inputs:  # TRL counts tokens by one of the two
                inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            return super().compute_loss(model, inputs, **options)
        total, learnt = _answer_loss(model, inputs, some=_scores_some(packing.bare(self.model)))
        count = options.get("num_items_in_batch")
        if count is None:
            return total / learnt
        return total * ranks.world_size() / count  # of all processes, whose gradients are averaged

    def _clip_grad_norm(self, model: Any) -> torch.Tensor:
        """Clip the gradient. Raises UnderstudyError before a step that is no number is taken."""
        norm: torch.Tensor = super()._clip_grad_norm(model)
        if not math.isfinite(norm):
            raise diverged("the gradient was not finite", self.state.global_step + 1)
        return norm

    def create_model_card(self, *_arguments: Any, **_options: Any) -> None:
        """Checkpoints need no card; the export writes one."""


def _answer_loss(model: Any, inputs: dict[str, Any], *, some: bool) -> tuple[Any, Any]:
    """Summed cross-entropy of the answer tokens of a micro batch, and how many they are.

    On a GPU TRL's fused head scores them without writing their logits down. Elsewhere the model is
    asked for ``some`` logits alone: those of the columns, (B, T) to C, that hold an answer.
    """
    if on_gpu():
        outputs = model(**inputs, use_cache=False, fused_lm_head=True)
        return -outputs.log_probs.sum(), outputs.label_mask.sum()
    labels = inputs.pop("labels")[:, 1:]  # (B, T - 1): what follows each position
    columns = (labels != NOT_LEARNT).any(0).nonzero().flatten() if some else slice(0, -1)
    kept = {"logits_to_keep": columns} if some else {}
    logits = model(**inputs, use_cache=False, **kept).logits  # (B, C, V), or all (B, T, V)
    scores = (logits if some else logits[:, :-1]).float().flatten(0, 1)
    answers = (labels[:, columns] if some else labels).flatten()
    total = cross_entropy(scores, answers, ignore_index=NOT_LEARNT, reduction="sum")
    return total, (answers != NOT_LEARNT).sum()


def _scores_some(bare: Any) -> bool:
    """True if the model can be asked for the logits of some positions alone."""
    return "logits_to_keep" in signature(bare.forward).parameters


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

    def tokens(self, step: int) -> int:
        """Tokens read once ``step`` steps are done, padding not counted."""
        return self._tokens[step]

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock at the step that the training goes on from."""
        self.speed = Speed(self._tokens, self._answer_tokens, first_step=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop behind this step, with a checkpoint, if a signal came."""
        self._stop.agreed = ranks.agreed(self._stop.signal)
        if self._stop.agreed and state.global_step < self.steps:
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
        ranks.agreed(0)  # each process has written its part
        ranks.by_first(lambda: self._seal(state.global_step, best=state.best_global_step))

    def _seal(self, step: int, *, best: int | None) -> None:
        folder = self._job.run_folder / f"checkpoint-{step}"
        checkpoint.seal(folder, inputs=self._inputs)
        checkpoint.rotate(self._job.run_folder, best=best)
        self._events.say("train.checkpoint", step=step, steps=self.steps)


def _running_totals(lengths: list[int], order: list[int], batch_size: int) -> list[int]:
    """Tokens read once k steps are done, for k from 0 to all."""
    totals = list(accumulate((lengths[row] for row in order), initial=0))
    return totals[::batch_size]
