"""Cell -> inputs: several a call, with the teacher's own probabilities (verbalized sampling).

Asked for one input, a model writes its favourite; asked for several with how likely each is, it
reaches into the tail. Source: Zhang et al., Verbalized Sampling, 2025,
https://arxiv.org/abs/2510.01171

Harder variants of inputs that are there already follow Xu et al., WizardLM (Evol-Instruct), 2023,
https://arxiv.org/abs/2304.12244
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from understudy.example import Example
from understudy.generate import prompts
from understudy.generate.spec import SHOWN
from understudy.models.protocol import Model
from understudy.models.typed import Answered, ask
from understudy.task import Cell, Spec

TOKENS_PER_INPUT = 400


def most_tokens(how_many: int) -> int:
    """Tokens that so many inputs may take at the most."""
    return 200 + TOKENS_PER_INPUT * how_many


class Candidate(NamedTuple):
    """An input that waits for its answer."""

    text: str
    cell: Cell
    parent: int | None = None
    """Id of the example that it is a harder variant of."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Examples that the teacher sees when it writes inputs; own ones are marked better."""

    own: tuple[Example, ...] = ()
    made: tuple[Example, ...] = ()
    """Accepted ones that a teacher made."""

    def lines(self) -> str:
        """What is added to the question."""
        text = ""
        if self.own:
            text += prompts.fill(prompts.OWN_SHOWN, examples=_lines(self.own[:SHOWN]))
        if self.made:
            text += prompts.fill(prompts.MADE_SHOWN, examples=_lines(self.made))
        return text


NOTHING_SHOWN = Shown()


class Sampled(BaseModel):
    """One input and how likely the teacher thinks it was to write it."""

    model_config = ConfigDict(extra="ignore")

    text: str
    probability: float = Field(0.0, ge=0)


class Inputs(BaseModel):
    """What the teacher returns for one cell."""

    model_config = ConfigDict(extra="ignore")

    inputs: list[Sampled]


async def inputs(
    model: Model,
    spec: Spec,
    cell: Cell,
    how_many: int,
    batch: int,
    shown: Shown = NOTHING_SHOWN,
) -> Answered[list[Candidate]]:
    """Ask for ``how_many`` inputs of ``cell``, the least likely first. Raises CallFailed."""
    system = prompts.fill(prompts.INPUTS, input=spec.input, language=spec.language or "any")
    request = {"cell": cell, "how_many": how_many, "batch": batch}
    user = prompts.fill(
        prompts.INPUTS_USER, request=json.dumps(request, ensure_ascii=False, sort_keys=True)
    )
    found = await ask(model, system, user + shown.lines(), Inputs, "inputs", most_tokens(how_many))
    sampled = sorted(found.value.inputs[:how_many], key=lambda one: one.probability)
    return Answered(
        [Candidate(one.text, cell) for one in sampled if one.text.strip()], found.bought
    )


async def variants(
    model: Model, spec: Spec, parents: Sequence[Example], batch: int
) -> Answered[list[Candidate]]:
    """Ask for a harder variant of each parent's input. Raises CallFailed."""
    system = prompts.fill(prompts.VARIANTS, input=spec.input, language=spec.language or "any")
    request = {
        "cell": {},
        "how_many": len(parents),
        "batch": batch,
        "harder_than": [parent.input for parent in parents],
    }
    user = prompts.fill(
        prompts.VARIANTS_USER, request=json.dumps(request, ensure_ascii=False, sort_keys=True)
    )
    longest = max(len(parent.input) for parent in parents)
    limit = 200 + (TOKENS_PER_INPUT + longest) * len(parents)
    found = await ask(model, system, user, Inputs, "inputs", limit)
    pairs = zip(found.value.inputs, parents, strict=False)
    return Answered(
        [Candidate(one.text, parent.cell, parent.id) for one, parent in pairs if one.text.strip()],
        found.bought,
    )


def _lines(examples: Iterable[Example]) -> str:
    return "\n".join(
        json.dumps({"input": example.input, "answer": example.answer}, ensure_ascii=False)
        for example in examples
    )
