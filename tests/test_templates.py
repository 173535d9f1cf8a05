"""Chat templates of six families: asked as taught, the answer and its end learnt, text is text."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from students import recipe, train_here, write_dataset
from templates import FAMILIES, make_student, make_tokenizer
from understudy.errors import SetupError
from understudy.example import Message
from understudy.models.huggingface import load_model, load_tokenizer
from understudy.models.local import Local
from understudy.models.protocol import Request
from understudy.models.rendering import (
    encode_examples,
    encode_prompts,
    folds_system,
    stop_ids,
    turn_end,
)
from understudy.train.rows import Row, encode_rows
from understudy.train.sizing import lengths

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries that train

EVERY = pytest.mark.parametrize("name", list(FAMILIES))
SYSTEM = "Say the number backwards, word for word."
ASKED = (Message("system", SYSTEM), Message("user", "Number 12"))
LONGER = (*ASKED, Message("assistant", "21"), Message("user", "Number 34"))
SPELLED = "a<|im_end|> b</s>c [INST] <start_of_turn>d <|eot_id|><|end|>\n<s> <<SYS>> é漢"


@functools.cache
def tokenizer_of(name: str) -> Any:
    return make_tokenizer(FAMILIES[name])


def encoded(name: str, prompt: Sequence[Message], answer: str) -> tuple[list[int], list[int]]:
    ((head, tail),) = encode_examples(tokenizer_of(name), [prompt], [answer])
    return head, tail


def control_ids(name: str) -> set[int]:
    tokenizer = tokenizer_of(name)
    return {tokenizer.convert_tokens_to_ids(token) for token in FAMILIES[name].special}


@EVERY
@pytest.mark.parametrize("prompt", [ASKED[1:], ASKED, LONGER], ids=["bare", "system", "longer"])
def test_a_student_is_asked_as_it_was_taught(name: str, prompt: Sequence[Message]) -> None:
    """The prompt of an example is the prompt that is asked; the rest is the answer and its end."""
    tokenizer, family = tokenizer_of(name), FAMILIES[name]
    head, tail = encoded(name, prompt, "43 backwards")
    assert [head] == encode_prompts(tokenizer, [prompt])
    said = tokenizer.decode(tail[:-1]).replace("<think>\n\n</think>\n\n", "")
    assert said.strip() == "43 backwards"
    assert tail[-1] == turn_end(tokenizer) == tokenizer.convert_tokens_to_ids(family.ends)
    assert not control_ids(name) & set(tail[:-1])


@EVERY
def test_no_message_is_lost_and_each_control_token_is_the_templates(name: str) -> None:
    """System message and turns are in the prompt, in order; there is one bos, at the beginning."""
    tokenizer, family = tokenizer_of(name), FAMILIES[name]
    (head,) = encode_prompts(tokenizer, [LONGER])
    text = tokenizer.decode(head)
    places = [text.index(part) for part in (SYSTEM, "Number 12", "21", "Number 34")]
    assert places == sorted(places)
    assert folds_system(tokenizer) == family.folds
    if family.bos:
        bos = tokenizer.convert_tokens_to_ids(family.bos)
        (once,) = encode_prompts(tokenizer, [ASKED])
        assert [at for at, token in enumerate(once) if token == bos] == [0]


@EVERY
@settings(max_examples=15, deadline=None)
@given(drawn=st.text(alphabet="a1 \n<>[]|/é", max_size=12))
def test_text_that_spells_control_tokens_stays_text(name: str, drawn: str) -> None:
    """Whatever the user writes, no control token is added, and it reads back as written."""
    tokenizer = tokenizer_of(name)
    written = f"x{drawn}{SPELLED}{drawn}x"
    plain = encode_prompts(tokenizer, [(Message("user", "x"),)])[0]
    (spelled,) = encode_prompts(tokenizer, [(Message("user", written),)])
    control = control_ids(name)
    assert [id_ for id_ in spelled if id_ in control] == [id_ for id_ in plain if id_ in control]
    assert written in tokenizer.decode(spelled)
    _, tail = encoded(name, ASKED, written)
    assert written in tokenizer.decode(tail)
    assert sum(id_ in control for id_ in tail) == 1


@EVERY
def test_turns_of_one_speaker_are_joined_only_where_the_template_wants_it(name: str) -> None:
    """Two user turns in a row are read by every family; both are in the prompt."""
    tokenizer = tokenizer_of(name)
    twice = (*ASKED, Message("user", "Number 56"))
    (head,) = encode_prompts(tokenizer, [twice])
    text = tokenizer.decode(head)
    assert text.index("Number 12") < text.index("Number 56")
    joined = "Number 12\n\nNumber 56" in text
    assert joined == (name in {"llama-2", "mistral", "mistral-v3", "gemma", "gemma-3"})


def test_a_template_that_refuses_users_is_told_in_one_line() -> None:
    """What no folding can mend is a SetupError that quotes the template."""
    tokenizer = make_tokenizer(FAMILIES["qwen"]._replace(template="{{ raise_exception('never') }}"))
    with pytest.raises(SetupError, match=r"refuses these messages: never") as caught:
        encode_prompts(tokenizer, [ASKED])
    assert "\n" not in str(caught.value)


def test_the_day_is_the_same_every_day(tmp_path: Path) -> None:
    """A template that prints today's date prints one date, also after the student was saved."""
    today = tokenizer_of("llama-3")
    assert "Today Date: 26 Jul 2024" not in today.decode(encode_prompts(today, [ASKED])[0])
    folder = make_student(tmp_path / "student", FAMILIES["llama-3"])
    opened = load_tokenizer(folder)
    opened.save_pretrained(folder)
    again = load_tokenizer(folder)
    assert again.chat_template == opened.chat_template
    assert "Today Date: 26 Jul 2024" in again.decode(encode_prompts(again, [ASKED])[0])


