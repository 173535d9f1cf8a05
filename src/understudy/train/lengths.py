"""How many tokens each row has, by the student's own tokenizer, without torch or transformers.

The text of messages is counted with tokenizer.json (the ``tokenizers`` package); what the chat
template adds to them is constant for the same sequence of roles, so it is measured once for each.
Where there is no tokenizer.json, bytes are counted: no token is shorter than a byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from understudy.train.rows import Row, read_rows

TURN_TOKENS = 8
"""Taken for what a template puts around a message, where it cannot be rendered."""
_GENERATION = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
"""Marks of the answer for transformers, which Jinja alone does not know."""

Roles = tuple[str, ...]


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
    overheads = {roles: _overhead(folder, tokenizer, row) for roles, row in first.items()}
    guessed = any(overhead is None for overhead in overheads.values())
    tokens, answers = [], []
    texts = (text for row in rows for text in (*(m.content for m in row.prompt), row.answer))
    counts = iter(_count(tokenizer, list(texts)))
    for row in rows:
        turns = [next(counts) for _ in (*row.prompt, "answer")]
        around = overheads[_roles(row)]
        around = TURN_TOKENS * len(turns) if around is None else around
        tokens.append(sum(turns) + around)
        answers.append(turns[-1] + 1)
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


def _count(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    """Tokens of each text, without those that open or close a sequence."""
    clean = [text.encode("utf-8", "replace").decode() for text in texts]
    encoded = tokenizer.encode_batch_fast(clean, add_special_tokens=False)
    return [len(one) for one in encoded]


def _overhead(folder: Path, tokenizer: Any, row: Row) -> int | None:
    """Tokens that the chat template adds to messages of these roles; None if it refuses.

    Measured on one row as it is: a template may also leave out a message that it knows.
    """
    turns = [{"role": role, "content": content} for role, content in row.prompt]
    turns.append({"role": "assistant", "content": row.answer})
    try:
        (rendered,) = _count(tokenizer, [_render(folder, turns)])
    except Exception:  # noqa: BLE001  a template is a stranger's program; jinja2 may be absent
        return None
    return rendered - sum(_count(tokenizer, [turn["content"] for turn in turns])) + 1  # the end


def _render(folder: Path, turns: Sequence[dict[str, str]]) -> str:
    """Render turns as transformers does: same sandbox, same settings, same helpers.

    Source: transformers, utils/chat_template_utils.py. Raises what Jinja or the template raises.
    """
    from jinja2.exceptions import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> None:
        raise TemplateError(message)

    config = _json(folder / "tokenizer_config.json")
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)  # noqa: DTZ005
    template = environment.from_string(_GENERATION.sub("", _template(folder, config)))
    special = {name: _spelling(config.get(name)) for name in ("bos_token", "eos_token")}
    return template.render(messages=turns, add_generation_prompt=False, **special)


def _template(folder: Path, config: dict[str, Any]) -> str:
    """The chat template, from its own file or from tokenizer_config.json."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    found = config["chat_template"]
    if isinstance(found, list):  # several by name, in older files
        found = next(one["template"] for one in found if one["name"] == "default")
    return str(found)


def _spelling(token: Any) -> str:
    return str(token.get("content", "") if isinstance(token, dict) else token or "")


def _json(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found if isinstance(found, dict) else {}
