"""Durations as people write them in English, to ISO 8601.

How a duration is read back is in ``duration_reader.py``.
"""

from __future__ import annotations

from fractions import Fraction
from random import Random

from understudy.practice.cells import attribute, draw, generator, never
from understudy.practice.duration_reader import ONES, SMALLER, TENS, UNITS, iso, read_duration
from understudy.task import Cell, Plan, Spec

DESCRIPTION = "A model that turns a duration written in English into ISO 8601 (P1DT2H30M)"

NO_DURATION = "none"

RULES = (
    "Units stay as they are written: ninety minutes is PT90M, not PT1H30M.",
    "A half, a quarter or a decimal is carried into the next smaller unit: 2.5 days is P2DT12H.",
    "An hour and a half is PT1H30M, a year and a quarter P1Y3M, half a month P15D.",
    "Weeks alone keep their W: a fortnight is P2W.",
    "Beside another unit a week is seven days: one week and three days is P10D.",
    "A unit of which there is none is left out; nothing at all is PT0S.",
    "A clock is hours:minutes or hours:minutes:seconds: 1:30 is PT1H30M.",
    "y is years, mo months, w weeks, d days, h hours, m minutes, s seconds.",
    "A couple is two, a dozen twelve; a vague amount (a few hours) is none.",
    "The other words do not count. Of several durations the first counts.",
)

SHAPES = {
    "minutes": "m",
    "hours": "h",
    "days": "D",
    "weeks": "W",
    "years": "Y",
    "hours and minutes": "hm",
    "minutes and seconds": "ms",
    "days and hours": "Dh",
    "years and months": "YM",
    "days, hours and minutes": "Dhm",
    "hours, minutes and seconds": "hms",
}
"""Which units are written together."""

FIRST_UP_TO = {"Y": 40, "W": 52, "D": 99, "h": 48, "m": 120}
NEXT_UP_TO = {"M": 11, "D": 6, "h": 23, "m": 59, "s": 59}

SHORT = {"Y": "yr", "M": "mo", "W": "wk", "D": "day", "h": "hr", "m": "min", "s": "sec"}
PARTS = {"half": Fraction(1, 2), "quarter": Fraction(1, 4), "three quarters": Fraction(3, 4)}
FIGURES = {"half": ("½", ".5"), "quarter": ("¼", ".25"), "three quarters": ("¾", ".75")}

AROUND = {
    "nothing": ("{}",),
    "words before": ("for {}", "about {}", "it took {}", "every {}", "within {}", "wait {}"),
    "words behind": ("{} ago", "{} later", "{} at most", "{} or so"),
}


def spec() -> Spec:
    """Durations: one line of English in, one ISO 8601 duration or ``none`` out."""
    days = "".join(rf"([0-9]+{sign})?" for sign in "YMWD")
    time = r"([0-9]+H)?([0-9]+M)?([0-9]+(\.[0-9]+)?S)?"
    return Spec(
        title="Durations to ISO 8601",
        input="A duration in English, in words or figures, perhaps with a few words around it",
        output="The duration in ISO 8601, and nothing else",
        kind="text",
        pattern=rf"P(?=[0-9T]){days}(T(?=[0-9]){time})?|{NO_DURATION}",
        language="English",
        rules=RULES,
        out_of_scope=NO_DURATION,
        assumptions=("1:30 without seconds means hours and minutes.",),
        questions=("Should ninety minutes stay PT90M (assumed here) or become PT1H30M?",),
        same_answer_same_meaning=True,
        system_message="Write the duration in the message as an ISO 8601 duration. Answer with "
        f"that alone, or with {NO_DURATION} if there is none.\n"
        + "\n".join(f"- {rule}" for rule in RULES),
    )


def plan() -> Plan:
    """Combined units more often than single ones, which have few different values."""
    shapes = dict.fromkeys(SHAPES, 2.0) | {"hours and minutes": 5}
    shapes |= {"weeks": 0.5, "years": 0.5}
    forms = {"figures": 3, "words": 3, "short": 2, "signs": 2, "clock": 3, "fraction": 8}
    no_clock = [shape for shape, units in SHAPES.items() if units not in ("hm", "hms")]
    no_fraction = [shape for shape, units in SHAPES.items() if units not in ("Y", "D", "h", "m")]
    return Plan(
        attributes=(
            attribute("units", shapes),
            attribute("form", forms),
            attribute("around", {"nothing": 6, "words before": 3, "words behind": 1}),
        ),
        impossible=(
            *never("form", "clock", "units", *no_clock),
            *never("form", "fraction", "units", *no_fraction),
        ),
    )


