"""Reading stored replies without their endpoint: no key, no address and no price is needed.

The shape of a body says which adapter understands it: each API has a key of its own at the top.
"""

from __future__ import annotations

from functools import lru_cache

from understudy.models.protocol import Endpoint, Quirks, Reply, Unreadable


def read(raw: bytes) -> Reply:
    """Understand the body of any API. Raises Unreadable if no adapter finds an answer in it.

    ``model`` is what the body says of it, and empty where that is nothing.
    """
    for reader in _readers():
        try:
            return reader.read(raw)
        except (Unreadable, RecursionError):
            continue
    raise Unreadable("the stored reply holds no answer of an API that is known")


@lru_cache(maxsize=1)
def _readers() -> tuple[Endpoint, ...]:
    """One endpoint of each API, to nowhere; the commonest first."""
    from understudy.models.address import Address
    from understudy.models.anthropic import Anthropic
    from understudy.models.function import Function
    from understudy.models.openai_compatible import OpenAICompatible

    nowhere = Address(
        name="",
        provider="",
        model="",
        base_url="http://127.0.0.1/v1",
        key=None,
        key_variable="",
        identity="",
    )
    remote = (OpenAICompatible, Anthropic)
    opened = [api(nowhere, Quirks(), timeout_s=1, max_reply=1) for api in remote]
    return (*opened, Function(str))
