"""The engine: alone, in company and joining late a generation is the same, and is its own."""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import random
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import templates
from students import make_folder
from understudy.errors import SetupError
from understudy.example import Message
from understudy.models import local
from understudy.models.engine import batch, loop
from understudy.models.engine.cache import Store
from understudy.models.engine.row import Row
from understudy.models.engine.text import Showing, Spelling, token_bytes
from understudy.models.huggingface import load_model, load_tokenizer
from understudy.models.local import Local
from understudy.models.plain import generate
from understudy.models.protocol import CallFailed, Generation, ModelFailed, Piece
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


@functools.cache
def tokenizer_of(name: str) -> Any:
    return templates.make_tokenizer(templates.FAMILIES[name])


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


DRAWN = [
    gen("number 5", seed=3, temperature=1.3),
    gen("number 5", seed=4, temperature=1.3),
    gen("number 5", seed=3, temperature=1.3, top_p=0.8),
    gen("number 61", seed=3, temperature=0.9, top_p=0.5),
]


def test_the_same_seed_writes_the_same_text_whatever_the_company(folder: Path) -> None:
    """Alone, among others that draw, and in another place of the batch: the text is the seed's."""

    async def work(model: Local) -> list[list[str]]:
        alone = [await whole(model, asked) for asked in DRAWN]
        company = [gen(f"number {n}", 9 + n, temperature=0.7 * (n % 3)) for n in range(9)]
        mixed = [*company[:4], *DRAWN, *company[4:]]
        together = await asyncio.gather(*(whole(model, asked) for asked in mixed))
        unseeded = [
            await whole(model, gen("number 5", temperature=1.3, seed=None)) for _ in range(3)
        ]
        return [alone, together[4:8], unseeded]

    alone, together, unseeded = with_model(folder, work)
    assert alone == together
    assert len(set(alone)) == len(DRAWN)
    assert len(set(unseeded)) > 1


def test_top_p_and_temperature_draw_from_the_distribution_they_name(folder: Path) -> None:
    """First tokens of many seeds: as often as a plain pass says, and none beyond top_p."""
    import torch

    tokenizer, model = load_tokenizer(folder), load_model(folder)
    (prompt,) = encode_prompts(tokenizer, [(Message("user", "number 5"),)])
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt])).logits[0, -1].double()
    hot = (logits / 0.2).softmax(-1)
    order = hot.argsort(descending=True)
    kept = order[: int((hot[order].cumsum(-1) < 0.7).sum()) + 1]
    shares = {token: float(hot[token] / hot[kept].sum()) for token in kept.tolist()}

    async def work(local: Local) -> list[Piece]:
        asked = [
            gen("number 5", 1, temperature=0.2, top_p=0.7, seed=n, top_logprobs=0)
            for n in range(400)
        ]
        return [pieces[-1] for pieces in await asyncio.gather(*(written(local, a) for a in asked))]

    names = {token_bytes(tokenizer, token): token for token in kept.tolist()}
    counts = dict.fromkeys(shares, 0)
    for piece in with_model(folder, work):
        (said,) = piece.logprobs
        counts[names[said.bytes]] += 1
    assert len(shares) > 2
    for token, share in shares.items():
        error = (share * (1 - share) / 400) ** 0.5
        assert abs(counts[token] / 400 - share) < 4.5 * error + 1e-9


