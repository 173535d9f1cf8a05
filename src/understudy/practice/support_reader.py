"""Find order number, product and intent in any message to the shop."""

from __future__ import annotations

import re
import unicodedata

from understudy.practice.catalogue import PRODUCTS

CUES = {
    "cancel": r"cancel|call(?:ing)? off|(?:stop|withdraw) (?:the|my|this) order"
    r"|(?:do not|don't) (?:ship|send|dispatch)",
    "refund": r"refund|reimburse|money back|my money|give .{0,20}money",
    "exchange": r"exchange|swap|replace|(?:different|other|another) (?:colou?r|size|model|one)"
    r"|\ba new one",
    "invoice": r"invoice|receipt|\bbill(?:s|ing|ed)?\b|\bvat\b|proof of purchase",
    "damaged": r"broke|crack|damage|scratch|\btorn\b|\bdent|defect|fault|in pieces|smashed|leak"
    r"|(?:does not|doesn't|did not|didn't|not|stopped|won't|will not) (?:work|turn on|switch on)",
    "delivery": r"where(?:'s| is| are)|when will|waiting|\blate\b|delay|deliver|track|\barrive|"
    r"(?:not|n't|never) (?:yet )?(?:come|here|received|shown up|turned up|got)|on its way|lost",
}
"""Intent to the words that show it, in the order in which they count.

What is asked for (cancel to invoice) comes before what is only reported (damaged, delivery).
"""

OTHER = "other"

_REPORTS = ("damaged", "delivery")
_UNWANTED = re.compile(
    r"(?:(?:not|n't|no longer) (?:want|need|ask(?:ing)? for|looking for|after)|instead of"
    r"|rather than|\bnot?) (?:(?:a|an|any|the|my|your|to) ){0,2}$"
)
"""Words before a wish that say that it is not the wish."""

_CUES = {intent: re.compile(cue) for intent, cue in CUES.items()}
_ORDER = re.compile(r"(?<![0-9])(?<![0-9][ .,-])([0-9]{2})[ -]?([0-9]{3})(?![0-9]|[ .,-][0-9])")
_NAMES = {name: product for product, names in PRODUCTS.items() for name in names} | {
    "headphones": "headset",
    "earphones": "headset",
}
_PRODUCT = re.compile(rf"\b({'|'.join(sorted(_NAMES, key=len, reverse=True))})s?\b")


def order_number(text: str) -> str | None:
    """Return the five digits of the first order number, or None."""
    found = _ORDER.search(_fold(text))
    return found[1] + found[2] if found else None


def product(text: str) -> str | None:
    """Return the catalogue's name of the first product named, or None."""
    found = _PRODUCT.search(_fold(text).replace("-", " "))
    return _NAMES[found[1]] if found else None


def intent(text: str) -> str:
    """Return the first intent of ``CUES`` that the message shows, or ``other``."""
    plain = _fold(text)
    for name, cue in _CUES.items():
        for found in cue.finditer(plain):
            if name in _REPORTS or not _UNWANTED.search(plain, 0, found.start()):
                return name
    return OTHER


def _fold(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    return " ".join(plain.split())
