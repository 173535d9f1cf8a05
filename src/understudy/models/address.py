"""Model names -> where they are: provider, base URL, the key and the variable it came from.

A name is ``provider:model`` (rows of providers.py), ``http(s)://host/v1#model``, or a bare name,
which is OpenAI's. A key goes to one address only, the one that the table or the environment binds
it to: ``OPENAI_API_KEY`` to ``OPENAI_BASE_URL`` if that is set, else to OpenAI. An address that
stands in a flag or in a project's file is sent no key unless it is that one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import SecretStr

from understudy.errors import ProviderRefused, UsageError
from understudy.models.hosts import checked_url
from understudy.models.protocol import Quirks
from understudy.models.providers import CHECKED_ON, PROVIDERS, Api, Provider

__all__ = ["CHECKED_ON", "Address", "address", "default_teacher"]


@dataclass(frozen=True, slots=True)
class Address:
    """Where one model is, ready to be called."""

    name: str
    provider: str
    """Its name in the table of providers, or the host."""
    model: str
    base_url: str
    key: SecretStr | None
    key_variable: str
    """The variable that the key came from, or that it could come from."""
    identity: str
    api: Api = "openai"
    key_header: str = "Authorization"
    quirks: Quirks = field(default_factory=Quirks)
    """What it is known to want otherwise, before anything is learned."""
    price_id: str | None = None
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
        if provider.teacher and _key(provider, environ)[0]:
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
    if "://" in name:
        return _by_url(name, offline=offline, environ=environ)
    provider, _, model = name.partition(":") if ":" in name else ("openai", "", name)
    row = PROVIDERS.get(provider)
    if row is None and environ.get("OPENAI_BASE_URL"):
        provider, model, row = "openai", name, PROVIDERS["openai"]
    if row is None or not model:
        raise UsageError(
            f"no provider {provider!r} in model name {name!r}",
            f"Known: {', '.join(PROVIDERS)}, practice; or http://HOST/v1#NAME",
        )
    return _resolved(
        name,
        provider,
        model,
        _url(provider, row, environ),
        row,
        offline=offline,
        environ=environ,
    )


def _by_url(name: str, *, offline: bool, environ: Mapping[str, str]) -> Address:
    """An address that is written out. It is sent a key only if the environment binds one to it."""
    written, _, model = name.partition("#")
    url = checked_url(written).url
    if not model:
        raise UsageError(f"{url} names no model", "Write it after a #: http://host/v1#model")
    row = Provider(url)
    for provider, known in PROVIDERS.items():
        bound = environ.get(known.url_variable) if known.url_variable and not known.local else ""
        if bound and _url(provider, known, environ) == url:
            row = known._replace(price_id=None)
            break
    host = checked_url(url).host
    return _resolved(name, host, model, url, row, offline=offline, environ=environ)


def _resolved(
    name: str,
    provider: str,
    model: str,
    written: str,
    row: Provider,
    *,
    offline: bool,
    environ: Mapping[str, str],
) -> Address:
    place = checked_url(written)
    if offline and not place.on_this_machine:
        raise ProviderRefused(
            f"{place.host} is not on this machine and --offline is set",
            "Leave --offline away, or use a model on this machine",
        )
    key, variable = _key(row, environ)
    if key and place.url.startswith("http:") and not place.on_this_machine:
        raise UsageError(f"http://{place.host} would send your key in the clear", "Use https")
    if variable and not key and not place.on_this_machine:
        raise ProviderRefused(
            f"no key for {provider}: {variable} is not set",
            f"Set {variable}, or practise without one: understudy demo",
        )
    return Address(
        name=name,
        provider=provider,
        model=model,
        base_url=place.url,
        key=SecretStr(key) if key else None,
        key_variable=variable,
        identity=f"{place.url}#{model}",
        api=row.api,
        key_header=row.key_header,
        # Elsewhere a name may be ignored that the provider itself insists on.
        quirks=row.quirks if row.base_url in ("", place.url) else Quirks(),
        price_id=row.price_id,
        local=row.local,
        proxy=environ.get("HTTPS_PROXY") if place.url.startswith("https:") else None,
    )


def _key(row: Provider, environ: Mapping[str, str]) -> tuple[str, str]:
    """The key and its variable; if none is set, no key and the variable to set.

    Raises UsageError for a key that no header can carry, without showing it.
    """
    for variable in row.key_variables:
        key = environ.get(variable, "").strip()
        if key:
            if not (key.isascii() and key.isprintable() and " " not in key):
                raise UsageError(
                    f"{variable} holds no key: it has spaces or characters that no key has",
                    "Copy it again from the provider's page",
                )
            return key, variable
    return "", row.key_variables[0] if row.key_variables else ""


def _url(provider: str, row: Provider, environ: Mapping[str, str]) -> str:
    """Where a provider is: as the environment says, else as the table does."""
    given = environ.get(row.url_variable, "").strip().rstrip("/") if row.url_variable else ""
    if not given:
        if not row.base_url:
            raise ProviderRefused(
                f"where {provider} is, is not known: {row.url_variable} is not set",
                f"Set {row.url_variable}, for example to https://NAME.openai.azure.com",
            )
        return row.base_url
    if row.local:
        given = _local_url(given)
    return given if given.endswith(row.url_path) else given + row.url_path


def _local_url(given: str) -> str:
    """What OLLAMA_HOST holds, as a URL: a scheme and a port may be missing, 0.0.0.0 is here."""
    scheme, _, rest = given.rpartition("://")
    host, colon, port = rest.rpartition(":")
    if not colon or not port.isdigit():
        host, port = rest, "11434"
    return f"{scheme or 'http'}://{'127.0.0.1' if host in ('0.0.0.0', '') else host}:{port}"  # noqa: S104
