"""Greedy answers by transformers' own loop, many prompts at once, nobody joining.

What is served and evaluated goes through the engine (models/engine), which others can join and
leave. A trainer that looks at its model between two steps has all its prompts at once and no
thread to spare, and the proof that an exported model answers as before must not lean on the
engine: they use this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def generate(
    model: Any, prompts: Sequence[list[int]], *, ends: list[int], pad: int, max_tokens: int
) -> list[list[int]]:
    """Let ``model`` go on greedily from each prompt, up to and with a token of ``ends``.

    The folder's own sampling and penalties are left out.
    """
    import torch
    from transformers import GenerationConfig

    width = max(len(prompt) for prompt in prompts)
    padded = [[pad] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    model.generation_config = GenerationConfig(
        eos_token_id=ends, pad_token_id=pad, max_new_tokens=max_tokens, do_sample=False
    )
    with torch.inference_mode():
        written = model.generate(
            input_ids=torch.tensor(padded, device=model.device),
            attention_mask=torch.tensor(mask, device=model.device),
        )
    answers: list[list[int]] = written[:, width:].tolist()
    return answers
