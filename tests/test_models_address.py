"""Where a model name leads, which key goes there, and what is refused before it is tried (T79)."""

from __future__ import annotations

import asyncio
import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.errors import ProviderRefused, UnderstudyError, UsageError
from understudy.example import Message
from understudy.models import endpoint
from understudy.models.address import Address, address, default_teacher
from understudy.models.hosts import checked_url, is_no_api
from understudy.models.http import HttpEndpoint
from understudy.models.protocol import Quirks, Request, Unpaid
from understudy.models.providers import PROVIDERS
from understudy.models.terms import terms
from understudy.settings import Settings

KEY = "sk-canary-0123456789abcdef"
METADATA = "169.254.169.254"
KEYS = {variable: KEY for row in PROVIDERS.values() for variable in row.key_variables}


def found(name: str, *, offline: bool = False, **environ: str) -> Address:
    """The address of ``name`` in an environment."""
    return address(name, offline=offline, environ=environ)


def refused(name: str, **environ: str) -> str:
    """The error that ``name`` meets, which shows no secret."""
    with pytest.raises((UsageError, ProviderRefused)) as caught:
        found(name, **environ)
    shown = str(caught.value)
    assert KEY not in shown
    assert "hunter2" not in shown
    return shown


def spellings(ip: str) -> list[str]:
    """Ways to write an IPv4 address that systems understand."""
    number = int(ipaddress.IPv4Address(ip))
    a, b, c, d = ip.split(".")
    return [
        ip,
        f"{ip}.",
        str(number),
        hex(number),
        oct(number).replace("0o", "0"),
        ".".join(hex(int(part)) for part in (a, b, c, d)),
        ".".join(f"0{int(part):o}" for part in (a, b, c, d)),
        f"{a}.{b}.{int(c) * 256 + int(d)}",
        f"{a}.{int(b) * 65536 + int(c) * 256 + int(d)}",
        f"[::ffff:{ip}]",
        f"[::ffff:{number >> 16:x}:{number & 0xFFFF:x}]",
        f"[64:ff9b::{number >> 16:x}:{number & 0xFFFF:x}]",
        f"[2002:{number >> 16:x}:{number & 0xFFFF:x}::]",
        ip.translate(str.maketrans("0123456789", "０１２３４５６７８９")),
    ]


@pytest.mark.parametrize("host", spellings(METADATA))
@pytest.mark.parametrize("scheme", ["http", "https", "HTTP"])
def test_the_metadata_service_is_refused_in_every_spelling(scheme: str, host: str) -> None:
    """T79: what a cloud tells its machines is no model."""
    refused(f"{scheme}://{host}/v1#m", OPENAI_BASE_URL=f"{scheme}://{host}/v1", **KEYS)


@given(
    st.integers(
        int(ipaddress.IPv4Address("169.254.0.0")), int(ipaddress.IPv4Address("169.254.255.255"))
    )
)
def test_every_link_local_address_is_refused(number: int) -> None:
    """Each in each spelling."""
    for host in spellings(str(ipaddress.IPv4Address(number))):
        with pytest.raises(UsageError):
            checked_url(f"https://{host}/v1")


@pytest.mark.parametrize(
    "host",
    [
        "metadata.google.internal",
        "METADATA.google.internal.",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "168.63.129.16",
        "0.0.0.0",  # noqa: S104
        "0",
        "[::]",
        "[fe80::1%25eth0]",
        "224.0.0.1",
        "[ff02::1]",
    ],
)
def test_other_hosts_that_are_no_api_are_refused(host: str) -> None:
    """Other clouds' metadata, link-local, multicast, nowhere."""
    refused(f"https://{host}/v1#m")


@pytest.mark.parametrize(
    "name",
    [
        "https://user:hunter2@api.example.com/v1#m",
        "https://:hunter2@api.example.com/v1#m",
        "https://user@api.example.com/v1#m",
        "HTTPS://user:hunter2@api.example.com/v1#m",
        "https://api.example.com/v1?key=hunter2#m",
        "https://api.example.com/v1?#m",
        "file:///etc/passwd#m",
        "ftp://api.example.com/v1#m",
        "gopher://127.0.0.1:70/_hunter2#m",
        "http://#m",
        "http://:80/v1#m",
        "http://api.example.com:99999/v1#m",
        "http://api.example.com:hunter2/v1#m",
        "http://[::1/v1#m",
        "https://api.example.com/v1",
        "https://api.example.com/v1#",
        "https://user:hunter2@api.example.com/v1",
        "https://api.example.com/v1?key=hunter2",
    ],
)
def test_addresses_that_leak_or_surprise_are_refused(name: str) -> None:
    """T79: no user, password or query in an address, no other scheme; none is repeated."""
    refused(name)


