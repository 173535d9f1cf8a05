"""Useful tokens a second of a training, against other recipes, on one processor core.

    .venv/bin/python bench/training.py [EXAMPLES] [ROUNDS]

The same Llama of 5 M parameters from the same random weights, the same rows (customers' messages
with JSON answers: about 130 tokens, a third of them answer), the same number of examples seen:

    original   gpt-llm-trainer's recipe in TRL: batches of 4, gradient checkpointing, loss on every
               token, evaluation of a tenth of the data (200 rows of 2,000) every 5 steps
    no eval    the same without its evaluations
    defaults   TRL's SFTConfig as it comes, on prompt/completion rows: batches of 8, gradient
               checkpointing, bfloat16 autocast, loss on the completion
    understudy the trainer behind `understudy train`: rows packed, answers alone scored, in
               bfloat16 where the recipe finds that this processor is fast in it

Answer tokens a second of processor time, behind the first two steps; medians over rounds in which
the recipes take turns. The first round trains to the end for the loss on held-out answers. All
weights are trained in all four. `original` is timed over 10 steps and 2 evaluations; since an
evaluation changes no weight, it ends where `no eval` ends. Rates stand beside the rate of a matrix
multiplication measured in the same run; 6 FLOP a parameter and token are counted as useful.
understudy's own evaluations, a handful in a training, and checkpoints are outside the clock.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}

import torch
from datasets import Dataset, disable_progress_bars
from transformers import LlamaConfig, LlamaForCausalLM, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

from understudy.models.huggingface import load_model, load_tokenizer
from understudy.practice import load
from understudy.train import sft, tiny
from understudy.train.job import Job
from understudy.train.progress import EventLog, Stop
from understudy.train.recipe import choose
from understudy.train.rows import Encoded, encode_rows, read_rows
from understudy.train.sizing.machine import look

SYSTEM = "Answer each message with one line of JSON."
ROWS, HELD_OUT = 1_800, 200
WARM_UP = 2
"""Steps before the clock starts."""
FROM_SCRATCH = {"batch_size": 4, "learning_rate": 1.5e-3, "packing": True}
"""What the recipe, made for students that know the language, is told about random weights."""
SHORT = 64
"""Examples of the rounds behind the first."""
EVALUATED_STEPS = 10


class Clock(TrainerCallback):  # type: ignore[misc]
    """Processor seconds at the end of each step, evaluations behind it included."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """A step begins where the one before it, with all that hung on it, ended."""
        self.at.append(time.process_time())

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """The last step has no follower."""
        self.at.append(time.process_time())


def make_data(folder: Path) -> None:
    """Write rows of two messages with an answer line each, as a frozen dataset holds them."""
    task = load("support")
    texts = [text for seed in range(ROWS + HELD_OUT) for text in task.inputs({}, 2, seed)]
    pairs = list(zip(texts[::2], texts[1::2], strict=True))
    for name, part in (("train", pairs[:ROWS]), ("validation", pairs[ROWS:])):
        lines = []
        for number, pair in enumerate(part):
            asked = [("system", SYSTEM), ("user", "\n".join(pair))]
            turns = [{"role": role, "content": content} for role, content in asked]
            answer = "\n".join(map(task.answer, pair))
            row = {"id": number, "prompt": turns}
            lines.append(
                json.dumps(row | {"completion": [{"role": "assistant", "content": answer}]})
            )
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


def make_model(data: Path, folder: Path) -> None:
    """Write a Llama of 5 M random weights with a tokenizer learnt from the rows."""
    rows = read_rows(data / "train.jsonl")
    tokenizer = tiny.build_tokenizer([row.prompt for row in rows], [row.answer for row in rows])
    tokenizer.chat_template = tiny.chat_template(known="")
    set_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


class Bench:
    """What the recipes share: rows, untrained weights, and how a trained model is judged."""

    def __init__(self, folder: Path, examples: int) -> None:
        self.folder, self.examples = folder, examples
        self.precision = ""
        self.base, self.data = folder / "base", folder / "data"
        self.data.mkdir()
        make_data(self.data)
        make_model(self.data, self.base)
        self.tokenizer = load_tokenizer(self.base)
        self.train = self._encode("train")
        self.held_out = self._encode("validation")
        self.parameters = tiny.parameters(load_model(self.base))
        self.answer_tokens = statistics.fmean(self.train.answer_lengths)
        self.tokens = statistics.fmean(self.train.lengths)

    def _encode(self, split: str) -> Encoded:
        return encode_rows(self.tokenizer, read_rows(self.data / f"{split}.jsonl"), max_tokens=1024)

    def rows(self, split: str, *, text: bool) -> Dataset:
        """Rows as TRL reads them: one text, or prompt and completion."""
        lines = (self.data / f"{split}.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        if text:
            turns = [row["prompt"] + row["completion"] for row in rows]
            texts = [self.tokenizer.apply_chat_template(turn, tokenize=False) for turn in turns]
            return Dataset.from_dict({"text": texts})
        return Dataset.from_list(
            [{key: row[key] for key in ("prompt", "completion")} for row in rows]
        )

    @torch.no_grad()
    def loss(self, model: Any) -> float:
        """Mean cross-entropy of the held-out answers."""
        model.eval()
        total = 0.0
        for tokens, labels in zip(self.held_out.tokens, self.held_out.labels, strict=True):
            logits = model(input_ids=torch.tensor([tokens])).logits[0, :-1].float()
            wanted = torch.tensor(labels[1:])
            total += torch.nn.functional.cross_entropy(logits, wanted, reduction="sum").item()
        return total / sum(self.held_out.answer_lengths)

    def trl(self, examples: int, *, text: bool, batch: int, **settings: Any) -> tuple[float, Any]:
        """Train with plain TRL; answer tokens a second, and the model."""
        clock = Clock()
        trainer = SFTTrainer(
            model=load_model(self.base),
            args=SFTConfig(
                output_dir=str(self.folder / "trl"),
                max_steps=examples // batch,
                use_cpu=True,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                **settings,
            ),
            train_dataset=self.rows("train", text=text),
            eval_dataset=self.rows("validation", text=text) if "eval_steps" in settings else None,
            processing_class=self.tokenizer,
            callbacks=[clock],
        )
        trainer.train()
        return self._rate(clock, batch, every=settings.get("eval_steps", 1)), trainer.model

    def original(self, examples: int, **settings: Any) -> tuple[float, Any]:
        """The training arguments of gpt-llm-trainer's notebook (2023)."""
        given: dict[str, Any] = {
            "per_device_train_batch_size": 4,
            "per_device_eval_batch_size": 4,
            "gradient_accumulation_steps": 1,
            "gradient_checkpointing": True,
            "learning_rate": 2e-4,
            "weight_decay": 0.001,
            "max_grad_norm": 0.3,
            "warmup_steps": 0.03,
            "lr_scheduler_type": "constant",
            "train_sampling_strategy": "group_by_length",
            "bf16": False,
            "logging_steps": 5,
        }
        return self.trl(examples, text=True, batch=4, **given, **settings)

    def evaluated(self, examples: int) -> tuple[float, Any]:
        """The original recipe as it stands, in whole rounds of 5 steps and an evaluation."""
        shorter = min(examples, 4 * EVALUATED_STEPS)
        return self.original(shorter, eval_strategy="steps", eval_steps=5)

    def defaults(self, examples: int) -> tuple[float, Any]:
        """What SFTConfig is when nothing is asked of it."""
        return self.trl(examples, text=False, batch=8)

    def understudy(self, examples: int) -> tuple[float, Any]:
        """The product's own trainer; its recipe with the rate that random weights need."""
        asked = {"epochs": examples / ROWS, "save_steps": 1_000, **FROM_SCRATCH}
        here = look(self.folder)
        recipe = choose(str(self.base), [600] * ROWS, machine=here, overrides=asked)
        self.precision = recipe.precision
        job = Job(Path(tempfile.mkdtemp(dir=self.folder)), self.data, str(self.base), recipe)
        clock, heard = Clock(), EventLog(job.run_folder / "events.jsonl")
        trainer = sft.build(
            job, load_model(self.base), self.tokenizer, self.train, heard, Stop(), callbacks=[clock]
        )
        trainer.train()
        return self._rate(clock, recipe.batch_size), trainer.model

    def _rate(self, clock: Clock, batch: int, every: int = 1) -> float:
        """Answer tokens a second behind the warm-up, over whole rounds of ``every`` steps."""
        first = 0 if every > 1 else WARM_UP
        steps = len(clock.at) - 1 - first
        return steps * batch * self.answer_tokens / (clock.at[-1] - clock.at[first])