def test_logprobs_are_those_of_a_plain_pass(folder: Path) -> None:
    """Of the chosen and of the likeliest tokens, at any temperature, within 1e-4."""
    import torch

    tokenizer, model = load_tokenizer(folder), load_model(folder)
    ids_of = {token_bytes(tokenizer, n): n for n in range(len(tokenizer))}
    asked = [
        gen("number 5 please", 12, top_logprobs=4),
        gen("number 77", 20, temperature=1.2, seed=1, top_logprobs=0),
        gen("number 9", 15, temperature=0.8, top_p=0.9, seed=2, top_logprobs=2),
        gen("number 8", 9),
    ]

    async def work(local: Local) -> list[list[Piece]]:
        return await asyncio.gather(*(written(local, one) for one in asked))

    answers = with_model(folder, work)
    assert not any(piece.logprobs for piece in answers[3])
    for one, pieces in zip(asked[:3], answers, strict=False):
        told = [token for piece in pieces for token in piece.logprobs]
        assert len(told) == pieces[-1].output_tokens
        (prompt,) = encode_prompts(tokenizer, [one.messages])
        ids = [ids_of[token.bytes] for token in told]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 :]
        for token, id_, raw in zip(told, ids, logits.log_softmax(-1), strict=False):
            assert token.logprob == pytest.approx(float(raw[id_]), abs=1e-4)
            best = raw.sort(descending=True).values[: one.top_logprobs].tolist()
            assert [likely[1] for likely in token.top] == pytest.approx(best, abs=1e-4)
            for _, logprob, spelled in token.top:
                assert logprob == pytest.approx(float(raw[ids_of[spelled]]), abs=1e-4)


def test_the_bytes_of_tokens_join_to_the_text(folder: Path) -> None:
    """Each token's bytes, also where a character is spelled by several."""

    async def work(local: Local) -> list[list[Piece]]:
        asked = (
            gen("number 5", 40, temperature=2.0, seed=n, top_logprobs=0, stop=("<|",))
            for n in range(8)
        )
        return await asyncio.gather(*(written(local, one) for one in asked))

    for pieces in with_model(folder, work):
        spelled = b"".join(token.bytes for piece in pieces for token in piece.logprobs)
        for control in (b"<|endoftext|>", b"<|im_start|>"):
            spelled = spelled.replace(control, b"")
        text = "".join(piece.text for piece in pieces)
        assert spelled.decode("utf-8", "replace").strip() == text


@pytest.mark.parametrize("name", ["qwen", "llama-2"])
@settings(max_examples=60, deadline=None)
@given(drawn=st.text(alphabet="aé漢😀 \n<1", max_size=20), seed=st.integers(0, 99))
def test_streamed_text_is_the_whole_text(name: str, drawn: str, seed: int) -> None:
    """No piece ends in half a character, and joined they are what the tokenizer decodes."""
    tokenizer = tokenizer_of(name)
    ids = tokenizer(drawn, add_special_tokens=False).input_ids
    spelling = Spelling(tokenizer)
    pieces = [*(spelling.add(id_) for id_ in ids), spelling.end()]
    assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=True)
    assert not any("\ufffd" in piece for piece in pieces)
    if name == "qwen":  # any bytes at all, also those that are no text
        ids, spelling = (
            random.Random(seed).choices(range(len(tokenizer)), k=60),
            Spelling(tokenizer),
        )
        pieces = [*(spelling.add(id_) for id_ in ids), spelling.end()]
        assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=True)


TEXT = st.text(alphabet="ab \n<think>/", max_size=24)


def cut(text: str, stops: list[str]) -> tuple[str, bool]:
    """The answer, letter by letter: what is shown of it, and whether a stop string ended it."""
    text = text.lstrip()
    if text.startswith("<think>") and "</think>" in text:
        text = text.partition("</think>")[2].lstrip()
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - max(map(len, ending))].rstrip(), True
    return text.rstrip(), False


@settings(max_examples=400, deadline=None)
@given(
    text=st.one_of(TEXT, st.builds("<think>{}</think>{}".format, TEXT, TEXT)),
    stops=st.lists(st.text(alphabet="ab \n<t", min_size=1, max_size=4), max_size=4),
    sizes=st.lists(st.integers(1, 7), min_size=30, max_size=30),
)
def test_a_stop_string_is_never_shown_however_it_falls(
    text: str, stops: list[str], sizes: list[int]
) -> None:
    """Whatever the tokens: the text ends in front of the stop that is complete first."""
    showing, shown, rest = Showing(tuple(stops)), "", text
    for size in sizes:
        piece, rest = rest[:size], rest[size:]
        shown += showing.take(piece)
        assert cut(text, stops)[0].startswith(shown)
        if showing.stopped:
            break
    if not showing.stopped:
        shown += showing.take(rest) + showing.end()
    assert (shown, showing.stopped) == cut(text, stops)


