"""Dates as people write them, in twelve languages, to ISO 8601.

Names of months and weekdays and each language's usual ways of writing a date come from the Unicode
CLDR tables, through Babel. How a date is read back is in ``date_reader.py``.
"""

from __future__ import annotations

from datetime import date, timedelta
from random import Random

from understudy.practice.cells import attribute, draw, generator, never
from understudy.practice.date_reader import LOCALES, read_date
from understudy.task import Cell, Plan, Spec

DESCRIPTION = "A model that turns a date, however it is written, into ISO 8601 (YYYY-MM-DD)"

FIRST, LAST = date(1950, 1, 1), date(2049, 12, 31)
NO_DATE = "none"

RULES = (
    "A date needs a day, a month and a year; without all three the answer is none.",
    "In figures the day comes first, unless the year does: 03/04/2024 is 3 April 2024.",
    "In figures with the year last, a second number above 12 is the day: 03/25/2024 is 25 March.",
    "With the year first the order is year, month, day, also without separators: 20240305.",
    "A year of two figures is 2000-2049 for 00-49 and 1950-1999 for 50-99; it always comes last.",
    "The weekday and all other words do not count.",
    "Of several dates the first counts; a date that does not exist (31 April) is no date.",
)

FORMS = {
    "in full": ("long",),
    "with weekday": ("full",),
    "short month": ("yMMMd",),
    "dashes": ("dd-MMM-y",),
    "English ordinal": ("d'{th}' 'of' MMMM y", "'the' d'{th}' 'of' MMMM, y", "MMMM d'{th}', y"),
    "figures, day first": ("dd.MM.y", "d.M.y", "dd/MM/y", "d/M/y", "dd-MM-y"),
    "figures, year first": ("y-MM-dd", "y/MM/dd", "y.MM.dd", "y/M/d"),
    "figures, compact": ("yMMdd",),
}
"""Ways of writing: CLDR patterns, or the name of a pattern that CLDR has for each language."""

WORDS = {
    "English": "on {}",
    "German": "am {}",
    "French": "le {}",
    "Spanish": "el {}",
    "Italian": "data: {}",
    "Portuguese": "em {}",
    "Dutch": "op {}",
    "Swedish": "den {}",
    "Polish": "dnia {}",
    "Turkish": "tarih: {}",
    "Russian": "дата: {}",
    "Chinese": "日期：{}",
}
"""A word that may stand before a date."""


def spec() -> Spec:
    """Dates: one line of text in, ten characters or ``none`` out."""
    return Spec(
        title="Dates to ISO 8601",
        input="A date as a person or a program wrote it, perhaps with a few words around it",
        output="The date as YYYY-MM-DD, and nothing else",
        kind="text",
        pattern=rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}|{NO_DATE}",
        max_chars=10,
        language=", ".join(LOCALES),
        rules=RULES,
        out_of_scope=NO_DATE,
        assumptions=("The calendar is the Gregorian one.",),
        questions=("Is 03/04/2024 the 3rd of April (assumed here) or the 4th of March?",),
        same_answer_same_meaning=True,
        system_message="Write the date in the message as YYYY-MM-DD. Answer with that alone, or "
        f"with {NO_DATE} if there is no full date.\n" + "\n".join(f"- {rule}" for rule in RULES),
    )


def plan() -> Plan:
    """Every language as often as the others; plain ways of writing more often than odd ones."""
    weights = dict.fromkeys(FORMS, 1.0) | {"in full": 6, "short month": 4, "English ordinal": 4}
    weights |= {"figures, day first": 4, "figures, year first": 3}
    no_english = [language for language in LOCALES if language != "English"]
    return Plan(
        attributes=(
            attribute("language", dict.fromkeys(LOCALES, 1.0)),
            attribute("form", weights),
            attribute("around", {"nothing": 19, "a word": 1}),
        ),
        impossible=(
            *never("form", "English ordinal", "language", *no_english),
            *never("form", "dashes", "language", "Chinese"),
        ),
    )


def inputs(cell: Cell, how_many: int, seed: int) -> list[str]:
    """Write ``how_many`` dates for ``cell``; what the cell leaves open is drawn from the plan."""
    whole, rng = plan(), generator(cell, seed)
    return [write(draw(whole, rng, cell), rng)[0] for _ in range(how_many)]


def answer(text: str) -> str:
    """Find the first date in any text and write it as ISO 8601, or say ``none``."""
    found = read_date(text)
    return found.isoformat() if found else NO_DATE


def write(cell: Cell, rng: Random) -> tuple[str, str]:
    """Write one random date as ``cell`` asks. Returns the text and the true answer."""
    day = FIRST + timedelta(days=rng.randint(0, (LAST - FIRST).days))
    text = _formatted(day, rng.choice(FORMS[cell["form"]]), LOCALES[cell["language"]])
    if cell["around"] == "a word":
        text = WORDS[cell["language"]].format(text)
    return text, day.isoformat()


def _formatted(day: date, pattern: str, locale: str) -> str:
    from babel.dates import format_date, format_skeleton

    if pattern == "yMMMd":
        text = format_skeleton(pattern, day, locale=locale)
    else:
        text = format_date(day, pattern, locale=locale)
    return text.replace("{th}", _ordinal_ending(day.day))


def _ordinal_ending(number: int) -> str:
    if number in (11, 12, 13):
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
