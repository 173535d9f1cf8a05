"""Messages as tokens: the chat template, rendered the same way for training and for answering.

A student is asked exactly as it was taught. What a message says is text: where it spells a control
token, the letters become tokens, never the control token itself. A template that knows no system
message, or forgets it, gets it in front of the first user turn; one that wants user and assistant
to take turns gets turns of one speaker joined.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

from understudy.errors import SetupError
from understudy.example import Message
from understudy.models.huggingface import first_line

_OPEN, _CLOSE = "\ue0f0", "\ue0f1"  # private-use marks around text that spells a control token
_ANSWER = "\ue0f2"  # and in the place of an answer
_UNMARK = str.maketrans(dict.fromkeys((_OPEN, _CLOSE, _ANSWER), "\ufffd"))
_PROBE = "A word that no template has by itself"


class MessagesRefused(SetupError):
    """The chat template does not take these roles, or not in this order."""


def encode_prompts(tokenizer: Any, prompts: Sequence[Sequence[Message]]) -> list[list[int]]:
    """Token ids of each prompt, rendered by the chat template up to where the answer begins."""
    special = _special_pattern(tokenizer)
    fitted = _fitted(tokenizer, prompts)
    return _encode(tokenizer, [_render(tokenizer, prompt, special) for prompt in fitted])


def encode_examples(
    tokenizer: Any, prompts: Sequence[Sequence[Message]], answers: Sequence[str]
) -> list[tuple[list[int], list[int]]]:
    """Token ids of each prompt and of its answer with the end token, ready to be joined.

    The prompt's ids are those of ``encode_prompts``; text that the template puts in front of an
    answer (an empty thinking block) counts as answer, since the model has to write it.
    """
    special = _special_pattern(tokenizer)
    heads, wholes = [], []
    for prompt, answer in zip(_fitted(tokenizer, prompts), answers, strict=True):
        head = _render(tokenizer, prompt, special)
        whole = _render(tokenizer, (*prompt, Message("assistant", answer)), special)
        if not whole.startswith(head):  # the template begins an answer it asks for otherwise
            whole = head + _as_text(answer, special) + _behind_answer(tokenizer, prompt)
        heads.append(head)
        wholes.append(whole)
    end = turn_end(tokenizer)
    ends = {end, tokenizer.eos_token_id}
    encoded = zip(heads, _encode(tokenizer, heads), wholes, _encode(tokenizer, wholes), strict=True)
    return [
        (head_ids, _until(ends, end, _tail(tokenizer, head, head_ids, whole, whole_ids)))
        for head, head_ids, whole, whole_ids in encoded
    ]


def folds_system(tokenizer: Any) -> bool:
    """True if the system message goes into the first user turn.

    That is where the template refuses one, or drops it, be it only once the answer is there.
    """
    asked = (Message("system", _PROBE), Message("user", "Hello"))
    answered = (*asked, Message("assistant", "Hello"))
    return any(_PROBE not in (_try(tokenizer, turns) or "") for turns in (asked, answered))


def turn_end(tokenizer: Any) -> int:
    """Id of the token with which the template ends an answer: not always the end of the text."""
    behind = _behind_answer(tokenizer, (Message("user", "Hello"),))
    special = _special_ids(tokenizer)
    ids = _encode(tokenizer, [behind])[0]
    end: int = next((token for token in ids if token in special), tokenizer.eos_token_id)
    return end


def fold_system(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages with each system message in front of the user turn that follows it."""
    folded: list[Message] = []
    system: list[str] = []
    for role, content in messages:
        if role == "system":
            system += [content] if content else []
        elif role == "user" and system:
            folded.append(Message("user", "\n\n".join([*system, content])))
            system = []
        else:
            folded.append(Message(role, content))
    return (*folded, Message("user", "\n\n".join(system))) if system else tuple(folded)


def _fitted(tokenizer: Any, prompts: Sequence[Sequence[Message]]) -> Sequence[Sequence[Message]]:
    """The prompts as the template can take them."""
    if any(role == "system" for prompt in prompts for role, _ in prompt) and folds_system(
        tokenizer
    ):
        prompts = [fold_system(prompt) for prompt in prompts]
    twice = (Message("user", "Hello"), Message("user", "Hello"))
    if any(_repeats(prompt) for prompt in prompts) and _try(tokenizer, twice) is None:
        prompts = [_joined(prompt) for prompt in prompts]
    return prompts


def _repeats(messages: Sequence[Message]) -> bool:
    """True if somebody has two turns in a row."""
    return any(one.role == other.role for one, other in itertools.pairwise(messages))


