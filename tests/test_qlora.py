"""Adapters on 4-bit weights: trained, resumed, and merged into the weights as they were given."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from students import make_folder, numbers, recipe, train_here, write_dataset
from understudy.errors import SetupError

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries that train


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "1", numbers(0, 48))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model") / "qwen")


def qlora(**settings: Any) -> Any:
    usual = {
        "method": "qlora",
        "lora_rank": 4,
        "learning_rate": 1e-2,
        "matrix_learning_rate": 0.0,
        "weight_decay": 0.0,
        "recut_share": 0.0,
        "packing": True,
    }
    return recipe(**{**usual, **settings})


def test_4_bit_weights_are_trained_and_the_adapter_merged_into_the_given_ones(
    dataset: Path, folder: Path, tmp_path: Path
) -> None:
    """The loss falls, and the saved model is the base, unrounded, plus the adapter alone."""
    pytest.importorskip("bitsandbytes")
    import torch
    from safetensors.torch import load_file

    run = tmp_path / "run"
    heard = train_here(run, dataset, qlora(epochs=3), str(folder))
    losses = list(heard.losses.values())
    assert losses[-1] < losses[0] - 0.1
    given = load_file(folder / "model.safetensors")
    merged = load_file(run / "model" / "model.safetensors")
    adapter = load_file(run / "adapter" / "adapter_model.safetensors")
    assert merged.keys() == given.keys()
    for name, weight in given.items():
        part = f"base_model.model.{name.removesuffix('.weight')}.lora_"
        if f"{part}A.weight" in adapter:
            scale = 32 / 4
            update = scale * adapter[f"{part}B.weight"] @ adapter[f"{part}A.weight"]
            assert torch.allclose(merged[name], weight + update, atol=1e-5), name
            assert update.abs().max() > 0
        else:
            assert torch.equal(merged[name], weight), name
    adapted = sum(name.endswith("lora_A.weight") for name in adapter)
    assert adapted == 2 * 7  # every linear layer but the head


def test_the_linear_layers_are_held_in_4_bits(dataset: Path, folder: Path, tmp_path: Path) -> None:
    """While training, layers weigh a half byte a weight; embeddings and head stay as they are."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    from understudy.train import weights
    from understudy.train.job import Job

    model = weights.load(Job(tmp_path, dataset, str(folder), qlora()))
    linear = model.model.layers[0].mlp.down_proj
    assert isinstance(linear, bitsandbytes.nn.Linear4bit)
    assert linear.weight.quant_state.quant_type == "nf4"
    assert linear.weight.quant_state.nested
    assert linear.weight.numel() * linear.weight.element_size() == 64 * 128 // 2
    assert not isinstance(model.lm_head, bitsandbytes.nn.Linear4bit)


def test_a_resumed_training_on_4_bits_goes_on_exactly(
    dataset: Path, folder: Path, tmp_path: Path
) -> None:
    """Stopped at a checkpoint and started again, every loss is that of a training in one go."""
    pytest.importorskip("bitsandbytes")
    whole = train_here(tmp_path / "whole", dataset, qlora(), str(folder))
    train_here(tmp_path / "two", dataset, qlora(), str(folder), at=5)
    second = train_here(tmp_path / "two", dataset, qlora(), str(folder))
    assert second.losses
    assert min(second.losses) > 1
    for step, loss in second.losses.items():
        assert loss == pytest.approx(whole.losses[step], abs=1e-5)


def test_without_bitsandbytes_the_way_to_it_is_said(
    dataset: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line that names the package and the command."""
    from understudy.train import weights
    from understudy.train.job import Job

    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setattr(weights, "find_spec", lambda _name: None)
    with pytest.raises(SetupError, match="bitsandbytes") as told:
        weights.load(Job(tmp_path, dataset, str(folder), qlora()))
    assert "pip install bitsandbytes" in told.value.fix
