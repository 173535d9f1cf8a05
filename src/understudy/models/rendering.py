"""Messages as tokens: the chat template, rendered the same way for training and for answering.

A student is asked exactly as it was taught. What a message says is text: where it spells a control
token, the letters become tokens, never the control token itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from understudy.errors import SetupError
from understudy.example import Message
from understudy.models.huggingface import first_line

_OPEN, _CLOSE = "\ue0f0", "\ue0f1"  # private-use marks around text that spells a control token
_UNMARK = str.maketrans({_OPEN: "\ufffd", _CLOSE: "\ufffd"})


def encode_prompts(tokenizer: Any, prompts: Sequence[Sequence[Message]]) -> list[list[int]]:
    """Token ids of each prompt, rendered by the chat template up to where the answer begins."""
    special = _special_pattern(tokenizer)
    return _encode(tokenizer, [_render(tokenizer, prompt, special) for prompt in prompts])


def encode_examples(
    tokenizer: Any, prompts: Sequence[Sequence[Message]], answers: Sequence[str]
) -> list[tuple[list[int], list[int]]]:
    """Token ids of each prompt and of its answer with the end token, ready to be joined.

    The prompt's ids are those of ``encode_prompts``; text that the template puts in front of an
    answer (an empty thinking block) counts as answer, since the model has to write it.
    """
    special = _special_pattern(tokenizer)
    heads, wholes = [], []
    for prompt, answer in zip(prompts, answers, strict=True):
        head = _render(tokenizer, prompt, special)
        whole = _render(tokenizer, (*prompt, Message("assistant", answer)), special)
        heads.append(head if whole.startswith(head) else whole[: _common_prefix(head, whole)])
        wholes.append(whole)
    encoded = zip(heads, _encode(tokenizer, heads), wholes, _encode(tokenizer, wholes), strict=True)
    return [
        (head_ids, _until_end(tokenizer, _tail(tokenizer, head, head_ids, whole, whole_ids)))
        for head, head_ids, whole, whole_ids in encoded
    ]


def _tail(
    tokenizer: Any, head: str, head_ids: list[int], whole: str, whole_ids: list[int]
) -> list[int]:
    """Ids of what follows ``head``, also where a token would span the border between the two."""
    if whole_ids[: len(head_ids)] == head_ids:
        return whole_ids[len(head_ids) :]
    return _encode(tokenizer, [whole[len(head) :]])[0]


def _until_end(tokenizer: Any, ids: list[int]) -> list[int]:
    """Cut what a template puts behind the end token, and add the end token where it puts none."""
    end = tokenizer.eos_token_id
    return [*(ids[: ids.index(end)] if end in ids else ids), end]


def _render(tokenizer: Any, messages: Sequence[Message], special: re.Pattern[str] | None) -> str:
    """Render the chat template; control tokens that a message spells are marked as text."""
    from jinja2 import TemplateError

    turns = []
    for role, content in messages:
        text = content.encode("utf-8", "replace").decode()  # lone surrogates have no bytes
        text = text.translate(_UNMARK)
        if special is not None:
            text = special.sub(lambda found: f"{_OPEN}{found[0]}{_CLOSE}", text)
        turns.append({"role": role, "content": text})
    try:
        rendered: str = tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=messages[-1].role != "assistant"
        )
    except TemplateError as error:
        raise SetupError(
            f"The student's chat template refuses these messages: {first_line(error)}",
            "Choose a student whose template knows system, user and assistant turns",
        ) from None
    return rendered


def _encode(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of rendered texts; what is marked as text gets no control token's id."""
    if not texts:
        return []
    plain = [text for text in texts if _OPEN not in text]
    ids = iter(tokenizer(plain, add_special_tokens=False).input_ids if plain else [])
    return [next(ids) if _OPEN not in text else _encode_marked(tokenizer, text) for text in texts]


def _encode_marked(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = []
    for piece in re.split(f"({_OPEN}[^{_CLOSE}]*{_CLOSE})", text):
        marked = piece.startswith(_OPEN)
        if inner := piece[1:-1] if marked else piece:
            ids += tokenizer(inner, add_special_tokens=False, split_special_tokens=marked).input_ids
    return ids


def _special_pattern(tokenizer: Any) -> re.Pattern[str] | None:
    """Matches every control token's spelling, the longest first."""
    added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    tokens = sorted({*tokenizer.all_special_tokens, *added}, key=len, reverse=True)
    return re.compile("|".join(re.escape(token) for token in tokens)) if tokens else None


def _common_prefix(first: str, second: str) -> int:
    length = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        length += 1
    return length
