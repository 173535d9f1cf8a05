"""Model names -> where they are: provider, base URL, the key and the variable it came from.

A name is ``provider:model`` (rows of the table below), ``http(s)://host/v1#model``, or a bare name,
which is OpenAI's. A key goes to one address only, the one that the table or the environment binds
it to: ``OPENAI_API_KEY`` to ``OPENAI_BASE_URL`` if that is set, else to OpenAI. An address that
stands in a flag or in a project's file is sent no key unless it is that one.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from pydantic import SecretStr

from understudy.errors import ProviderRefused, UsageError


class Provider(NamedTuple):
    """One row: where it is, which variable holds its key, and its dated default teacher."""

    base_url: str
    key_variable: str
    teacher: str = ""
    """Newest general model on the day below; shown before it is used."""
    local: bool = False
    """Runs on the user's machine: costs nothing, needs no key."""


CHECKED_ON = "2026-11-22"
PROVIDERS: dict[str, Provider] = {
    "openai": Provider("https://api.openai.com/v1", "OPENAI_API_KEY", "gpt-5.5"),
    "gemini": Provider("https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
    "mistral": Provider("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "deepseek": Provider("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "openrouter": Provider("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "together": Provider("https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    "fireworks": Provider("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    "groq": Provider("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "ollama": Provider("http://127.0.0.1:11434/v1", "", local=True),
    "vllm": Provider("http://127.0.0.1:8000/v1", "", local=True),
    "llamacpp": Provider("http://127.0.0.1:8080/v1", "", local=True),
    "lmstudio": Provider("http://127.0.0.1:1234/v1", "", local=True),
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where one model is, ready to be called."""

    name: str
    provider: str
    model: str
    base_url: str
    key: SecretStr | None
    key_variable: str
    identity: str
    local: bool = False
    proxy: str | None = None

    @property
    def key_help(self) -> str:
        """What to do when the key is refused."""
        if self.key:
            return f"It was taken from {self.key_variable}; set that to a valid key"
        if self.key_variable:
            return f"Set {self.key_variable}"
        return f"None was sent; set OPENAI_BASE_URL={self.base_url} and OPENAI_API_KEY"


def default_teacher(environ: Mapping[str, str] = os.environ) -> str:
    """The dated default model of the first provider whose key is set. Raises ProviderRefused."""
    for name, provider in PROVIDERS.items():
        if provider.teacher and environ.get(provider.key_variable):
            return f"{name}:{provider.teacher}"
    raise ProviderRefused(
        "no teacher is named and no provider's key is set",
        "Set OPENAI_API_KEY, or name one: --teacher ollama:NAME, --teacher http://HOST/v1#NAME, "
        "or --teacher practice:dates to try without a key",
    )


def address(name: str, *, offline: bool, environ: Mapping[str, str] = os.environ) -> Address:
    """Resolve a remote model name.

    Raises UsageError for a name or URL that makes no sense, ProviderRefused if a key is missing or
    the address may not be used.
    """
    if name.startswith(("http://", "https://")):
        url, _, model = name.partition("#")
        if not model:
            raise UsageError(f"{name} names no model", "Write it after a #: http://host/v1#model")
        provider, local = urlsplit(url).hostname or "", False
        ours = url.rstrip("/") == environ.get("OPENAI_BASE_URL", "").rstrip("/")
        key_variable = "OPENAI_API_KEY" if ours else ""
    else:
        provider, _, model = name.partition(":") if ":" in name else ("openai", "", name)
        row = PROVIDERS.get(provider)
        if row is None and environ.get("OPENAI_BASE_URL"):
            provider, model, row = "openai", name, PROVIDERS["openai"]
        if row is None or not model:
            raise UsageError(
                f"no provider {provider!r} in model name {name!r}",
                f"Known: {', '.join(PROVIDERS)}, practice; or http://HOST/v1#NAME",
            )
        url, key_variable, local = row.base_url, row.key_variable, row.local
        if provider == "openai" and environ.get("OPENAI_BASE_URL"):
            url = environ["OPENAI_BASE_URL"]
        elif provider == "ollama" and environ.get("OLLAMA_HOST"):
            url = f"http://{environ['OLLAMA_HOST'].removeprefix('http://').rstrip('/')}/v1"
    url = url.rstrip("/")
    key = environ.get(key_variable, "").strip() if key_variable else ""
    on_this_machine = _check_url(url, has_key=bool(key), offline=offline)
    if not key and not on_this_machine and key_variable:
        raise ProviderRefused(
            f"no key for {provider}: {key_variable} is not set",
            f"Set {key_variable}, or practise without one: understudy demo",
        )
    return Address(
        name=name,
        provider=provider,
        model=model,
        base_url=url,
        key=SecretStr(key) if key else None,
        key_variable=key_variable,
        identity=f"{url}#{model}",
        local=local,
        proxy=environ.get("HTTPS_PROXY") if url.startswith("https:") else None,
    )


def _check_url(url: str, *, has_key: bool, offline: bool) -> bool:
    """Refuse an address that would leak or surprise; True if it is on this machine."""
    parts = urlsplit(url)
    try:
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.query:
        raise UsageError(
            f"{parts.scheme}://{host} is not a usable address",
            "It looks like https://HOST/v1, with no user, password or query in it",
        )
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        ip = None
    if ip is not None and (ip.is_link_local or ip.is_multicast or ip.is_unspecified):
        raise UsageError(f"{host} is no address of an API", "Give the server's own address")
    on_this_machine = host == "localhost" or (ip is not None and ip.is_loopback)
    if offline and not on_this_machine:
        raise ProviderRefused(
            f"{host} is not on this machine and --offline is set",
            "Leave --offline away, or use a model on this machine",
        )
    if parts.scheme == "http" and has_key and not on_this_machine:
        raise UsageError(f"http://{host} would send your key in the clear", "Use https")
    return on_this_machine
