"""Model names -> models. Every back-end is imported when it is first used.

practice:dates            the offline teacher, behind a real server on this machine
openai:gpt-… and others   a row of models/address.py
http(s)://host/v1#name    any OpenAI-compatible endpoint
hf:/folder or a path      a local Hugging Face folder          (models/local.py)
run:7                     a trained student of the project     (project.py knows its folder)
"""

from __future__ import annotations

from understudy.errors import UsageError
from understudy.models.protocol import Endpoint
from understudy.money import FREE, PRACTICE, Price, price_of
from understudy.settings import Settings


def endpoint(name: str, settings: Settings) -> tuple[Endpoint, Price]:
    """The endpoint of a remote model and its price.

    Raises UsageError for an unknown name or price, ProviderRefused if its key is missing.
    """
    if name.startswith("practice:"):
        from understudy.models.practice import Practice

        return Practice(name, settings), PRACTICE
    from understudy.models.address import address

    where = address(name, offline=settings.offline)
    given = settings.price_in is not None or settings.price_out is not None
    if where.local and not given:
        price = FREE
    else:
        price = price_of(where.provider, where.model, settings.price_in, settings.price_out)
    from understudy.models.openai_compatible import OpenAICompatible

    found = OpenAICompatible(where, timeout_s=settings.timeout, max_reply=settings.max_reply)
    return found, price


def is_local(name: str) -> bool:
    """True for a model that runs in this process: a folder or a trained student."""
    return name.startswith(("hf:", "run:", "/", "./", "../", "~"))


def local_folder(name: str) -> str:
    """Folder of a local model name. Raises UsageError for ``run:``, which a project knows."""
    if name.startswith("run:"):
        raise UsageError(f"{name} is a run of a project", "Name the project with -p DIR")
    return name.removeprefix("hf:")
