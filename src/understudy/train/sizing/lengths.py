"""How many tokens each row has, by the student's own tokenizer, without torch or transformers.

The text of messages is counted with tokenizer.json (the ``tokenizers`` package); what the chat
template adds to them is constant for the same sequence of roles, so it is measured once for each.
Where there is no tokenizer.json, bytes are counted: no token is shorter than a byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from understudy.example import Message
from understudy.models.huggingface import published_template
from understudy.models.rendering import fold_system
from understudy.train.rows import Row, read_rows

TURN_TOKENS = 8
"""Taken for what a template puts around a message, where it cannot be rendered."""
_GENERATION = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
"""Marks of the answer for transformers, which Jinja alone does not know."""

_PROBE = "A word that no template has by itself"
_CLOCK = datetime(2024, 7, 26, 12, tzinfo=UTC)
"""When it is, for a template that asks: ``models.huggingface`` lets the clock stand still there."""

Roles = tuple[str, ...]
Render = Callable[..., str]
"""Text of messages by the chat template: ``asks`` says whether an answer is to begin."""


class Around(NamedTuple):
    """Tokens that a template adds to messages of certain roles."""

    row: int
    answer: int
    """Of these, those that the model has to write: the end, an empty thinking block."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of each row, and how they were counted."""

    tokens: list[int]
    """Prompt and answer, with all that the template adds."""
    answers: list[int]
    """The answer and its end token."""
    how: str
    """In words."""
    exact: bool
    """True if counted by the tokenizer, False if bytes stand for tokens."""


def of_split(folder: Path, path: Path) -> Lengths:
    """Measure a split's rows for the student in ``folder``. Raises ProjectError if torn."""
    return of_rows(folder, read_rows(path))


def of_rows(folder: Path, rows: Sequence[Row]) -> Lengths:
    """Measure rows for the student in ``folder``, which need not hold a tokenizer, or exist."""
    tokenizer = _tokenizer(folder)
    if tokenizer is None:
        return of_bytes(rows)
    first = {_roles(row): row for row in reversed(rows)}
    render = _renderer(folder)
    folds = render is not None and any("system" in roles for roles in first) and _folds(render)
    found = {
        roles: None if render is None else _around(render, tokenizer, row, folds=folds)
        for roles, row in first.items()
    }
    guessed = any(around is None for around in found.values())
    tokens, answers = [], []
    texts = (text for row in rows for text in (*(m.content for m in row.prompt), row.answer))
    counts = iter(_count(tokenizer, list(texts), as_text=True))
    for row in rows:
        turns = [next(counts) for _ in (*row.prompt, "answer")]
        around = found[_roles(row)] or Around(TURN_TOKENS * len(turns), 1)
        tokens.append(sum(turns) + around.row)
        answers.append(turns[-1] + around.answer)
    how = "counted with the student's tokenizer"
    if guessed:
        how += f"; its chat template could not be rendered, {TURN_TOKENS} tokens taken for a turn"
    return Lengths(tokens, answers, how, exact=True)


def of_bytes(rows: Sequence[Row]) -> Lengths:
    """Count UTF-8 bytes, which is never too few."""
    answers = [_bytes(row.answer) + 1 for row in rows]
    prompts = [
        sum(_bytes(message.content) for message in row.prompt) + TURN_TOKENS * (len(row.prompt) + 1)
        for row in rows
    ]
    tokens = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    how = "bytes, since the student's tokenizer is not at hand: tokens are fewer"
    return Lengths(tokens, answers, how, exact=False)