def test_a_stop_string_of_megabytes_costs_no_more_than_what_it_could_match() -> None:
    """One client's stop strings are looked for in the thread that writes for all."""
    showing = Showing(tuple(letter * 2_000_000 for letter in "abcd"))
    began = time.perf_counter()
    assert showing.take("x a") + showing.end() == "x a"
    assert time.perf_counter() - began < 0.5


def test_stop_strings_end_a_stream_and_cost_no_more_tokens(folder: Path) -> None:
    """With a stop the text is that without, up to it; the finish is ``stop``."""

    async def work(model: Local) -> None:
        base = gen("number 12", 40, temperature=1.5, seed=8)
        (last, *_), text = (await written(model, base))[::-1], await whole(model, base)
        assert last.finish == "length"
        for stop in (text[5:7], text[9:12], text[-1]):
            pieces = await written(model, replace(base, stop=(stop, "never")))
            assert "".join(piece.text for piece in pieces) == text.partition(stop)[0].rstrip()
            assert pieces[-1].finish == "stop"
            assert 0 < pieces[-1].output_tokens <= 40
            assert all(piece.finish is None for piece in pieces[:-1])

    with_model(folder, work)


SCHEMAS: list[dict[str, Any]] = [
    {
        "type": "object",
        "properties": {
            "kind": {"enum": ["order", "return", "other"]},
            "number": {"type": "string", "pattern": "^[0-9]{1,4}$"},
            "urgent": {"type": "boolean"},
        },
        "required": ["kind", "number", "urgent"],
        "additionalProperties": False,
    },
    {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "maxItems": 3},
    {"enum": ["yes", "no"]},
]


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_schema_is_followed_even_by_an_untrained_model(folder: Path, temperature: float) -> None:
    """In company, beside rows that are free; one that ended is whole, and ``{}`` is an object."""

    async def work(model: Local) -> list[list[Piece]]:
        held = [
            gen("number 1", 200, schema=schema, temperature=temperature, seed=seed)
            for schema in SCHEMAS
            for seed in range(3)
        ]
        objects = [gen("x", 300, schema={}, temperature=2.0, seed=seed) for seed in range(6)]
        mixed = [asked for one in (*held, *objects) for asked in (one, gen("number 2", 30))]
        return (await asyncio.gather(*(written(model, one) for one in mixed)))[::2]

    answers = with_model(folder, work)
    for schema, pieces in zip([s for s in SCHEMAS for _ in range(3)], answers, strict=False):
        assert pieces[-1].finish == "stop"
        said = json.loads("".join(piece.text for piece in pieces))
        if "enum" in schema:
            assert said in schema["enum"]
        elif schema["type"] == "array":
            assert len(said) <= 3
            assert all(0 <= number <= 9 for number in said)
        else:
            assert list(said) == ["kind", "number", "urgent"]
            assert said["kind"] in ("order", "return", "other")
            assert said["number"].isdigit()
    for pieces in answers[len(SCHEMAS) * 3 :]:
        text = "".join(piece.text for piece in pieces)
        assert text.startswith("{")
        assert pieces[-1].finish == "length" or isinstance(json.loads(text), dict)


