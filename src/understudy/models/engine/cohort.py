"""Rows of a model whose memory cannot be merged: they start together and share every pass.

A recurrent state belongs to the positions it has read, so nobody can join later. transformers'
own loop runs the passes; what is chosen and who goes on is decided by the engine, row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from understudy.models.engine.row import Row

Give = Callable[[list[Row], Any], tuple[list[int], set[Row]]]
"""Gives rows their next tokens, of logits (rows, vocabulary); says which, and who is over."""


def write(model: Any, rows: Sequence[Row], pad: int, give: Give) -> None:
    """Run ``model`` until no row goes on."""
    import torch
    from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

    going = list(range(len(rows)))
    width = max(len(row.tokens) for row in rows)

    def only_the_chosen(_: Any, logits: Any) -> Any:
        chosen, over = give([rows[at] for at in going], logits[going])
        forced = torch.full_like(logits, float("-inf"))
        forced[:, pad] = 0
        forced[going, pad] = float("-inf")
        forced[going, chosen] = 0
        going[:] = [at for at in going if rows[at] not in over]
        return forced

    def over(ids: Any, *_: Any, **__: Any) -> Any:
        ended = torch.ones(len(rows), dtype=torch.bool, device=ids.device)
        ended[going] = False
        return ended

    model.generation_config = GenerationConfig(
        pad_token_id=pad, max_new_tokens=max(row.left for row in rows) + 1, do_sample=False
    )
    padded = [[pad] * (width - len(row.tokens)) + row.tokens for row in rows]
    mask = [[0] * (width - len(row.tokens)) + [1] * len(row.tokens) for row in rows]
    model.generate(
        input_ids=torch.tensor(padded, device=model.device),
        attention_mask=torch.tensor(mask, device=model.device),
        logits_processor=LogitsProcessorList([only_the_chosen]),
        stopping_criteria=StoppingCriteriaList([over]),
    )
