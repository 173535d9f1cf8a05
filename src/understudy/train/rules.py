"""Published rules for the settings of a fine-tuning: each gives a value and the reason in words.

- rate: 5e-5 x (2000 / hidden size) ^ p for full training, ten times that for adapters, p 0.781 for
  Llama shapes and 0.0775 for Qwen (J. Schulman et al., "LoRA Without Regret", Thinking Machines,
  2025, https://thinkingmachines.ai/blog/lora/, and the rates that its cookbook recommends). Where
  the base is held in 4 bits, no more than what QLoRA was tried with: 2e-4 up to 13 billion weights,
  1e-4 above (T. Dettmers et al., 2023, arXiv:2305.14314, table 9).
- rank: adapters on all linear layers learn as full training does as long as they have room for the
  data; a weight holds about two bits (Z. Allen-Zhu and Y. Li, 2024, arXiv:2404.05405) and an answer
  token is worth about one (LoRA Without Regret).
- batch: small, since adapters lose more than full training does in large ones (the same).
- epochs: three, as Alpaca was trained (R. Taori et al., 2023); up to five of few rows, since four
  passes teach nearly as much as new data and many more nothing (N. Muennighoff et al., 2023,
  arXiv:2305.16264); fewer of very many.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from understudy.run import Method
from understudy.train.sizing.shape import Shape

EPOCHS, MOST_EPOCHS = 3.0, 5.0
FEW, MANY = 1_000, 25_000
"""Examples read in all: below the first, rows are read up to five times; above the second, fewer
than three times."""
STEPS = 100
"""Optimizer steps that a batch size has to leave."""
RANKS = (16, 32, 64, 128, 256)
EVALUATIONS = 4, 8
"""Fewest and most."""
PATIENCE = 2
LEAST_VALIDATION_ROWS = 20
"""Below, one answer more or less moves the score by over a twentieth."""
_EVALUATED_SHARE = 0.25
"""Validation rows scored while training, as a share of the examples read."""

_RATE, _RATE_HIDDEN = 5e-5, 2_000
_RATE_POWER = {"qwen": 0.0775}
_USUAL_POWER = 0.781
ADAPTER_RATE = 10
_HIGHEST_RATE = 2e-3
_QLORA_RATE, _QLORA_RATE_LARGE, _QLORA_LARGE = 2e-4, 1e-4, 1.5e10


class Choice(NamedTuple):
    """A value and the reason for it, a sentence without its full stop."""

    value: float
    reason: str


def epochs(rows: int) -> Choice:
    """Passes over the training rows."""
    passes = min(MOST_EPOCHS, max(EPOCHS, FEW / rows))
    passes = round(max(1.0, min(passes, MANY / rows)), 1)
    why = "the usual three"
    if passes > EPOCHS:
        why = "few rows are read more often"
    elif passes < EPOCHS:
        why = "so many rows need fewer than three"
    return Choice(passes, f"{read(passes, rows)}; {why}")


def read(passes: float, rows: int) -> str:
    """How often the rows are read, in words."""
    return f"{passes:g} passes over {rows:,} rows, {round(passes * rows):,} examples read in all"


def batch_size(rows: int, passes: float, method: Method) -> Choice:
    """Examples per optimizer step."""
    sizes = (4, 8, 16, 32) if method == "full" else (4, 8, 16)
    fitting = [size for size in sizes if rows * passes / size >= STEPS]
    size = max(fitting, default=sizes[0])
    steps = max(1, round(rows * passes / size))
    return Choice(size, f"small batches learn more from an example; {steps:,} steps")


_SMALL, _SMALL_RATE = 20_000_000, 1e-3
"""Parameters below which the published rule, made for a hundred times as many, does not reach."""


def learning_rate(shape: Shape, method: Method, family: str) -> Choice:
    """Peak rate of AdamW. ``family`` is the config's ``model_type``."""
    power = next((p for name, p in _RATE_POWER.items() if name in family), _USUAL_POWER)
    full = _RATE * (_RATE_HIDDEN / shape.hidden) ** power
    if method == "full" and shape.parameters < _SMALL:
        rate, reason = (
            _SMALL_RATE,
            "so small a student has most to learn",
        )
    elif method == "full":
        rate, reason = full, f"wider students need less, and this one is {shape.hidden:,} wide"
    else:
        rate, reason = ADAPTER_RATE * full, "ten times what full training takes at this width"
    if method == "qlora":
        large = shape.parameters > _QLORA_LARGE
        rate = min(rate, _QLORA_RATE_LARGE if large else _QLORA_RATE)
        reason += ", and no more than QLoRA was tried with"
    return Choice(_two_digits(min(rate, _HIGHEST_RATE)), reason)


def lora_rank(shape: Shape, answer_tokens: int) -> Choice:
    """Rank of the adapters: the smallest whose weights have room for the answers."""
    enough = (rank for rank in RANKS if shape.adapter_parameters(rank) >= answer_tokens / 2)
    rank = next(enough, RANKS[-1])
    weights = shape.adapter_parameters(rank) / 1e6
    return Choice(
        rank, f"{weights:,.1f} million weights on all linear layers for {answer_tokens:,} tokens"
    )


def evaluations(rows: int, passes: float, validation_rows: int) -> Choice:
    """Times that validation is scored: about once a pass, as long as it costs little."""
    fewest, most = EVALUATIONS
    wanted = min(most, max(fewest, round(passes) + 1))
    payable = int(_EVALUATED_SHARE * rows * passes / max(1, validation_rows))
    times = max(1, min(wanted, payable))
    return Choice(times, f"{validation_rows:,} validation rows are answered each time")


def patience(times: float, validation_rows: int) -> Choice:
    """Evaluations without a better score that end the training."""
    if validation_rows < LEAST_VALIDATION_ROWS:
        return Choice(0, "too few validation rows to end early by; the last weights are kept")
    if times < EVALUATIONS[0]:
        return Choice(0, "too few evaluations to end early; the last weights are kept")
    return Choice(PATIENCE, "it ends when so many are no better, and the best weights are kept")


def _two_digits(rate: float) -> float:
    return float(f"{rate:.1e}")


def answer_tokens(lengths: Sequence[int], answers: Sequence[int]) -> int:
    """Tokens to learn in one pass; all of a row's where its answer was not counted."""
    return sum(answers or lengths)
