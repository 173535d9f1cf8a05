"""Choose the settings of a training from the student, the data and the machine, and say why.

Reads file headers alone: nothing heavy is imported, no weight is loaded. The rules for pre-trained
students are in rules.py with their sources; those for tiny students were measured here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from pydantic import ValidationError

from understudy.errors import UsageError
from understudy.models.huggingface import check_folder
from understudy.run import Method, Recipe
from understudy.train import rules
from understudy.train.sizing.largest import choose_fitting
from understudy.train.sizing.machine import Machine
from understudy.train.sizing.shape import Shape

TINY = "tiny"
"""The student that is made from the training split."""
TINY_STEPS = 375
"""Optimizer steps of a tiny student; more passes over fewer rows. Measured on 1,500 rows: 250 steps
gave dates 0.95 exact match, 375 gave 0.97."""
TINY_SHORT = 40
"""Bytes, beyond the shortest row, up to which a typical row counts as short."""
TINY_EVALUATIONS = 3
FULL_BELOW = 50_000_000
"""Parameters under which all weights are trained: adapters would save nothing."""
CHECKPOINTS = 8
LONGEST_TINY = 2_048
SCORED_ROWS = 64
"""Most validation rows that are answered at an evaluation."""
MICRO_BATCH_TOKENS = 8_192
SPARE_TOKENS = 16
"""Room beyond the longest row, should the trainer count a token more, or fewer."""

_ASKED = "as asked"
TRIALS = "Trials: "
"""How the sentence begins that trials leave in ``why``."""

Take = Callable[[str, Any, str], Any]


class Reason(NamedTuple):
    """One line of ``explain``."""

    setting: str
    """Empty for a remark on the whole."""
    value: str
    reason: str


def choose(
    student: str,
    lengths: Sequence[int],
    *,
    answers: Sequence[int] = (),
    validation_rows: int | None = None,
    method: Method | None = None,
    machine: Machine | None = None,
    local: bool = True,
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
) -> Recipe:
    """Choose a recipe for ``student`` (``tiny``, or a folder) and training rows.

    ``lengths``: size of each row, prompt and answer: tokens for a folder (sizing/lengths.py),
    UTF-8 bytes for ``tiny``, whose tokenizer is yet to be made. ``answers``: tokens of each answer.
    ``method``: None chooses. ``machine``: what it has to fit into (sizing/largest.py); where
    nothing does, the recipe is given as it would be on a larger one; None: nothing is known of it.
    ``local``: its weights are in the folder, not config and tokenizer alone.
    ``overrides`` replace what was chosen, by the names of Recipe, and what follows from them is
    chosen accordingly. Raises UsageError for a wrong override or no rows, SetupError for a folder
    that is no safe model.
    """
    if not lengths:
        raise UsageError("There are no training rows", "Freeze a dataset with more examples")
    given = _checked({"method": method} | dict(overrides or {}))
    settings: dict[str, Any] = _checked({"seed": seed})
    why: list[str] = []

    def take(name: str, value: Any, reason: str) -> Any:
        if name in given:
            value, reason = given[name], _ASKED
        settings[name] = value
        why.append(f"{name} {_written(value)}: {reason}.")
        return value

    if student == TINY:
        _tiny(take, lengths, given)
    else:
        check_folder(Path(student), weights=local)
        answering = _validation_rows(validation_rows, len(lengths))
        _pretrained(take, Path(student), lengths, answers, answering, machine)
    steps = len(lengths) * settings["epochs"] / settings["batch_size"]
    take("save_steps", max(1, round(steps / CHECKPOINTS)), "eight checkpoints or so in all")
    for name in given.keys() - settings.keys() | given.keys() & {"seed"}:
        take(name, None, "")
    recipe = Recipe(**settings, why=tuple(why))
    if (recipe.method == "full") != (recipe.lora_rank == 0):
        raise UsageError("Adapters need a lora_rank, full training none", f"Settings: {_names()}")
    if machine is None or student == TINY:
        return recipe
    shape = Shape.of(Path(student))
    fitting = choose_fitting(
        shape, recipe, lengths, machine, answers=answers, local=local, fixed=given
    )
    return _retold(fitting.recipe, Path(student)) if fitting.fits and fitting.changes else recipe


def explain(recipe: Recipe) -> list[Reason]:
    """The recipe as a list to read: setting, value, reason."""
    lines = []
    for line in recipe.why:
        found = re.fullmatch(r"(\w+) (\S+): (.*)", line)
        known = found is not None and found[1] in Recipe.model_fields
        lines.append(Reason(*found.groups()) if found and known else Reason("", "", line))
    return lines


def asked(recipe: Recipe) -> set[Reason]:
    """The settings that somebody asked for."""
    return {line for line in explain(recipe) if line.reason == f"{_ASKED}."}


def tried(recipe: Recipe) -> bool:
    """True if trials chose it."""
    return any(line.startswith(TRIALS) for line in recipe.why)


def _tiny(take: Take, lengths: Sequence[int], given: Mapping[str, Any]) -> None:
    # A system message that all rows share is known by heart: only what differs is read.
    stretch = min(2.0, max(1.0, (median(lengths) - min(lengths)) / TINY_SHORT))
    usual = round(48 / stretch)
    passes = round(min(60.0, max(1.0, TINY_STEPS * usual / len(lengths))), 1)
    if given.get("base_share"):
        raise UsageError(
            "A tiny student starts from nothing, so it has no answers to keep",
            "Leave base_share out, or choose another student",
        )
    if take("method", "full", "a tiny student starts from nothing, so all weights learn") != "full":
        raise UsageError("A tiny student is trained in full", "Leave the method out")
    passes = take("epochs", passes, f"{rules.read(passes, len(lengths))}, measured to be enough")
    take("batch_size", usual, "short rows go many at a time, long ones fewer")
    take("learning_rate", 3e-3, "measured, for AdamW on embeddings and norms")
    take("matrix_learning_rate", 0.02, "measured, for Muon: it learns most from few rows")
    take("weight_decay", 0.5, "measured: without it few rows are learnt by heart")
    # Recutting delays what long messages need learnt first: support fell from 0.99 to 0.15.
    recut = 0.2 if stretch == 1 else 0.0
    take("recut_share", recut, "measured: it helps with short rows and harms with long ones")
    longest = min(LONGEST_TINY, max(lengths) + 8)
    take("max_tokens", longest, "no row is longer: a token has a byte at least")
    take("evaluations", TINY_EVALUATIONS, "enough to see it learn; each takes a moment")
    take("patience", 0, "the last weights are the best of a training from nothing")


def _pretrained(
    take: Take,
    folder: Path,
    lengths: Sequence[int],
    answers: Sequence[int],
    validation_rows: int,
    machine: Machine | None,
) -> None:
    shape, rows = Shape.of(folder), len(lengths)
    size = shape.parameters
    usual = "full" if size < FULL_BELOW else "lora"
    method = take("method", usual, f"the student has {size / 1e6:,.1f} million weights")
    passes = take("epochs", *rules.epochs(rows))
    take("batch_size", *rules.batch_size(rows, passes, method))
    take("learning_rate", *rules.learning_rate(shape, method, _family(folder)))
    if method != "full":
        tokens = rules.answer_tokens(lengths, answers)
        take("lora_rank", *rules.lora_rank(shape, tokens))
    longest = min(shape.context, max(lengths) + SPARE_TOKENS)
    if take("max_tokens", longest, f"the longest row has {max(lengths):,} tokens") > shape.context:
        raise UsageError(
            f"The student reads no more than {shape.context:,} tokens", "Ask for fewer max_tokens"
        )
    half = bool(machine and machine.trains_in_bf16)
    place = "a GPU" if machine and machine.gpu else "a processor"
    take("packing", True, "rows end to end pad nothing, and what all begin with is read once")
    precision = "bfloat16" if half else "float32"
    take("precision", precision, f"{place} trains that {'has' if half else 'lacks'} fast bfloat16")
    take("micro_batch_tokens", MICRO_BATCH_TOKENS, "more in one pass gains no speed")
    take("gradient_checkpointing", False, "activations fit, so none is computed twice")
    times = take("evaluations", *rules.evaluations(rows, passes, validation_rows))
    take("patience", *rules.patience(times, validation_rows))


def _retold(recipe: Recipe, folder: Path) -> Recipe:
    """A recipe made smaller: the method's own rate, and reasons for the values as they are."""
    told = explain(recipe)
    if not any(line.setting == "learning_rate" and line.reason == f"{_ASKED}." for line in told):
        rate = rules.learning_rate(Shape.of(folder), recipe.method, _family(folder))
        recipe = recipe.model_copy(update={"learning_rate": rate.value})
    why = []
    for setting, value, reason in told:
        now = _written(getattr(recipe, setting)) if setting else value
        because = reason if now == value else "as the memory of this machine asks."
        why.append(f"{setting} {now}: {because}" if setting else reason)
    return recipe.model_copy(update={"why": tuple(why)})


