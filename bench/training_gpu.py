"""A Llama-2-7B-shaped model with random weights, trained with adapters, against other recipes.

    .venv/bin/python bench/training_gpu.py [--small] [--steps N] [--rounds N]

    original     gpt-llm-trainer's notebook: QLoRA (rank 64 on query and value), batches of 4,
                 gradient checkpointing, loss on every token (its evaluations left out)
    defaults     TRL's SFTConfig as it comes, with LoRA of rank 16 on all linear layers
    understudy   LoRA in bfloat16, and QLoRA, through the trainer behind `understudy train`

Rows of random tokens of 60 to 600, the last fifth of each an answer; all recipes read the same.
Tokens a second behind the first two steps, peak memory, and the share of this machine's measured
matrix multiplication rate at 4 FLOP a frozen weight and token: medians over rounds in turn.
--small takes a model of a few thousand weights, to try the script out on a processor.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM
from trl import SFTConfig, SFTTrainer

from understudy.example import Message
from understudy.run import Method, Recipe
from understudy.train import sft, tiny, weights
from understudy.train.job import Job
from understudy.train.progress import EventLog, Stop
from understudy.train.rows import NOT_LEARNT, Encoded

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
WARM_UP = 2
ROWS, BATCH = 512, 16
SEVEN_B = {
    "vocab_size": 32_000,
    "hidden_size": 4_096,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4_096,
}
SMALL = SEVEN_B | {
    "vocab_size": 600,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}


class Clock(sft.TrainerCallback):  # type: ignore[misc]
    """When each step began, the GPU having done all before it, and what was read in it."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Wait for the GPU and note the time."""
        if GPU:
            torch.cuda.synchronize()
        self.at.append(time.perf_counter())

    on_train_end = on_step_begin


class Bench:
    """The model on disk, the rows, and each recipe."""

    def __init__(self, folder: Path, shape: dict[str, int], steps: int) -> None:
        self.folder, self.steps, self.base = folder, steps, folder / "base"
        torch.manual_seed(0)
        with torch.device(DEVICE):
            model = LlamaForCausalLM(LlamaConfig(**shape)).to(torch.bfloat16)
        self.parameters = tiny.parameters(model)
        model.save_pretrained(self.base)
        del model
        said = [(Message("user", "some words to learn pieces from"),)]
        self.tokenizer = tiny.build_tokenizer(said, ["words"])
        self.tokenizer.save_pretrained(self.base)
        drawn = random.Random(0)
        lengths = [drawn.randrange(60, 600) for _ in range(ROWS)]
        tokens = [[drawn.randrange(5, shape["vocab_size"]) for _ in range(n)] for n in lengths]
        labels = [
            [NOT_LEARNT] * (len(row) - len(row) // 5) + row[-(len(row) // 5) :] for row in tokens
        ]
        self.rows = Encoded(tokens, labels, cut=0, dropped=0)
        self.mean = statistics.fmean(lengths)

    def trl(
        self, batch: int, dataset: Dataset, model: Any, adapters: Any, **settings: Any
    ) -> float:
        """Tokens a second of plain TRL."""
        clock = Clock()
        arguments = SFTConfig(
            output_dir=str(self.folder / "trl"),
            max_steps=self.steps * BATCH // batch,
            use_cpu=not GPU,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **settings,
        )
        SFTTrainer(
            model=model,
            args=arguments,
            train_dataset=dataset,
            processing_class=self.tokenizer,
            peft_config=adapters,
            callbacks=[clock],
        ).train()
        return self._rate(clock, batch)

    def original(self) -> float:
        """The training arguments of gpt-llm-trainer's notebook (2023)."""
        in_4_bits = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float16
        )
        adapters = LoraConfig(
            r=64,
            lora_alpha=16,
            lora_dropout=0.1,
            target_modules=["q_proj", "v_proj"],
            task_type="CAUSAL_LM",
        )
        return self.trl(
            4,
            Dataset.from_dict({"input_ids": self.rows.tokens, "labels": self.rows.tokens}),
            self._load(torch.float16 if GPU else torch.float32, quantization_config=in_4_bits),
            adapters,
            per_device_train_batch_size=4,
            gradient_checkpointing=True,
            optim="paged_adamw_32bit" if GPU else "adamw_torch",
            learning_rate=2e-4,
            max_grad_norm=0.3,
            lr_scheduler_type="constant",
            train_sampling_strategy="group_by_length",
            bf16=False,
        )

    def defaults(self) -> float:
        """What SFTConfig is when nothing is asked of it, on the rows' answers."""
        adapters = LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")
        rows = {"input_ids": self.rows.tokens, "labels": self.rows.labels}
        return self.trl(8, Dataset.from_dict(rows), self._load(torch.bfloat16), adapters)

    def understudy(self, method: Method) -> float:
        """The product's own trainer."""
        recipe = Recipe(
            method=method,
            epochs=self.steps * BATCH / ROWS,
            batch_size=BATCH,
            learning_rate=2e-4,
            lora_rank=16,
            max_tokens=1_024,
            packing=True,
            precision="bfloat16",
            save_steps=10_000,
        )
        run = Path(tempfile.mkdtemp(dir=self.folder))
        job, clock = Job(run, run, str(self.base), recipe), Clock()
        heard = EventLog(run / "events.jsonl")
        sft.build(
            job, weights.load(job), self.tokenizer, self.rows, heard, Stop(), callbacks=[clock]
        ).train()
        return self._rate(clock, BATCH)

    def _load(self, dtype: torch.dtype, **options: Any) -> Any:
        placed = {"device_map": {"": 0}} if GPU else {}
        return AutoModelForCausalLM.from_pretrained(self.base, dtype=dtype, **placed, **options)

    def _rate(self, clock: Clock, batch: int) -> float:
        seconds = clock.at[-1] - clock.at[WARM_UP]
        return (len(clock.at) - 1 - WARM_UP) * batch * self.mean / seconds


