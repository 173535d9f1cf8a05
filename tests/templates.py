"""Chat templates in the published formats of six families, and a tiny student for each.

Written from the formats that the makers document, not copied from their repositories. Each family
says which of its special tokens ends a turn, and whether its template knows a system message.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple


class Family(NamedTuple):
    """How one family of models is asked."""

    template: str
    special: tuple[str, ...]
    """Every control token; the first is padding."""
    eos: str
    """What the tokenizer names as its end."""
    ends: str
    """What ends an answer."""
    bos: str = ""
    folds: bool = False
    """Whether the system message has to go into the first user turn."""
    prefix_space: bool = False
    """Whether the tokenizer puts a space in front of a text (SentencePiece of Llama 2)."""


LLAMA_2 = Family(
    "{%- if messages[0].role == 'system' -%}"
    "{%- set system, turns = messages[0].content, messages[1:] -%}"
    "{%- else -%}{%- set system, turns = none, messages -%}{%- endif -%}"
    "{%- for turn in turns -%}"
    "{%- if (turn.role == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{ raise_exception('roles must alternate') }}{%- endif -%}"
    "{%- if turn.role == 'user' -%}{{ bos_token + '[INST] ' }}"
    "{%- if loop.first and system is not none -%}"
    "{{ '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' }}{%- endif -%}"
    "{{ turn.content.strip() + ' [/INST]' }}"
    "{%- else -%}{{ ' ' + turn.content.strip() + ' ' + eos_token }}{%- endif -%}"
    "{%- endfor -%}",
    ("<unk>", "<s>", "</s>"),
    eos="</s>",
    ends="</s>",
    bos="<s>",
    prefix_space=True,
)
LLAMA_3 = Family(
    "{{- bos_token }}"
    "{%- set date = strftime_now('%d %b %Y') if strftime_now is defined else '26 Jul 2024' -%}"
    "{%- if messages[0].role == 'system' -%}"
    "{%- set system, turns = messages[0].content | trim, messages[1:] -%}"
    "{%- else -%}{%- set system, turns = '', messages -%}{%- endif -%}"
    "{{- '<|start_header_id|>system<|end_header_id|>\\n\\nCutting Knowledge Date: December 2023\\n'"
    " + 'Today Date: ' + date + '\\n\\n' + system + '<|eot_id|>' }}"
    "{%- for turn in turns -%}"
    "{{- '<|start_header_id|>' + turn.role + '<|end_header_id|>\\n\\n' + turn.content | trim"
    " + '<|eot_id|>' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif -%}",
    (
        "<|finetune_right_pad_id|>",
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
    ),
    eos="<|end_of_text|>",
    ends="<|eot_id|>",
    bos="<|begin_of_text|>",
)
MISTRAL = Family(
    "{{- bos_token }}"
    "{%- for turn in messages -%}"
    "{%- if (turn.role == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{- raise_exception('roles must alternate') }}{%- endif -%}"
    "{%- if turn.role == 'user' -%}{{- '[INST] ' + turn.content + ' [/INST]' }}"
    "{%- else -%}{{- ' ' + turn.content + eos_token }}{%- endif -%}"
    "{%- endfor -%}",
    ("<unk>", "<s>", "</s>"),
    eos="</s>",
    ends="</s>",
    bos="<s>",
    folds=True,
    prefix_space=True,
)
MISTRAL_V3 = Family(
    # The system message stands in the last turn if that is the user's, and nowhere otherwise.
    "{%- if messages[0].role == 'system' -%}"
    "{%- set system, turns = messages[0].content, messages[1:] -%}"
    "{%- else -%}{%- set system, turns = none, messages -%}{%- endif -%}"
    "{{- bos_token }}"
    "{%- for turn in turns -%}"
    "{%- if (turn.role == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{- raise_exception('roles must alternate') }}{%- endif -%}"
    "{%- if turn.role == 'user' -%}"
    "{{- '[INST] ' + (system + '\\n\\n' if loop.last and system is not none else '')"
    " + turn.content + '[/INST]' }}"
    "{%- else -%}{{- ' ' + turn.content + eos_token }}{%- endif -%}"
    "{%- endfor -%}",
    ("<unk>", "<s>", "</s>", "[INST]", "[/INST]"),
    eos="</s>",
    ends="</s>",
    bos="<s>",
    folds=True,
    prefix_space=True,
)
_GEMMA_TURNS = (
    "{%- for turn in turns -%}"
    "{%- if (turn.role == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{- raise_exception('roles must alternate') }}{%- endif -%}"
    "{{- '<start_of_turn>' + ('model' if turn.role == 'assistant' else turn.role) + '\\n' }}"
    "{{- (first if loop.first else '') + turn.content | trim + '<end_of_turn>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' }}{%- endif -%}"
)
_GEMMA_TOKENS = ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>")
GEMMA = Family(
    "{{- bos_token }}{%- if messages[0].role == 'system' -%}"
    "{{- raise_exception('System role not supported') }}{%- endif -%}"
    "{%- set turns, first = messages, '' -%}" + _GEMMA_TURNS,
    _GEMMA_TOKENS,
    eos="<eos>",
    ends="<end_of_turn>",
    bos="<bos>",
    folds=True,
)
GEMMA_3 = Family(
    "{{- bos_token }}{%- if messages[0].role == 'system' -%}"
    "{%- set turns, first = messages[1:], messages[0].content + '\\n\\n' -%}"
    "{%- else -%}{%- set turns, first = messages, '' -%}{%- endif -%}" + _GEMMA_TURNS,
    _GEMMA_TOKENS,
    eos="<eos>",
    ends="<end_of_turn>",
    bos="<bos>",
)
QWEN = Family(
    "{%- if messages[0].role != 'system' -%}"
    "{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{%- endif -%}"
    "{%- for turn in messages -%}"
    "{{- '<|im_start|>' + turn.role + '\\n' + turn.content + '<|im_end|>\\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' }}{%- endif -%}",
    ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    eos="<|im_end|>",
    ends="<|im_end|>",
)
QWEN_3 = Family(
    "{%- for turn in messages -%}{{- '<|im_start|>' + turn.role + '\\n' }}"
    "{%- if turn.role == 'assistant' and loop.last -%}{{- '<think>\\n\\n</think>\\n\\n' }}"
    "{%- endif -%}{{- turn.content + '<|im_end|>\\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false -%}"
    "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif -%}{%- endif -%}",
    ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    eos="<|im_end|>",
    ends="<|im_end|>",
)
REASONER = Family(
    # Opens a thought when it asks, and shows none in what was answered.
    "{{- bos_token }}{%- for turn in messages -%}"
    "{{- ('<|User|>' if turn.role == 'user' else '<|Assistant|>' if turn.role == 'assistant'"
    " else '') + turn.content + (eos_token if turn.role == 'assistant' else '') }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|Assistant|><think>\\n' }}{%- endif -%}",
    ("<|pad|>", "<|begin|>", "<|end|>", "<|User|>", "<|Assistant|>"),
    eos="<|end|>",
    ends="<|end|>",
    bos="<|begin|>",
)
PHI = Family(
    "{%- for turn in messages -%}"
    "{{- '<|' + turn.role + '|>' + turn.content + '<|end|>' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' }}"
    "{%- else -%}{{- eos_token }}{%- endif -%}",
    ("<|dummy|>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    eos="<|endoftext|>",
    ends="<|end|>",
)
FAMILIES = {
    "llama-2": LLAMA_2,
    "llama-3": LLAMA_3,
    "mistral": MISTRAL,
    "mistral-v3": MISTRAL_V3,
    "gemma": GEMMA,
    "gemma-3": GEMMA_3,
    "qwen": QWEN,
    "qwen-3": QWEN_3,
    "reasoner": REASONER,
    "phi": PHI,
}


def make_tokenizer(family: Family) -> Any:
    """A tokenizer of the family's kind: byte-level, or with a space in front as in Llama 2."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    text = [f"Number {n} backwards is {str(n)[::-1]}. user assistant system" for n in range(200)]
    if family.prefix_space:
        bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
        letters = [*dict.fromkeys("▁" + "".join(text).replace(" ", "▁") + "[]/<>|_INST")]
        vocabulary = [*family.special, *bytes_, *letters]
        bpe = Tokenizer(
            models.BPE(
                {token: at for at, token in enumerate(vocabulary)},
                [],
                byte_fallback=True,
                unk_token="<unk>",
            )
        )
        bpe.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        bpe.decoder = decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )
        bpe.add_special_tokens(list(family.special))
    else:
        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=330 + len(family.special),
            special_tokens=list(family.special),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        bpe.train_from_iterator(text, trainer)
    named = {"bos_token": family.bos} if family.bos else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=family.eos,
        pad_token=family.special[0],
        extra_special_tokens=list(family.special),
        chat_template=family.template,
        **named,
    )


def make_student(folder: Path, family: Family) -> Path:
    """A real, tiny folder with random weights; its generation config names no end of turn."""
    from transformers import LlamaConfig, LlamaForCausalLM, set_seed

    tokenizer = make_tokenizer(family)
    set_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=1024,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
