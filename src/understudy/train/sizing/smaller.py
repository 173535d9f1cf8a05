"""The next smaller way to train, after memory ran out: what costs least comes first.

Fewer rows in a pass and computing activations twice change nothing but the speed, so a checkpoint
outlives them. Adapters on a 4-bit base, and shorter rows, are another training: they begin anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from statistics import median

from understudy.run import Method, Recipe

SHORTEST = 64
"""Tokens under which no row is cut, whatever the rows are."""
_RANK = 16
_ADAPTER_RATE = 10.0
"""Adapters learn best at about ten times the rate of full training (J. Schulman et al., "LoRA
Without Regret", 2025, https://thinkingmachines.ai/blog/lora/)."""
_HIGHEST_RATE = 5e-4


def smaller(
    recipe: Recipe, reason: str, *, lengths: Sequence[int] = (), adapters: bool = True
) -> tuple[Recipe, str] | None:
    """Give the next smaller recipe and a sentence that begins with ``reason``; None: none is left.

    ``lengths``: tokens of the training rows, so that nothing is tried that changes nothing.
    ``adapters``: False for a student that can only be trained in full.
    """
    for step in (_fewer_rows, _checkpointing, _adapters, _shorter):
        if step is _adapters and not adapters:
            continue
        if (found := step(recipe, lengths)) is not None:
            settings, what = found
            text = f"{reason}: {what}"
            return recipe.model_copy(update={**settings, "why": (*recipe.why, f"{text}.")}), text
    return None


Change = tuple[dict[str, object], str] | None


def _fewer_rows(recipe: Recipe, lengths: Sequence[int]) -> Change:
    """Half the rows in a pass, accumulated to the same batch; not under one."""
    longest = min(recipe.max_tokens, max(lengths, default=recipe.max_tokens))
    rows = min(recipe.batch_size, recipe.micro_batch_tokens // longest)
    if rows <= 1:
        return None
    tokens = rows // 2 * longest
    return {"micro_batch_tokens": tokens}, (
        f"half as many rows in a pass, at most {tokens:,} tokens; the batch stays as it is"
    )


def _checkpointing(recipe: Recipe, _lengths: Sequence[int]) -> Change:
    if recipe.gradient_checkpointing:
        return None
    return {"gradient_checkpointing": True}, (
        "activations are computed twice instead of being kept (gradient checkpointing)"
    )


def _adapters(recipe: Recipe, _lengths: Sequence[int]) -> Change:
    """From all weights to adapters, from adapters to adapters on a 4-bit base."""
    if recipe.method == "full":
        return adapters_of(recipe, "lora"), "adapters are trained instead of all weights (LoRA)"
    if recipe.method == "lora" and can_quantise():
        return {"method": "qlora"}, "the frozen weights are held in 4 bits (QLoRA)"
    return None


def _shorter(recipe: Recipe, lengths: Sequence[int]) -> Change:
    """Half the longest length, but not under what half of the rows need whole."""
    longest = min(recipe.max_tokens, max(lengths, default=recipe.max_tokens))
    useful = max(SHORTEST, int(median(lengths)) if lengths else SHORTEST)
    tokens = max(longest // 2, useful)
    if tokens >= longest:
        return None
    return {"max_tokens": tokens, "micro_batch_tokens": tokens}, (
        f"rows are cut behind {tokens:,} tokens instead of {longest:,}"
    )


def adapters_of(recipe: Recipe, method: Method) -> dict[str, object]:
    """What changes in a recipe of full training if adapters are trained instead."""
    rate = min(_HIGHEST_RATE, _ADAPTER_RATE * recipe.learning_rate)
    return {
        "method": method,
        "lora_rank": _RANK,
        "learning_rate": rate,
        "matrix_learning_rate": 0.0,
    }


def can_quantise() -> bool:
    """True if bitsandbytes, which holds weights in 4 bits, is installed."""
    return find_spec("bitsandbytes") is not None
