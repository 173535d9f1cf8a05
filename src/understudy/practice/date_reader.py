"""Find a date in any text: three shapes of date, tried wherever they begin, the first one wins.

The shapes are figures (05.03.2024, 2024-03-05, 20240305), names of months (5 March 2024,
March 5th, 2024, 2024 March 5) and Chinese or Japanese signs (2024年3月5日, 二〇二四年三月五日).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from datetime import date
from functools import cache

from understudy.errors import SetupError

try:
    from babel import Locale
except ImportError:
    raise SetupError(
        "The dates practice task needs Babel", 'pip install "understudy[practice]"'
    ) from None

LOCALES = {
    "English": "en",
    "German": "de",
    "French": "fr",
    "Spanish": "es",
    "Italian": "it",
    "Portuguese": "pt",
    "Dutch": "nl",
    "Swedish": "sv",
    "Polish": "pl",
    "Turkish": "tr",
    "Russian": "ru",
    "Chinese": "zh",
}
"""Language to CLDR locale."""

_OTHER_NAMES = {"de": ("abbreviated",), "pl": ("wide",), "ru": ("wide", "abbreviated")}
"""Where CLDR has names of its own for a month that stands alone (nominative: marzec, март).

Only these are read: where a locale only points at its common names, Babel (2.18) gives another
locale's, once that one was read in the same process.
"""

_PLAIN = dict.fromkeys(map(ord, "\u2010\u2012\u2013\u2014\u2212"), "-") | {ord("ı"): "i"}
_HAN_DIGITS = {
    "〇": 0,
    "零": 0,
    **{sign: n for n, sign in enumerate("一二三四五六七八九", start=1)},
}

_FIGURES = re.compile(
    r"(?<!\d)(?<!\d[./-])"
    r"(?:(?P<year>\d{4})(?P<s>\s?[./-]\s?)(?P<month>\d{1,2})(?P=s)(?P<day>\d{1,2})"
    r"|(?P<one>\d{1,2})(?P<t>\s?[./-]\s?)(?P<two>\d{1,2})(?P=t)(?P<last>\d{4}|\d{2})"
    r"|(?P<y>(?:19|20)\d\d)(?P<m>\d\d)(?P<d>\d\d))"
    r"(?!\d)(?![./-]\d)"
)
_HAN = re.compile(
    r"(?<!\d)(?P<year>\d{4})\s?年\s?(?P<month>\d{1,2})\s?月\s?(?P<day>\d{1,2})\s?[日号號]"
)
_HAN_NUMBER = re.compile(rf"[{''.join(_HAN_DIGITS)}十]{{1,4}}(?=\s?[年月日号號])")

_GAP = r"(?:[\s.,/'’-]{0,3}(?:of|in|the|de|del|di|van|von)\b)?[\s.,/'’-]{0,3}"
_DAY = r"(?<!\d)(?P<day>\d{1,2})(?!\d)(?:st|nd|rd|th|er|re|o|a|e|-?го)?"
_YEAR = r"(?P<year>\d{4}|\d\d)(?![\d:])"
_FULL_YEAR = r"(?<!\d)(?P<year>\d{4})"


def read_date(text: str) -> date | None:
    """Return the first date of ``text`` that exists, or None."""
    plain = _HAN_NUMBER.sub(lambda found: _from_han(found[0]), fold(text))
    dates = [*_in_figures(plain), *_in_names(plain), *_in_signs(plain)]
    return min(dates)[1] if dates else None


def fold(text: str) -> str:
    """Take away what does not tell dates apart: case, accents, widths, dots of the Turkish i.

    Unicode compatibility decomposition, so that full-width figures and odd spaces become plain.
    """
    parts = unicodedata.normalize("NFKD", text).casefold()
    bare = "".join(sign for sign in parts if not unicodedata.combining(sign))
    return bare.translate(_PLAIN)


@cache
def months() -> dict[str, int]:
    """Folded name of a month, in any of the languages, to its number."""
    names: dict[str, int] = {}
    for code in LOCALES.values():
        if code == "zh":
            continue  # written in figures and signs
        known = Locale.parse(code).months
        tables = [known["format"][width] for width in ("wide", "abbreviated")]
        tables += [known["stand-alone"][width] for width in _OTHER_NAMES.get(code, ())]
        for table in tables:
            names |= {fold(name).rstrip("."): number for number, name in table.items()}
    return names


Found = tuple[int, date]
"""Where in the text a date begins, and the date."""


def _in_figures(text: str) -> Iterator[Found]:
    for found in _FIGURES.finditer(text):
        if found["one"]:
            day, month = int(found["one"]), int(found["two"])
            if month > 12:
                day, month = month, day
            yield from _existing(found.start(), found["last"], month, day)
        elif found["year"]:
            yield from _existing(
                found.start(), found["year"], int(found["month"]), int(found["day"])
            )
        else:
            yield from _existing(found.start(), found["y"], int(found["m"]), int(found["d"]))


def _in_names(text: str) -> Iterator[Found]:
    for shape in _named_shapes():
        for found in shape.finditer(text):
            month = months()[found["month"]]
            yield from _existing(found.start(), found["year"], month, int(found["day"]))


def _in_signs(text: str) -> Iterator[Found]:
    for found in _HAN.finditer(text):
        yield from _existing(found.start(), found["year"], int(found["month"]), int(found["day"]))


@cache
def _named_shapes() -> tuple[re.Pattern[str], ...]:
    """Day month year, month day year, year month day."""
    longest_first = sorted(months(), key=len, reverse=True)
    month = rf"(?<![^\W\d_])(?P<month>{'|'.join(map(re.escape, longest_first))})(?![^\W\d_])"
    orders = ((_DAY, month, _YEAR), (month, _DAY, _YEAR), (_FULL_YEAR, month, _DAY))
    return tuple(re.compile(_GAP.join(order)) for order in orders)


def _existing(start: int, year: str, month: int, day: int) -> Iterator[Found]:
    full = int(year)
    if len(year) == 2:
        full += 2000 if full < 50 else 1900
    try:
        yield start, date(full, month, day)
    except ValueError:
        return  # 31 April: no such date


def _from_han(number: str) -> str:
    """Write 二十三 as 23 and 二〇二四 as 2024."""
    if "十" not in number:
        return "".join(str(_HAN_DIGITS[sign]) for sign in number)
    tens, _, ones = number.partition("十")
    return str(10 * _HAN_DIGITS.get(tens, 1) + _HAN_DIGITS.get(ones, 0))
