"""Packed rows: no example sees another, none is changed by its neighbours, no padding is read."""

from __future__ import annotations

from typing import Any

import pytest

from understudy.train.rows import NOT_LEARNT, Encoded

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries that train

FAMILIES = ("llama", "qwen", "gemma", "mistral")
SHARED = 16
ROWS = (23, 33, 18, 40)
"""Tokens of each row; Mistral's window is shorter than most of them."""


def make(family: str) -> Any:
    """A tiny model of a family's shape: its norms, heads, scales, activations and windows."""
    import torch
    import transformers as hf

    kinds: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "phimoe": (
            hf.PhimoeConfig,
            hf.PhimoeForCausalLM,
            {"sliding_window": 32, "num_local_experts": 2, "pad_token_id": 0},
        ),
        "llama4": (
            hf.Llama4TextConfig,
            hf.Llama4ForCausalLM,
            {"attention_chunk_size": 32, "head_dim": 8, "intermediate_size_mlp": 48}
            | {"num_local_experts": 2, "num_experts_per_tok": 1, "pad_token_id": 0},
        ),
        "gemma3": (
            hf.Gemma3TextConfig,
            hf.Gemma3ForCausalLM,
            {"sliding_window": 32, "head_dim": 8},
        ),
        "llama": (hf.LlamaConfig, hf.LlamaForCausalLM, {}),
        "qwen": (hf.Qwen3Config, hf.Qwen3ForCausalLM, {"head_dim": 16}),
        "gemma": (hf.GemmaConfig, hf.GemmaForCausalLM, {"head_dim": 32}),
        "mistral": (hf.MistralConfig, hf.MistralForCausalLM, {"sliding_window": 20}),
    }
    config, model, settings = kinds[family]
    torch.manual_seed(3)
    return model(
        config(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            **settings,
        )
    ).eval()


def rows(seed: int = 0) -> Encoded:
    """Rows that begin alike and end in an answer of five tokens."""
    import random

    drawn = random.Random(seed)
    system = [drawn.randrange(5, 64) for _ in range(SHARED)]
    tokens = [[*system, *(drawn.randrange(5, 64) for _ in range(n - SHARED))] for n in ROWS]
    for number, row in enumerate(tokens):
        if len(row) > SHARED:
            row[SHARED] = number % 2  # so that no more than SHARED are alike
    labels = [[*[NOT_LEARNT] * (len(row) - 5), *row[-5:]] for row in tokens]
    labels[2] = [*[NOT_LEARNT] * (len(tokens[2]) - 1), tokens[2][-1]]
    return Encoded(tokens, labels, cut=0, dropped=0)


def answer_loss(model: Any, inputs: Any, *, packed: bool) -> Any:
    """Summed loss of the answers, by the trainer's own function."""
    from contextlib import nullcontext

    from understudy.train import attention, sft

    with attention.apart(model) if packed else nullcontext():
        loss, _ = sft._answer_loss(model, dict(inputs), some=True)
        return loss


@pytest.mark.parametrize("shared", [0, SHARED])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_packed_batch_has_the_gradients_of_its_rows_alone(family: str, shared: int) -> None:
    """Every weight's gradient is the sum over the rows, each read alone, within 1e-5."""
    import torch

    from understudy.train.packing import pack, pad

    model, data = make(family), rows()
    answer_loss(model, pack(data.tokens, data.labels, shared=shared), packed=True).backward()
    packed = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    for row, labels in zip(data.tokens, data.labels, strict=True):
        answer_loss(model, pad([row], [labels], padding=0), packed=False).backward()
    for name, weight in model.named_parameters():
        scale = weight.grad.abs().max().clamp(min=1)
        assert torch.allclose(packed[name], weight.grad, rtol=0, atol=1e-5 * scale), name


@pytest.mark.parametrize("family", FAMILIES)
def test_no_example_sees_another(family: str) -> None:
    """The loss of one row has a gradient of exactly zero at every token of every other."""
    import torch

    from understudy.train.packing import pack

    model, data = make(family), rows()
    for chosen in range(len(ROWS)):
        labels = [
            row if number == chosen else [NOT_LEARNT] * len(row)
            for number, row in enumerate(data.labels)
        ]
        packed: dict[str, Any] = dict(pack(data.tokens, labels))
        read = model.get_input_embeddings()(packed.pop("input_ids")).detach().requires_grad_()
        answer_loss(model, packed | {"inputs_embeds": read}, packed=True).backward()
        reached = read.grad[0].abs().sum(-1) > 0
        start = sum(ROWS[:chosen])
        own = torch.zeros(sum(ROWS), dtype=torch.bool)
        own[start : start + ROWS[chosen] - 1] = True  # nothing is predicted from the last token
        assert not (reached & ~own).any()
        assert reached[start + ROWS[chosen] - 2]