def _joined(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages with the turns of one speaker in a row as one."""
    joined: list[Message] = []
    for message in messages:
        if joined and joined[-1].role == message.role:
            content = "\n\n".join([joined.pop().content, message.content])
            joined.append(Message(message.role, content))
        else:
            joined.append(message)
    return tuple(joined)


def _tail(
    tokenizer: Any, head: str, head_ids: list[int], whole: str, whole_ids: list[int]
) -> list[int]:
    """Ids of what follows ``head``, also where a token would span the border between the two."""
    if whole_ids[: len(head_ids)] == head_ids:
        return whole_ids[len(head_ids) :]
    return _encode(tokenizer, [whole[len(head) :]], goes_on=True)[0]


def _until(ends: set[int], end: int, ids: list[int]) -> list[int]:
    """Cut what a template puts behind the end token, and add the end token where it puts none."""
    at = next((at for at, token in enumerate(ids) if token in ends), None)
    return [*ids, end] if at is None else ids[: at + 1]


def _behind_answer(tokenizer: Any, prompt: Sequence[Message]) -> str:
    """What the template writes behind an answer to ``prompt``."""
    plain = [(role, _as_text(content, None)) for role, content in prompt]
    return _apply(tokenizer, [*plain, ("assistant", _ANSWER)]).rpartition(_ANSWER)[2]


def _render(tokenizer: Any, messages: Sequence[Message], special: re.Pattern[str] | None) -> str:
    """Render the chat template; control tokens that a message spells are marked as text."""
    return _apply(tokenizer, [(role, _as_text(content, special)) for role, content in messages])


def _as_text(content: str, special: re.Pattern[str] | None) -> str:
    """A message as the template is given it: control tokens that it spells are marked."""
    text = content.encode("utf-8", "replace").decode()  # lone surrogates have no bytes
    text = text.translate(_UNMARK)
    if special is not None:
        text = special.sub(lambda found: f"{_OPEN}{found[0]}{_CLOSE}", text)
    return text


def _try(tokenizer: Any, messages: Sequence[Message]) -> str | None:
    """What the template makes of the messages; None if it refuses them."""
    try:
        return _render(tokenizer, messages, None)
    except SetupError:
        return None


def _apply(tokenizer: Any, turns: Sequence[tuple[str, str]]) -> str:
    """Apply the chat template. Raises SetupError if it refuses these turns."""
    from jinja2 import TemplateError

    try:
        rendered: str = tokenizer.apply_chat_template(
            [{"role": role, "content": content} for role, content in turns],
            tokenize=False,
            add_generation_prompt=turns[-1][0] != "assistant",
        )
    except (TemplateError, TypeError) as error:
        raise MessagesRefused(
            f"The student's chat template refuses these messages: {first_line(error)}",
            "Choose a student whose template knows user and assistant turns as they are",
        ) from None
    return rendered


def _encode(tokenizer: Any, texts: Sequence[str], *, goes_on: bool = False) -> list[list[int]]:
    """Token ids of rendered texts; what is marked as text gets no control token's id.

    ``goes_on``: the texts follow other text, so that none begins with a space of its own.
    """
    if not texts:
        return []
    if goes_on:
        return [_encode_pieces(tokenizer, text, goes_on=True) for text in texts]
    plain = [text for text in texts if _OPEN not in text]
    ids = iter(tokenizer(plain, add_special_tokens=False).input_ids if plain else [])
    return [
        next(ids) if _OPEN not in text else _encode_pieces(tokenizer, text, goes_on=False)
        for text in texts
    ]


def _encode_pieces(tokenizer: Any, text: str, *, goes_on: bool) -> list[int]:
    ids: list[int] = []
    for piece in re.split(f"({_OPEN}[^{_CLOSE}]*{_CLOSE})", text):
        marked = piece.startswith(_OPEN)
        if inner := piece[1:-1] if marked else piece:
            ids += _piece_ids(tokenizer, inner, marked=marked, goes_on=goes_on)
            goes_on = True
    return ids


def _piece_ids(tokenizer: Any, text: str, *, marked: bool, goes_on: bool) -> list[int]:
    """Ids of one piece. Tokenizers like Llama 2's put a space in front of what begins a text."""

    def ids_of(text: str) -> list[int]:
        found: list[int] = tokenizer(
            text, add_special_tokens=False, split_special_tokens=marked
        ).input_ids
        return found

    if goes_on:
        before = ids_of("\n")
        together = ids_of(f"\n{text}")
        if together[: len(before)] == before and len(before) < len(together):
            return together[len(before) :]
    return ids_of(text)


def _special_tokens(tokenizer: Any) -> dict[str, int]:
    """Every control token and its id."""
    added = tokenizer.added_tokens_decoder.items()
    named = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    return {**dict(named), **{token.content: id_ for id_, token in added if token.special}}


def _special_ids(tokenizer: Any) -> set[int]:
    return set(_special_tokens(tokenizer).values())


def _special_pattern(tokenizer: Any) -> re.Pattern[str] | None:
    """Matches every control token's spelling, the longest first."""
    tokens = sorted(_special_tokens(tokenizer), key=len, reverse=True)
    return re.compile("|".join(re.escape(token) for token in tokens)) if tokens else None


def stop_ids(tokenizer: Any, model: Any) -> list[int]:
    """Every token id that ends an answer: the tokenizer's, the template's, the configured ones."""
    configured = model.generation_config.eos_token_id
    if configured is None:
        configured = []
    also = configured if isinstance(configured, list) else [configured]
    return sorted({tokenizer.eos_token_id, turn_end(tokenizer), *also})
