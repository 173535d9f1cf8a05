"""A Hugging Face model folder: what makes it safe to open, and opening it.

A model folder is data from a stranger. Only safetensors weights are read (pickled ones can run
code), code that a folder brings is never run, and nothing is fetched from a network. torch and
transformers are imported when a folder is opened, not before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from understudy.errors import SetupError

EXTRA = frozenset({"accelerate", "datasets", "peft", "tokenizers", "torch", "transformers", "trl"})
"""Packages of the extra ``understudy[train]``."""

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
_FOLDER_ADVICE = "Give the folder of a Hugging Face causal language model, or `tiny`"


def missing_extra(doing: str, error: ModuleNotFoundError) -> Exception:
    """The error to raise for ``error``: one with the pip line if a package of the extra is missing.

    Anything else that cannot be imported is a fault in an installed package and stays as it is.
    """
    if (error.name or "").split(".")[0] not in EXTRA:
        return error
    return SetupError(f"{doing} needs extra packages", 'pip install "understudy[train]"')


def check_folder(folder: Path) -> None:
    """Raise SetupError, naming the reason, unless ``folder`` holds a model that is safe to open."""
    if not folder.is_dir():
        raise SetupError(f"There is no model folder at {folder}", _FOLDER_ADVICE)
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise SetupError(f"{folder} is an adapter, not a model", "Merge it into its base first")
        raise SetupError(f"{folder} has no config.json, so it is no model", _FOLDER_ADVICE)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        _refuse_code(folder / name)
    if not any(folder.glob("*.safetensors")):
        pickled = [path.name for end in ("bin", "pt", "pth") for path in folder.glob(f"*.{end}")]
        if pickled:
            raise SetupError(
                f"{folder} has only pickled weights ({min(pickled)}), which can run code",
                "Convert them to safetensors and give that folder",
            )
        raise SetupError(f"{folder} has no *.safetensors weights", _FOLDER_ADVICE)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise SetupError(f"{folder} has no tokenizer", "Copy the model's tokenizer.json into it")


def _refuse_code(path: Path) -> None:
    """Refuse a config that asks for code of its own, at any depth."""
    if not path.is_file():
        return
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise SetupError(f"{path} is not JSON: {error}", "Fetch the model again") from None
    if not isinstance(config, dict):
        raise SetupError(f"{path} is not a JSON object", "Fetch the model again")
    for key, value in _walk(config):
        fetched_kernel = "attn_implementation" in key and "/" in str(value)
        if fetched_kernel or (value and key in {"auto_map", "trust_remote_code"}):
            raise SetupError(
                f"{path} asks to run code of its own ({key}), which is never done",
                "Choose a model whose architecture is part of transformers",
            )


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key of nested JSON with its value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from _walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner)


def count_parameters(folder: Path) -> int:
    """Count the weights in a folder's safetensors files from their headers.

    Format: 8 bytes little-endian length, then JSON of name to dtype, shape and offsets
    (https://huggingface.co/docs/safetensors, format). Raises SetupError for a damaged header.
    """
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            shapes = [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, MemoryError, OverflowError):
            raise SetupError(f"{path} is damaged", "Fetch the model again") from None
        for shape in shapes:
            size = 1
            for extent in shape:
                size *= extent
            total += size
    return total


def load_tokenizer(folder: Path) -> Any:
    """Open the tokenizer in ``folder``, with a chat template and a padding token.

    Raises SetupError if it cannot be read or has no chat template.
    """
    check_folder(folder)
    transformers = _transformers()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # noqa: BLE001  the reader's errors have no common base
        raise SetupError(
            f"The tokenizer in {folder} cannot be read: {first_line(error)}",
            "Fetch the model again, or choose another",
        ) from None
    if not tokenizer.chat_template:
        raise SetupError(
            f"The tokenizer in {folder} has no chat template",
            "Choose the model's instruct or chat variant, or add its chat_template.jinja",
        )
    if tokenizer.eos_token_id is None:
        raise SetupError(
            f"The tokenizer in {folder} has no end token", "Name its eos_token in its config"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(folder: Path, *, dtype: str = "auto") -> Any:
    """Open the causal language model in ``folder`` on the CPU, ready to answer.

    ``dtype`` is a torch type's name, or ``auto`` for the type it was saved in. Raises SetupError
    if a weight is missing or unreadable.
    """
    try:
        from transformers import AutoModelForCausalLM
        from transformers.utils.logging import disable_progress_bar
    except ModuleNotFoundError as error:
        raise missing_extra("Running a local model", error) from None
    check_folder(folder)
    disable_progress_bar()  # stderr is for our own progress
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # noqa: BLE001  the reader's errors have no common base
        raise SetupError(
            f"The model in {folder} cannot be read: {first_line(error)}",
            "Fetch the model again, or choose another",
        ) from None
    if report["missing_keys"]:
        lacking = min(report["missing_keys"])
        raise SetupError(
            f"The weights in {folder} lack {lacking}", "Fetch the model again, or choose another"
        )
    return model.eval()


def _transformers() -> Any:
    """Import what opens model folders. Raises SetupError if the extra is not installed."""
    try:
        import torch  # noqa: F401  transformers runs without it, models do not
        import transformers
    except ModuleNotFoundError as error:
        raise missing_extra("Running a local model", error) from None
    transformers.utils.logging.disable_progress_bar()
    return transformers


def first_line(error: Exception) -> str:
    """What an error of a library says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def stop_ids(tokenizer: Any, model: Any) -> list[int]:
    """Every token id that ends an answer: the tokenizer's, and those of the generation config."""
    configured = model.generation_config.eos_token_id
    if configured is None:
        configured = []
    also = configured if isinstance(configured, list) else [configured]
    return sorted({tokenizer.eos_token_id, *also})
