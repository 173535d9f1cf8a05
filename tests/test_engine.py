"""The engine: alone, in company and joining late a generation is the same, and is its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from students import make_folder, numbers, recipe, train_here, write_dataset
from understudy.example import Message
from understudy.models.huggingface import load_model, load_tokenizer
from understudy.models.local import Local
from understudy.models.plain import generate
from understudy.models.protocol import Generation, Piece
from understudy.models.rendering import encode_prompts, stop_ids

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries that run models


def config_of(family: str, tokenizer: Any) -> Any:
    """A tiny config of a family; its name says what is special in its memory."""
    import transformers as t

    usual = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 256,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": False,  # tied, a random model repeats what it reads
    }
    recurrent = {name: usual[name] for name in ("vocab_size", "hidden_size", "num_hidden_layers")}
    ids = {name: usual[name] for name in ("eos_token_id", "pad_token_id", "tie_word_embeddings")}
    sliding = ["sliding_attention", "full_attention"]
    gemma_3 = {**usual, "sliding_window": 8, "layer_types": sliding}
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    gpt_2 = {"vocab_size": len(tokenizer), "n_embd": 32, "n_layer": 2, "n_head": 4} | ids
    linear = {"layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2}
    linear |= {"linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
    makers: dict[str, Callable[[], Any]] = {
        "llama": lambda: t.LlamaConfig(**usual),
        "qwen3": lambda: t.Qwen3Config(**usual),
        "mistral, sliding": lambda: t.MistralConfig(**usual, sliding_window=8),
        "phi3, sliding": lambda: t.Phi3Config(**usual, sliding_window=8),
        "gemma": lambda: t.GemmaConfig(**usual),
        "gemma3, sliding": lambda: t.Gemma3TextConfig(**gemma_3),
        "qwen3, experts": lambda: t.Qwen3MoeConfig(**usual, **experts),
        "gpt2": lambda: t.GPT2Config(**gpt_2, n_positions=256),
        "bloom, alibi": lambda: t.BloomConfig(**recurrent, n_head=4, **ids),
        "mamba": lambda: t.MambaConfig(**recurrent, state_size=8, **ids),
        "mamba2": lambda: t.Mamba2Config(
            **recurrent, state_size=8, num_heads=8, head_dim=8, n_groups=2, **ids
        ),
        "qwen3-next, hybrid": lambda: t.Qwen3NextConfig(**usual, **experts, **linear),
    }
    return makers[family]()


FAMILIES = (
    "llama",
    "qwen3",
    "mistral, sliding",
    "phi3, sliding",
    "gemma",
    "gemma3, sliding",
    "qwen3, experts",
    "gpt2",
    "bloom, alibi",
    "mamba",
    "mamba2",
    "qwen3-next, hybrid",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that writes anything."""
    return make_folder(tmp_path_factory.mktemp("model") / "qwen")


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny student that has learnt to end its answers."""
    where = tmp_path_factory.mktemp("student")
    dataset = write_dataset(where / "data", numbers(0, 64), system="")
    train_here(where / "run", dataset, recipe(epochs=8, batch_size=16))
    return where / "run" / "model"


def make_family(plain: Path, family: str, target: Path) -> Path:
    """A model of another family behind the same tokenizer, random but sure of itself."""
    from transformers import AutoModelForCausalLM, set_seed

    tokenizer = load_tokenizer(plain)
    set_seed(0)
    model = AutoModelForCausalLM.from_config(config_of(family, tokenizer))
    for weight in model.parameters():  # wider than usual, so that no two tokens are as good
        weight.data.mul_(3 if weight.dim() > 1 else 1)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target


def gen(text: str, max_tokens: int = 24, **asked: Any) -> Generation:
    return Generation((Message("user", text),), max_tokens, **asked)


async def written(model: Local, asked: Generation) -> list[Piece]:
    return [piece async for piece in model.stream(asked)]


async def whole(model: Local, asked: Generation) -> str:
    return "".join(piece.text for piece in await written(model, asked))


def with_model(folder: Path, work: Callable[[Local], Awaitable[Any]], **options: Any) -> Any:
    async def run() -> Any:
        model = Local(folder, name="run:1", **options)
        try:
            return await work(model)
        finally:
            await model.close()

    return asyncio.run(run())


ASKED = [gen(f"number {n}" + " please" * (n % 5), 8 + 5 * (n % 4)) for n in range(11)]


def plainly(folder: Path, asked: list[Generation]) -> list[tuple[str, int]]:
    """What transformers' own loop writes, one at a time: text and tokens."""
    tokenizer, model = load_tokenizer(folder), load_model(folder)
    ends = stop_ids(tokenizer, model)
    found = []
    for one in asked:
        (prompt,) = encode_prompts(tokenizer, [one.messages])
        (ids,) = generate(
            model, [prompt], ends=ends, pad=tokenizer.pad_token_id, max_tokens=one.max_tokens
        )
        ids = ids[:-1] if ids[-1] in ends else ids
        found.append((tokenizer.decode(ids, skip_special_tokens=True).strip(), len(ids)))
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_text_is_that_of_transformers(folder: Path, tmp_path: Path, family: str) -> None:
    """Alone, together and joining late, row by row, whatever the model keeps in memory."""
    made = make_family(folder, family, tmp_path / "model")

    async def late(model: Local, after: int, asked: Generation) -> list[Piece]:
        for _ in range(after):
            await whole(model, gen("number 7", 2))
        return await written(model, asked)

    async def work(model: Local) -> list[list[list[Piece]]]:
        alone = [await written(model, asked) for asked in ASKED[:3]]
        together = await asyncio.gather(*(written(model, asked) for asked in ASKED))
        joining = await asyncio.gather(*(late(model, n, one) for n, one in enumerate(ASKED)))
        return [alone, together, joining]

    expected = plainly(made, ASKED)
    assert len({text for text, _ in expected}) > 3
    for answers in with_model(made, work, max_batch=8):
        told = [("".join(p.text for p in pieces), pieces[-1].output_tokens) for pieces in answers]
        assert told == expected[: len(told)]
