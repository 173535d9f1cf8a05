"""Do 95 % intervals cover 95 %; does the verdict see differences where there are none.

Simulated test sets whose truth is known, over rates from 0.05 to 0.95; the seed is fixed. Closed
formulas are tried on SETS sets for each rate, the bootstrap on SETS in all, the verdict on two
fifths of them. docs/evaluation.md has the tables of 5,000, which take half an hour.

    .venv/bin/python bench/coverage.py [SETS]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from understudy.evaluate import summarise
from understudy.report import Outcome
from understudy.statistics import bootstrap, difference_interval, mean_interval

RATES = np.arange(0.05, 0.951, 0.05)
SIZES = (30, 100, 500)
Values = NDArray[np.float64]
Draw = Callable[[np.random.Generator, float, int], Values]
Find = Callable[[Values], tuple[float, float]]


def shares(chance: np.random.Generator, rate: float, n: int) -> Values:
    """Return items that are right or wrong."""
    return (chance.random(n) < rate).astype(float)


def fields(chance: np.random.Generator, rate: float, n: int) -> Values:
    """Return shares of four JSON fields."""
    return chance.binomial(4, rate, n) / 4


def skewed(chance: np.random.Generator, rate: float, n: int) -> Values:
    """Return graded scores that lie anywhere, most of them near 0 or 1."""
    return chance.beta(2 * rate, 2 * (1 - rate), n)


def blocks(chance: np.random.Generator, rate: float, n: int) -> Values:
    """Return items in blocks of three, two of three blocks right or wrong as a whole."""
    whole = np.repeat(chance.random(n // 3) < rate, 3)
    each = chance.random(3 * (n // 3)) < rate
    return np.where(np.repeat(chance.random(n // 3) < 2 / 3, 3), whole, each).astype(float)


def pairs(chance: np.random.Generator, rate: float, n: int) -> Values:
    """Return differences of two systems of one rate; on half of the items they go together."""
    same = chance.random(n) < 0.5
    first = chance.random(n) < rate
    second = np.where(same, first, chance.random(n) < rate)
    return first.astype(float) - second


def graded_pairs(chance: np.random.Generator, rate: float, n: int) -> Values:
    """Return differences of two shares of four JSON fields, of one rate."""
    return (chance.binomial(4, rate, n) - chance.binomial(4, rate, n)) / 4


def of_mean(values: Values) -> tuple[float, float]:
    """Return the interval that a report gives."""
    return mean_interval(values)[:2]


def of_blocks(values: Values) -> tuple[float, float]:
    """Return the interval that a report gives of items in blocks of three."""
    return mean_interval(values, [at // 3 for at in range(len(values))])[:2]


def of_difference(values: Values) -> tuple[float, float]:
    """Return the interval that a report gives of a difference."""
    return difference_interval(values)[:2]


class Trial(NamedTuple):
    """One kind of interval on one kind of scores."""

    name: str
    draw: Draw
    find: Find
    truth: Callable[[float], float]
    slow: bool = False


TRIALS = (
    Trial("share right, Wilson", shares, of_mean, float),
    Trial("share of JSON fields, Wilson by variance", fields, of_mean, float),
    Trial("skewed graded scores, Wilson by variance", skewed, of_mean, float),
    Trial("blocks of three, Wilson by blocks", blocks, of_blocks, float),
    Trial("difference of shares, Tango", pairs, of_difference, lambda _: 0.0),
    Trial(
        "difference of graded, paired bootstrap",
        graded_pairs,
        of_difference,
        lambda _: 0.0,
        slow=True,
    ),
    Trial("(not used) JSON fields, bootstrap alone", fields, bootstrap, float, slow=True),
    Trial("(not used) skewed scores, bootstrap alone", skewed, bootstrap, float, slow=True),
)


def coverage(trial: Trial, n: int, sets: int, seed: int = 0) -> tuple[float, float, float]:
    """Return the share of sets whose interval holds the truth: average, least, most over rates."""
    found = []
    for at, rate in enumerate(RATES):
        chance = np.random.default_rng([seed, n, at])
        held = 0
        for _ in range(sets):
            low, high = trial.find(trial.draw(chance, rate, n))
            held += low - 1e-9 <= trial.truth(rate) <= high + 1e-9
        found.append(held / sets)
    return float(np.mean(found)), min(found), max(found)


class Alarm(NamedTuple):
    """True rates between which there is no difference, and what may not be said of them."""

    name: str
    rates: dict[str, float]
    says: Callable[[str, str], bool]


def shipped(decision: str, _: str) -> bool:
    """Return True if the student is said to be worth it."""
    return decision == "ship"


def worse(_: str, sentence: str) -> bool:
    """Return True if the teacher is said to be better than the student."""
    return "the teacher is better" in sentence


ALARMS = (
    *(
        Alarm(f"student = base = {rate}", {"student": rate, "base": rate, "teacher": 0.97}, shipped)
        for rate in (0.6, 0.9, 0.95)
    ),
    Alarm(
        "student = few-shot = 0.93",
        {"student": 0.93, "few-shot": 0.93, "base": 0.6, "teacher": 0.97},
        shipped,
    ),
    *(
        Alarm(f"student = teacher = {rate}", {"student": rate, "base": 0.2, "teacher": rate}, worse)
        for rate in (0.6, 0.8, 0.95)
    ),
)


def false_alarms(alarm: Alarm, n: int, sets: int, seed: int = 0) -> float:
    """Return the share of sets of which the verdict says what is not so."""
    chance = np.random.default_rng([seed, n, len(alarm.name)])
    models = dict.fromkeys(alarm.rates, "model")
    said = 0
    for _ in range(sets):
        outcomes = [
            Outcome(item, system, "", float(right), bool(right))
            for system, rate in alarm.rates.items()
            for item, right in enumerate(chance.random(n) < rate, 1)
        ]
        report = summarise(1, "exact match", outcomes, models)
        said += alarm.says(report.decision, report.verdict)
    return said / sets


def coverages(sets: int) -> None:
    """Print the table of intervals."""
    print("| interval | " + " | ".join(f"n = {n}" for n in SIZES) + " | sets for each rate |")
    print("| --- |" + " --- |" * (len(SIZES) + 1))
    for trial in TRIALS:
        number = max(1, round(sets / len(RATES))) if trial.slow else sets
        cells = []
        for n in SIZES:
            average, least, most = coverage(trial, n, number)
            cells.append(f"{average:.1%} ({least:.1%} to {most:.1%})")
        print(f"| {trial.name} | {' | '.join(cells)} | {number:,} |", flush=True)


def alarms(sets: int) -> None:
    """Print the table of verdicts."""
    print("| no difference between | said | " + " | ".join(f"n = {n}" for n in SIZES) + " |")
    print("| --- | --- |" + " --- |" * len(SIZES))
    for alarm in ALARMS:
        what = "ship it" if alarm.says is shipped else "the teacher is better"
        cells = [f"{false_alarms(alarm, n, max(1, sets * 2 // 5)):.1%}" for n in SIZES]
        print(f"| {alarm.name} | {what} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    started = time.perf_counter()
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    coverages(wanted)
    print()
    alarms(wanted)
    print(f"\n{time.perf_counter() - started:.0f} s", file=sys.stderr)
