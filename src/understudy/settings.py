"""Every default, once, with its unit. Precedence: flag, environment, understudy.toml, default.

The environment variable of a setting is ``UNDERSTUDY_`` and its name in capitals.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from understudy.errors import UsageError

CONFIG_FILE = "understudy.toml"
_PRICES = {
    "teacher": ("price_in", "price_out"),
    "student": ("train_price", "student_price_in", "student_price_out"),
    "judge": ("judge_price_in", "judge_price_out"),
}
"""Whose prices they are."""


class Settings(BaseModel):
    """What a user may set. Unknown keys are refused, wrong types too."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    teacher: str = Field("", description="teacher model name; empty: by the key found")
    student: str = Field(
        "tiny",
        description="tiny, hf:org/name[@revision], a local Hugging Face model folder, or a model "
        "that a host trains: openai:NAME, http(s)://HOST/v1#NAME",
    )
    budget: float | None = Field(
        None, ge=0, le=10_000_000, description="most to spend in all, US dollars"
    )
    price_in: float | None = Field(
        None, ge=0, le=100_000, description="US dollars per million input tokens"
    )
    price_out: float | None = Field(
        None, ge=0, le=100_000, description="US dollars per million output tokens"
    )
    train_price: float | None = Field(
        None, ge=0, le=100_000, description="US dollars per million training tokens at a host"
    )
    student_price_in: float | None = Field(
        None, ge=0, le=100_000, description="a hosted student's US dollars per million input tokens"
    )
    student_price_out: float | None = Field(
        None, ge=0, le=100_000, description="the same of output tokens"
    )
    judge: str = Field(
        "", description="model name of the judge that compares free-text answers; empty: none"
    )
    judge_price_in: float | None = Field(
        None, ge=0, le=100_000, description="the judge's US dollars per million input tokens"
    )
    judge_price_out: float | None = Field(
        None, ge=0, le=100_000, description="the judge's US dollars per million output tokens"
    )
    examples: int = Field(200, ge=1, le=10_000_000, description="examples to generate")
    pilot: int = Field(5, ge=1, le=1000, description="examples in the pilot")
    per_call: int = Field(10, ge=1, le=100, description="inputs asked for in one call at the most")
    answers: int = Field(
        1, ge=1, le=25, description="answers asked for each input; the majority's is kept"
    )
    evolve: float = Field(
        0, ge=0, le=0.9, description="share of the inputs that are harder variants of accepted ones"
    )
    concurrency: int = Field(
        0,
        ge=0,
        le=2000,
        description="calls in flight at once, at the most; 0: 64, or 8 for ollama and its like",
    )
    timeout: float = Field(120, ge=0.1, le=86_400, description="seconds for one call, all in all")
    max_reply: int = Field(
        8_000_000, ge=1000, le=1_000_000_000, description="bytes read of one reply at the most"
    )
    max_attempts: int = Field(4, ge=1, le=20, description="times one call is sent at the most")
    max_wait: float = Field(
        300, ge=0, le=86_400, description="seconds waited for a rate limit at the most"
    )
    max_answer_tokens: int = Field(
        1024, ge=1, le=1_000_000, description="tokens of one answer at the most"
    )
    duplicate_similarity: float = Field(
        0.8, gt=0, le=1, description="inputs this alike (Jaccard of character n-grams) repeat"
    )
    validation_share: float = Field(
        0.05, ge=0, lt=0.5, description="share of groups for validation"
    )
    test_share: float = Field(0.15, gt=0, lt=0.5, description="share of groups for the test")
    seed: int = Field(0, ge=0, lt=2**31, description="seed of plan, split, weights and order")
    resend_unknown: bool = Field(
        False, description="send calls again whose outcome is unknown; they may be paid twice"
    )
    offline: bool = Field(False, description="refuse every address but this machine's")
    bases: dict[str, str] = Field(
        default_factory=dict,
        description="names that `serve` answers to, each with its student: NAME=STUDENT,...",
    )

    @field_validator("teacher", "student", "judge")
    @classmethod
    def _no_control_characters(cls, name: str) -> str:
        if not name.isprintable():
            raise ValueError("a model name has no control characters")
        return name

    @field_validator("bases", mode="before")
    @classmethod
    def _pairs(cls, given: object) -> object:
        """A table of the file, or NAME=STUDENT,... as an environment and a flag give it."""
        if not isinstance(given, str):
            return given
        pairs = [pair.partition("=") for pair in given.split(",") if pair.strip()]
        if not all(equals and name.strip() for name, equals, _ in pairs):
            raise ValueError("it is NAME=STUDENT,...")
        return {name.strip(): student.strip() for name, _, student in pairs}

    @field_validator("bases")
    @classmethod
    def _names(cls, bases: dict[str, str]) -> dict[str, str]:
        for name, student in bases.items():
            if not (name.isprintable() and student.isprintable() and name and student):
                raise ValueError("each base is a name and a student")
            if name.startswith(("run:", "ft:")) or name == "tiny":
                raise ValueError(f"{name} has a meaning of its own")
        return bases


class Configured(BaseModel):
    """Settings, and for each one where its value came from."""

    settings: Settings
    origin: dict[str, str]


def load(
    folder: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Configured:
    """Merge flags, environment and the project's file into Settings.

    ``flags`` whose value is None were not given. Prices belong to the teacher, student or judge
    that is named with them: one named further up does not take them over. Raises UsageError naming
    the place of a bad value.
    """
    environ = os.environ if environ is None else environ
    layers: list[tuple[str, Mapping[str, Any]]] = [
        ("flag", {key: value for key, value in (flags or {}).items() if value is not None}),
        (
            "environment",
            {
                name: environ[variable(name)]
                for name in Settings.model_fields
                if environ.get(variable(name))
            },
        ),
    ]
    if folder is not None and (folder / CONFIG_FILE).is_file():
        layers.append((CONFIG_FILE, _read(folder / CONFIG_FILE)))
    merged: dict[str, Any] = {}
    origin = dict.fromkeys(Settings.model_fields, "default")
    for source, values in reversed(layers):
        for whose, prices in _PRICES.items():
            if not merged.get(whose) or values.get(whose, merged[whose]) == merged[whose]:
                continue
            for name in prices:
                if origin[name] == origin[whose]:  # it is the price of the other one
                    merged.pop(name, None)
                    origin[name] = "default"
        merged |= values
        origin |= dict.fromkeys(values, source)
    try:
        return Configured(settings=Settings(**merged), origin=origin)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        where = origin.get(name, CONFIG_FILE)
        raise UsageError(
            f"setting {name} ({where}): {first['msg'].lower()}, got {first['input']!r}",
            "`understudy config` lists every setting with its unit",
        ) from None


def variable(name: str) -> str:
    """Name of the environment variable that sets ``name``."""
    return f"UNDERSTUDY_{name.upper()}"


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # also numbers too long, tables too deep
        raise UsageError(f"{path} is not valid TOML: {error}", "Mend or remove that line") from None
