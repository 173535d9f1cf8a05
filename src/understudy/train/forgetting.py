"""Did the student forget what the base could do? A small probe, and a way to keep it.

A student that was taught one task may lose others. Before training the base answers a bundled set
of short general questions (general.json), afterwards the student does: if it lost more of them than
chance explains, that is said, with the remedy: rows of the base's own answers to other general
prompts, mixed into the training (A. Robins, "Catastrophic forgetting, rehearsal and
pseudorehearsal", 1995).
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from importlib.resources import files
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from understudy.example import Message
from understudy.models.engine.text import answer_text
from understudy.models.plain import generate
from understudy.models.rendering import encode_examples, encode_prompts, stop_ids
from understudy.statistics import mcnemar_exact
from understudy.train.checkpoint import write_atomically
from understudy.train.rows import Row
from understudy.train.validation import looked_at

PROBE_TOKENS, KEEP_TOKENS = 48, 160
"""Most tokens of an answer: to a question of the probe, to a prompt of which the answer is kept."""
BATCH = 32
CHANCE = 0.05
"""Two-sided p-value from which a loss is told."""
TOO_FEW = 0.1
"""Share of questions answered by the base, under which nothing is left to forget."""
REMEDY = "--keep-base 0.1"


class Forgetting(NamedTuple):
    """The probe's outcome, before and after."""

    asked: int
    base: int
    """Questions that the base answered rightly."""
    student: int
    lost: int
    """Questions that only the base answered rightly."""
    gained: int
    p: float
    """Of McNemar's exact test, two-sided."""

    @property
    def worse(self) -> bool:
        """True if the student lost more than chance explains."""
        return self.lost > self.gained and self.p < CHANCE

    @property
    def text(self) -> str:
        """The outcome in a sentence, with the remedy where it is needed."""
        counts = (
            f"general questions right: base {self.base}, student {self.student} of {self.asked}"
        )
        if self.worse:
            return f"{counts}: it forgot more than chance explains (p = {self.p:.2g}); {REMEDY}"
        if self.base < TOO_FEW * self.asked:
            return f"{counts}: the base knows too little for a loss to show"
        return f"{counts}: no loss beyond chance"


def probe(model: Any, tokenizer: Any) -> list[bool]:
    """Ask the bundled questions, greedily; True where the answer holds what was expected."""
    asked = _general()["probe"]
    answers = _answers(model, tokenizer, [one["prompt"] for one in asked], PROBE_TOKENS)
    return [right(said.text, one["accept"]) for said, one in zip(answers, asked, strict=True)]


def right(answer: str, accepted: Sequence[str]) -> bool:
    """True if an accepted word or phrase stands in the answer as a whole, in any case."""
    return any(
        re.search(rf"(?<!\w){re.escape(one)}(?!\w)", answer, re.IGNORECASE)
        if one.isascii()
        else one in answer
        for one in accepted
    )


def compare(base: Sequence[bool], student: Sequence[bool]) -> Forgetting:
    """Base against student on the same questions (McNemar's exact test)."""
    lost = sum(before and not after for before, after in zip(base, student, strict=True))
    gained = sum(after and not before for before, after in zip(base, student, strict=True))
    return Forgetting(len(base), sum(base), sum(student), lost, gained, mcnemar_exact(lost, gained))


def kept_rows(model: Any, tokenizer: Any, count: int, *, seed: int) -> list[Row]:
    """``count`` rows of the base's own answers to general prompts, none of them of the probe."""
    keep = _general()["keep"]
    prompts = [form.format(topic) for form in keep["forms"] for topic in keep["topics"]]
    random.Random(seed).shuffle(prompts)
    prompts = prompts[:count]
    answers = _answers(model, tokenizer, prompts, KEEP_TOKENS)
    rows = [
        Row(-number, (Message("user", prompt),), said.text)
        for number, (prompt, said) in enumerate(zip(prompts, answers, strict=True), 1)
        if said.text and said.ended  # half an answer would teach to break off
    ]
    return [rows[number % len(rows)] for number in range(count)] if rows else []


class General(NamedTuple):
    """What the base said before it was trained."""

    probe: list[bool]
    """Which questions it answered rightly; empty if it was not asked."""
    kept: list[Row]
    """Its own answers to general prompts, to be mixed in."""


def before(
    model: Any, tokenizer: Any, path: Path, *, count: int, seed: int, probed: bool
) -> General:
    """Ask the base while it is there, and write it to ``path``: a resumed training reads that.

    ``count``: rows of its own answers to keep; ``probed``: whether to ask the probe.
    """
    wanted = {"probed": probed, "count": count, "seed": seed}
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if found.get("wanted") != wanted:
        asked = probe(model, tokenizer) if probed else []
        kept = kept_rows(model, tokenizer, count, seed=seed) if count else []
        pairs = [[row.prompt[0].content, row.answer] for row in kept]
        found = {"wanted": wanted, "probe": asked, "kept": pairs}
        write_atomically(path, json.dumps(found, ensure_ascii=False))
    rows = [
        Row(-number, (Message("user", prompt),), answer)
        for number, (prompt, answer) in enumerate(found["kept"], 1)
    ]
    return General(found["probe"], rows)


class _Said(NamedTuple):
    text: str
    ended: bool
    """False if it was cut off."""


def _answers(model: Any, tokenizer: Any, prompts: Sequence[str], max_tokens: int) -> list[_Said]:
    """Greedy answers without a system message, in batches of prompts of like length."""
    opening = _opening(tokenizer)
    asked = encode_prompts(tokenizer, [(Message("user", prompt),) for prompt in prompts])
    order = sorted(range(len(prompts)), key=lambda number: len(asked[number]))
    ends = stop_ids(tokenizer, model)
    said = [_Said("", ended=False)] * len(prompts)
    with looked_at(model):
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            written = generate(
                model,
                [asked[number] + opening for number in batch],
                ends=ends,
                pad=tokenizer.pad_token_id,
                max_tokens=max_tokens,
            )
            for number, ids in zip(batch, written, strict=True):
                end = next((at for at, token in enumerate(ids) if token in ends), None)
                said[number] = _Said(answer_text(tokenizer, ids[:end]), end is not None)
    return said


def _opening(tokenizer: Any) -> list[int]:
    """What the template puts in front of every answer: an empty thought, so that none follows."""
    asked = (Message("user", "?"),)
    one, other = (ids for _, ids in encode_examples(tokenizer, [asked, asked], ["yes", "no"]))
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return [token for token, _ in alike]


def _general() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        files("understudy.train").joinpath("general.json").read_text(encoding="utf-8")
    )
    return found
