"""Whether providers let what their models write be used to train other models: a dated table.

In our own few words and no legal advice: the terms themselves count, and they change. Where they
could not be read on the day below, it says so.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from understudy.models.address import address
from understudy.models.providers import CHECKED_ON, PROVIDERS

Stance = Literal["restricted", "allowed", "unknown"]


class Terms(NamedTuple):
    """What the terms of one provider say of training on outputs."""

    stance: Stance
    clause: str
    """In a few words."""
    url: str
    """Where the terms are; empty where there are none."""
    checked_on: str = CHECKED_ON

    def __str__(self) -> str:
        place = f" ({self.url}, read {self.checked_on})" if self.url else ""
        return f"{self.clause}{place}"


_UNREAD = "not verified here: read the terms before training on its outputs"
_OPEN_MODELS = (
    "the host's terms were not verified here; each model has a licence of its own as well"
)
_OWN = "runs on your machine: the model's own licence counts"

_TERMS: dict[str, Terms] = {
    "openai": Terms(
        "restricted",
        "outputs may not be used to develop models that compete with OpenAI",
        "https://openai.com/policies/services-agreement/",
    ),
    "azure": Terms("unknown", _UNREAD, "https://www.microsoft.com/licensing/terms/"),
    "anthropic": Terms(
        "restricted",
        "no training of competing AI models without approval; narrow tools such as classifiers, "
        "extraction and summaries are named as allowed",
        "https://support.claude.com/en/articles/12326764-can-i-use-my-outputs-to-train-an-ai-model",
    ),
    "gemini": Terms(
        "restricted",
        "the service may not be used to develop models that compete with it",
        "https://ai.google.dev/gemini-api/terms",
    ),
    "mistral": Terms("unknown", _UNREAD, "https://mistral.ai/terms"),
    "deepseek": Terms(
        "unknown",
        "not verified here: the terms of the service and the licences of its models differ",
        "https://platform.deepseek.com/",
    ),
    "dashscope": Terms("unknown", _UNREAD, "https://www.alibabacloud.com/help/en/legal/"),
    "together": Terms("unknown", _OPEN_MODELS, "https://www.together.ai/terms-of-service"),
    "fireworks": Terms(
        "restricted",
        "content had from the service may not be used to train or develop AI models",
        "https://fireworks.ai/terms-of-service",
    ),
    "openrouter": Terms(
        "unknown",
        "the terms of the model's own maker count as well",
        "https://openrouter.ai/terms",
    ),
    "groq": Terms(
        "unknown", _OPEN_MODELS, "https://console.groq.com/docs/legal/services-agreement"
    ),
    "nebius": Terms("unknown", _OPEN_MODELS, "https://docs.nebius.com/legal/"),
    "ollama": Terms("unknown", _OWN, ""),
    "vllm": Terms("unknown", _OWN, ""),
    "llamacpp": Terms("unknown", _OWN, ""),
    "lmstudio": Terms("unknown", _OWN, ""),
}
_PRACTICE = Terms("allowed", "a program of this package wrote it", "")
_FUNCTION = Terms("allowed", "your own function wrote it", "")
_ELSEWHERE = Terms("unknown", "no terms are known here: ask whoever runs the endpoint", "")
_FOLDER = Terms("unknown", _OWN, "")


def terms(name: str) -> Terms:
    """The terms for a provider's name or any model name; unknown where there is no row.

    ``https://api.openai.com/v1#gpt-5.5`` has the terms of ``openai``.
    """
    if name in _TERMS:
        return _TERMS[name]
    if name.startswith("practice:"):
        return _PRACTICE
    if name.startswith("python:"):
        return _FUNCTION
    if name.startswith(("hf:", "run:", "/", "./", "../", "~")):
        return _FOLDER
    if "://" in name:
        return _of_host(name)
    provider = name.partition(":")[0] if ":" in name else "openai"
    return _TERMS.get(provider, _ELSEWHERE)


def _of_host(name: str) -> Terms:
    """By the provider whose host it is."""
    host = address(name if "#" in name else f"{name}#-", offline=False, environ={}).provider
    for provider, row in PROVIDERS.items():
        if not row.local and row.base_url.partition("://")[2].partition("/")[0] == host:
            return _TERMS[provider]
    return _ELSEWHERE
