"""Secrets in texts: each kind is found wherever it stands, nothing of it is left, prose stays."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exports import PLANTED, planted
from understudy.clean.secrets import PERSONAL, SECRETS, count, cut

PROSE = [
    "The task-2024-08-15-release-candidate branch is risk-free and desk-bound.",
    "sk-learn is not scikit-learn, and ask-me-anything-about-our-products has no digit.",
    "Order 4111-1111 left on 2024-03-05 at 10:15; tracking 1Z999AA10123456784.",
    "commit 3f786850e387550fdab836ed7e6dc881de23001b and uuid 123e4567-e89b-12d3-a456-426614174000",
    "See https://example.com:8080/a@b and mailto:x, or http://localhost:8000/path?at=@home.",
    "The bearer of this letter is internationally recognised.",
    "My password: I forgot it. Reset password=please",
    "The public key is AAAAB3NzaC1yc2EAAAADAQABAAABAQ and the token economy grows.",
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk",
]


@pytest.mark.parametrize("text", PROSE)
def test_prose_is_left_as_it_is(text):
    assert cut(text) == (text, {})


@pytest.mark.parametrize("kind", PLANTED)
def test_each_kind_is_found_by_its_name(kind):
    found = cut(f"Look: {planted(kind)}, please.")
    assert PLANTED[kind] not in found.text
    assert found.found == {kind: 1}
    assert found.text.startswith("Look: ")
    assert "[secret]" in found.text


MORE = {
    "OpenAI key": ["sk-" + "aB3d" * 12, "sk-svcacct-" + "x9_Y-" * 8, "sk-None-" + "q1" * 20],
    "OpenRouter key": ["sk-or-v1-" + "0a1b2c3d" * 8],
    "AWS secret key": ['aws_secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzzzzzzzKEY"'],
    "GitHub token": ["github_pat_" + "11ABCDE_0" * 9, "gho_" + "Z9" * 18],
    "GitLab token": ["glpat-" + "x1Y2z3A4b5C6d7E8f9G0"],
    "Slack token": [
        "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"
    ],
    "Discord webhook": [
        "https://discord.com/api/webhooks/123456789012345678/" + "aB3_dE6-" * 8 + "Zq9x",
        "https://discordapp.com/api/webhooks/123456789012345678/" + "aB3_dE6-" * 8,
    ],
    "Telegram token": [
        "123456789:AA" + "HdqTcvCH1vGWJxfSeofSAs0K5PALDsaw9",
        "https://api.telegram.org/bot1234567890:AA" + "a_1-" * 8 + "z/getMe",
    ],
    "Google key": ["GOCSPX-" + "ab1-cd2_ef3gh4ij5kl6mn7op8q9"],
    "Stripe key": ["whsec_" + "a1B2" * 8, "rk_test_" + "9aZ8" * 6],
    "provider key": ["gsk_" + "a1B2" * 13, "npm_" + "A1b2" * 9, "r8_" + "x1Y2" * 9],
    "Azure key": ["AccountName=a;AccountKey=" + "a1B2" * 21 + "==;"],
    "password in a URL": ["redis://:p4ss@host:6379/0", "https://me:secret@git.example.com/x.git"],
    "key in a header": ["x-api-key: 0123456789abcdef", "bearer abcdefgh1jklmnopqrstuvwxyz"],
    "named secret": [
        "client_secret=8f14e45fceea167a5a36dedd4bea2543",
        'api-key: "A1b2C3d4E5f6G7h8"',
    ],
    "named password": ["password=Tr0ub4dor&3", '"passwd": "hunter22"'],
    "private key": [
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7bq\n",  # its end was cut away
        '{"key": "-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBg\\n-----END PRIVATE KEY-----"}',
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQ\n=ab\n-----END PGP PRIVATE KEY BLOCK-----",
    ],
}


@pytest.mark.parametrize(("kind", "text"), [(k, t) for k, texts in MORE.items() for t in texts])
def test_other_spellings(kind, text):
    found = cut(f"{text} and so on")
    assert found.found == {kind: 1}, found
    assert found.text.endswith("and so on")
    assert cut(found.text).text == found.text


def test_a_password_with_an_at_sign_is_cut_whole():
    assert cut("postgres://app:p4@ss@db/x").text == "postgres://app:[secret]@db/x"


AROUND = st.text(st.characters(codec="utf-8"), max_size=30)
BOUNDARY = st.sampled_from([" ", "\n", '"', "'", "(", "=", ",", "<", "\t", "："])


@settings(max_examples=200, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(sorted(PLANTED)), min_size=1, max_size=4),
    texts=st.lists(AROUND, min_size=5, max_size=5),
    edges=st.lists(BOUNDARY, min_size=8, max_size=8),
)
def test_no_planted_secret_survives_wherever_it_stands(kinds, texts, edges):
    """Several in one text, between any others: none is left, and cutting again changes nothing."""
    text = texts[0]
    for kind, after, left, right in zip(kinds, texts[1:], edges[::2], edges[1::2], strict=False):
        text += left + planted(kind) + right + after
    found = cut(text)
    for kind in kinds:
        assert PLANTED[kind] not in found.text
    assert found.found.total() >= 1
    again = cut(found.text)
    assert (again.text, again.found) == (found.text, {})


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=300))
def test_cutting_is_done_once_whatever_the_text(text):
    every = (*SECRETS, *PERSONAL)
    once = cut(text, every)
    assert cut(once.text, every) == (once.text, {})
    if not once.found:
        assert once.text == text


@pytest.mark.parametrize("form", [*SECRETS, *PERSONAL], ids=lambda form: form.kind)
def test_a_long_text_is_read_in_no_time(form):
    """No pattern runs away on what is made to make it: a second for a megabyte is plenty."""
    pieces = list(form.hints) or ["1"]
    text = "".join(f"{piece}{'a1-' * 40}" for piece in pieces) * (400_000 // (120 * len(pieces)))
    started = time.process_time()
    cut(text, [form])
    assert time.process_time() - started < 5


def test_personal_data_is_counted_and_cut_only_on_request():
    text = "Ann (ann.b@example.co.uk, +44 20 7946 0958): 4111 1111 1111 1111, not 1234567890123."
    assert cut(text).text == text
    assert count(text) == {"e-mail address": 1, "phone number": 1, "card number": 1}
    assert cut(text, PERSONAL).text == "Ann ([e-mail], [phone]): [card], not 1234567890123."
