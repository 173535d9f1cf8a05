"""Keys and values of the rows that write together, in one store that rows join and leave.

Every layer keeps (rows, heads, positions, width). Rows are padded on the left: all of them end at
position ``end``, so that one pass appends one token to each. A new row's prompt is written where
it will stay, a row that leaves is overwritten by the last, and the view that a pass reads begins
where the longest row does: joining, leaving and trimming copy one row, or nothing.

A layer with a sliding window is kept whole here; the model's own mask slides the window, by
distance, which padding on the left does not change.
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

from transformers.cache_utils import (
    Cache,
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
)

_MORE = 256
"""Positions that are made at once, at least."""


class Span(NamedTuple):
    """The part of the store that a pass reads and writes: rows, and positions known before it."""

    first: int
    last: int
    begin: int
    end: int


class _Layer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values; written behind ``span.end``, read from ``span.begin``."""

    def __init__(self, rows: int, positions: int) -> None:
        super().__init__()
        self.is_initialized: bool = False
        self.size = (rows, positions)
        self.span = Span(0, 0, 0, 0)
        self.new = 0

    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
        if not self.is_initialized:
            self.dtype, self.device = key_states.dtype, key_states.device
            self.keys, self.values = self._room(key_states), self._room(value_states)
            self.is_initialized = True
        first, last, begin, end = self.span
        start = end + self.new
        self.new += key_states.shape[-2]
        stop = end + self.new
        self.keys[first:last, :, start:stop] = key_states
        self.values[first:last, :, start:stop] = value_states
        return self.keys[first:last, :, begin:stop], self.values[first:last, :, begin:stop]

    def get_seq_length(self) -> int:
        return self.span.end - self.span.begin + self.new

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def resize(self, size: tuple[int, int], rows: int, begin: int, end: int, shift: int) -> None:
        """Make room; the first ``rows`` are kept, moved by ``shift`` positions."""
        self.size = size
        if not self.is_initialized:
            return
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = self._room(old)
            new[:rows, :, begin + shift : end + shift] = old[:rows, :, begin:end]
            setattr(self, name, new)

    def copy(self, source: int, target: int, begin: int, end: int) -> None:
        """Copy a row onto another."""
        if self.is_initialized:
            self.keys[target, :, begin:end] = self.keys[source, :, begin:end]
            self.values[target, :, begin:end] = self.values[source, :, begin:end]

    def _room(self, like: Any) -> Any:
        # Zeros: what padding hides is multiplied by nought, which would not undo an infinity.
        rows, positions = self.size
        return like.new_zeros((rows, like.shape[1], positions, like.shape[3]))


class Store:
    """The cache of all running rows: row ``n`` of it is row ``n`` of the batch."""

    def __init__(self, model: Any) -> None:
        import torch

        self._torch, self._device = torch, model.device
        self._layers = [_Layer(1, _MORE) for _ in _layers(model)]
        self._size = (1, _MORE)
        self._mask = torch.ones(self._size, dtype=torch.long, device=self._device)
        self._end = 0
        self.cache = Cache(layers=list(self._layers))
        self.lengths: list[int] = []
        """Positions that each row has filled."""

    @property
    def width(self) -> int:
        """Positions of the longest row."""
        return max(self.lengths, default=0)

    def join(self, lengths: list[int]) -> Any:
        """Open the pass that reads prompts of these lengths, in new rows.

        Returns its mask (rows, positions); None where nothing is hidden.
        """
        first, width = len(self.lengths), max(lengths)
        self._make_room(first + len(lengths), max(width, self.width), 0)
        self._open(first, first + len(lengths), self._end - width, self._end - width)
        for row, length in enumerate(lengths, first):
            self._hide(row, length)
        if min(lengths) == width:
            return None
        return self._mask[first : first + len(lengths), self._end - width : self._end]

    def joined(self, lengths: list[int]) -> None:
        """The pass is over: the rows are there."""
        self.lengths += lengths

    def step(self) -> Any:
        """Open a pass of one token a row. Returns its mask; None where nothing is hidden."""
        self._make_room(len(self.lengths), self.width, 1)
        begin = self._end - self.width
        self._open(0, len(self.lengths), begin, self._end)
        if min(self.lengths) == self.width:
            return None
        return self._mask[: len(self.lengths), begin : self._end + 1]

    def stepped(self) -> None:
        """The pass is over: every row is one longer."""
        self._end += 1
        self.lengths = [length + 1 for length in self.lengths]

    def leave(self, row: int) -> None:
        """Forget a row; the last one takes its place."""
        last = len(self.lengths) - 1
        if row != last:
            begin = self._end - self.lengths[last]
            for layer in self._layers:
                layer.copy(last, row, begin, self._end)
            self._hide(row, self.lengths[last])
            self.lengths[row] = self.lengths[last]
        self.lengths.pop()

    def _open(self, first: int, last: int, begin: int, end: int) -> None:
        span = Span(first, last, begin, end)
        for layer in self._layers:
            layer.span, layer.new = span, 0

    def _hide(self, row: int, length: int) -> None:
        """Mask what lies in front of a row of this length."""
        self._mask[row] = 1
        self._mask[row, : self._end - length] = 0

    def _make_room(self, rows: int, width: int, more: int) -> None:
        """See to it that ``rows`` fit, ``width`` positions before the end and ``more`` behind."""
        had_rows, had = self._size
        if not self.lengths and had_rows >= rows and had >= width + more:
            self._end = width
            return
        if had_rows >= rows and self._end >= width and self._end + more <= had:
            return
        # By what is needed now, not by what once was: many short rows and then a single long one
        # must not come to many long ones.
        size = (rows + rows // 2, width + more + max(_MORE, width // 4))
        shift = width - self._end
        begin = self._end - self.width
        for layer in self._layers:
            layer.resize(size, len(self.lengths), begin, self._end, shift)
        self._size, self._end = size, width
        self._mask = self._torch.ones(size, dtype=self._torch.long, device=self._device)
        for row, length in enumerate(self.lengths):
            self._hide(row, length)


def merges(model: Any) -> bool:
    """True if rows of this model can join and leave: its memory is keys and values alone.

    A recurrent state, attention in chunks, an index or layers that share a cache are not.
    """
    takes = inspect.signature(model.forward).parameters
    if not {"past_key_values", "attention_mask"} <= takes.keys():
        return False
    config = model.config.get_text_config(decoder=True)
    kinds = set(getattr(config, "layer_types", None) or ())
    if not kinds <= {"full_attention", "sliding_attention"} or model.config.is_encoder_decoder:
        return False
    if getattr(config, "attention_chunk_size", None) or getattr(config, "num_kv_shared_layers", 0):
        return False
    return bool(layers := _layers(model)) and all(
        type(layer) in {DynamicLayer, DynamicSlidingWindowLayer} for layer in layers
    )


def _layers(model: Any) -> list[Any]:
    """The layers of the cache that the model would make for itself."""
    return list(DynamicCache(config=model.config).layers)
