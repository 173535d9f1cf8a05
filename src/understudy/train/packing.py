"""Micro batches: rows end to end without padding if the model can be trained so, else padded.

Every row of a task begins with the same system message. Packed rows share it: it is read once for
a micro batch, each row attends to it, and its gradient is the sum of what the rows would have given
it alone. In padded batches no mask is needed: padding is on the right, where no real token looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, takewhile
from typing import Any, TypedDict

import torch
from torch import Tensor

from understudy.train import attention
from understudy.train.rows import NOT_LEARNT, Encoded

SHORTEST_SHARED = 16
"""Tokens that rows have to begin with alike for sharing them to pay."""
_PROBED = 24
"""Tokens of each row that tries out whether a model can be packed."""
_TOLERANCE = 0.02
"""Largest difference of a logit, as a share of the largest logit: bfloat16 has three digits."""


class Packed(TypedDict):
    """One micro batch of rows laid end to end, as the model and ``attention.rows_apart`` take it.

    T tokens in N parts: the rows, before them what they share, if they share something.
    """

    input_ids: Tensor
    """(1, T)"""
    labels: Tensor
    """(1, T)"""
    position_ids: Tensor
    """(1, T): each row counts its own."""
    rows: list[int]
    """Tokens of each part."""
    shared: int
    """Tokens of the first part, which all others see; 0 if nothing is shared."""
    keys: Tensor | None
    """Token at each key if something is shared: what is shared comes once for each row."""
    starts: Tensor
    """(N + 1,) int32: where each part begins, and the end."""
    key_starts: Tensor
    """(N + 1,) int32: where the keys of each part begin, and the end."""


def shared_tokens(encoded: Encoded) -> int:
    """Tokens that every row begins with and none learns; 0 if too few to share."""
    rows = encoded.tokens
    first, last = min(rows), max(rows)  # what these two share, all share
    shared = sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    )
    for labels in encoded.labels:
        prompt = sum(1 for _ in takewhile(lambda label: label == NOT_LEARNT, labels))
        shared = min(shared, prompt - 1)  # the last token of a prompt says what comes first
    return shared if shared >= SHORTEST_SHARED else 0


def pack(tokens: Sequence[list[int]], labels: Sequence[list[int]], *, shared: int = 0) -> Packed:
    """Lay rows end to end; their first ``shared`` tokens, alike in all, once before them."""
    parts = [row[shared:] for row in tokens]
    learnt = [row[shared:] for row in labels]
    positions = [list(range(shared, len(row))) for row in tokens]
    if shared:
        parts.insert(0, tokens[0][:shared])
        learnt.insert(0, [NOT_LEARNT] * shared)
        positions.insert(0, list(range(shared)))
    rows = [len(part) for part in parts]
    seen = [length + (shared if number else 0) for number, length in enumerate(rows)]
    return Packed(
        input_ids=torch.tensor([list(chain(*parts))]),
        labels=torch.tensor([[label for row in learnt for label in (NOT_LEARNT, *row[1:])]]),
        position_ids=torch.tensor([list(chain(*positions))]),
        rows=rows,
        shared=shared,
        keys=_keys(rows, shared) if shared else None,
        starts=torch.tensor([0, *rows], dtype=torch.int32).cumsum(0, dtype=torch.int32),
        key_starts=torch.tensor([0, *seen], dtype=torch.int32).cumsum(0, dtype=torch.int32),
    )


def _keys(rows: list[int], shared: int) -> Tensor:
    """Tokens that each part sees, part after part."""
    before, start = torch.arange(shared), shared
    found = [before]
    for length in rows[1:]:
        found += [before, torch.arange(start, start + length)]
        start += length
    return torch.cat(found)


def pad(
    tokens: Sequence[list[int]], labels: Sequence[list[int]], *, padding: int
) -> dict[str, Tensor]:
    """Rows as (B, T), padded on the right."""
    longest = max(map(len, tokens))
    ids = [[*row, *[padding] * (longest - len(row))] for row in tokens]
    learnt = [[*row, *[NOT_LEARNT] * (longest - len(row))] for row in labels]
    return {"input_ids": torch.tensor(ids), "labels": torch.tensor(learnt)}


class Collator:
    """Makes micro batches of rows by their numbers: nothing is copied before it is needed."""

    def __init__(self, encoded: Encoded, *, padding: int) -> None:
        self.encoded, self._padding = encoded, padding
        self.packs = False
        self.shared = 0

    def choose(self, model: Any, *, half: bool) -> None:
        """Pack from now on if ``model`` can be trained so; ``half``: it computes in bfloat16."""
        for shared in dict.fromkeys((shared_tokens(self.encoded), 0)):
            if packs(model, self.encoded, shared=shared, half=half):
                self.packs, self.shared = True, shared
                return

    def __call__(self, examples: Sequence[dict[str, int]]) -> Any:
        """A batch of ``examples``, each ``{"row": number}``."""
        tokens = [self.encoded.tokens[example["row"]] for example in examples]
        labels = [self.encoded.labels[example["row"]] for example in examples]
        if self.packs:
            return pack(tokens, labels, shared=self.shared)
        return pad(tokens, labels, padding=self._padding)


def bare(model: Any) -> Any:
    """The model itself, without the adapters around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@torch.no_grad()
