"""Faults that are errors of the API: kind to status and words.

Codes are those of OpenAI's guide "Error codes" (https://platform.openai.com/docs/guides/error-codes)
and, for 529, of Anthropic's "Errors".
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from understudy.practice.chat import ApiError, Completion
from understudy.practice.options import Options


class Refusal(NamedTuple):
    """An error, and which of the tokens are billed all the same."""

    status: int
    message: str
    code: str | None = None
    kind: str = "invalid_request_error"
    billed: Literal["nothing", "input", "all"] = "nothing"

    def bill(self, done: Completion) -> tuple[int, int]:
        """Input and output tokens that are billed."""
        if self.billed == "nothing":
            return 0, 0
        return done.input_tokens, done.output_tokens if self.billed == "all" else 0


_BUSY = "The server had an error while processing your request."
_FILTERED = "The response was filtered due to the prompt triggering the content management policy."

REFUSED = {
    "429": Refusal(429, "Rate limit reached, try again later.", "rate_limit_exceeded", "requests"),
    "429_quota": Refusal(
        429,
        "You exceeded your current quota, check your plan and billing details.",
        "insufficient_quota",
        "insufficient_quota",
    ),
    "500": Refusal(500, _BUSY, None, "server_error"),
    "500_paid": Refusal(500, _BUSY, None, "server_error", billed="all"),
    "502": Refusal(502, "Bad gateway.", None, "server_error"),
    "503": Refusal(503, "The engine is overloaded, try again later.", None, "server_error"),
    "504": Refusal(504, "Gateway timeout.", None, "server_error"),
    "529": Refusal(529, "Overloaded", None, "overloaded_error"),
    "307": Refusal(307, "Temporary redirect."),
    "308": Refusal(308, "Permanent redirect."),
    "400": Refusal(400, "The request is malformed.", None),
    "401": Refusal(401, "Incorrect API key provided.", "invalid_api_key"),
    "403": Refusal(
        403, "Country, region, or territory not supported.", "unsupported_country_region_territory"
    ),
    "404_model": Refusal(
        404, "The model does not exist or you do not have access to it.", "model_not_found"
    ),
    "context_length": Refusal(
        400,
        "This model's maximum context length is 8192 tokens. However, your messages resulted in "
        "9000 tokens. Please reduce the length of the messages.",
        "context_length_exceeded",
    ),
    "content_filter": Refusal(400, _FILTERED, "content_filter"),
    "content_filter_paid": Refusal(400, _FILTERED, "content_filter", billed="input"),
}
"""``500_paid`` did the work before it failed; ``content_filter_paid`` bills the prompt, as Azure
OpenAI does; a redirect goes to ``--redirect-to``."""


def refusal(kind: str) -> ApiError:
    """Return the error of a kind in ``REFUSED``."""
    said = REFUSED[kind]
    return ApiError(said.status, said.message, code=said.code, kind=said.kind)


def refusal_headers(kind: str, options: Options) -> dict[str, str]:
    """Return what a refusal says in its headers, as the options spell it."""
    headers = dict(options.refusal_headers)
    status = REFUSED[kind].status if kind in REFUSED else 0
    if status in (307, 308):
        headers["Location"] = options.redirect_to
    if status in (429, 503, 529):
        waits = {"Retry-After": options.retry_after, "retry-after-ms": options.retry_after_ms}
        headers |= {name: text for name, text in waits.items() if text}
    return headers