def multiply_rate() -> float:
    """FLOP a second of a bfloat16 matrix multiplication: the best of ten."""
    size = 8_192 if GPU else 1_024
    left, right = torch.randn(2, size, size, device=DEVICE).bfloat16()
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        left @ right
        if GPU:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds)


def measure(train: Callable[[], float]) -> tuple[float, float]:
    """Tokens a second, and peak memory in GB (of the GPU; 0 without one)."""
    gc.collect()
    if GPU:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    rate = train()
    return rate, torch.cuda.max_memory_allocated() / 1e9 if GPU else 0.0


def main(*, small: bool, steps: int, rounds: int) -> None:
    """Let the recipes take turns, and print what they did."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), SMALL if small else SEVEN_B, steps)
        peak = multiply_rate()
        where = torch.cuda.get_device_name() if GPU else "processor"
        print(f"{where}: bfloat16 matmul {peak / 1e12:.2f} TFLOP/s; torch {torch.__version__}")
        print(f"{bench.parameters / 1e9:.2f} B parameters, rows of {bench.mean:.0f} tokens")
        recipes: dict[str, Callable[[], float]] = {
            "original": bench.original,
            "defaults": bench.defaults,
            "understudy lora": lambda: bench.understudy("lora"),
            "understudy qlora": lambda: bench.understudy("qlora"),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in recipes}
        for _ in range(rounds):
            for name, train in recipes.items():
                found[name].append(measure(train))
        for name, measured in found.items():
            rate = statistics.median(rate for rate, _ in measured)
            memory = max(memory for _, memory in measured)
            share = rate * 4 * bench.parameters / peak
            print(f"{name:<18}{rate:9.0f} tokens/s  {memory:6.1f} GB  {share:5.1%} of matmul")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    main(**vars(parser.parse_args()))
