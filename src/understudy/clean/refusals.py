"""Whether an answer declines to answer, told by how it opens, in fourteen languages.

Conservative on purpose: "I'm sorry to hear that", "I can't wait" and "we cannot refund this" are
answers. An example set apart by mistake can be accepted by hand, and there will be misses: this is
a sieve and no promise.
"""

from __future__ import annotations

import re
from functools import cache

from understudy.clean.phrases import LANGUAGES, NAMES
from understudy.similar import fold
from understudy.task import Spec

_OPENING = 400
"""Characters of an answer that are looked at."""
_OTHER_SCRIPTS = {"Russian", "Chinese", "Japanese", "Korean", "Arabic"}


def refuses(answer: str, spec: Spec | None = None) -> bool:
    """True if ``answer`` opens with a refusal that the spec does not itself ask for."""
    opening = _plain(answer[:_OPENING])
    for pattern in _patterns(ascii_only=opening.isascii()):
        found = pattern.match(opening)
        if found:
            return spec is None or found["refusal"] not in _asked_for(spec)
    return False


@cache
def _patterns(*, ascii_only: bool) -> tuple[re.Pattern[str], ...]:
    """One expression a language, but for those that nothing in ASCII can match."""
    patterns = []
    for language, phrases in LANGUAGES.items():
        if ascii_only and language in _OTHER_SCRIPTS:
            continue
        # Chinese and Japanese put nothing between words
        gap = r"\W*" if language in {"Chinese", "Japanese"} else r"\W+"
        openings, refusals = _either(phrases.openings), _either(phrases.refusals)
        patterns.append(re.compile(rf"[\W_]*(?:{openings}{gap}){{0,5}}(?P<refusal>{refusals})"))
    return tuple(patterns)


def _either(lines: str) -> str:
    """One expression for any of ``lines``, the names in it spelled out."""
    expression = "|".join(line.strip() for line in lines.strip().splitlines())
    while "<" in expression:
        expression = re.sub("<([^<>]+)>", lambda name: NAMES[name[1]], expression)
    return f"(?:{expression})"


def _asked_for(spec: Spec) -> str:
    """Everything in the spec that may tell the model to decline, and how."""
    return _plain("\n".join((spec.output, *spec.rules, spec.out_of_scope, spec.system_message)))


def _plain(text: str) -> str:
    return fold(re.sub("[’ʼ‘`´]", "'", text))