def multiply_rate(dtype: torch.dtype) -> float:
    """FLOP a second of a matrix multiplication of 1024 cubed, on this core: the best of ten."""
    left, right = torch.randn(2, 1024, 1024).to(dtype)
    seconds = []
    for _ in range(10):
        began = time.process_time()
        left @ right
        seconds.append(time.process_time() - began)
    return 2 * 1024**3 / min(seconds)


def main(examples: int, rounds: int) -> None:
    """Let the recipes take turns, and print what they did."""
    torch.set_num_threads(1)
    disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), examples)
        print(
            f"{bench.parameters / 1e6:.1f} M parameters, rows of {bench.tokens:.0f} tokens, "
            f"{bench.answer_tokens:.0f} of them answer; {examples} examples seen; one thread"
        )
        recipes: dict[str, Callable[[int], tuple[float, Any]]] = {
            "original": bench.evaluated,
            "no eval": bench.original,
            "defaults": bench.defaults,
            "understudy": bench.understudy,
        }
        rates: dict[str, list[float]] = {name: [] for name in recipes}
        losses: dict[str, float] = {}
        multiply: dict[str, list[float]] = {"float32": [], "bfloat16": []}
        for number in range(rounds):
            for name, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
                multiply[name].append(multiply_rate(kind))
            for name, train in recipes.items():
                rate, model = train(SHORT if number else examples)
                rates[name].append(rate)
                if not number and name != "original":
                    losses[name] = bench.loss(model)
        losses["original"] = losses["no eval"]
        report(bench, rates, losses, multiply)


def report(
    bench: Bench,
    rates: dict[str, list[float]],
    losses: dict[str, float],
    multiply: dict[str, list[float]],
) -> None:
    """Print medians, ratios of medians, and shares of the multiplication rate."""
    middle = {name: statistics.median(values) for name, values in rates.items()}
    peak = {name: statistics.median(values) for name, values in multiply.items()}
    print(f"understudy trains in {bench.precision}")
    print(", ".join(f"matmul {name} {rate / 1e9:.0f} GFLOP/s" for name, rate in peak.items()))
    for name, rate in middle.items():
        useful = rate * bench.tokens / bench.answer_tokens * 6 * bench.parameters
        print(
            f"{name:<11}{rate:7.0f} answer tokens/s ({min(rates[name]):.0f}-{max(rates[name]):.0f})"
            f"  {useful / peak['float32']:.0%} of float32, {useful / peak['bfloat16']:.0%} of "
            f"bfloat16 matmul  held-out loss {losses[name]:.3f}  "
            f"understudy is {middle['understudy'] / rate:.2f} times as fast"
        )


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 256,
        int(sys.argv[2]) if len(sys.argv) > 2 else 3,
    )
