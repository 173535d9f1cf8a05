"""The providers that are known by name, as data: where each is, its key, what it wants otherwise.

Nothing here is needed for an endpoint: ``http(s)://host/v1#model`` names any other. ``teacher`` is
a general model that the provider offered on the day below; empty where none is safe to name, so
that the user says which.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from understudy.models.protocol import Quirks

CHECKED_ON = "2026-11-22"

Api = Literal["openai", "anthropic"]
Tuning = Literal["", "openai", "together", "fireworks"]
"""How a provider is asked to fine-tune; empty: not, as far as is known."""


class Provider(NamedTuple):
    """One row."""

    base_url: str
    """Where the API is; empty where only the environment says it."""
    key_variables: tuple[str, ...] = ()
    """Environment variables of the key; the first that is set counts."""
    url_variable: str = ""
    """Environment variable that says where the API is instead."""
    url_path: str = ""
    """What follows the host in that variable, where people leave it away."""
    api: Api = "openai"
    key_header: str = "Authorization"
    quirks: Quirks = Quirks()
    teacher: str = ""
    price_id: str | None = None
    """Its name in the price table; None if it is not in there."""
    local: bool = False
    """Runs on the user's machine: costs nothing, needs no key."""
    tuning: Tuning = ""


_NEW_LIMIT = Quirks(limit_name="max_completion_tokens")
_NO_SCHEMA = Quirks(json_mode="json_object")

PROVIDERS: dict[str, Provider] = {
    "openai": Provider(
        "https://api.openai.com/v1",
        ("OPENAI_API_KEY",),
        url_variable="OPENAI_BASE_URL",
        quirks=_NEW_LIMIT,
        teacher="gpt-5.5",
        price_id="openai",
        tuning="openai",
    ),
    "anthropic": Provider(
        "https://api.anthropic.com/v1",
        ("ANTHROPIC_API_KEY",),
        url_variable="ANTHROPIC_BASE_URL",
        url_path="/v1",
        api="anthropic",
        key_header="x-api-key",
        teacher="claude-sonnet-5-5",
        price_id="anthropic",
    ),
    "azure": Provider(
        "",
        ("AZURE_OPENAI_API_KEY",),
        url_variable="AZURE_OPENAI_ENDPOINT",
        url_path="/openai/v1",
        key_header="api-key",
        quirks=_NEW_LIMIT,
        price_id="azure",
        tuning="openai",
    ),
    "gemini": Provider(
        "https://generativelanguage.googleapis.com/v1beta/openai",
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        price_id="google",
    ),
    "mistral": Provider(
        "https://api.mistral.ai/v1",
        ("MISTRAL_API_KEY",),
        teacher="mistral-large-latest",
        price_id="mistral",
    ),
    "deepseek": Provider(
        "https://api.deepseek.com/v1",
        ("DEEPSEEK_API_KEY",),
        quirks=_NO_SCHEMA,
        price_id="deepseek",
    ),
    "dashscope": Provider(
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        ("DASHSCOPE_API_KEY",),
        url_variable="DASHSCOPE_BASE_URL",
        quirks=_NO_SCHEMA,
    ),
    "together": Provider(
        "https://api.together.xyz/v1",
        ("TOGETHER_API_KEY",),
        url_variable="TOGETHER_BASE_URL",
        price_id="together",
        tuning="together",
    ),
    "fireworks": Provider(
        "https://api.fireworks.ai/inference/v1",
        ("FIREWORKS_API_KEY",),
        url_variable="FIREWORKS_BASE_URL",
        price_id="fireworks",
        tuning="fireworks",
    ),
    "openrouter": Provider(
        "https://openrouter.ai/api/v1", ("OPENROUTER_API_KEY",), price_id="openrouter"
    ),
    "groq": Provider("https://api.groq.com/openai/v1", ("GROQ_API_KEY",), price_id="groq"),
    "nebius": Provider(
        "https://api.tokenfactory.nebius.com/v1",
        ("NEBIUS_API_KEY",),
        url_variable="NEBIUS_BASE_URL",
        tuning="openai",
    ),
    "ollama": Provider(
        "http://127.0.0.1:11434/v1", url_variable="OLLAMA_HOST", url_path="/v1", local=True
    ),
    "vllm": Provider("http://127.0.0.1:8000/v1", local=True),
    "llamacpp": Provider("http://127.0.0.1:8080/v1", local=True),
    "lmstudio": Provider("http://127.0.0.1:1234/v1", local=True),
}
