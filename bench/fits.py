"""Estimated against measured: memory and time of real trainings, by ``train.fits``.

    python bench/fits.py [--sizes 5M,30M] [--steps 2]

Makes Llama-shaped students with random weights, trains each for a few steps through
``understudy.train.start`` in a process of its own, and prints the most memory that process had
(resident, as the system counts it) beside the estimate. A ratio of 0.9 to 1.5 is aimed at.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from understudy import train
from understudy.run import Recipe, Run
from understudy.train.sizing import lengths
from understudy.train.sizing.machine import look
from understudy.train.sizing.need import Need, Shape, estimate

SIZES: dict[str, dict[str, Any]] = {
    "5M": {"hidden_size": 192, "num_hidden_layers": 6, "intermediate_size": 512,
           "vocab_size": 8_000, "num_attention_heads": 4, "tie_word_embeddings": True},
    "30M": {"hidden_size": 384, "num_hidden_layers": 12, "intermediate_size": 1_024,
            "vocab_size": 16_000, "num_attention_heads": 6, "tie_word_embeddings": True},
    "100M": {"hidden_size": 768, "num_hidden_layers": 10, "intermediate_size": 2_048,
             "vocab_size": 32_000, "num_attention_heads": 12, "tie_word_embeddings": False},
}  # fmt: skip
CHATML = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)


class Case(NamedTuple):
    """One training to measure."""

    size: str
    method: str
    checkpointing: bool
    micro_tokens: int
    answer_words: int


def make_student(folder: Path, size: str) -> Path:
    """Write a Llama of random weights and a byte-level tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    learner = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([f"system user assistant {n}" for n in range(900)], learner)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",  # noqa: S106  no password
        pad_token="<|endoftext|>",  # noqa: S106
        chat_template=CHATML,
    )
    set_seed(0)
    config = LlamaConfig(
        **SIZES[size],
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_dataset(folder: Path, answer_words: int) -> Path:
    """Write 48 rows of about 250 tokens."""
    rng = random.Random(0)
    folder.mkdir(parents=True)

    def words(count: int) -> str:
        return " ".join(str(rng.randrange(900)) for _ in range(count))

    rows = [
        {
            "id": number,
            "prompt": [{"role": "user", "content": words(rng.randint(60, 100))}],
            "completion": [{"role": "assistant", "content": words(answer_words)}],
        }
        for number in range(48)
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def recipe_of(case: Case, steps: int) -> Recipe:
    """A recipe of a few steps of 8 rows."""
    return Recipe(
        method=case.method,
        epochs=steps / 6,
        batch_size=8,
        learning_rate=1e-4,
        lora_rank=0 if case.method == "full" else 16,
        max_tokens=512,
        micro_batch_tokens=case.micro_tokens,
        gradient_checkpointing=case.checkpointing,
        save_steps=1_000,
    )


def measure(student: Path, case: Case, steps: int, work: Path) -> tuple[Need, float, float]:
    """Train for real. Returns the estimate, the peak in bytes and the seconds of all steps."""
    dataset = make_dataset(work / "data", case.answer_words)
    recipe = recipe_of(case, steps)
    rows = lengths.of_split(student, dataset / "train.jsonl")
    need = estimate(
        Shape.of(student), recipe, rows.tokens, look(work), answers=rows.answers, local=True
    )
    run = Run(1, 1, str(student), work / "run", recipe)
    last = None
    seconds = 0.0
    for last in train.follow(train.start(run, dataset)):
        if last.kind == "train.step":
            seconds = last.data["seconds"]
    if last is None or last.kind != "train.done":
        sys.exit(f"{case}: {last}")
    return need, last.data["peak_memory_mb"] * 1e6, seconds


def cases(sizes: list[str]) -> Iterator[Case]:
    """Full and adapters, with and without checkpointing; narrow passes; long answers."""
    for size, method, checkpointing in product(sizes, ("full", "lora"), (False, True)):
        yield Case(size, method, checkpointing, 2_048, 8)
    for size in sizes:
        yield Case(size, "full", False, 600, 8)
        yield Case(size, "full", False, 2_048, 60)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="5M,30M,100M")
    parser.add_argument("--steps", type=int, default=2, help="optimizer steps of each")
    arguments = parser.parse_args()
    sizes = arguments.sizes.split(",")
    print("size  method  checkpointing  tokens  answer   estimated   measured  ratio   seconds")
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        students = {size: Path(name) / size for size in sizes}
        with ProcessPoolExecutor(1) as another:  # a child's peak begins with its parent's memory
            list(another.map(make_student, students.values(), sizes))
        for case in cases(sizes):
            work = Path(name) / "work"
            need, peak, seconds = measure(students[case.size], case, arguments.steps, work)
            shutil.rmtree(work)
            ratios.append(need.memory_bytes / peak)
            low, high = need.training_s
            print(
                f"{case.size:5} {case.method:6}  {case.checkpointing!s:13} {case.micro_tokens:7,} "
                f"{case.answer_words:7} {need.memory_bytes / 1e6:8,.0f} MB {peak / 1e6:7,.0f} MB "
                f"{ratios[-1]:6.2f}   {seconds:.1f} ({low:.1f} to {high:.1f})",
                flush=True,
            )
    print(f"ratios {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"{time.monotonic() - started:.0f} s")