@pytest.mark.parametrize("name", ["nope:m", "", ":", "openai:", "anthropic:"])
def test_names_that_make_no_sense_are_refused(name: str) -> None:
    """And the known providers are named."""
    assert "Known: openai" in refused(name, **KEYS)


def test_a_key_is_never_sent_in_the_clear() -> None:
    """http beyond this machine with a key is refused; without a key, or here, it is not."""
    away, here = "http://models.lan/v1", "http://127.0.0.1:8000/v1"
    assert "in the clear" in refused(f"{away}#m", OPENAI_BASE_URL=away, OPENAI_API_KEY=KEY)
    assert found(f"{away}#m", OPENAI_API_KEY=KEY).key is None
    assert found(f"{here}#m", OPENAI_BASE_URL=here, OPENAI_API_KEY=KEY).key is not None


@pytest.mark.parametrize("provider", [name for name, row in PROVIDERS.items() if row.key_variables])
def test_a_key_goes_to_its_own_provider_only(provider: str) -> None:
    """T79: every other name gets no key at all, also with all keys set."""
    row = PROVIDERS[provider]
    places = {row.url_variable: "https://mine.example.com"} if row.url_variable else {}
    for variable in row.key_variables:
        one = found(f"{provider}:m", **{variable: f"{KEY}-{provider}"}, **places)
        assert one.key is not None
        assert one.key.get_secret_value() == f"{KEY}-{provider}"
        assert one.key_variable == variable
        assert KEY not in repr(one)
    host = "https://mine.example.com.evil.example/v1"
    assert found(f"{host}#m", **KEYS, **places).key is None
    assert found("vllm:m", **KEYS, **places).key is None


@given(st.from_regex(r"[a-z0-9-]{1,12}(\.[a-z0-9-]{1,12}){1,3}", fullmatch=True))
def test_an_address_in_a_flag_gets_no_key(host: str) -> None:
    """T79: whatever its host, unless the environment binds a key to that very address."""
    environ = {**KEYS, "OPENAI_BASE_URL": "https://bound.example.com/v1"}
    try:
        one = address(f"https://{host}/v1#m", offline=False, environ=environ)
    except UnderstudyError:
        return
    assert one.key is None or host == "bound.example.com"


def test_the_environment_binds_a_key_to_an_address() -> None:
    """By name and by address, with the header that its API wants."""
    environ = {
        **KEYS,
        "OPENAI_BASE_URL": "https://proxy.example.com/v1/",
        "AZURE_OPENAI_ENDPOINT": "https://mine.openai.azure.com/",
        "ANTHROPIC_BASE_URL": "https://claude.example.com",
    }
    azure = found("azure:gpt", **environ)
    assert azure.base_url == "https://mine.openai.azure.com/openai/v1"
    assert azure.key_header == "api-key"
    native = found("anthropic:claude", **environ)
    assert native.base_url == "https://claude.example.com/v1"
    assert (native.api, native.key_header) == ("anthropic", "x-api-key")
    for name in ("openai:m", "https://proxy.example.com/v1#m"):
        one = found(name, **environ)
        assert one.key is not None
        assert one.identity == "https://proxy.example.com/v1#m"
        assert one.quirks == Quirks()  # another server need not share OpenAI's
    assert found("gpt", OPENAI_API_KEY=KEY).quirks.limit_name == "max_completion_tokens"


def test_a_provider_without_an_address_says_which_variable() -> None:
    """Azure's is the user's own."""
    assert "AZURE_OPENAI_ENDPOINT" in refused("azure:m", AZURE_OPENAI_API_KEY=KEY)


@pytest.mark.parametrize("provider", [name for name, row in PROVIDERS.items() if row.key_variables])
def test_a_missing_key_says_which_variable(provider: str) -> None:
    """The first of the provider's variables, set in the shell."""
    row = PROVIDERS[provider]
    places = {row.url_variable: "https://mine.example.com"} if row.url_variable else {}
    assert f"Set {row.key_variables[0]}" in refused(f"{provider}:m", **places)