@pytest.mark.parametrize("packed", [True, False])
def test_nothing_is_learnt_from_a_prompt(packed: bool) -> None:
    """Which token a prompt holds next is no part of the loss: its logits get no gradient."""
    from understudy.train.packing import pack, pad

    model, data = make("llama"), rows()
    inputs: Any = pack(data.tokens, data.labels)
    if not packed:
        inputs = pad(data.tokens, data.labels, padding=0)
    scored = []
    handle = model.lm_head.register_forward_hook(lambda _m, _i, out: scored.append(out))
    loss = answer_loss(model, inputs, packed=packed)
    handle.remove()
    (logits,) = scored
    logits.retain_grad()
    loss.backward()
    learnt = sum(data.answer_lengths)
    assert (logits.grad.abs().sum(-1) > 0).sum() == learnt
    if packed:
        assert logits.shape[1] == learnt  # nothing but answers is even scored


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_nothing_without_a_mask(family: str) -> None:
    """Right padding, read without a mask, leaves loss and gradients as they were."""
    import torch

    from understudy.train.packing import pad

    model, data = make(family), rows()
    batch = pad(data.tokens, data.labels, padding=0)
    assert "attention_mask" not in batch
    whole = answer_loss(model, batch, packed=False)
    whole.backward()
    grads = [weight.grad.clone() for weight in model.parameters()]
    model.zero_grad()
    alone = [
        answer_loss(model, pad([row], [labels], padding=0), packed=False)
        for row, labels in zip(data.tokens, data.labels, strict=True)
    ]
    sum(alone).backward()
    assert torch.allclose(whole, sum(alone))
    for grad, weight in zip(grads, model.parameters(), strict=True):
        assert torch.allclose(grad, weight.grad, rtol=0, atol=1e-5 * float(grad.abs().max() + 1))


@pytest.mark.parametrize("shared", [0, SHARED])
def test_no_padding_is_read(shared: int) -> None:
    """The layers are given every token of the rows, what they share once, and no other."""
    from understudy.train.packing import pack

    model, data = make("qwen"), rows()
    seen: list[int] = []
    model.model.layers[0].mlp.register_forward_hook(
        lambda _m, given, _o: seen.append(given[0].numel())
    )
    answer_loss(model, pack(data.tokens, data.labels, shared=shared), packed=True)
    assert [size // 32 for size in seen] == [sum(ROWS) - shared * (len(ROWS) - 1)]


def test_what_rows_share_is_found() -> None:
    """Sharing ends where rows differ, and never holds the last token of a prompt."""
    from understudy.train.packing import shared_tokens

    data = rows()
    assert shared_tokens(data) == SHARED
    short = [data.tokens[0][:18]] * 2
    learnt = [[*[NOT_LEARNT] * 16, *short[0][16:]]] * 2
    assert shared_tokens(Encoded(short, learnt, cut=0, dropped=0)) == 0  # 15 of a prompt of 16
    assert shared_tokens(Encoded([[1, 2], [3, 4]], [[-100, 2], [-100, 4]], 0, 0)) == 0


def test_a_model_that_cannot_be_packed_is_found_out() -> None:
    """What carries state from token to token, or caps attention, is trained on padded batches."""
    import transformers as hf

    from understudy.train.packing import packs

    data = rows()
    common = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2}
    mamba = hf.MambaForCausalLM(hf.MambaConfig(**common, state_size=4))
    capped = hf.Gemma2ForCausalLM(
        hf.Gemma2Config(
            **common,
            intermediate_size=48,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
        )
    )
    assert not packs(mamba, data)
    assert not packs(capped, data)
    for family in FAMILIES:
        assert packs(make(family), data)
        assert packs(make(family), data, shared=SHARED)


@pytest.mark.parametrize(
    ("family", "length", "packed"),
    [("phimoe", 40, False), ("phimoe", 30, True), ("llama4", 40, False), ("gemma3", 40, True)],
)
def test_a_window_that_packed_rows_would_not_have_is_found_out(
    family: str, length: int, packed: bool
) -> None:
    """Rows longer than a window that a mask alone keeps are padded, however short the trial is."""
    from understudy.train.packing import packs

    drawn = [[(7 * n + row) % 59 + 5 for n in range(length)] for row in range(2)]
    labels = [[*[NOT_LEARNT] * (length - 5), *row[-5:]] for row in drawn]
    assert packs(make(family), Encoded(drawn, labels, cut=0, dropped=0)) == packed
