"""Choose the settings of a training from the student and the data, and say why.

Reads file headers alone: nothing heavy is imported, no weight is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import ValidationError

from understudy.errors import UsageError
from understudy.models.huggingface import check_folder, count_parameters
from understudy.run import Method, Recipe

TINY = "tiny"
"""The student that is made from the training split."""
TINY_STEPS = 375
"""Optimizer steps of a tiny student; more passes over fewer rows. Measured on 1,500 rows: 250 steps
gave dates 0.95 exact match, 375 gave 0.97."""
TINY_SHORT = 40
"""Bytes, beyond the shortest row, up to which a typical row counts as short."""
EXAMPLES_SEEN = 3_000
"""Examples that a pre-trained student reads in all: it knows the language and learns the task."""
FULL_BELOW = 50_000_000
"""Parameters under which all weights are trained: adapters would save nothing."""
CHECKPOINTS = 8
LONGEST_TINY = 2_048
_USUAL_CONTEXT = 2_048


def choose(
    student: str,
    lengths: Sequence[int],
    *,
    method: Method | None = None,
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
) -> Recipe:
    """Choose a recipe for ``student`` (``tiny``, or a folder) and training rows.

    ``lengths``: UTF-8 bytes of each row, prompt and answer together; no token is shorter than a
    byte. ``overrides`` replace what was chosen, by the names of Recipe. Raises UsageError for a
    wrong override or no rows, SetupError for a folder that is no safe model.
    """
    if not lengths:
        raise UsageError("There are no training rows", "Freeze a dataset with more examples")
    given = dict(overrides or {})
    method = given.pop("method", method)
    chosen = _tiny(lengths) if student == TINY else _pretrained(Path(student), lengths, method)
    if method is not None and method != chosen["method"]:
        raise UsageError("A tiny student is trained in full", "Leave the method out")
    why = [*chosen.pop("why"), *(f"{name} {value}: as asked." for name, value in given.items())]
    settings = chosen | {"seed": seed} | given
    try:
        settings.setdefault("save_steps", _save_steps(len(lengths), settings))
        recipe = Recipe(**settings, why=tuple(why))
    except (ValidationError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UsageError(
            f"The recipe cannot be used: {_first_problem(error)}", f"Settings: {_names()}"
        ) from None
    if (recipe.method == "lora") != (recipe.lora_rank > 0):
        raise UsageError("Adapters need a lora_rank, full training none", f"Settings: {_names()}")
    return recipe


def _tiny(lengths: Sequence[int]) -> dict[str, Any]:
    # A system message that all rows share is known by heart: only what differs is read.
    stretch = min(2.0, max(1.0, (median(lengths) - min(lengths)) / TINY_SHORT))
    batch_size = round(48 / stretch)
    epochs = _epochs(TINY_STEPS * batch_size, len(lengths), most=60)
    return {
        "method": "full",
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": 3e-3,
        "matrix_learning_rate": 0.02,
        "weight_decay": 0.5,
        # Recutting delays what long messages need learnt first: support fell from 0.99 to 0.15.
        "recut_share": 0.2 if stretch == 1 else 0.0,
        "max_tokens": min(LONGEST_TINY, max(lengths) + 8),
        "why": [
            "All weights are trained: a tiny student starts from nothing.",
            _passes(epochs, len(lengths)),
            f"{batch_size} rows a step: short rows go many at a time, long ones fewer.",
            "Muon on matrices and weight decay: they learn most from few rows.",
        ],
    }


def _pretrained(folder: Path, lengths: Sequence[int], method: Method | None) -> dict[str, Any]:
    check_folder(folder)
    size = count_parameters(folder)
    chosen = method or ("full" if size < FULL_BELOW else "lora")
    epochs = _epochs(EXAMPLES_SEEN, len(lengths), most=5)
    context = _context(folder)
    settings: dict[str, Any] = {
        "method": chosen,
        "epochs": epochs,
        "batch_size": 16 if len(lengths) >= 160 else 4,
        "max_tokens": min(context, max(lengths) + 64),
        "why": [
            f"{chosen}: the student has {size / 1e6:,.1f} million parameters.",
            _passes(epochs, len(lengths)),
        ],
    }
    if chosen == "lora":
        settings |= {
            "lora_rank": 16 if size < 3e9 else 32,
            "learning_rate": 5e-4 if size < 1e9 else 2e-4 if size < 2e10 else 1e-4,
        }
    else:
        settings["learning_rate"] = 1e-3 if size < 2e7 else 1e-4 if size < 5e8 else 2e-5
    return settings


def _epochs(seen: int, rows: int, *, most: float) -> float:
    """Passes over the rows, so that about ``seen`` examples are read in all; one at least."""
    return round(min(most, max(1.0, seen / rows)), 1)


def _passes(epochs: float, rows: int) -> str:
    return f"{epochs:g} passes over {rows:,} rows: {round(epochs * rows):,} examples read in all."


def _context(folder: Path) -> int:
    """Longest text the student can read, in tokens."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return int(config.get("max_position_embeddings") or _USUAL_CONTEXT)


def _save_steps(rows: int, settings: Mapping[str, Any]) -> int:
    """Steps between checkpoints: about eight of them in all."""
    steps = rows * float(settings["epochs"]) / float(settings["batch_size"])
    return max(1, round(steps / CHECKPOINTS))


def _first_problem(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{first['loc'][0]}: {first['msg'].lower()}, got {first['input']!r}"
    return str(error)


def _names() -> str:
    return ", ".join(name for name in Recipe.model_fields if name != "why")