def _family(folder: Path) -> str:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return str(config.get("model_type", ""))


def _validation_rows(known: int | None, rows: int) -> int:
    """Rows that an evaluation answers; a fifth of the training rows where it is not known."""
    return min(SCORED_ROWS, rows // 5 if known is None else known)


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


_LEAST: dict[str, Any] = {
    "method": "full", "epochs": 1, "batch_size": 1, "learning_rate": 1, "max_tokens": 1,
    "save_steps": 1,
}  # fmt: skip


def _checked(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The settings asked for, each of its type. Raises UsageError naming the first wrong one."""
    asked = {name: value for name, value in overrides.items() if value is not None}
    if "why" in asked:
        raise UsageError("why is no setting: it is what explains them", f"Settings: {_names()}")
    try:
        valid = Recipe(**{**_LEAST, **asked})
    except (ValidationError, TypeError, ValueError) as error:
        raise UsageError(
            f"The recipe cannot be used: {_first_problem(error)}", f"Settings: {_names()}"
        ) from None
    return {name: getattr(valid, name) for name in asked}


def _first_problem(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{first['loc'][0]}: {first['msg'].lower()}, got {first['input']!r}"
    return str(error)


def _names() -> str:
    return ", ".join(name for name in Recipe.model_fields if name != "why")
