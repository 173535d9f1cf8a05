"""The largest sensible way to train a student on a machine, found before anything is started.

Ways are tried in the order in which they cost something: fewer rows in a pass, activations
computed twice, adapters, adapters on a 4-bit base, shorter rows. The first that fits is taken, so
that a student is trained as well as the machine allows.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from understudy.run import Method, Recipe
from understudy.train.sizing.need import GB, Machine, Need, Shape, estimate
from understudy.train.sizing.smaller import SHORTEST, adapters_of, can_quantise

_ORDER: tuple[Method, ...] = ("full", "lora", "qlora")
_METHOD_WORDS = {
    "lora": "adapters are trained instead of all weights (LoRA)",
    "qlora": "adapters are trained on frozen weights of 4 bits (QLoRA)",
}


@dataclass(frozen=True, slots=True)
class Fitting:
    """How a student can be trained here, or why it cannot."""

    recipe: Recipe
    """What was asked for if it fits, else the largest that does, else the smallest tried."""
    need: Need
    fits: bool
    changes: tuple[str, ...]
    """What had to be changed, in words."""
    lacking: tuple[str, ...]
    """What this machine has too little of, if it does not fit."""
    preset: str = ""
    """The largest preset student that would fit, if this one does not."""


def choose_fitting(
    shape: Shape,
    recipe: Recipe,
    lengths: Sequence[int],
    machine: Machine,
    *,
    answers: Sequence[int] = (),
    local: bool = False,
    presets: Sequence[tuple[str, int]] = (),
    fixed: Container[str] = (),
) -> Fitting:
    """Fit ``recipe`` to ``machine``.

    ``lengths``, ``answers``, ``local``: as for ``estimate``. ``presets``: ids and weights of other
    students. ``fixed``: settings of the recipe that were asked for and stay as they are.
    """
    need = estimate(shape, recipe, lengths, machine, answers=answers, local=local)
    last = recipe
    for candidate in _candidates(recipe, lengths, fixed):
        last = candidate
        need = estimate(shape, candidate, lengths, machine, answers=answers, local=local)
        if not need.lacking(machine):
            changes = _changes(recipe, candidate)
            why = (*recipe.why, *(f"To fit this machine: {change}." for change in changes))
            return Fitting(candidate.model_copy(update={"why": why}), need, True, changes, ())
    preset = _largest_preset(recipe, lengths, machine, presets, below=shape.parameters)
    return Fitting(last, need, False, _changes(recipe, last), need.lacking(machine), preset)


def advice(fitting: Fitting) -> str:
    """What to do if it does not fit."""
    if fitting.fits:
        return ""
    size = f"{fitting.need.memory_bytes / GB:,.0f} GB"
    if fitting.preset:
        return f"Choose a smaller student: {fitting.preset} would fit; this one needs {size}"
    return f"Choose the student `tiny`, or a machine with more than {size}"


def _candidates(recipe: Recipe, lengths: Sequence[int], fixed: Container[str]) -> Iterator[Recipe]:
    """Every way to train, the best first."""
    methods: Sequence[Method] = [recipe.method]
    if "method" not in fixed and not (recipe.method == "full" and "lora_rank" in fixed):
        first = _ORDER.index(recipe.method)
        methods = [one for one in _ORDER[first:] if one != "qlora" or can_quantise()]
    for tokens in _shorter(recipe, lengths, fixed):
        for method in methods:
            settings: dict[str, object] = {"max_tokens": tokens, "method": method}
            if recipe.method == "full" and method != "full":
                changed = adapters_of(recipe, method)
                settings |= {name: changed[name] for name in changed if name not in fixed}
            usual = recipe.gradient_checkpointing
            both = {usual} if "gradient_checkpointing" in fixed else {usual, True}
            for checkpointing in sorted(both):
                settings["gradient_checkpointing"] = checkpointing
                for in_pass in _passes(recipe, min(tokens, max(lengths, default=tokens)), fixed):
                    settings["micro_batch_tokens"] = in_pass
                    yield recipe.model_copy(update=settings)


def _shorter(recipe: Recipe, lengths: Sequence[int], fixed: Container[str]) -> Iterator[int]:
    """Longest rows: as asked, then halves, but not under what half of the rows need whole."""
    yield recipe.max_tokens
    tokens = min(recipe.max_tokens, max(lengths, default=recipe.max_tokens))
    useful = max(SHORTEST, int(median(lengths)) if lengths else SHORTEST)
    while "max_tokens" not in fixed and tokens > useful:
        tokens = max(tokens // 2, useful)
        yield tokens


def _passes(recipe: Recipe, longest: int, fixed: Container[str]) -> Iterator[int]:
    """Tokens in a pass: as asked, then for half as many rows each time, down to one."""
    yield recipe.micro_batch_tokens
    rows = min(recipe.batch_size, recipe.micro_batch_tokens // longest)
    while "micro_batch_tokens" not in fixed and rows > 1:
        rows //= 2
        yield rows * longest


def _changes(before: Recipe, after: Recipe) -> tuple[str, ...]:
    said = []
    if after.method != before.method:
        said.append(_METHOD_WORDS[after.method])
    if after.gradient_checkpointing and not before.gradient_checkpointing:
        said.append("activations are computed twice instead of being kept")
    if after.micro_batch_tokens != before.micro_batch_tokens:
        said.append(f"at most {after.micro_batch_tokens:,} tokens in a pass")
    if after.max_tokens != before.max_tokens:
        said.append(f"rows are cut behind {after.max_tokens:,} tokens")
    return tuple(said)


def _largest_preset(
    recipe: Recipe,
    lengths: Sequence[int],
    machine: Machine,
    presets: Sequence[tuple[str, int]],
    *,
    below: int,
) -> str:
    """The id of the largest of ``presets`` under ``below`` weights that fits in some way."""
    for name, size in sorted(presets, key=lambda preset: -preset[1]):
        shape = Shape.typical(size)
        if size < below and any(
            not estimate(shape, candidate, lengths, machine).lacking(machine)
            for candidate in _candidates(recipe, lengths, ())
        ):
            return name
    return ""
