"""What a client asks of a fine-tuning job, read from JSON; every wrong value is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy.server.errors import ApiError, bad

MOST_PAIRS, MOST_KEY, MOST_VALUE = 16, 64, 512
"""Of metadata: pairs, characters of a key, characters of a value."""
MOST_SUFFIX = 64
MOST_SEED = 2**31 - 1
MOST_NAME = 512
_KNOWN = {
    "model",
    "training_file",
    "validation_file",
    "suffix",
    "seed",
    "metadata",
    "method",
    "hyperparameters",
    "integrations",
}
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "n_epochs": (1, 50),
    "batch_size": (1, 256),
    "learning_rate_multiplier": (1e-4, 1e4),
}
"""Smallest and largest of each hyperparameter; the first two are whole numbers."""


def job_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked, as ``jobs.create`` takes it. Raises ApiError 400 naming what is wrong."""
    for name in body:
        if name not in _KNOWN:
            raise bad(f"unknown parameter {name!a}", name[:64], "unknown_parameter")
    if body.get("integrations"):
        raise bad(
            "integrations are not supported here; trackers are told with "
            "`understudy train --report-to`",
            "integrations",
            "unsupported_parameter",
        )
    return {
        "model": _text(body, "model", required=True),
        "training_file": _text(body, "training_file", required=True),
        "validation_file": _text(body, "validation_file"),
        "suffix": _suffix(body),
        "seed": _seed(body.get("seed")),
        "metadata": _metadata(body.get("metadata")),
        "hyperparameters": _hyperparameters(body),
    }


def _wrong(message: str, param: str) -> ApiError:
    return bad(f"{param} {message}", param, "invalid_value")


def _text(body: Mapping[str, Any], param: str, *, required: bool = False) -> str | None:
    value = body.get(param)
    if value is None:
        if required:
            raise bad(f"{param} is missing", param, "missing_required_parameter")
        return None
    if not isinstance(value, str) or not value or len(value) > MOST_NAME:
        raise _wrong(f"is a text of 1 to {MOST_NAME} characters", param)
    return value


def _suffix(body: Mapping[str, Any]) -> str | None:
    value = body.get("suffix")
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > MOST_SUFFIX or not value.isprintable():
        raise _wrong(f"is a text of at most {MOST_SUFFIX} characters", "suffix")
    return value


def _seed(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_SEED:
        raise _wrong(f"is a whole number from 0 to {MOST_SEED}", "seed")
    return value


def _metadata(value: Any) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or len(value) > MOST_PAIRS:
        raise _wrong(f"is an object of at most {MOST_PAIRS} pairs", "metadata")
    for key, text in value.items():
        if not isinstance(text, str) or len(key) > MOST_KEY or len(text) > MOST_VALUE:
            raise _wrong(
                f"has keys of at most {MOST_KEY} characters, and texts of at most {MOST_VALUE}",
                "metadata",
            )
    return value


def _hyperparameters(body: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``method.supervised``, or the older ones at the top: each a number or "auto"."""
    method, older = body.get("method"), body.get("hyperparameters")
    if method is None:
        return _numbers(older, "hyperparameters")
    if older is not None:
        raise bad("give method or hyperparameters, not both", "hyperparameters", "invalid_value")
    if not isinstance(method, dict):
        raise _wrong("is an object with a type", "method")
    kind = method.get("type")
    if kind != "supervised":
        raise bad(
            f"method.type {kind!a} is not trained here, supervised is",
            "method.type",
            "unsupported_method" if kind in ("dpo", "reinforcement") else "invalid_value",
        )
    for name in method:
        if name not in ("type", "supervised") and method[name] is not None:
            raise bad(f"unknown parameter {name!a}", f"method.{name[:64]}", "unknown_parameter")
    supervised = method.get("supervised")
    if supervised is None:
        return _numbers(None, "")
    if not isinstance(supervised, dict) or supervised.keys() - {"hyperparameters"}:
        raise _wrong("is an object with hyperparameters", "method.supervised")
    return _numbers(supervised.get("hyperparameters"), "method.supervised.hyperparameters")


def _numbers(given: Any, param: str) -> dict[str, Any]:
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise _wrong("is an object", param)
    for name in given:
        if name not in _BOUNDS:
            raise bad(
                f"unknown hyperparameter {name!a}", f"{param}.{name[:64]}", "unknown_parameter"
            )
    return {name: _number(given.get(name), name, f"{param}.{name}") for name in _BOUNDS}


def _number(value: Any, name: str, param: str) -> Any:
    if value is None or value == "auto":
        return "auto"
    least, most = _BOUNDS[name]
    whole = name != "learning_rate_multiplier"
    kinds = (int,) if whole else (int, float)
    right = isinstance(value, kinds) and not isinstance(value, bool)
    if not right or not least <= value <= most:
        what = "a whole number" if whole else "a number"
        raise _wrong(f'is "auto" or {what} from {least:g} to {most:g}', param)
    return value
