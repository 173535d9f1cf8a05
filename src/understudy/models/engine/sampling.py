"""The next token of every row at once: greedy or drawn, held to a grammar, with logprobs.

Greedy rows cost one argmax together. A drawn row takes one number from its own generator, so that
its text does not depend on the company.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from understudy.models.engine.row import Row
from understudy.models.engine.text import token_bytes
from understudy.models.protocol import TokenLogprob


class Sampler:
    """Chooses for these rows, in this order; made anew when rows come or go."""

    def __init__(self, rows: Sequence[Row], tokenizer: Any) -> None:
        self.rows, self._tokenizer = tuple(rows), tokenizer
        drawn = [at for at, row in enumerate(rows) if row.temperature > 0]
        self._drawn = [at for at in drawn if rows[at].top_p >= 1]
        self._cut = [at for at in drawn if rows[at].top_p < 1]
        self._told = [at for at, row in enumerate(rows) if row.top_logprobs is not None]
        self._held = [at for at, row in enumerate(rows) if row.grammar is not None]

    def choose(self, logits: Any) -> list[int]:
        """One token for each row of ``logits`` (rows, vocabulary), on any device."""
        if self._held:
            logits = self._hold(logits)
        chosen: list[int] = logits.argmax(-1).tolist()
        for rows, cut in ((self._drawn, False), (self._cut, True)):
            if rows:
                for at, token in zip(rows, self._draw(logits, rows, cut=cut), strict=True):
                    chosen[at] = token
        return chosen

    def logprobs(self, logits: Any, chosen: Sequence[int]) -> dict[int, TokenLogprob]:
        """What is told of the chosen tokens, by row; of the model's own distribution."""
        if not self._told:
            return {}
        import torch

        told = [self.rows[at].top_logprobs or 0 for at in self._told]
        raw = logits[self._told].float().log_softmax(-1)
        tokens = torch.tensor([[chosen[at]] for at in self._told], device=raw.device)
        own = raw.gather(1, tokens)[:, 0].tolist()
        top = raw.topk(min(max(told), raw.shape[-1]), dim=-1)
        found: dict[int, TokenLogprob] = {}
        for at, most, logprob, values, ids in zip(
            self._told, told, own, top.values.tolist(), top.indices.tolist(), strict=True
        ):
            likeliest = zip(ids[:most], values[:most], strict=True)
            found[at] = TokenLogprob(
                *self._spelled(chosen[at], logprob),
                top=tuple(self._spelled(token, value) for token, value in likeliest),
            )
        return found

    def _spelled(self, token: int, logprob: float) -> tuple[str, float, bytes]:
        spelled = token_bytes(self._tokenizer, token)
        return spelled.decode("utf-8", "replace"), logprob, spelled

    def _hold(self, logits: Any) -> Any:
        """The logits, without the tokens that a row's grammar does not allow."""
        import numpy as np
        import torch

        allowed = np.stack([self.rows[at].grammar.allowed() for at in self._held])  # type: ignore[union-attr]
        barred = ~torch.from_numpy(allowed).to(logits.device)
        logits = logits.clone()
        logits[self._held] = logits[self._held].masked_fill(barred, float("-inf"))
        return logits

    def _draw(self, logits: Any, at: Sequence[int], *, cut: bool) -> list[int]:
        """Draw from softmax(logits / temperature) by inverting the distribution.

        ``cut``: to top_p, which needs the tokens sorted; rows that do not are drawn apart, so
        that their draws are the same whether or not a neighbour does.
        """
        import torch

        rows = [self.rows[row] for row in at]

        def column(values: list[float]) -> Any:
            return torch.tensor(values, dtype=torch.float64, device=logits.device)[:, None]

        # The largest is taken off first, so that a tiny temperature makes no infinities.
        scaled = logits[at].double()
        scaled = scaled - scaled.max(-1, keepdim=True).values
        shares = (scaled / column([row.temperature for row in rows])).softmax(-1)
        order = None
        if cut:
            shares, order = shares.sort(dim=-1, descending=True, stable=True)
            before = shares.cumsum(-1) - shares
            top_p = column([row.top_p for row in rows])
            shares = shares.masked_fill((before >= top_p) & (before > 0), 0)
        up_to = shares.cumsum(-1)
        drawn = column([row.random.random() for row in rows]) * up_to[:, -1:]
        found = (up_to <= drawn).sum(-1, keepdim=True).clamp(max=shares.shape[-1] - 1)
        tokens: list[int] = (found if order is None else order.gather(1, found))[:, 0].tolist()
        return tokens
