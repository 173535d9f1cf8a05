"""Saving a student: adapters merged tensor by tensor, all else byte for byte as it was given."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from students import CHATML, SYSTEM, make_folder, numbers, recipe, train_here, write_dataset
from understudy.example import Message
from understudy.export import CardFacts, export
from understudy.models.protocol import Request
from understudy.report import Report, SystemScore
from understudy.run import Recipe

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries that train

SCORE = SystemScore("run:1", 40, 38, 0, 0.95, 0.835, 0.986, 0.95, None, 4.0)
REPORT = Report(1, "exact match", 40, {"student": SCORE}, (), "The student is as good.")
FACTS = CardFacts("Numbers", "Backwards.", SYSTEM, "practice:numbers", "qwen", {}, REPORT)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "1", numbers(0, 16))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model") / "qwen")


def adapters(method: str = "lora", **settings: Any) -> Recipe:
    usual = {"epochs": 1, "lora_rank": 4, "matrix_learning_rate": 0.0, "recut_share": 0.0}
    return recipe(**{**usual, "method": method, "learning_rate": 1e-2, **settings})


def tensors(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    found: dict[str, Any] = {}
    for path in folder.glob("*.safetensors"):
        found |= load_file(path)
    return found


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_what_was_not_trained_stays_byte_for_byte(
    dataset: Path, folder: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained in bfloat16, in float32 files of which one holds float16: nothing else is rounded.

    The base is opened for the training alone: the merge needs no second one in memory.
    """
    if method == "qlora":
        pytest.importorskip("bitsandbytes")
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM

    from understudy.train import weights

    given = tmp_path / "given"
    shutil.copytree(folder, given)
    model = AutoModelForCausalLM.from_pretrained(folder)
    (given / "model.safetensors").unlink()
    model.save_pretrained(given, max_shard_size="100KB")
    shards = sorted(given.glob("*.safetensors"))
    assert len(shards) > 2
    halved = {name: weight.half() for name, weight in load_file(shards[-1]).items()}
    save_file(halved, shards[-1], {"format": "pt"})
    opened = []
    load_model = weights.load_model
    monkeypatch.setattr(
        weights, "load_model", lambda *a, **b: opened.append(a) or load_model(*a, **b)
    )
    run = tmp_path / "run"
    train_here(run, dataset, adapters(method, precision="bfloat16"), str(given))
    assert len(opened) == 1
    before, after = tensors(given), tensors(run / "model")
    update = tensors(run / "adapter")
    assert before.keys() == after.keys()
    trained = 0
    for name, weight in before.items():
        assert weight.dtype == after[name].dtype, name
        part = f"base_model.model.{name.removesuffix('.weight')}.lora_"
        if f"{part}A.weight" not in update:
            assert torch.equal(weight, after[name]), name
            continue
        trained += 1
        delta = 32 / 4 * update[f"{part}B.weight"] @ update[f"{part}A.weight"]
        assert not torch.equal(weight, after[name])
        assert torch.equal((weight.float() + delta).to(weight.dtype), after[name]), name
    assert trained == 2 * 7
    assert AutoModelForCausalLM.from_pretrained(run / "model").config.dtype == torch.float32


_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64}
_FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "phi3": {"intermediate_size": 64, "pad_token_id": 0},
    "gemma3_text": {"intermediate_size": 64, "head_dim": 8},
}