@pytest.mark.parametrize("key", ["sk-a\nX-Evil: hunter2", "sk-a hunter2", "sk-hunter2é"])
def test_a_key_that_no_header_carries_is_refused_unseen(key: str) -> None:
    """Line breaks and spaces would write headers of their own."""
    assert "OPENAI_API_KEY" in refused("openai:m", OPENAI_API_KEY=key)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:11434/v1"),
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),  # noqa: S104
        ("0.0.0.0:9999", "http://127.0.0.1:9999/v1"),
        ("box.lan", "http://box.lan:11434/v1"),
        ("http://box.lan:1/", "http://box.lan:1/v1"),
        ("https://box.lan:443", "https://box.lan:443/v1"),
    ],
)
def test_ollama_host_in_its_spellings(host: str, url: str) -> None:
    """As Ollama itself takes them; it costs nothing wherever it is."""
    one = found("ollama:llama", OLLAMA_HOST=host)
    assert one.base_url == url
    assert one.local


def test_offline_lets_nothing_off_this_machine() -> None:
    """Not by name, not by address."""
    for name in ("openai:m", "https://api.example.com/v1#m", "anthropic:m"):
        with pytest.raises(ProviderRefused, match="--offline"):
            address(name, offline=True, environ=KEYS)
    assert address("http://[::1]:8000/v1#m", offline=True, environ={}).base_url
    assert address("http://127.1:8000/v1#m", offline=True, environ={}).base_url


def test_the_default_teacher_is_that_of_the_key_found() -> None:
    """Each row that names one; none without a key."""
    for provider, row in PROVIDERS.items():
        if row.teacher:
            for variable in row.key_variables:
                assert default_teacher({variable: KEY}) == f"{provider}:{row.teacher}"
    with pytest.raises(ProviderRefused, match="no provider's key"):
        default_teacher({})


def test_every_row_makes_sense() -> None:
    """URLs can be called, keys and terms are there, defaults have a price."""
    for provider, row in PROVIDERS.items():
        if row.base_url:
            place = checked_url(row.base_url)
            assert place.on_this_machine == row.local
            assert row.local or place.url.startswith("https://")
        else:
            assert row.url_variable
        assert row.local or row.key_variables
        told = terms(provider)
        assert told.clause
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", told.checked_on)
        assert row.local or told.url.startswith("https://")


@pytest.mark.parametrize("row", [(name, row) for name, row in PROVIDERS.items() if row.teacher])
def test_default_teachers_have_a_price(
    row: tuple[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a quote can be given before anything is bought."""
    provider, found_row = row
    monkeypatch.setenv(PROVIDERS[provider].key_variables[0], KEY)
    _, price = endpoint(f"{provider}:{PROVIDERS[provider].teacher}", Settings())
    assert price.usd_in > 0
    assert price.usd_out > 0
    assert found_row is PROVIDERS[provider]


@pytest.mark.parametrize(
    ("name", "stance"),
    [
        ("openai:gpt-5.5", "restricted"),
        ("gpt-5.5", "restricted"),
        ("https://api.openai.com/v1#gpt-5.5", "restricted"),
        ("anthropic:claude", "restricted"),
        ("gemini:g", "restricted"),
        ("practice:dates", "allowed"),
        ("python:rules.answer", "allowed"),
        ("http://127.0.0.1:8000/v1#m", "unknown"),
        ("https://api.openai.com.evil.example/v1#m", "unknown"),
        ("ollama:llama", "unknown"),
        ("/models/mine", "unknown"),
        ("nobody:m", "unknown"),
    ],
)
def test_terms_are_told_for_any_model_name(name: str, stance: str) -> None:
    """By provider, by host, by folder; what is not known is called so."""
    assert terms(name).stance == stance


def test_a_name_that_resolves_to_a_metadata_service_is_not_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """T79: a harmless name may point anywhere."""
    import aiohttp

    async def resolve(*_: object) -> list[dict[str, object]]:
        return [
            {"hostname": "x", "host": METADATA, "port": 80, "family": 2, "proto": 6, "flags": 0}
        ]

    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", resolve)

    async def main() -> None:
        to, _ = endpoint(
            "http://harmless.example/v1#m", Settings(price_in=1, price_out=1, timeout=5)
        )
        assert isinstance(to, HttpEndpoint)
        try:
            await to.send(to.prepare(Request((Message("user", "hello"),), 5)))
        finally:
            await to.close()

    with pytest.raises(Unpaid, match=r"harmless\.example"):
        asyncio.run(main())


@given(st.text(max_size=30))
def test_no_host_raises(text: str) -> None:
    """Anything may stand where a host should."""
    assert is_no_api(text) in (True, False)
    try:
        checked_url(text)
    except UsageError:
        return
    assert text.strip().lower().startswith("http")
