"""Training whose weights are divided among its processes (FSDP): what is different about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from understudy.errors import UnderstudyError, UsageError
from understudy.run import Recipe
from understudy.train import ranks


def check(recipe: Recipe, trainer: Any) -> None:
    """Raise UsageError if weights were to be divided that cannot be."""
    if not ranks.sharded():
        return
    if not trainer.is_fsdp_enabled:
        raise UsageError(
            "Weights can be divided among GPUs only", "Launch with a number of processes instead"
        )
    if recipe.matrix_learning_rate:
        raise UsageError(
            "Muon needs whole weight matrices, and these would be divided among the processes",
            "Launch with a number of processes instead, or set matrix_learning_rate to 0",
        )


def whole_model(trainer: Any, untrained: Callable[[], Any]) -> Any:
    """The trained model with all its weights, in the memory of the first process.

    Every process has to call it. Divided weights are gathered tensor by tensor and put into a
    model that ``untrained`` loads; the other processes get their own share back.
    """
    if not trainer.is_fsdp_enabled:
        return trainer.model
    weights = trainer.accelerator.get_state_dict(trainer.model)  # whole in the first, else empty
    if not ranks.first():
        return trainer.model
    model = untrained()
    if adapters := getattr(trainer.model, "peft_config", None):
        from peft import get_peft_model

        model = get_peft_model(model, adapters["default"])
    lost = {name for name, _ in model.named_parameters()} - weights.keys()
    if lost:
        raise UnderstudyError(
            f"{len(lost)} weights were not gathered from the processes, {min(lost)} among them",
            "Train without an FSDP configuration; the checkpoints are kept",
        )
    model.load_state_dict(weights, strict=False)  # tied weights may be there twice
    return model
