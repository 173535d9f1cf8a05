"""What is to be learned: the Task, its Spec (typed, checkable) and the Plan of what to cover.

All three are values that validate themselves; a change makes a new value, never an edit in place.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

Kind = Literal["text", "label", "json"]
Cell = dict[str, str]
"""One cell of the plan: an attribute's name to the value drawn for it."""

_JSON_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
}


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OutputField(_Value):
    """One key of a JSON answer."""

    name: str = Field(min_length=1)
    type: Literal["string", "integer", "number", "boolean"]
    description: str = ""
    values: tuple[str, ...] = Field((), description="the only strings allowed; empty: any")
    nullable: bool = Field(False, description="true if null is allowed where nothing is known")


class Spec(_Value):
    """The task made exact: what comes in, what goes out, and how an answer is checked."""

    title: str = Field(min_length=1, description="the task's name in three to six words")
    input: str = Field(description="what comes in")
    output: str = Field(description="what goes out, in words")
    kind: Kind = Field(description="text (free), label (one of a set) or json (the fields below)")
    labels: tuple[str, ...] = Field((), description="for kind label: every label")
    fields: tuple[OutputField, ...] = Field((), description="for kind json: every key, in order")
    pattern: str = Field("", max_length=500, description="a regex the whole answer matches; or ''")
    max_chars: int = Field(0, ge=0, description="longest answer in characters; 0: no limit")
    language: str = Field("", description="language or languages of the input")
    rules: tuple[str, ...] = Field((), description="decisions that make the answer unambiguous")
    out_of_scope: str = Field("", description="what to answer when the input is not of the task")
    assumptions: tuple[str, ...] = Field((), description="what was assumed")
    questions: tuple[str, ...] = Field(
        (), description="at most three questions whose answers would change the data most"
    )
    same_answer_same_meaning: bool = Field(
        False,
        description="true if two inputs with equal answers say the same thing in other words "
        "(a date and its normal form), so that both belong on one side of the split",
    )
    system_message: str = Field(description="what the student is run with")
    """Empty: with none, as examples that were adopted without one ask for."""

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return pattern

    @model_validator(mode="after")
    def _kind_has_its_parts(self) -> Self:
        if self.kind == "label" and len(set(self.labels)) < 2:
            raise ValueError("kind label needs at least two different labels")
        if self.kind == "json" and not self.fields:
            raise ValueError("kind json needs at least one field")
        return self

    def violation(self, answer: str) -> str | None:
        """Say in a few words how ``answer`` breaks the spec, or None if it does not.

        Run on every answer, whoever gave it: teacher, base or student.
        """
        if self.max_chars and len(answer) > self.max_chars:
            return f"longer than {self.max_chars} characters"
        if self.pattern and not self._matcher.fullmatch(answer.strip()):
            return f"does not match {self.pattern}"
        if self.kind == "label" and answer.strip() not in self.labels:
            return f"not one of the {len(self.labels)} labels"
        if self.kind == "json":
            return self._json_violation(answer)
        return None

    @cached_property
    def _matcher(self) -> re.Pattern[str]:
        return re.compile(self.pattern, re.DOTALL)

    def _json_violation(self, answer: str) -> str | None:
        try:
            value = json.loads(answer)
        except (ValueError, RecursionError):
            return "not JSON"
        if not isinstance(value, dict):
            return "not a JSON object"
        names = {field.name for field in self.fields}
        if value.keys() != names:
            missing, extra = sorted(names - value.keys()), sorted(value.keys() - names)
            return f"missing key {missing[0]}" if missing else f"unknown key {extra[0]}"
        for field in self.fields:
            item = value[field.name]
            if item is None and field.nullable:
                continue
            wrong_bool = isinstance(item, bool) and field.type != "boolean"
            if wrong_bool or not isinstance(item, _JSON_TYPES[field.type]):
                return f"{field.name} is not a {field.type}"
            if field.values and item not in field.values:
                return f"{field.name} is not an allowed value"
        return None

    def answer_schema(self) -> dict[str, Any] | None:
        """JSON Schema of an answer (strict: every key required), or None if it is not JSON."""
        if self.kind != "json":
            return None
        properties = {}
        for field in self.fields:
            kind = [field.type, "null"] if field.nullable else field.type
            rule: dict[str, Any] = {"type": kind, "description": field.description}
            if field.values:
                rule["enum"] = [*field.values, *([None] if field.nullable else [])]
            properties[field.name] = rule
        return {
            "type": "object",
            "properties": properties,
            "required": [field.name for field in self.fields],
            "additionalProperties": False,
        }


@dataclass(frozen=True, slots=True)
class Task:
    """A description and, once somebody wrote it, its spec. ``version`` counts from 1."""

    description: str
    spec: Spec | None = None
    version: int = 1
    author: str = "you"
    """Who wrote the spec: a teacher's model name, ``you``, or ``examples`` (read off them)."""


class Option(_Value):
    """One value that an attribute may take, and how often relative to the others."""

    value: str = Field(min_length=1)
    weight: float = Field(1.0, gt=0, le=1_000_000, allow_inf_nan=False)


class Attribute(_Value):
    """One way in which inputs differ: topic, length, register, language, difficulty."""

    name: str = Field(min_length=1)
    values: tuple[Option, ...] = Field(min_length=1)


class Impossible(_Value):
    """Two values that cannot meet in one cell."""

    attribute: str
    value: str
    other_attribute: str
    other_value: str


class Plan(_Value):
    """What the examples are to cover: attributes with weighted values, and impossible pairs."""

    attributes: tuple[Attribute, ...] = Field(min_length=1)
    impossible: tuple[Impossible, ...] = ()

    @field_validator("impossible")
    @classmethod
    def _of_two_attributes_that_are_there(
        cls, pairs: tuple[Impossible, ...], info: ValidationInfo
    ) -> tuple[Impossible, ...]:
        """Drop pairs that forbid nothing: a teacher's slip there should not cost the plan."""
        there_are = {
            (attribute.name, option.value)
            for attribute in info.data.get("attributes", ())
            for option in attribute.values
        }
        return tuple(
            pair
            for pair in pairs
            if pair.attribute != pair.other_attribute
            and (pair.attribute, pair.value) in there_are
            and (pair.other_attribute, pair.other_value) in there_are
        )

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [attribute.name for attribute in self.attributes]
        if len(set(names)) != len(names):
            raise ValueError("two attributes have the same name")
        return self

    def allows(self, cell: Cell) -> bool:
        """True if no impossible pair is in ``cell``."""
        return not any(
            cell.get(pair.attribute) == pair.value
            and cell.get(pair.other_attribute) == pair.other_value
            for pair in self.impossible
        )