def _roles(row: Row) -> Roles:
    return (*(message.role for message in row.prompt), "assistant")


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _tokenizer(folder: Path) -> Any:
    """The tokenizer of tokenizer.json; None if there is none, or none that can be read."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    try:
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(path))
    except Exception:  # noqa: BLE001  the reader raises plain Exception; the package may be absent
        return None


def _count(tokenizer: Any, texts: Sequence[str], *, as_text: bool = False) -> list[int]:
    """Tokens of each text, without those that open or close a sequence.

    ``as_text``: what spells a control token is text, as it is in training.
    """
    clean = [text.encode("utf-8", "replace").decode() for text in texts]
    tokenizer.encode_special_tokens = as_text
    encoded = tokenizer.encode_batch_fast(clean, add_special_tokens=False)
    return [len(one) for one in encoded]


def _folds(render: Render) -> bool:
    """True if the template refuses a system message, or drops it, be it only once answered.

    It is then read in front of the first user turn, as in ``models.rendering.folds_system``.
    """
    asked = (Message("system", _PROBE), Message("user", "Hello"))
    try:
        said = render(asked, asks=True), render((*asked, Message("assistant", "Hello")))
    except Exception:  # noqa: BLE001  a template is a stranger's program
        return True
    return any(_PROBE not in text for text in said)


def _around(render: Render, tokenizer: Any, row: Row, *, folds: bool) -> Around | None:
    """Tokens that the chat template adds to messages of these roles; None if it refuses.

    Measured on one row as it is: a template may also leave out a message that it knows. Where it
    shows an answer in another way than it asks for one, the answer follows what it asks with.
    """
    prompt = fold_system(row.prompt) if folds else row.prompt
    try:
        head = render(prompt, asks=True)
        whole = render((*prompt, Message("assistant", row.answer)))
        behind = render((*prompt, Message("assistant", _PROBE))).rpartition(_PROBE)[2]
    except Exception:  # noqa: BLE001  a template is a stranger's program
        return None
    whole = whole.removesuffix(behind) if whole.startswith(head) else head + row.answer
    end = _end(tokenizer, behind)
    *contents, answer = _count(tokenizer, [*(m.content for m in row.prompt), row.answer])
    before, ended, most = _count(tokenizer, [head, whole + end, whole + behind])
    # All that is rendered counts, and an end besides: rather a token too many than one too few.
    return Around(most + 1 - sum(contents) - answer, max(1, ended + (not end) - before - answer))


def _end(tokenizer: Any, behind: str) -> str:
    """What a student has to write of the text behind an answer: as far as a control token."""
    special = [
        token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special
    ]
    ends = [behind.index(text) + len(text) for text in special if text in behind]
    return behind[: min(ends)] if ends else ""


def _renderer(folder: Path) -> Render | None:
    """Render messages as transformers does: same sandbox, same settings, same helpers.

    Source: transformers, utils/chat_template_utils.py. None without a template that can be read;
    what is given back raises what Jinja or the template raises.
    """
    try:
        from jinja2.exceptions import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        config = _json(folder / "tokenizer_config.json")
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        template = environment.from_string(_GENERATION.sub("", _template(folder, config)))
    except Exception:  # noqa: BLE001  a template is a stranger's program; jinja2 may be absent
        return None

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    template.globals["raise_exception"] = refuse
    template.globals["strftime_now"] = _CLOCK.strftime
    special = {name: _spelling(config.get(name)) for name in ("bos_token", "eos_token")}

    def render(messages: Sequence[Message], *, asks: bool = False) -> str:
        turns = [{"role": role, "content": content} for role, content in messages]
        return template.render(messages=turns, add_generation_prompt=asks, **special)

    return render


def _template(folder: Path, config: dict[str, Any]) -> str:
    """The chat template, from its own file, from tokenizer_config.json, or as published."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    found = config.get("chat_template") or published_template(folder)
    if isinstance(found, list):  # several by name, in older files
        found = next(one["template"] for one in found if one["name"] == "default")
    if not found:
        raise LookupError(f"{folder} has no chat template")
    return str(found)


def _spelling(token: Any) -> str:
    return str(token.get("content", "") if isinstance(token, dict) else token or "")


def _json(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found if isinstance(found, dict) else {}