def packs(model: Any, encoded: Encoded, *, shared: int = 0, half: bool = False) -> bool:
    """Try out whether ``model`` reads packed rows as it reads each alone; nothing is learnt.

    Some cannot: their attention is their own, or another layer carries something from token to
    token. Two rows read packed have to agree with each read alone, and the second must not change
    in a single bit when the first does. Neither is as long as a window, so those are looked up.
    ``half``: the model computes in bfloat16.
    """
    first, second = (row[: shared + _PROBED] for row in (encoded.tokens[0], encoded.tokens[-1]))
    other = [*first[:shared], *reversed(first[shared:])]
    if other == first:
        other[-1] = other[-1] - 1 if other[-1] else 1
    device, training = model.device, model.training
    windows: list[int | None] = []
    model.eval()
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            alone = [
                model(input_ids=torch.tensor([row], device=device)).logits[0, -1]
                for row in (first, second)
            ]
            together, moved = (
                _last_logits(model, [row, second], shared, windows) for row in (first, other)
            )
    except Exception:  # noqa: BLE001  whatever a model of a stranger says to it
        return False
    finally:
        model.train(training)
    if not _knows_windows(model, windows, longest=max(encoded.lengths)):
        return False
    expected = torch.stack(alone).float()
    difference = (together.float() - expected).abs().max() / expected.abs().max()
    return bool(difference < _TOLERANCE) and torch.equal(together[1], moved[1])


def _knows_windows(model: Any, given: list[int | None], *, longest: int) -> bool:
    """True if no row of up to ``longest`` tokens is read further than the model reads alone.

    Some say how far a token sees by a mask alone, which packed rows have not. ``given``: the
    window that each layer asked ``rows_apart`` for, in two passes.
    """
    config = bare(model).config.get_text_config()
    if getattr(config, "attention_chunk_size", None):
        return False
    window = getattr(config, "sliding_window", None)
    if not window or longest <= window:
        return True
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"]
    return given.count(window) >= 2 * kinds.count("sliding_attention")


def _last_logits(
    model: Any, rows: list[list[int]], shared: int, windows: list[int | None]
) -> Tensor:
    """What follows each of two rows, read packed: (2, V). ``windows`` are gathered."""
    packed: dict[str, Any] = dict(pack(rows, rows, shared=shared))
    ends = packed["starts"][1:].tolist()[-2:]
    del packed["labels"]
    given = {
        name: part.to(model.device) if isinstance(part, Tensor) else part
        for name, part in packed.items()
    }
    with attention.apart(bare(model)):
        logits: Tensor = model(**given, windows=windows, use_cache=False).logits[0]
    return logits[[end - 1 for end in ends]]