def test_a_schema_that_cannot_be_used_fails_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said why; without llguidance the pip line is; others are answered."""

    async def work(model: Local) -> None:
        bad = gen("number 1", schema={"type": "object", "properties": 5})
        failed, fine = await asyncio.gather(
            written(model, bad), written(model, gen("number 1")), return_exceptions=True
        )
        assert isinstance(failed, CallFailed)
        assert "schema" in str(failed)
        assert isinstance(fine, list)

    with_model(folder, work)
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(SetupError, match=r'pip install "understudy\[serve\]"'):
        with_model(folder, lambda model: written(model, gen("x", schema={})))


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int, int], None]], None]:
    """Lets a function see the shape of each pass before it runs, and raise."""
    load = local.load_model

    def install(look: Callable[[int, int], None]) -> None:
        def hook(_: Any, __: Any, given: dict[str, Any]) -> None:
            look(*given["input_ids"].shape)

        def watched(folder: Path) -> Any:
            model = load(folder)
            model.register_forward_pre_hook(hook, with_kwargs=True)
            return model

        monkeypatch.setattr(local, "load_model", watched)

    return install


@pytest.mark.parametrize("family", ["qwen", "mamba"])
def test_a_stream_that_is_closed_leaves_and_the_others_go_on(
    folder: Path, tmp_path: Path, faulty: Any, family: str
) -> None:
    """Its row takes part in no further pass; the texts of the others are what they were."""
    made = folder if family == "qwen" else make_family(folder, family, tmp_path / "model")
    rows: list[int] = []
    faulty(lambda shape_rows, _: rows.append(shape_rows))

    async def work(model: Local) -> tuple[list[str], list[str]]:
        asked = [gen(f"number {n}", 120, temperature=1.5, seed=n) for n in range(4)]
        alone = [await whole(model, one) for one in asked]
        rows.clear()
        streams = [model.stream(one) for one in asked]
        texts = [(await anext(stream)).text for stream in streams]
        for stream in streams[1:3]:
            await stream.aclose()
        for number in (0, 3):
            texts[number] += "".join([piece.text async for piece in streams[number]])
        return [alone[0], alone[3]], [texts[0], texts[3]]

    alone, together = with_model(made, work)
    assert alone == together
    if family == "qwen":
        assert max(rows) == 4
        assert rows[-1] <= 2


def test_a_failing_pass_is_told_to_those_in_it_and_the_engine_lives_on(
    folder: Path, faulty: Any
) -> None:
    """A prompt that cannot be read fails, a step fails for all in it; then all is well."""
    fail: set[str] = set()

    def look(rows: int, width: int) -> None:
        if "prompt" in fail and width > 150:
            raise ValueError("a bad prompt")
        if "step" in fail and width == 1:
            fail.discard("step")
            raise ValueError("a bad step")

    faulty(look)

    async def work(model: Local) -> None:
        asked = gen("number 1", 100, temperature=1.5, seed=1)
        fine = await whole(model, asked)
        fail.add("prompt")
        running = model.stream(asked)
        text = (await anext(running)).text
        with pytest.raises(CallFailed, match="the model failed: a bad prompt"):
            await whole(model, gen("9 " * 160))
        assert text + "".join([piece.text async for piece in running]) == fine
        fail.add("step")
        both = [whole(model, gen(f"number {n}")) for n in range(3)]
        ends = await asyncio.gather(*both, return_exceptions=True)
        assert any(isinstance(end, CallFailed) and "a bad step" in str(end) for end in ends)
        fail.clear()
        assert await whole(model, asked) == fine

    with_model(folder, work)


@pytest.mark.parametrize("family", ["qwen", "mamba"])
def test_out_of_memory_means_fewer_rows_and_the_same_text(
    folder: Path, tmp_path: Path, faulty: Any, family: str
) -> None:
    """A pass that is too large is tried again in halves, also in the middle of the answers."""
    import torch

    made = folder if family == "qwen" else make_family(folder, family, tmp_path / "model")
    asked = [gen(f"number {n}", 20, temperature=n % 2, seed=n) for n in range(8)]
    passes: list[int] = []
    most = [8]

    def look(rows: int, _: int) -> None:
        passes.append(rows)
        if rows > most[0]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if len(passes) == 6:
            most[0] = 2

    async def work(model: Local) -> list[str]:
        return await asyncio.gather(*(whole(model, one) for one in asked))

    roomy = with_model(made, work)
    faulty(look)
    assert with_model(made, work) == roomy
    assert max(passes) > 2
    assert passes[-1] <= 2
    most[0] = 0
    with pytest.raises(CallFailed, match="out of memory"):
        with_model(made, lambda model: whole(model, asked[0]))


def test_rows_over_the_bound_wait_and_go_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that outgrow the batch step back and are read again; every text is the same."""
    asked = [gen(f"number {n}", 90, temperature=n % 2, seed=n) for n in range(6)]

    async def work(model: Local) -> list[str]:
        return await asyncio.gather(*(whole(model, one) for one in asked))

    roomy = with_model(folder, work)
    monkeypatch.setattr(loop, "BATCH_TOKENS", 240)
    monkeypatch.setattr(loop, "AHEAD", 16)
    assert with_model(folder, work) == roomy


