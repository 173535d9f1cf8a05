"""Find a duration in any English text: a run of pieces, added up unit by unit.

A piece is an amount, a unit and perhaps a fraction behind it ("2 days", "30min", "an hour and a
half"), or a clock (1:30:00), or ISO 8601 itself (PT1H30M). The first run of the text counts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from fractions import Fraction

Amounts = dict[str, Fraction]
"""Sign of a unit to how many of it; a sign is the one of ISO 8601, small if it stands after T."""

UNITS = {
    "Y": ("year", "years", "yr", "yrs", "y"),
    "M": ("month", "months", "mo", "mos"),
    "W": ("week", "weeks", "wk", "wks", "w"),
    "D": ("day", "days", "d"),
    "h": ("hour", "hours", "hr", "hrs", "h"),
    "m": ("minute", "minutes", "min", "mins", "m"),
    "s": ("second", "seconds", "sec", "secs", "s"),
}
"""Each unit, largest first, and its names."""

SMALLER = {
    "Y": (12, "M"),
    "M": (30, "D"),
    "W": (7, "D"),
    "D": (24, "h"),
    "h": (60, "m"),
    "m": (60, "s"),
}
"""Into how many of which smaller unit a fraction of a unit is carried."""

# fmt: off
ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
# fmt: on

_NAMES = {name: (1, sign) for sign, names in UNITS.items() for name in names} | {
    "fortnight": (2, "W"),
    "fortnights": (2, "W"),
    "decade": (10, "Y"),
    "decades": (10, "Y"),
}
_FRACTIONS = {"half": 2, "halves": 2, "third": 3, "thirds": 3, "quarter": 4, "quarters": 4}


def _any_of(words: Iterable[str]) -> str:
    return f"(?:{'|'.join(sorted(words, key=len, reverse=True))})"


# First everything becomes figures: number words, sets, fractions, "an hour", "2h30".
_SMALL = rf"(?:{_any_of(TENS[2:])}(?: {_any_of(ONES[1:10])})?|{_any_of(ONES)})"
_WORDS = re.compile(
    rf"\b(?:(?:(?P<hundreds>{_SMALL}|an?) )?(?P<hundred>hundred)"
    rf"(?:(?: and)? (?P<rest>{_SMALL})(?! (?:hal|quarter|third)))?|(?P<small>{_SMALL}))\b"
)
_HALF_OF = re.compile(
    r"\b(?:(?P<count>[0-9]{1,2}|an?) )?"
    r"(?P<part>half|halves|quarters?|thirds?(?= of)|(?<=[0-9a] )thirds?)"
    r"(?: of)?(?: an?)?(?![a-z])"
)
_UNIT = rf"{_any_of(_NAMES)}(?![a-z])"
_SETS = ((r"\bhalf a dozen\b", "6"), (r"\b(?:a )?dozen\b", "12"), (r"\ba couple(?: of)?\b", "2"))
_REWRITES = (
    (_HALF_OF, lambda found: f"{_count(found['count'])}/{_FRACTIONS[found['part']]}"),
    (re.compile(rf"\ban? (?={_UNIT})"), "1 "),
    (re.compile(r"([0-9] ?h) ?([0-5][0-9])(?![0-9:.,/])(?! ?(?:m|s))"), r"\1 \2m"),
)

# Then one pattern finds a piece of any of the three shapes.
_PART = r"[0-9]{1,3}/[1-9][0-9]{0,2}(?![0-9/])"
_NUMBER = (
    rf"(?:[0-9]{{1,9}} )?{_PART}|[0-9]{{1,3}}(?:,[0-9]{{3}}){{1,2}}(?![0-9])"
    r"|[0-9]{1,9}(?:[.,][0-9]{1,9})?"
)
_TERM = (
    rf"(?:(?<![0-9.,:/])(?P<number>{_NUMBER})(?: and (?P<more>{_PART}))? ?|(?<![a-z0-9]))"
    rf"(?P<unit>{_UNIT})(?: and (?P<tail>{_PART})(?! ?{_UNIT}))?"
)
_CLOCK = (
    r"(?<![0-9.,:/])(?P<hours>[0-9]{1,4}):(?P<minutes>[0-5][0-9])(?::(?P<seconds>[0-5][0-9]))?"
    r"(?![0-9:])(?! ?[ap]\.?m\b)"
)
_ISO = (
    r"\bp(?=[0-9t])"
    + "".join(rf"(?:(?P<{sign}>[0-9]{{1,9}}){sign.lower()})?" for sign in "YMWD")
    + r"(?:t(?=[0-9])"
    + "".join(rf"(?:(?P<{sign}>[0-9]{{1,9}}(?:\.[0-9]{{1,9}})?){sign})?" for sign in "hms")
    + r")?(?![a-z0-9])"
)
_PIECE = re.compile(f"{_ISO}|{_CLOCK}|{_TERM}")
_GLUE = re.compile(r"[ ,;&+]*(?:and|plus)? ?")


def read_duration(text: str) -> Amounts | None:
    """Return the first duration of ``text``, or None if there is none."""
    plain = _in_figures(text)
    total: Amounts = {}
    end = None
    for found in _PIECE.finditer(plain):
        piece = _amounts(found)
        if not piece:
            continue  # a unit without an amount: "per hour"
        if end is not None and not _GLUE.fullmatch(plain, end, found.start()):
            break  # another duration begins
        end = found.end()
        for sign, amount in piece:
            _add(total, sign, amount)
    return None if end is None else total


def iso(amounts: Amounts) -> str:
    """Write whole ``amounts`` as ISO 8601; weeks stand alone or become days, zero is PT0S."""
    left = {sign: amount for sign, amount in amounts.items() if amount}
    if "W" in left and len(left) > 1:
        left["D"] = left.get("D", Fraction(0)) + 7 * left.pop("W")
    day = "".join(f"{_plain(left[sign])}{sign}" for sign in "YMWD" if sign in left)
    time = "".join(f"{_plain(left[sign])}{sign.upper()}" for sign in "hms" if sign in left)
    return f"P{day}{'T' if time else ''}{time}" if left else "PT0S"


def _in_figures(text: str) -> str:
    """Fold case and spaces; write numbers, fractions and the article before a unit in figures."""
    text = re.sub(r"(?<=[0-9])(?=[¼½¾⅓⅔])", " ", text)
    plain = unicodedata.normalize("NFKC", text).lower().replace("\N{FRACTION SLASH}", "/")
    plain = " ".join(re.sub(r"(?<=[a-z0-9])[-\u2010-\u2014](?=[a-z])", " ", plain).split())
    for words, number in _SETS:
        plain = re.sub(words, number, plain)
    plain = _WORDS.sub(_number_word, plain)
    for pattern, figures in _REWRITES:
        plain = pattern.sub(figures, plain)
    return plain


def _number_word(found: re.Match[str]) -> str:
    if not found["hundred"]:
        return str(_small(found["small"]))
    hundreds = 1 if found["hundreds"] in (None, "a", "an") else _small(found["hundreds"])
    return str(100 * hundreds + _small(found["rest"] or "zero"))


def _small(words: str) -> int:
    """Read twenty-one or nineteen."""
    if words in ONES:
        return ONES.index(words)
    tens, _, ones = words.partition(" ")
    return 10 * TENS.index(tens) + ONES.index(ones or "zero")


def _count(word: str | None) -> int:
    return int(word) if word and word.isdigit() else 1


def _amounts(found: re.Match[str]) -> list[tuple[str, Fraction]]:
    if found["hours"]:
        clock = zip("hms", (found["hours"], found["minutes"], found["seconds"] or "0"), strict=True)
        return [(sign, Fraction(amount)) for sign, amount in clock]
    if found["unit"]:
        times, sign = _NAMES[found["unit"]]
        if not (found["number"] or found["tail"]):
            return []
        number = _number(found["number"] or "1")
        parts = sum(Fraction(found[part]) for part in ("more", "tail") if found[part])
        return [(sign, times * (number + parts))]
    return [(sign, Fraction(found[sign])) for sign in UNITS if found[sign]]


def _number(figures: str) -> Fraction:
    """Read 12, 1/2, 1 1/2, 1,500, 2.5 or 2,5."""
    if "/" in figures:
        whole, _, part = figures.rpartition(" ")
        return int(whole or 0) + Fraction(part)
    if re.fullmatch(r"[0-9]+(?:,[0-9]{3})+", figures):
        return Fraction(figures.replace(",", ""))
    return Fraction(figures.replace(",", "."))


def _add(total: Amounts, sign: str, amount: Fraction) -> None:
    """Add the whole part under its own sign and carry the rest into smaller units."""
    if sign == "s":
        total[sign] = total.get(sign, Fraction(0)) + Fraction(int(amount * 1000), 1000)
        return
    whole = int(amount)
    total[sign] = total.get(sign, Fraction(0)) + whole
    if amount > whole:
        times, smaller = SMALLER[sign]
        _add(total, smaller, (amount - whole) * times)


def _plain(amount: Fraction) -> str:
    """Write 5 or 1.25."""
    whole, thousandths = divmod(int(amount * 1000), 1000)
    return f"{whole}.{thousandths:03}".rstrip("0") if thousandths else str(whole)
