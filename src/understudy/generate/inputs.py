"""Cell -> inputs: several a call, with the teacher's own probabilities (verbalized sampling).

Source of the method: Zhang et al., Verbalized Sampling, 2025, https://arxiv.org/abs/2510.01171
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from understudy.example import Example
from understudy.generate import prompts
from understudy.generate.ask import Answered, ask
from understudy.generate.spec import SHOWN
from understudy.models.protocol import Model
from understudy.task import Cell, Spec

TOKENS_PER_INPUT = 400


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
    own: Sequence[Example] = (),
) -> Answered[list[str]]:
    """Ask for ``how_many`` inputs of ``cell``. Empty ones are left out. Raises CallFailed."""
    system = prompts.fill(prompts.INPUTS, input=spec.input, language=spec.language or "any")
    request = {"cell": cell, "how_many": how_many, "batch": batch}
    user = prompts.fill(
        prompts.INPUTS_USER, request=json.dumps(request, ensure_ascii=False, sort_keys=True)
    )
    if own:
        lines = "\n".join(json.dumps(example.input, ensure_ascii=False) for example in own[:SHOWN])
        user += f"\nReal inputs, for the tone (do not repeat them):\n\n{lines}\n"
    found = await ask(model, system, user, Inputs, "inputs", 200 + TOKENS_PER_INPUT * how_many)
    sampled = found.value.inputs[:how_many]
    return Answered([one.text for one in sampled if one.text.strip()], found.bought)
