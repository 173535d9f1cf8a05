"""The Hugging Face hub: what a model there is, and fetching it once, pinned to a commit.

    remote = look("hf:org/name")     # config and tokenizer alone: sizes, licence, commit
    folder = fetch(remote.name)      # the weights too, into the usual Hugging Face cache

Only safetensors, config, tokenizer, chat template and generation config are fetched, nothing that
could be code or a pickle. Files that are whole stay when a download breaks off. The endpoint
(HF_ENDPOINT), the cache (HF_HOME) and the token (HF_TOKEN, or what ``hf auth login`` stored) are
those of the huggingface_hub library, which alone ever reads the token.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from understudy.errors import SetupError, UsageError
from understudy.models.huggingface import (
    INDEX,
    TOKENIZER_FILES,
    check_config,
    check_folder,
    check_template,
    missing_extra,
    weight_names,
)
from understudy.models.students import preset

SMALL = frozenset(
    {"config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json"}
    | {"added_tokens.json", "chat_template.jinja", "chat_template.json", "merges.txt", INDEX}
    | set(TOKENIZER_FILES)
)
"""Files that say what a model is; small beside its weights."""
DEFAULT_REVISION = "main"
_TIMEOUT_S = 20.0
_ID = re.compile(r"hf:(?P<repo>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[^@\s]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_GENERATIVE = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")

Say = Callable[..., None]


class HubId(NamedTuple):
    """A name on the hub."""

    repo: str
    revision: str
    """Branch, tag or commit."""

    @property
    def pinned(self) -> bool:
        """True if the revision is a commit, which never changes."""
        return _COMMIT.fullmatch(self.revision) is not None


@dataclass(frozen=True, slots=True)
class Remote:
    """A model on the hub, before its weights are fetched."""

    id: str
    commit: str
    files: Mapping[str, int]
    """Bytes of each file that ``fetch`` brings."""
    gated: bool
    config: Mapping[str, Any]
    licence: str
    """As the repository's tags name it; empty if they do not."""
    parameters: int
    """As the hub counts them; 0 if it does not say."""
    folder: Path
    """Where its config and tokenizer lie."""

    @property
    def name(self) -> str:
        """The model name that means these bytes and no others."""
        return f"hf:{self.id}@{self.commit}"

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights."""
        return sum(size for name, size in self.files.items() if name not in SMALL)


def is_hub_id(name: str) -> bool:
    """True for ``hf:org/name`` and ``hf:org/name@revision``; a folder is written with a ``/``."""
    found = _ID.fullmatch(name)
    if found is None or found["repo"].startswith("."):
        return False
    return "/" in found["repo"] or not Path(found["repo"]).is_dir()


def parse(name: str) -> HubId:
    """Take a hub name apart. Raises UsageError if it is none."""
    found = _ID.fullmatch(name)
    if found is None:
        raise UsageError(f"{name} is no model on the hub", "Write hf:org/name or hf:org/name@tag")
    return HubId(found["repo"], found["revision"] or DEFAULT_REVISION)


def look(name: str, *, offline: bool = False) -> Remote:
    """What the model is: its files, config, licence and commit. No weight is fetched.

    Without a network, or with ``offline``, what the cache knows. Raises SetupError with the reason
    if it is not there, gated, no causal language model, or has no safe weights.
    """
    wanted, hub = parse(name), _library()
    if offline or hub.is_offline_mode():
        return _look_in_cache(wanted)
    try:
        info = hub.HfApi().model_info(
            wanted.repo, revision=wanted.revision, files_metadata=True, timeout=_TIMEOUT_S
        )
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        _check_kind(wanted, sizes)
        small = [file for file in sizes if file in SMALL]
        from understudy.models.hub_download import fetch_small

        folder = fetch_small(wanted.repo, wanted.revision, info.sha, small)
    except Exception as error:  # noqa: BLE001  the library's errors have no common base
        if _hub_is_down(error) and _folder_in_cache(wanted) is not None:
            return _look_in_cache(wanted)
        raise _explained(wanted, error) from None
    config = _config(folder)
    check_template(folder, f"hf:{wanted.repo}")
    kept = {**{file: sizes[file] for file in small}, **_weights(wanted, folder, sizes)}
    tags = [tag.removeprefix("license:") for tag in info.tags or () if tag.startswith("license:")]
    return Remote(
        id=wanted.repo,  # not info.id, another after a renaming: the cache goes by what was asked
        commit=info.sha,
        files=kept,
        gated=bool(info.gated),
        config=config,
        licence=tags[0] if tags else "",
        parameters=info.safetensors.total if info.safetensors else 0,
        folder=folder,
    )


def fetch(name: str, *, offline: bool = False, say: Say | None = None) -> Path:
    """The model's folder, fetched if the cache does not hold it whole.

    ``say`` hears ``student.fetch`` with bytes done and in all, about twice a second. Raises
    SetupError with the reason if it cannot be had, DiskError if there is no room for it.
    """
    wanted = parse(name)
    if wanted.pinned and (folder := cached(name)) is not None:
        return folder
    remote = look(name, offline=offline)
    if (folder := cached(remote.name)) is not None:
        return folder
    if offline or _library().is_offline_mode():
        raise _not_in_cache(wanted)
    from understudy.models.hub_download import check_room, download

    check_room(remote.id, remote.files, remote.folder)
    try:
        download(remote.id, remote.commit, remote.files, remote.folder, say)
    except Exception as error:  # noqa: BLE001  the library's errors have no common base
        raise _explained(wanted, error) from None
    check_folder(remote.folder)
    return remote.folder


def cached(name: str) -> Path | None:
    """The model's folder in the cache if it is there whole. Asks nobody."""
    folder = _folder_in_cache(parse(name))
    if folder is None:
        return None
    weights = weight_names(folder)
    return folder if weights and all((folder / file).is_file() for file in weights) else None


