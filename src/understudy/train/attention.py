"""Attention in which rows that lie end to end never see each other.

Registered with transformers' AttentionInterface, so that any model that asks it for its attention
runs on packed rows: every other layer sees one long line of tokens and no padding. On a GPU this is
torch's variable-length attention (T. Dao, "FlashAttention-2", 2023, arXiv:2307.08691), on a
processor each row in turn. Rows may share their first tokens, which are then read once for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "rows_apart"
_UNKNOWN = ("s_aux", "softcap", "position_bias")
"""What some models add to attention, and this one does not know: attention sinks, capped scores."""


@contextmanager
def apart(model: Any) -> Iterator[None]:
    """Let ``model`` attend within rows alone, in forward and backward passes on packed rows."""
    usual = model.config._attn_implementation  # noqa: SLF001  there is no public way to read it
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(usual)


def rows_apart(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    *,
    rows: list[int],
    shared: int,
    keys: Tensor | None,
    starts: Tensor,
    key_starts: Tensor,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    windows: list[int | None] | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Causal attention of each row to itself, and to the tokens that all rows begin with.

    ``query`` (1, H, T, D), ``key`` and ``value`` (1, G, T, D) with G dividing H; the result is
    (1, T, H, D). The other arguments are those of ``packing.Packed``; ``windows`` gathers the
    window that each layer asks for. Raises NotImplementedError
    for kinds of attention that are more than a softmax of scaled products.
    """
    if any(options.get(name) is not None for name in _UNKNOWN):
        raise NotImplementedError(f"{type(module).__name__} attends in a way of its own")
    if windows is not None:
        windows.append(sliding_window)
    if query.is_cuda:
        asks, seen, told = (
            part[0].transpose(0, 1) for part in (query, key, value)
        )  # (T, heads, D)
        if keys is not None:
            seen, told = seen.index_select(0, keys), told.index_select(0, keys)
        lengths = (starts, key_starts, max(rows), max(rows) + shared)
        return _all_at_once(asks, seen, told, lengths, scaling, sliding_window)[None], None
    with torch.autocast(query.device.type, enabled=False):
        done = _in_turn(
            query.float(),
            key.float(),
            value.float(),
            rows=rows,
            shared=shared,
            scaling=scaling,
            sliding_window=sliding_window,
            dropout=dropout,
        )
    return done.to(query.dtype), None


def _in_turn(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    rows: list[int],
    shared: int,
    scaling: float | None,
    sliding_window: int | None,
    dropout: float,
) -> Tensor:
    """One row after the other on a processor: (1, H, T, D) and (1, G, T, D) to (1, T, H, D).

    In float32: torch's backward pass of attention in bfloat16 takes a processor twice as long.
    """
    groups = query.size(1) // key.size(1)
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    done, start = [], 0
    for number, length in enumerate(rows):
        before = shared if number else 0
        mine = slice(start, start + length)
        row_keys, row_values = key[:, :, mine], value[:, :, mine]
        if before:
            row_keys = torch.cat((key[:, :, :before], row_keys), 2)
            row_values = torch.cat((value[:, :, :before], row_values), 2)
        window = sliding_window if sliding_window and sliding_window < before + length else 0
        done.append(
            scaled_dot_product_attention(
                query[:, :, mine],
                row_keys,
                row_values,
                attn_mask=_seen(length, before, window) if before or window else None,
                is_causal=not (before or window),
                scale=scaling,
                dropout_p=dropout,
            )
        )
        start += length
    return torch.cat(done, 2).transpose(1, 2).contiguous()


def _all_at_once(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: tuple[Tensor, Tensor, int, int],
    scaling: float | None,
    sliding_window: int | None,
) -> Tensor:
    """All rows in one kernel on a GPU: query (T, H, D), key and value (K, G, D) to (T, H, D)."""
    from torch.nn.attention.varlen import varlen_attn

    left = sliding_window - 1 if sliding_window else -1
    grouped = query.size(1) != key.size(1)
    window = (left, 0)
    done = varlen_attn(
        query, key, value, *lengths, scale=scaling, window_size=window, enable_gqa=grouped
    )
    assert isinstance(done, Tensor)  # noqa: S101  more comes only when asked for
    return done


@lru_cache(maxsize=256)
def _seen(length: int, before: int, window: int) -> Tensor:
    """Which keys each token of a row sees, (length, before + length): bool, causal, in a window."""
    seen = torch.ones(length, before + length, dtype=torch.bool).tril(before)
    return seen.triu(before - window + 1) if window else seen


AttentionInterface.register(NAME, rows_apart)
