"""A Hugging Face model folder: what makes it safe to open, and opening it.

A model folder is data from a stranger. Only safetensors weights are read (pickled ones can run
code), code that a folder brings is never run, and nothing is fetched from a network. torch and
transformers are imported when a folder is opened, not before.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from understudy.errors import SetupError
from understudy.models.students import preset

EXTRA = frozenset(
    {"accelerate", "datasets", "huggingface_hub", "peft", "tokenizers", "torch", "transformers"}
    | {"trl"}
)
"""Packages of the extra ``understudy[train]``."""

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
CONFIG_FILES = ("config.json", "generation_config.json", "tokenizer_config.json")
INDEX = "model.safetensors.index.json"
"""Says which file holds which weight, where there are several."""
_STOOD_STILL = {"%d": "26", "%m": "07", "%b": "Jul", "%B": "July", "%Y": "2024", "%y": "24"}
_STOOD_STILL |= {"%A": "Friday", "%a": "Fri", "%H": "12", "%I": "12", "%M": "00", "%S": "00"}
_CLOCK = (
    "{%- macro strftime_now(format) -%}{{ format"
    + "".join(f".replace('{code}', '{text}')" for code, text in _STOOD_STILL.items())
    + " }}{%- endmacro -%}"
)
_FOLDER_ADVICE = "Give the folder of a Hugging Face causal language model, or `tiny`"


def missing_extra(doing: str, error: ModuleNotFoundError) -> Exception:
    """The error to raise for ``error``: one with the pip line if a package of the extra is missing.

    Anything else that cannot be imported is a fault in an installed package and stays as it is.
    """
    if (error.name or "").split(".")[0] not in EXTRA:
        return error
    return SetupError(f"{doing} needs extra packages", 'pip install "understudy[train]"')


def check_folder(folder: Path, *, weights: bool = True) -> None:
    """Raise SetupError, naming the reason, unless ``folder`` holds a model that is safe to open.

    Without ``weights``, they may still be missing: config and tokenizer are enough.
    """
    if not folder.is_dir():
        raise SetupError(f"There is no model folder at {folder}", _FOLDER_ADVICE)
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise SetupError(f"{folder} is an adapter, not a model", "Merge it into its base first")
        raise SetupError(f"{folder} has no config.json, so it is no model", _FOLDER_ADVICE)
    check_config(folder)
    if weights and not any(folder.glob("*.safetensors")):
        pickled = [path.name for end in ("bin", "pt", "pth") for path in folder.glob(f"*.{end}")]
        if pickled:
            raise SetupError(
                f"{folder} has only pickled weights ({min(pickled)}), which can run code",
                "Convert them to safetensors and give that folder",
            )
        raise SetupError(f"{folder} has no *.safetensors weights", _FOLDER_ADVICE)
    lacking = [name for name in weight_names(folder) if not (folder / name).is_file()]
    if weights and lacking:
        raise SetupError(f"{folder} lacks the weights {min(lacking)}", "Fetch the model again")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise SetupError(f"{folder} has no tokenizer", "Copy the model's tokenizer.json into it")


def check_config(folder: Path) -> None:
    """Raise SetupError if a config is no JSON object, or asks for code of its own."""
    for name in CONFIG_FILES:
        _refuse_code(folder / name)


def weight_names(folder: Path, files: Collection[str] | None = None) -> list[str]:
    """Names of the weight files that make up the model, whether they are there or not.

    Some repositories hold the same weights twice (``consolidated.safetensors``): the index says
    which count, then ``model.safetensors``, then all that lie in the folder, or are among
    ``files``. Raises SetupError for an index that cannot be read.
    """
    path = folder / INDEX
    if path.is_file():
        try:
            named = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
            plain = sorted(name for name in named if Path(name).name == name)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise SetupError(f"{path} is damaged", "Fetch the model again") from None
        if len(plain) < len(named):
            raise SetupError(f"{path} names files outside the folder", "Choose another model")
        return plain
    there = (path.name for path in folder.iterdir()) if files is None else files
    weights = sorted(name for name in there if "/" not in name and name.endswith(".safetensors"))
    return ["model.safetensors"] if "model.safetensors" in weights else weights


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
        code = value and key in {"auto_map", "trust_remote_code"}
        if code and key == "auto_map" and value is config.get("auto_map"):
            code = not _superseded(path.parent, config)
        if fetched_kernel or code:
            raise SetupError(
                f"{path} asks to run code of its own ({key}), which is never done",
                "Choose a model whose architecture is part of transformers",
            )


def _superseded(folder: Path, config: dict[str, Any]) -> bool:
    """True if the code that a config names is neither there nor needed.

    Some models came with code until transformers had their architecture, and their config still
    names it. It is never fetched, and transformers' own is used.
    """
    named = json.dumps(config["auto_map"])
    if "--" in named or any(folder.glob("*.py")):
        return False
    try:
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    except ModuleNotFoundError as error:
        raise missing_extra("Opening this model", error) from None
    return config.get("model_type") in CONFIG_MAPPING_NAMES


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
    for path in [folder / name for name in weight_names(folder)]:
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


def load_tokenizer(folder: Path, *, weights: bool = True) -> Any:
    """Open the tokenizer in ``folder``, with a chat template and a padding token.

    Without ``weights``, they may still be missing: lengths are measured before they are fetched.
    Raises SetupError if it cannot be read or has no chat template.
    """
    check_folder(folder, weights=weights)
    transformers = _transformers()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # noqa: BLE001  the reader's errors have no common base
        raise _unreadable_tokenizer(folder, error) from None
    if not tokenizer.is_fast:
        raise SetupError(
            f"The tokenizer in {folder} has no fast form, which keeps control tokens apart",
            "Choose a copy of the model with a tokenizer.json",
        )
    if not tokenizer.chat_template:
        tokenizer.chat_template = published_template(folder)
    if not tokenizer.chat_template:
        raise SetupError(
            f"The tokenizer in {folder} has no chat template",
            "Choose the model's instruct or chat variant, or add its chat_template.jinja",
        )
    tokenizer.chat_template = _with_fixed_clock(tokenizer.chat_template)
    if tokenizer.eos_token_id is None:
        raise SetupError(
            f"The tokenizer in {folder} has no end token", "Name its eos_token in its config"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _unreadable_tokenizer(folder: Path, error: Exception) -> SetupError:
    if not (folder / "tokenizer.json").is_file() and any(folder.glob("*.model")):
        return SetupError(
            f"The tokenizer in {folder} is a SentencePiece model alone, which cannot be read: "
            f"{first_line(error)}",
            "Choose a copy with a tokenizer.json, or: pip install sentencepiece protobuf tiktoken",
        )
    return SetupError(
        f"The tokenizer in {folder} cannot be read: {first_line(error)}",
        "Fetch the model again, or choose another",
    )


def _with_fixed_clock(template: Any) -> Any:
    """The template, with a clock that stands still if it asks for the day.

    A student is asked in a year as it was taught today. The day is that which Llama 3's template
    names where there is no clock. The changed template is saved with the student.
    """
    if not isinstance(template, str) or "strftime_now" not in template or _CLOCK in template:
        return template
    return _CLOCK + template


def check_template(folder: Path, name: str) -> None:
    """Refuse a base model: one without a chat template was never taught to answer."""
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    beside = any(folder.glob("chat_template.*"))
    if not (beside or settings.get("chat_template") or published_template(folder)):
        raise SetupError(
            f"{name} has no chat template",
            "Choose the model's instruct or chat variant, or a folder with a chat_template.jinja",
        )


def published_template(folder: Path) -> str | None:
    """The published chat format of a model in the hub's cache that is older than chat templates.

    Such a folder is ``.../models--ORG--NAME/snapshots/COMMIT``. None for every other.
    """
    cache = folder.parent.parent.name
    known = preset(cache.removeprefix("models--").replace("--", "/"))
    return known.template or None if known and cache.startswith("models--") else None


def load_model(folder: Path, *, dtype: str = "auto", **options: Any) -> Any:
    """Open the causal language model in ``folder`` on the CPU, ready to answer.

    ``dtype`` is a torch type's name, or ``auto`` for the type it was saved in; ``options`` are
    those of ``from_pretrained`` (how to quantise, which device). Raises SetupError
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
            **options,
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
    if hasattr(model.config, "auto_map"):  # names code that is not there and was not used
        del model.config.auto_map
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
