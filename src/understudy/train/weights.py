"""Weights in and out: the student in the number type to train in, and what comes of it on disk.

Adapters are kept, and merged into the student as it was given: never into 4-bit weights, whose
rounding errors would then be part of the model.
"""

from __future__ import annotations

import json
import os
import shutil
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from understudy.errors import SetupError
from understudy.models.huggingface import load_model
from understudy.train import merge
from understudy.train.job import Job

ONE_GPU = {"": 0}
_SET_BY_TRAINERS = ("use_cache", "output_router_logits")


def load(job: Job) -> Any:
    """Open the untrained student: float32 if all weights are trained, else as the recipe says.

    For ``qlora`` every linear layer but the head is held in 4-bit NormalFloat with quantised
    scales (T. Dettmers et al., "QLoRA", 2023, arXiv:2305.14314). Raises SetupError if bitsandbytes,
    which does that, is not installed.
    """
    recipe = job.recipe
    dtype = recipe.precision if recipe.method != "full" else "float32"
    if recipe.method != "qlora":
        return load_model(job.base_folder, dtype=dtype)
    if find_spec("bitsandbytes") is None:
        raise SetupError(
            "Training on 4-bit weights (qlora) needs the package bitsandbytes",
            "pip install bitsandbytes, or train with --method lora",
        )
    from transformers import BitsAndBytesConfig

    in_4_bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )
    placed = {"device_map": ONE_GPU} if torch.cuda.is_available() else {}
    model = load_model(job.base_folder, dtype=dtype, quantization_config=in_4_bits, **placed)
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            # Else the first evaluation on a processor repacks the weights so that no gradient
            # passes through them any more (bitsandbytes 0.50.2).
            layer.support_avx512bf16_for_cpu = False
    return model


def save(job: Job, model: Any, tokenizer: Any) -> None:
    """Write the trained student: whole or not at all. A model of adapters is used up by it."""
    _as_given(job, model.config)
    if job.recipe.method != "full":
        fresh = fresh_folder(job.adapter_folder)
        model.save_pretrained(str(fresh))
        put_in_place(fresh, job.adapter_folder)
    fresh = fresh_folder(job.model_folder)
    layers = merge.adapters(job.base_folder, model) if job.recipe.method != "full" else None
    if layers is None:
        _merged(job, model).to(_stored_dtype(job)).save_pretrained(str(fresh))
    else:
        _describe(job, model.get_base_model(), fresh)
        merge.let_go(model)
        merge.write(job.base_folder, fresh, layers)
    tokenizer.save_pretrained(str(fresh))
    put_in_place(fresh, job.model_folder)


def _merged(job: Job, model: Any) -> Any:
    """The student with its adapters added to its weights, all of them in memory.

    If the training held them rounded, they are read anew: the files alone know them as given.
    """
    if job.recipe.method == "full":
        return model
    held = {"float32": torch.float32, "bfloat16": torch.bfloat16}[job.recipe.precision]
    if job.recipe.method == "lora" and held in (torch.float32, _stored_dtype(job)):
        return model.to("cpu").merge_and_unload()
    from peft import PeftModel

    merge.let_go(model)
    base = load_model(job.base_folder, dtype="float32")
    return PeftModel.from_pretrained(base, str(job.adapter_folder)).merge_and_unload()


def _as_given(job: Job, config: Any) -> None:
    """Take back what the trainers of transformers and TRL set in the config for their own sake."""
    given = AutoConfig.from_pretrained(
        str(job.base_folder), trust_remote_code=False, local_files_only=True
    )
    for name in _SET_BY_TRAINERS:
        if hasattr(given, name):
            setattr(config, name, getattr(given, name))


def _describe(job: Job, base: Any, folder: Path) -> None:
    """Write the config of a student whose weights keep the number type that they were given in."""
    config = deepcopy(base.config)
    if hasattr(config, "quantization_config"):  # of the training alone
        del config.quantization_config
    config.dtype, config.architectures = _stored_dtype(job), [type(base).__name__]
    config.save_pretrained(str(folder))
    if base.generation_config is not None:
        base.generation_config.save_pretrained(str(folder))


def _stored_dtype(job: Job) -> torch.dtype:
    """The number type that the untrained student was stored in."""
    config = json.loads((job.base_folder / "config.json").read_text(encoding="utf-8"))
    name = config.get("dtype") or config.get("torch_dtype") or "float32"
    dtype: torch.dtype = getattr(torch, name.removeprefix("torch."))
    return dtype


def fresh_folder(target: Path) -> Path:
    """An empty folder beside ``target``, to be renamed to it when all is in it."""
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    return fresh


def put_in_place(fresh: Path, target: Path) -> None:
    """Flush what is in ``fresh`` and let it be ``target`` from one moment to the next."""
    for path in fresh.rglob("*"):  # chat templates beyond the first have a folder of their own
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
    if target.exists():
        shutil.rmtree(target)
    fresh.rename(target)