@pytest.mark.parametrize("family", _FAMILIES)
def test_a_merge_of_tensors_is_that_of_peft(tmp_path: Path, family: str) -> None:
    """For other layers and names the files hold what PEFT's own merge has in memory."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    from understudy.train import merge

    config = AutoConfig.for_model(family, **{**_SIZES, **_FAMILIES[family]})
    base, target = tmp_path / "base", tmp_path / "merged"
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    model = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))
    for weight in model.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.5)
    layers = merge.adapters(base, model)
    assert layers
    target.mkdir()
    merge.write(base, target, layers)
    config.save_pretrained(target)
    ours = AutoModelForCausalLM.from_pretrained(target).state_dict()
    theirs = model.merge_and_unload().state_dict()
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        assert torch.allclose(ours[name], weight, atol=1e-5), name


def test_what_is_stored_otherwise_is_merged_in_memory(
    dataset: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weight that does not lie as its layer holds it is noticed, and nothing else is rounded."""
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    from understudy.train import merge

    model = AutoModelForCausalLM.from_pretrained(folder)
    model = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))
    changed = tmp_path / "changed"
    shutil.copytree(folder, changed)
    weights = tensors(folder)
    name = "model.layers.1.self_attn.q_proj.weight"
    save_file({**weights, name: weights[name].flip(0)}, changed / "model.safetensors")
    assert merge.adapters(folder, model)
    assert merge.adapters(changed, model) is None
    settings = adapters(precision="bfloat16")
    train_here(tmp_path / "a", dataset, settings, str(folder))
    monkeypatch.setattr(merge, "adapters", lambda *_given: None)
    train_here(tmp_path / "b", dataset, settings, str(folder))
    ours, theirs = tensors(tmp_path / "a" / "model"), tensors(tmp_path / "b" / "model")
    assert ours.keys() == theirs.keys()
    assert all(ours[name].allclose(weight, atol=1e-6) for name, weight in theirs.items())
    name = "model.embed_tokens.weight"
    assert theirs[name].equal(weights[name])


def test_experts_are_merged_in_memory(dataset: Path, folder: Path, tmp_path: Path) -> None:
    """Experts that are stored one by one and trained as one tensor: what is saved is a whole model.

    Its norms and embeddings, which were not trained, are those that were given.
    """
    import torch
    from transformers import AutoModelForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

    given = tmp_path / "given"
    shutil.copytree(folder, given)
    qwen = json.loads((folder / "config.json").read_text())
    sizes = {**_SIZES, "vocab_size": qwen["vocab_size"], "eos_token_id": qwen["eos_token_id"]}
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        **sizes, num_key_value_heads=2, num_experts=4, num_experts_per_tok=2,
        moe_intermediate_size=24, intermediate_size=48, pad_token_id=qwen["pad_token_id"],
        router_aux_loss_coef=0.0,
    )  # fmt: skip
    Qwen3MoeForCausalLM(config).save_pretrained(given)
    train_here(tmp_path / "run", dataset, adapters(precision="bfloat16"), str(given))
    before, after = tensors(given), tensors(tmp_path / "run" / "model")
    assert before.keys() == after.keys()
    for name, weight in before.items():
        adapted = "_proj" in name or "mlp.gate" in name
        assert torch.equal(weight, after[name]) != adapted, name
    AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_saved_config_is_the_given_one(
    dataset: Path, folder: Path, tmp_path: Path, method: str
) -> None:
    """Generation keeps its cache, and every size and type is that of the untrained student."""
    settings = adapters() if method == "lora" else recipe(epochs=1)
    train_here(tmp_path, dataset, settings, str(folder))
    given, saved = (
        json.loads((place / "config.json").read_text()) for place in (folder, tmp_path / "model")
    )
    assert given["use_cache"] is True
    assert saved == given


def test_several_chat_templates_are_saved_and_exported(
    dataset: Path, folder: Path, tmp_path: Path
) -> None:
    """A folder of further templates goes along with the trained student and with its export."""
    given, out = tmp_path / "given", tmp_path / "out"
    shutil.copytree(folder, given)
    further = Path("additional_chat_templates", "tool_use.jinja")
    (given / further).parent.mkdir()
    (given / further).write_text(CHATML)
    train_here(tmp_path / "run", dataset, recipe(epochs=1), str(given))
    assert (tmp_path / "run" / "model" / further).read_text() == CHATML
    asked = [Request((Message("system", SYSTEM), Message("user", "number 7")), 8)]
    manifest = export(tmp_path / "run" / "model", out, card=FACTS, parity_items=asked)
    assert (out / further).read_text() == CHATML
    assert further.as_posix() in manifest.sha256
    assert manifest.files == sum(path.is_file() for path in out.rglob("*"))
