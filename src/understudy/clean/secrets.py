"""Secrets in texts, as a table: what they look like, so that they can be cut before they are kept.

Only what has a form of its own is in the table: keys with a provider's prefix, private key blocks,
JSON web tokens, passwords in URLs, keys in headers, values that their name calls secret. Nothing is
guessed by how random it looks: in texts of people that would cut order numbers and hashes.
(Scanners of source code, detect-secrets among them, were looked at: they tell lines, not places to
cut, and their guesses by entropy and keyword are made for code.)

Personal data (e-mail addresses, phone and card numbers) is another table: it is counted, and cut
only on request, because it is often the very thing that a task is about.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

SECRET = "[secret]"  # noqa: S105 (what stands in its place)
"""What a secret is replaced by."""


class Form(NamedTuple):
    """What one kind looks like."""

    kind: str
    hints: tuple[str, ...]
    """Lower case: a text without any of them has none of this kind. Empty: always looked for."""
    pattern: re.Pattern[str]
    """Its group ``secret``, or all of it where there is no such group, is cut."""
    marker: str = SECRET
    holds: Callable[[str], bool] = lambda _: True
    """Whether what has the form is one."""


def _form(kind: str, hints: str, pattern: str, flags: int = 0) -> Form:
    return Form(kind, tuple(hints.split()), re.compile(pattern, flags))


_NAMED = r"(?:api|access|secret|auth|client|private|signing|encryption)[ _-]?(?:key|token|secret)"
_HAS_DIGIT = r"(?=[^\s\"'<>]{0,60}\d)"

SECRETS: tuple[Form, ...] = (
    _form(
        "private key",
        "-----begin",
        r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
        r"(?:(?:(?!-----BEGIN)[\s\S]){0,20000}?-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
        r"|(?:(?:\\r|\\n|\s)*[A-Za-z0-9+/=]{16,})*)",
    ),
    _form("Anthropic key", "sk-ant-", r"(?<![A-Za-z0-9])sk-ant-[A-Za-z0-9_-]{16,}"),
    _form("OpenRouter key", "sk-or-", r"(?<![A-Za-z0-9])sk-or-[A-Za-z0-9_-]{16,}"),
    _form(
        "OpenAI key",
        "sk-",
        r"(?<![A-Za-z0-9])sk-(?=[A-Za-z_-]{0,200}\d)[A-Za-z0-9_-]{20,}",
    ),
    _form("AWS key", "akia asia abia acca", r"(?<![A-Z0-9])(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}"),
    _form(
        "AWS secret key",
        "aws secret",
        r"(?:aws|secret)[\w .-]{0,20}key[\"']?\s{0,5}(?:=>|[:=])\s{0,5}[\"']?"
        r"(?P<secret>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+])",
        re.IGNORECASE,
    ),
    _form(
        "GitHub token",
        "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_",
        r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{22,})",
    ),
    _form("GitLab token", "glpat-", r"(?<![A-Za-z0-9])glpat-[A-Za-z0-9_-]{20,}"),
    _form(
        "Slack token",
        "xox xapp- hooks.slack.com",
        r"(?<![A-Za-z0-9])(?:xox[a-z]-[A-Za-z0-9-]{10,}|xapp-\d-[A-Za-z0-9-]{10,})"
        r"|hooks\.slack\.com/services/[A-Za-z0-9/_-]{20,}",
    ),
    _form(
        "Discord webhook",
        "/api/webhooks/",
        r"discord(?:app)?\.com/api/webhooks/\d{15,22}/(?P<secret>[\w-]{50,})",
        re.IGNORECASE,
    ),
    _form("Telegram token", ":aa", r"(?<!\d)\d{8,12}:AA[\w-]{33}(?![\w-])"),
    _form(
        "Google key",
        "aiza gocspx- ya29.",
        r"(?<![A-Za-z0-9])(?:AIza[\w-]{35}|GOCSPX-[\w-]{20,}|ya29\.[\w.-]{20,})",
    ),
    _form(
        "Stripe key",
        "_live_ _test_ whsec_",
        r"(?<![A-Za-z0-9])(?:[sr]k_(?:live|test)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/=]{20,})",
    ),
    _form("Hugging Face token", "hf_", r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{30,}"),
    _form(
        "provider key",
        "gsk_ xai- r8_ pplx- nvapi- dop_v1_ npm_ pypi- sg. shpat_ shpss_ dapi lin_api_ ntn_",
        r"(?<![A-Za-z0-9])(?:gsk_[A-Za-z0-9]{40,}|xai-[A-Za-z0-9]{40,}|r8_[A-Za-z0-9]{30,}"
        r"|pplx-[A-Za-z0-9]{40,}|nvapi-[\w-]{40,}|dop_v1_[a-f0-9]{60,}|npm_[A-Za-z0-9]{36}"
        r"|pypi-[\w-]{50,}|SG\.[\w-]{16,40}\.[\w-]{30,70}|shp(?:at|ss)_[a-fA-F0-9]{32}"
        r"|dapi[a-f0-9]{32}|lin_api_[A-Za-z0-9]{30,}|ntn_[A-Za-z0-9]{40,})",
    ),
    _form("Azure key", "accountkey=", r"AccountKey=(?P<secret>[A-Za-z0-9+/=]{40,})", re.IGNORECASE),
    _form(
        "JSON web token",
        "eyj",
        r"(?<![A-Za-z0-9])eyJ[\w-]{6,}\.eyJ[\w-]{6,}(?:\.[\w-]*)?",
    ),
    _form(
        "password in a URL",
        "://",
        r"[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s/:@\"'<>]{0,100}:"
        r"(?!\[secret\]@)(?P<secret>[^\s/\"'<>]{1,200})@",
    ),
    _form(
        "key in a header",
        "authorization bearer x-api-key",
        r"(?:authorization[\"']?\s{0,5}[:=]\s{0,5}[\"']?(?:bearer|basic|token)\s{1,5}"
        r"|x-api-key[\"']?\s{0,5}[:=]\s{0,5}[\"']?)(?P<secret>[\w.~+/=-]{8,})"
        rf"|\bbearer\s{{1,5}}{_HAS_DIGIT}(?P<secret_>[\w.~+/=-]{{20,}})",
        re.IGNORECASE,
    ),
    _form(
        "named secret",
        "key token secret",
        rf"{_NAMED}[\"']?\s{{0,5}}(?:=>|[:=])\s{{0,5}}[\"']?{_HAS_DIGIT}"
        r"(?=[^\s\"'<>]{0,60}[A-Za-z])(?P<secret>[\w+/.~=-]{16,})",
        re.IGNORECASE,
    ),
    _form(
        "named password",
        "passw pwd",
        rf"(?:password|passwd|pwd)[\"']?\s{{0,5}}(?:=\s{{0,5}}[\"']?|:\s{{0,5}}[\"']){_HAS_DIGIT}"
        r"(?!\[secret\])(?P<secret>[^\s\"',;<>()\[\]{}]{6,100})",
        re.IGNORECASE,
    ),
)


def _luhn(text: str) -> bool:
    """True if the digits have a card number's check digit."""
    digits = [int(one) for one in text if one.isdigit()]
    if len(set(digits)) < 2:
        return False
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


