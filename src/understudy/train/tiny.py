"""A tiny student from scratch: a tokenizer and a small Llama made for one task's training split.

For closed tasks, practice and machines without a GPU. The tokenizer is byte-level BPE (every text
can be written) with single digits, learnt from the training split alone, so that nothing of the
test leaks into the vocabulary. The result is an ordinary Hugging Face folder that plain
transformers opens. Sizes were measured on dates, durations and support messages: one layer is too
small, more depth or width buys little and costs time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    set_seed,
)

from understudy.example import Message

VOCABULARY = 512
LAYERS, WIDTH, HEADS, MLP_WIDTH = 2, 128, 4, 344
LONGEST = 4096
"""Positions that the rotary embedding is configured for, in tokens."""

PAD, END, SYSTEM, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"
SPECIAL = (PAD, END, SYSTEM, USER, ASSISTANT)

_WORDS = r"\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+"
"""Pieces that no token crosses: a digit, a word, punctuation, white space."""


def build(
    prompts: Sequence[Sequence[Message]], answers: Sequence[str], folder: Path, *, seed: int
) -> None:
    """Write an untrained student for these training examples to ``folder``."""
    tokenizer = build_tokenizer(prompts, answers)
    set_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=MLP_WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=LONGEST,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


def build_tokenizer(
    prompts: Sequence[Sequence[Message]], answers: Sequence[str]
) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE of about VOCABULARY tokens from these examples."""
    known = known_by_heart(prompts)
    texts = [
        message.content
        for prompt in prompts
        for message in prompt
        if not (message.role == "system" and message.content == known)
    ]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([*texts, *answers], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens=[SYSTEM, USER, ASSISTANT],
        chat_template=chat_template(known),
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def known_by_heart(prompts: Sequence[Sequence[Message]]) -> str:
    """The system message that every prompt begins with, or an empty string if they differ.

    A student of one task need not read at every turn what never changes.
    """
    first = {prompt[0] for prompt in prompts}
    if len(first) != 1:
        return ""
    role, content = first.pop()
    spells_control = any(token in content for token in SPECIAL)
    return content if role == "system" and not spells_control else ""


def chat_template(known: str) -> str:
    """Jinja template that renders turns; a system message equal to ``known`` renders to nothing."""
    return "".join(
        (
            "{%- for message in messages -%}",
            "{%- if message['role'] == 'system' -%}",
            f"{{%- if message['content'] != {_literal(known)} -%}}",
            f"{{{{- '{SYSTEM}' + message['content'] -}}}}",
            "{%- endif -%}",
            "{%- elif message['role'] == 'user' -%}",
            f"{{{{- '{USER}' + message['content'] -}}}}",
            "{%- elif message['role'] == 'assistant' -%}",
            f"{{{{- '{ASSISTANT}' + message['content'] + '{END}' -}}}}",
            "{%- else -%}",
            "{{- raise_exception('Only system, user and assistant turns are known') -}}",
            "{%- endif -%}",
            "{%- endfor -%}",
            f"{{%- if add_generation_prompt -%}}{{{{- '{ASSISTANT}' -}}}}{{%- endif -%}}",
        )
    )


def _literal(text: str) -> str:
    """Write ``text`` as a Jinja string: JSON escapes, characters beyond ASCII as they are."""
    return json.dumps(text, ensure_ascii=False)


def parameters(model: Any) -> int:
    """Count the weights of a model, tied ones once."""
    return sum(weight.numel() for weight in model.parameters())