def inputs(cell: Cell, how_many: int, seed: int) -> list[str]:
    """Write ``how_many`` durations for ``cell``; what it leaves open is drawn from the plan."""
    whole, rng = plan(), generator(cell, seed)
    return [write(draw(whole, rng, cell), rng)[0] for _ in range(how_many)]


def answer(text: str) -> str:
    """Find the first duration in any text and write it as ISO 8601, or say ``none``."""
    found = read_duration(text)
    return NO_DURATION if found is None else iso(found)


def write(cell: Cell, rng: Random) -> tuple[str, str]:
    """Write one random duration as ``cell`` asks. Returns the text and the true answer."""
    first, *rest = tuple(SHAPES[cell["units"]])
    form = cell["form"]
    amounts = {first: rng.randint(1, FIRST_UP_TO[first])}
    amounts |= {sign: rng.randint(0 if form == "clock" else 1, NEXT_UP_TO[sign]) for sign in rest}
    if form == "clock":
        hours, *others = amounts.values()
        text = ":".join([str(hours), *(f"{amount:02}" for amount in others)])
    elif form == "fraction":
        text, amounts = _fraction(first, rng)
    else:
        text = _joined([_term(*item, form, rng) for item in amounts.items()], form, rng)
    truth = iso({sign: Fraction(amount) for sign, amount in amounts.items()})
    return rng.choice(AROUND[cell["around"]]).format(text), truth


def _term(sign: str, amount: int, form: str, rng: Random) -> str:
    one, many = UNITS[sign][:2]
    if form == "signs":
        return f"{amount}{'mo' if sign == 'M' else sign.lower()}"
    if form == "short":
        return f"{amount} {SHORT[sign]}{'s' if amount > 1 else ''}"
    if form == "figures":
        return f"{amount} {one if amount == 1 else many}"
    if sign == "W" and amount == 2 and rng.random() < 0.5:
        return "a fortnight"
    if amount == 1:
        return rng.choice((_an(one), f"one {one}"))
    return f"{_in_words(amount, rng)} {many}"


def _joined(terms: list[str], form: str, rng: Random) -> str:
    if form == "signs":
        return rng.choice((" ", "")).join(terms)
    if form == "short":
        return rng.choice((" ", ", ")).join(terms)
    *most, last = terms
    return f"{', '.join(most)} and {last}" if most else last


def _fraction(sign: str, rng: Random) -> tuple[str, dict[str, int]]:
    """Write an hour and a half, 2.5 hours, three quarters of an hour."""
    (one, many), part = UNITS[sign][:2], rng.choice(list(PARTS))
    number = rng.randint(0, FIRST_UP_TO[sign])
    times, smaller = SMALLER[sign]
    amounts = {sign: number, smaller: int(PARTS[part] * times)}
    spoken = part if part == "three quarters" else f"a {part}"
    half_or, point = FIGURES[part]
    if number == 0:
        quiet = f"half {_an(one)}" if part == "half" else f"{spoken} of {_an(one)}"
        return rng.choice((quiet, f"0{point} {many}", f"{half_or} {one}")), amounts
    if number == 1 and rng.random() < 0.5:
        return f"{_an(one)} and {spoken}", amounts
    words = f"{_in_words(number, rng)} and {spoken} {many}"
    return rng.choice((words, f"{number}{point} {many}", f"{number}{half_or} {many}")), amounts


def _in_words(number: int, rng: Random) -> str:
    """Write a number below two hundred in words."""
    if number >= 100:
        rest = number - 100
        hundred = rng.choice(("a hundred", "one hundred"))
        return f"{hundred} and {_in_words(rest, rng)}" if rest else hundred
    if number < 20:
        return ONES[number]
    tens, ones = divmod(number, 10)
    return f"{TENS[tens]}{rng.choice('- ')}{ONES[ones]}" if ones else TENS[tens]


def _an(noun: str) -> str:
    return f"{'an' if noun == 'hour' else 'a'} {noun}"