PERSONAL: tuple[Form, ...] = (
    Form(
        "e-mail address",
        ("@",),
        re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,5}"),
        "[e-mail]",
    ),
    Form(
        "card number",
        (),
        re.compile(r"(?<![\d.-])\d(?:[ -]?\d){12,18}(?![\d.-]*\d)"),
        "[card]",
        _luhn,
    ),
    Form("phone number", ("+",), re.compile(r"(?<!\w)\+\d(?:[ ()./-]{0,2}\d){7,14}"), "[phone]"),
)


class Cut(NamedTuple):
    """A text without what was looked for, and how many of each kind there were."""

    text: str
    found: Counter[str]


def cut(text: str, forms: Iterable[Form] = SECRETS) -> Cut:
    """Replace everything of those forms. What is left has none: cutting again finds nothing."""
    found: Counter[str] = Counter()
    forms = tuple(forms)
    while True:
        before, lower = text, text.lower()
        for form in forms:
            if not form.hints or any(hint in lower for hint in form.hints):
                text = _cut_one(text, form, found)
        if text == before:
            return Cut(text, found)


def count(text: str, forms: Iterable[Form] = PERSONAL) -> Counter[str]:
    """How many of each kind there are."""
    return cut(text, forms).found


def _cut_one(text: str, form: Form, found: Counter[str]) -> str:
    def replace(match: re.Match[str]) -> str:
        groups = match.groupdict()
        name = next((name for name, value in groups.items() if value), None)
        value = groups[name] if name else match.group()
        if not form.holds(value):
            return match.group()
        found[form.kind] += 1
        if name is None:
            return form.marker
        start, end = match.span(name)
        return (
            match.group()[: start - match.start()]
            + form.marker
            + match.group()[end - match.start() :]
        )

    return form.pattern.sub(replace, text)