def test_prompt_and_answer_keep_to_the_context(folder: Path) -> None:
    """An answer ends where the model's memory does; a longer prompt is refused."""

    async def work(model: Local) -> None:
        pieces = await written(model, gen("9 " * 240, 100_000))
        last = pieces[-1]
        assert last.finish == "length"
        assert last.input_tokens + last.output_tokens == 512
        with pytest.raises(CallFailed, match="reads 512"):
            await written(model, gen("9 " * 600))

    with_model(folder, work)


def test_memory_does_not_grow_with_the_number_of_requests(folder: Path) -> None:
    """After forty requests as much is held as after eight: no row, no larger store."""
    import torch

    def held() -> tuple[int, int]:
        gc.collect()
        objects = gc.get_objects()
        tensors = {t.data_ptr(): t.numel() for t in objects if type(t) is torch.Tensor}
        return sum(tensors.values()), sum(type(each) is Row for each in objects)

    async def settled() -> tuple[int, int]:
        for _ in range(500):  # the thread may still be at the end of its last turn
            if not held()[1]:
                break
            await asyncio.sleep(0.01)
        return held()

    async def work(model: Local) -> None:
        async def some(first: int) -> None:
            asked = [gen(f"number {n}", 6 + n % 5, top_logprobs=1) for n in range(first, first + 8)]
            await asyncio.gather(*(written(model, one) for one in asked))
            await written(model, gen("9 " * 240, 20))

        await some(0)
        before = await settled()
        for first in (8, 16, 24, 32):
            await some(first)
        assert await settled() == (before[0], 0)

    with_model(folder, work)


def test_the_store_is_as_large_as_the_most_that_was_in_it(folder: Path) -> None:
    """Many short rows and then a long one are not kept as many long ones."""
    store = Store(load_model(folder))
    most = 0
    for rows, length in ((40, 8), (1, 3000), (60, 20), (2, 900)):
        for row in reversed(range(max(0, len(store.lengths) - 1))):
            store.leave(row)
        store.join([length] * rows)
        store.joined([length] * rows)
        store.step()
        store.stepped()
        held_rows, positions = store._size
        most = max(most, len(store.lengths) * store.width)
        assert held_rows * positions <= 2 * most + 512 * len(store.lengths)


def test_an_engine_that_cannot_even_begin_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error outside every pass reaches those who wait; once it is gone they are answered."""

    def broken(*_: Any) -> Any:
        raise RuntimeError("no device")

    async def work(model: Local) -> str:
        with monkeypatch.context() as broken_engine:
            broken_engine.setattr(batch, "Store", broken)
            with pytest.raises(ModelFailed, match="no device"):
                await whole(model, gen("number 1"))
        return await whole(model, gen("number 12", 40, temperature=1.5, seed=8))

    assert with_model(folder, work)


def test_closing_ends_streams_in_the_middle(folder: Path) -> None:
    """Whoever reads a stream is told, and the thread is gone."""

    async def run() -> None:
        model = Local(folder, name="run:1")
        stream = model.stream(gen("number 1", 480, temperature=1.5, seed=1))
        await anext(stream)
        await model.close()
        with pytest.raises(CallFailed, match="run:1 is closed"):
            _ = [piece async for piece in stream]
        with pytest.raises(CallFailed, match="closed"):
            await written(model, gen("number 2"))

    asyncio.run(run())
    assert not any(thread.name.startswith("local-") for thread in threading.enumerate())
