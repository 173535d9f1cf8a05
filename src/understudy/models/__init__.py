"""Model names -> models. Every back-end is imported when it is first used.

practice:dates            the offline teacher, behind a real server on this machine
openai:gpt-… and others   a row of models/providers.py
http(s)://host/v1#name    any OpenAI-compatible endpoint
hf:org/name[@revision]    a model of the Hugging Face hub      (models/hub.py, models/local.py)
hf:/folder or a path      a local Hugging Face folder          (models/local.py)
run:7                     a trained student of the project     (project.py knows its folder)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from understudy.errors import SetupError, UnderstudyError, UsageError
from understudy.models.protocol import Endpoint, Quirks
from understudy.money import FREE, PRACTICE, Price, price_of
from understudy.settings import Settings

if TYPE_CHECKING:
    from understudy.models.address import Address


def endpoint(name: str, settings: Settings, quirks: Quirks | None = None) -> tuple[Endpoint, Price]:
    """The endpoint of a remote model and its price.

    ``quirks`` are those learned of it before; without, it starts with its provider's. Raises
    UsageError for an unknown name or price, ProviderRefused if its key is missing.
    """
    if name.startswith("practice:"):
        from understudy.models.practice import Practice

        return Practice(name, settings, quirks), PRACTICE
    from understudy.models.address import address

    where = address(name, offline=settings.offline)
    given = settings.price_in is not None or settings.price_out is not None
    if where.local and not given:
        price = FREE
    else:
        provider = where.price_id or where.provider
        price = price_of(provider, where.model, settings.price_in, settings.price_out)
    return _adapter(where, settings, quirks or where.quirks), price


def _adapter(where: Address, settings: Settings, quirks: Quirks) -> Endpoint:
    """Speak the API that the address speaks."""
    if where.api == "anthropic":
        from understudy.models.anthropic import Anthropic

        return Anthropic(where, quirks, timeout_s=settings.timeout, max_reply=settings.max_reply)
    from understudy.models.openai_compatible import OpenAICompatible

    return OpenAICompatible(where, quirks, timeout_s=settings.timeout, max_reply=settings.max_reply)


def at_once(name: str, settings: Settings) -> int:
    """Calls in flight at the most; a server on a desk takes fewer than one of a provider."""
    from understudy.models.providers import PROVIDERS

    row = PROVIDERS.get(name.partition(":")[0])
    return settings.concurrency or (8 if row is not None and row.local else 64)


def dearer(asked: str, answered: str, settings: Settings) -> Price | None:
    """Price of a model that answered in place of the one asked; None if no table knows it."""
    if settings.price_in is not None:  # the user's own prices hold whoever answers
        return None
    from understudy.models.address import address

    try:
        where = address(asked, offline=settings.offline)
        return price_of(where.price_id or where.provider, answered, None, None)
    except UnderstudyError:
        return None


def is_local(name: str) -> bool:
    """True for a model that runs in this process: a folder or a trained student."""
    return name.startswith(("hf:", "run:", "/", "./", "../", "~"))


def is_hub_id(name: str) -> bool:
    """True for a model of the Hugging Face hub: ``hf:org/name``, with ``@revision`` or without."""
    if not name.startswith("hf:"):
        return False
    from understudy.models import hub

    return hub.is_hub_id(name)


def pinned(name: str, *, offline: bool = False) -> str:
    """``hf:org/name@commit``: a hub name that means the same bytes for ever.

    No weight is fetched. Raises SetupError with the reason if the hub does not give the model.
    """
    from understudy.models import hub

    return name if hub.parse(name).pinned else hub.look(name, offline=offline).name


def local_folder(
    name: str, *, offline: bool = False, say: Callable[..., None] | None = None
) -> Path:
    """Folder of a local model name; a model of the hub is fetched into the cache if need be.

    Raises UsageError for ``run:``, which a project knows, SetupError for a hub name without its
    ``hf:`` and for what cannot be fetched, DiskError if there is no room for it.
    """
    if name.startswith("run:"):
        raise UsageError(f"{name} is a run of a project", "Name the project with -p DIR")
    if is_hub_id(name):
        from understudy.models import hub

        return hub.fetch(name, offline=offline, say=say)
    plain = name.removeprefix("hf:")
    folder = Path(plain).expanduser()
    if not plain.startswith(("/", ".", "~")) and not folder.is_dir():
        raise SetupError(f"There is no model folder at {plain}", _meant(plain))
    return folder


def _meant(name: str) -> str:
    """What somebody meant who named no folder."""
    from understudy.models.students import closest

    if re.fullmatch(r"[\w.-]+/[\w.-]+(@[^@\s]+)?", name):
        return f"For the model of that name on the Hugging Face hub write hf:{name}"
    near = " or ".join(f"hf:{one}" for one in closest(name))
    return f"Did you mean {near}?" if near else "Give hf:org/name, a folder, or `tiny`"
