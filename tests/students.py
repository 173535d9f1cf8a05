"""What the training tests share: small datasets, recipes, model folders, a trainer in-process."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from understudy.run import Recipe

SYSTEM = 'Repeat the number {backwards}; say "none" if there is\nnone.'
CHATML = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)
Rows = Sequence[tuple[str, str]]


def numbers(first: int, last: int) -> list[tuple[str, str]]:
    """Inputs and answers of a task that a small model can begin to learn."""
    return [
        (f"number {number * 37 % 1000}", f"{number * 37 % 1000}"[::-1])
        for number in range(first, last)
    ]


def write_dataset(folder: Path, train: Rows, validation: Rows = (), system: str = SYSTEM) -> Path:
    """Write splits as ``freeze`` does. The test split is a trap: it is no JSON."""
    folder.mkdir()
    for name, rows in (("train", train), ("validation", validation)):
        lines = [
            json.dumps(
                {
                    "id": number,
                    "prompt": [
                        *([{"role": "system", "content": system}] if system else []),
                        {"role": "user", "content": text},
                    ],
                    "completion": [{"role": "assistant", "content": answer}],
                }
            )
            for number, (text, answer) in enumerate(rows)
        ]
        (folder / f"{name}.jsonl").write_text("".join(line + "\n" for line in lines))
    (folder / "test.jsonl").write_text("never opened by a trainer")
    return folder


def recipe(**settings: Any) -> Recipe:
    """A recipe of a few seconds."""
    usual = {
        "method": "full",
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 3e-3,
        "matrix_learning_rate": 0.02,
        "weight_decay": 0.5,
        "recut_share": 0.2,
        "max_tokens": 256,
        "save_steps": 4,
    }
    return Recipe(**{**usual, **settings})


class Heard:
    """Events of a training in this process; ``at`` a step, it is told to stop behind the next."""

    def __init__(self, at: int = 0) -> None:
        from understudy.train.progress import Stop

        self.stop, self._at = Stop(), at
        self.events: list[tuple[str, dict[str, Any]]] = []

    def say(self, kind: str, **data: Any) -> None:
        self.events.append((kind, data))
        if kind == "train.step" and data["step"] == self._at:
            self.stop.signal = 15

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [data for said, data in self.events if said == kind]

    @property
    def losses(self) -> dict[int, float]:
        return {step["step"]: step["loss"] for step in self.of("train.step")}


@contextmanager
def few_questions() -> Iterator[None]:
    """A student that is no tiny one is asked eight general questions, not more than a hundred."""
    from understudy.train import forgetting

    whole = forgetting._general()
    fewer = {**whole, "probe": whole["probe"][:8]}
    with mock.patch.object(forgetting, "_general", return_value=fewer):
        yield


def train_here(
    run_folder: Path, dataset: Path, recipe: Recipe, student: str = "tiny", at: int = 0
) -> Heard:
    """Train in this process, without the cost of a new one."""
    import torch

    from understudy.train.fit import Interrupted, fit
    from understudy.train.job import Job

    torch.set_num_threads(1)
    run_folder.mkdir(exist_ok=True)
    heard = Heard(at)
    try:
        with few_questions():
            metrics = fit(Job(run_folder, dataset, student, recipe), heard, heard.stop)  # type: ignore[arg-type]
    except Interrupted:
        pass
    else:
        heard.say("train.done", **metrics)
    return heard


def make_folder(folder: Path, *, template: str | None = CHATML) -> Path:
    """A real, tiny Qwen2 folder with random weights and a ChatML tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, set_seed

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([f"{SYSTEM} user assistant number {n}" for n in range(300)], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=["<|im_start|>"],
        chat_template=template,
    )
    set_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen2ForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