# -- what is in a repository -----------------------------------------------------------------------


def _check_kind(wanted: HubId, sizes: Mapping[str, int]) -> None:
    """Refuse, before anything is fetched, what is no model with safe weights."""

    def refuse(what: str, fix: str) -> SetupError:
        return SetupError(f"hf:{wanted.repo} {what}", fix)

    ends = {Path(file).suffix for file in sizes}
    if "config.json" not in sizes and "adapter_config.json" in sizes:
        raise refuse("is an adapter, not a model", "Name the model that it was made for")
    if ".safetensors" not in ends and ".gguf" in ends:
        raise refuse("has GGUF files only, which cannot be trained", "Name the model they are of")
    if ".safetensors" not in ends and ends & {".bin", ".pt", ".pth"}:
        raise refuse(
            "has only pickled weights, which can run code",
            "Choose a copy with safetensors, or convert it and give the folder",
        )
    if "config.json" not in sizes or ".safetensors" not in ends:
        raise refuse("has no config.json with *.safetensors", "Name a causal language model")
    if not sizes.keys() & set(TOKENIZER_FILES):
        raise refuse("has no tokenizer", "Choose a copy of the model that brings its own")


def _weights(wanted: HubId, folder: Path, sizes: Mapping[str, int]) -> dict[str, int]:
    """Weight files and their bytes; the same weights in a second format are left out."""
    named = weight_names(folder, sizes)
    missing = [file for file in named if file not in sizes]
    if missing or not named:
        raise SetupError(
            f"hf:{wanted.repo} lacks {missing[0] if missing else 'weights'} at {wanted.revision}",
            "Name another revision (hf:org/name@revision) or model",
        )
    return {file: sizes[file] for file in named}


def _config(folder: Path) -> dict[str, Any]:
    """The config. Raises SetupError if it wants code of its own, or is no text generator's."""
    check_config(folder)
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kinds = config.get("architectures") or ()
    writes = not kinds or any(str(kind).endswith(_GENERATIVE) for kind in kinds)
    if config.get("is_encoder_decoder") or not writes:
        raise SetupError(
            f"{', '.join(map(str, kinds)) or 'This model'} is no causal language model",
            "Choose one whose architecture ends in ForCausalLM",
        )
    return config


# -- the cache -------------------------------------------------------------------------------------


def _folder_in_cache(wanted: HubId) -> Path | None:
    """Where the cache holds the model's config, whole or not."""
    found = _library().try_to_load_from_cache(wanted.repo, "config.json", revision=wanted.revision)
    return Path(found).parent if isinstance(found, str) else None


def _look_in_cache(wanted: HubId) -> Remote:
    """What can be said of a model without a network."""
    folder = _folder_in_cache(wanted)
    if folder is None or cached(f"hf:{wanted.repo}@{folder.name}") is None:
        raise _not_in_cache(wanted)
    named = {*weight_names(folder), *(path.name for path in folder.iterdir())}
    known = preset(wanted.repo)
    return Remote(
        id=wanted.repo,
        commit=folder.name,
        files={file: (folder / file).stat().st_size for file in sorted(named)},
        gated=known.gated if known else False,
        config=_config(folder),
        licence=known.licence_tag if known else "",
        parameters=0,
        folder=folder,
    )


def _not_in_cache(wanted: HubId) -> SetupError:
    return SetupError(
        f"hf:{wanted.repo} is not whole in the Hugging Face cache, and work is offline",
        "Fetch it once with a network, or give a local folder",
    )


def _library() -> Any:
    """The library, without its telemetry and its own lines on stderr."""
    try:
        import huggingface_hub.constants
    except ModuleNotFoundError as error:
        raise missing_extra("Fetching a model", error) from None
    huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    return huggingface_hub


def _hub_is_down(error: Exception) -> bool:
    from understudy.models.hub_errors import is_down

    return is_down(error)


def _explained(wanted: HubId, error: Exception) -> Exception:
    from understudy.models.hub_errors import explained

    return explained(wanted.repo, wanted.revision, error)
