"""Adapters added to the student's weights as they are stored, one tensor at a time.

The files of the untrained student are copied, and only the tensors that have an adapter are
written anew in the copy, each in the number type and at the place that it had. Whatever was not
trained stays byte for byte, tied weights among it, and memory is needed for one tensor, not for a
model. The sum is LoRA's, W + s B A in float32 (E. Hu et al., arXiv:2106.09685).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from understudy.models.huggingface import INDEX, weight_names

_ADAPTER = "default"
_ROUNDED = 0.25
"""Most that a tensor may be off from its stored form, of its norm: 4-bit NormalFloat is by 0.1."""


class Stored(NamedTuple):
    """Where a tensor lies."""

    path: Path
    offset: int
    """Of its first byte in the file."""


def adapters(base_folder: Path, model: Any) -> dict[str, Any] | None:
    """The adapted layers of a PEFT ``model``, each by the name that its weight is stored under.

    None if any layer's weight is not stored as the layer holds it, but renamed, permuted, fused or
    quantised, as experts are: such a model has to be merged in memory.
    """
    from peft.tuners.lora import LoraLayer

    base, stored = model.get_base_model(), stored_tensors(base_folder)
    prefix, found = f"{base.base_model_prefix}.", {}
    for module_name, layer in base.named_modules():
        if isinstance(layer, LoraLayer):
            name = f"{module_name}.weight"
            name = name if name in stored else name.removeprefix(prefix)
            if name not in stored or not _is_held(read(stored[name].path, name), layer):
                return None
            found[name] = layer
    return found


def stored_tensors(folder: Path) -> dict[str, Stored]:
    """Every tensor in a folder's safetensors files; one that is there twice is left out.

    Format: 8 bytes little-endian length, then JSON of name to dtype, shape and offsets behind it
    (https://huggingface.co/docs/safetensors, format).
    """
    found: dict[str, Stored] = {}
    twice = set()
    for path in (folder / name for name in weight_names(folder)):
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        for name, entry in header.items():
            if name in found:
                twice.add(name)
            if name != "__metadata__":
                found[name] = Stored(path, 8 + length + entry["data_offsets"][0])
    return {name: place for name, place in found.items() if name not in twice}


def read(path: Path, name: str) -> torch.Tensor:
    """One tensor of a safetensors file, on the processor."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        tensor: torch.Tensor = file.get_tensor(name)
    return tensor


@torch.no_grad()
def _is_held(stored: torch.Tensor, layer: Any) -> bool:
    """True if ``stored`` is the weight of the frozen ``layer``, up to the rounding of 4 bits."""
    from peft.utils.integrations import dequantize_module_weight

    frozen = layer.get_base_layer()
    held = dequantize_module_weight(frozen).detach().to("cpu")
    if held.shape != stored.shape or held.ndim != 2 or _ADAPTER not in layer.scaling:
        return False
    if not hasattr(frozen.weight, "quant_state"):
        return torch.equal(stored.to(held.dtype), held)
    given = stored.float()
    norm = float(given.norm())
    return float(given.sub_(held).norm()) <= _ROUNDED * norm


def let_go(model: Any) -> None:
    """Give back the memory of all weights of ``model`` that were frozen; it is of no use then."""
    for weight in model.parameters():
        if not weight.requires_grad:
            weight.data = weight.data.new_empty(0)


@torch.no_grad()
def write(base_folder: Path, target: Path, layers: Mapping[str, Any]) -> None:
    """Put the weights in ``base_folder`` into ``target``, with the adapters of ``layers`` added."""
    for name in weight_names(base_folder):
        shutil.copyfile(base_folder / name, target / name)
    if (base_folder / INDEX).is_file():
        shutil.copyfile(base_folder / INDEX, target / INDEX)
    places = stored_tensors(base_folder)
    for name, layer in layers.items():
        stored = read(places[name].path, name)
        exact = torch.promote_types(stored.dtype, torch.float32)
        update = layer.get_delta_weight(_ADAPTER).to("cpu", exact)
        merged = update.add_(stored).to(stored.dtype).contiguous()
        with (target / places[name].path.name).open("rb+") as file:
            file.seek(places[name].offset)
            file.write(memoryview(merged.view(torch.uint8).numpy()))
