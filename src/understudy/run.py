"""One training (Run, HostedRun), its settings, and what any long verb says while it works (Event).

A Run is a training here, by a Recipe; a HostedRun one at a host, by a HostedRecipe.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

RunState = Literal[
    "created", "running", "paused", "succeeded", "failed", "cancelled", "interrupted"
]
Auto = Literal["auto"]
Method = Literal["full", "lora", "qlora"]
Precision = Literal["float32", "bfloat16"]
MOST = 2**31 - 1
"""Of whatever is counted: what a tensor is indexed by."""


class Recipe(BaseModel):
    """Every setting of one training; saved beside the weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: Method = Field(
        description="full: all weights; lora: low-rank adapters (PEFT); qlora: on a 4-bit base"
    )
    epochs: float = Field(gt=0, le=1_000, description="passes over the training split")
    batch_size: int = Field(gt=0, le=MOST, description="examples per optimizer step")
    learning_rate: float = Field(gt=0, description="peak rate of AdamW")
    matrix_learning_rate: float = Field(
        0.0, ge=0, description="peak rate of Muon on weight matrices; 0: AdamW on everything"
    )
    weight_decay: float = Field(
        0.0, ge=0, lt=10, description="share of a weight that a step takes off, per learning rate"
    )
    warmup_share: float = Field(0.05, ge=0, lt=1, description="share of steps spent warming up")
    recut_share: float = Field(
        0.0, ge=0, le=1, description="share of prompt tokens read in smaller pieces, tiny only"
    )
    lora_rank: int = Field(0, ge=0, le=65_536, description="rank of the adapters; 0 for full")
    max_tokens: int = Field(
        gt=0, le=MOST, description="longest example in tokens, prompt and answer"
    )
    micro_batch_tokens: int = Field(
        8_192,
        gt=0,
        le=MOST,
        description="most tokens in one forward pass; a larger batch is accumulated",
    )
    packing: bool = Field(
        False, description="rows lie end to end without padding, each seeing itself alone"
    )
    gradient_checkpointing: bool = Field(
        False, description="compute activations twice instead of keeping them: less memory"
    )
    precision: Precision = Field("float32", description="number type of the forward pass")
    evaluations: int = Field(
        0,
        ge=0,
        le=MOST,
        description="times that validation is scored while training; 0: at the end alone",
    )
    patience: int = Field(
        0,
        ge=0,
        le=MOST,
        description="evaluations without a better score that end it early; 0: never",
    )
    base_share: float = Field(
        0.0, ge=0, le=1, description="answers of the base mixed in per row, against forgetting"
    )
    save_steps: int = Field(gt=0, le=MOST, description="optimizer steps between checkpoints")
    seed: int = Field(0, ge=0, lt=2**32, description="seed of weights and order")
    why: tuple[str, ...] = Field((), description="how these settings were chosen, in words")


class HostedRecipe(BaseModel):
    """Every setting of one training at a host. ``auto`` and 0 leave it to the host."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["hosted"] = "hosted"
    epochs: int | Auto = Field(description="passes over the training file, 1 to 50")
    batch_size: int | Auto = Field("auto", description="examples per step, 1 to 256")
    learning_rate_multiplier: float | Auto = Field(
        "auto", description="factor on the host's own rate; OpenAI's protocol"
    )
    learning_rate: float = Field(
        0.0, ge=0, lt=1, description="the rate itself; Together and Fireworks"
    )
    lora_rank: int = Field(
        0, ge=0, le=256, description="rank of the adapters; Nebius, Together and Fireworks"
    )
    suffix: str = Field(
        "", pattern=r"^[A-Za-z0-9_.-]{0,40}$", description="part of the resulting model's name"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="seed, where the host takes one")
    why: tuple[str, ...] = Field((), description="how these settings were chosen, in words")

    @field_validator("epochs", "batch_size", "learning_rate_multiplier")
    @classmethod
    def _within(cls, value: float | Auto, info: ValidationInfo) -> float | Auto:
        low, high = {"epochs": (1, 50), "batch_size": (1, 256)}.get(str(info.field_name), (0, 100))
        if value != "auto" and not (low <= value <= high and value > 0):
            raise ValueError(f"it is auto, or from {low} to {high}")
        return value


@dataclass(frozen=True, slots=True)
class Run:
    """One training of one student on one frozen dataset."""

    id: int
    dataset_id: int
    student: str
    """``tiny``, a local Hugging Face folder, or ``hf:org/name@commit``."""
    folder: Path
    """Where its recipe, checkpoints, events and model lie."""
    recipe: Recipe
    state: RunState = "created"
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """The model name of the trained student."""
        return f"run:{self.id}"

    def _repr_html_(self) -> str:
        return _shown(self)


@dataclass(frozen=True, slots=True)
class HostedRun:
    """One training of a host's model on one frozen dataset; the host keeps the weights."""

    id: int
    dataset_id: int
    student: str
    """Model name of what was trained, as it was given: ``openai:gpt-...``, ``http://host/v1#base``."""
    folder: Path
    recipe: HostedRecipe
    state: RunState = "created"
    """As the host last told it; ``created`` until the host is known to have the job."""
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """The model name of the trained student, within its project."""
        return f"run:{self.id}"

    @property
    def remote(self) -> str:
        """The model name of the trained student, for everybody who has the host's key."""
        return str(self.metrics.get("remote") or "")

    def _repr_html_(self) -> str:
        return _shown(self)


AnyRun = Run | HostedRun


def _shown(run: AnyRun) -> str:
    """What a notebook shows of a run."""
    from understudy.pages import html

    return html.facts(
        model=run.model,
        student=run.student,
        dataset=run.dataset_id,
        state=run.state,
        metrics=run.metrics,
        folder=run.folder,
    )


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened: what the bar, the studio, ``--json`` and a restart all read."""

    kind: str
    """For example ``generate.progress``, ``train.step``, ``run.state``."""
    data: dict[str, Any] = field(default_factory=dict)
    seq: int = 0
    """Position in the project's event table; 0 before it is stored."""
    at: str = ""
    """UTC time, ISO 8601; empty before it is stored."""