@EVERY
def test_a_student_of_each_family_trains_and_answers(name: str, tmp_path: Path) -> None:
    """Two steps of training, and a reply from the trained folder; its ends hold the template's."""
    family = FAMILIES[name]
    folder = make_student(tmp_path / "student", family)
    rows = [(f"Number {n}", str(n)[::-1]) for n in range(10, 18)]
    dataset = write_dataset(tmp_path / "data", rows, system=SYSTEM)
    how = recipe(epochs=1, batch_size=4, matrix_learning_rate=0, recut_share=0, max_tokens=512)
    heard = train_here(tmp_path / "run", dataset, how, student=str(folder))
    assert heard.of("train.done")[0]["steps"] == 2
    assert heard.of("train.data")[0]["dropped"] == 0
    model = tmp_path / "run" / "model"
    tokenizer = load_tokenizer(model)
    end = tokenizer.convert_tokens_to_ids(family.ends)
    assert end in stop_ids(tokenizer, load_model(model))

    async def ask() -> Any:
        local = Local(model, name="run:1")
        try:
            return await local.complete(Request(ASKED, 8))
        finally:
            await local.close()

    reply = asyncio.run(ask())
    assert reply.output_tokens <= 8
    assert not any(token in reply.text for token in family.special)


@EVERY
def test_lengths_of_no_family_are_too_short(name: str, tmp_path: Path) -> None:
    """Counted without transformers: a long system message is there, and what is text counts so.

    A few tokens more do no harm; one less would cut an answer.
    """
    long = Message("system", f"{SYSTEM} " * 20)
    rows = [Row(n, (long, *ASKED[1:]), f"{n} backwards") for n in range(10, 14)]
    rows += [Row(n, (long, *LONGER[1:]), f"{n} backwards") for n in range(14, 17)]
    folder = make_student(tmp_path / "student", FAMILIES[name])
    real = encode_rows(load_tokenizer(folder), rows, max_tokens=10**6)
    counted = lengths.of_rows(folder, rows)
    more = [ours - its for ours, its in zip(counted.tokens, real.lengths, strict=True)]
    assert min(more) >= 0
    assert max(more) <= 3
    assert counted.answers == real.answer_lengths
    spelling = [*rows, Row(17, (long, Message("user", f"{SPELLED} " * 9)), "17 backwards")]
    shown = encode_rows(load_tokenizer(folder), spelling, max_tokens=10**6)
    assert lengths.of_rows(folder, spelling).tokens[-1] >= shown.lengths[-1]
