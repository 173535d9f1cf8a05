"""Rows that share forward passes, one token a pass, joining and leaving at every token."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from understudy.models.engine.cache import Store
from understudy.models.engine.row import Row


class Batch:
    """The rows that are running on one model, and their cache.

    A pass that fails leaves the cache as it cannot be trusted: the batch is to be thrown away.
    """

    def __init__(self, model: Any) -> None:
        self._model, self._device, self._store = model, model.device, Store(model)
        takes = inspect.signature(model.forward).parameters
        self._places = "position_ids" in takes
        self._prompt_options = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        self.rows: list[Row] = []

    @property
    def width(self) -> int:
        """Tokens of the longest row."""
        return self._store.width

    def join(self, rows: Sequence[Row]) -> Any:
        """Read the tokens of new rows in one pass. Returns logits (rows, vocabulary)."""
        import torch

        lengths = [len(row.tokens) for row in rows]
        width = max(lengths)
        mask = self._store.join(lengths)
        ids = [[0] * (width - len(row.tokens)) + row.tokens for row in rows]
        places = [[0] * (width - length) + list(range(length)) for length in lengths]
        logits = self._pass(
            torch.tensor(ids, device=self._device), places, mask, **self._prompt_options
        )
        self._store.joined(lengths)
        self.rows += rows
        return logits

    def step(self) -> Any:
        """Read each row's newest token. Returns logits (rows, vocabulary)."""
        import torch

        mask = self._store.step()
        ids = torch.tensor([[row.tokens[-1]] for row in self.rows], device=self._device)
        logits = self._pass(ids, [[length] for length in self._store.lengths], mask)
        self._store.stepped()
        return logits

    def leave(self, at: int) -> Row:
        """Forget a row; the last one takes its place."""
        row, last = self.rows[at], self.rows.pop()
        if row is not last:
            self.rows[at] = last
        self._store.leave(at)
        return row

    def _pass(self, ids: Any, places: list[list[int]], mask: Any, **options: Any) -> Any:
        import torch

        if self._places:
            options["position_ids"] = torch.tensor(places, device=self._device)
        said = self._model(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=self._store.cache,
            use_cache=True,
            **options,
        )
        return said.logits[:, -1]
