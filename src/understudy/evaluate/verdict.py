"""One sentence for whoever has to decide, by written rules; the first that applies speaks.

    nobody answered anything                                      -> Nothing to tell
    fewer than 20 items answered by one of the systems            -> Too few items to tell
    a teacher, and nobody gets even half right                    -> Cannot be judged this way
    no student:   the base is good                                -> Do not fine-tune
                  there is a base                                 -> Worth training
                  only a teacher                                  -> The teacher answers ...
    a student:    the base is good, the student not better        -> Do not fine-tune
                  it is good, but perhaps no better than the base -> Too few items to tell
                  it is good                                      -> Ship it
                  no better than the base                         -> Not yet
                  far from the teacher, but that may be chance    -> Too few items to tell
                  otherwise                                       -> Not yet

*Good* is at most 2 points below the teacher, or at most 5 where that may be chance; without a
teacher, at least 90 % right. *May be chance*: p is 0.05 or more by the exact McNemar test.
*Better*: a higher score that is not chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from understudy.report import Comparison, SystemScore

MIN_ITEMS = 20
MEASURABLE = 0.5
GOOD = 0.9
SURELY_CLOSE = 0.02
PERHAPS_CLOSE = 0.05
CHANCE = 0.05

_NAMES = {"student": "the student", "teacher": "the teacher", "base": "the untrained base"}


def verdict(systems: Mapping[str, SystemScore], comparisons: Iterable[Comparison]) -> str:
    """The sentence for these scores, whichever of student, base and teacher are there."""
    answered = {name: found for name, found in systems.items() if found.missing < found.items}
    case = _Case(answered, {(pair.first, pair.second): pair for pair in comparisons})
    sentence = next(said for rule in _RULES if (said := rule(case)))
    silent = [
        f"{_NAMES[name]} gave no answer to {found.missing} of {found.items}{_why(found)}"
        for name, found in systems.items()
        if found.missing
    ]
    return "; ".join([sentence, *silent]) + "."


class _Versus(NamedTuple):
    """How one system stands to another on the items that both answered."""

    difference: float
    p_value: float

    @property
    def by_chance(self) -> bool:
        return self.p_value >= CHANCE


class _Case(NamedTuple):
    """What is known: the systems that answered, and their comparisons."""

    systems: Mapping[str, SystemScore]
    pairs: Mapping[tuple[str, str], Comparison]

    def versus(self, first: str, second: str) -> _Versus | None:
        """How ``first`` stands to ``second``; None if they were not compared."""
        if pair := self.pairs.get((first, second)):
            return _Versus(pair.difference, pair.p_value)
        if pair := self.pairs.get((second, first)):
            return _Versus(-pair.difference, pair.p_value)
        return None

    def good(self, name: str) -> bool:
        """True if the system is good enough to be used."""
        to_teacher = self.versus(name, "teacher")
        if to_teacher is None:
            return self.systems[name].score >= GOOD
        close = PERHAPS_CLOSE if to_teacher.by_chance else SURELY_CLOSE
        return to_teacher.difference >= -close

    def better(self, first: str, second: str) -> bool:
        """True if ``first`` was compared with ``second`` and is better beyond chance."""
        found = self.versus(first, second)
        return found is not None and found.difference > 0 and not found.by_chance

    def say(self, first: str) -> str:
        """What ``first`` scored, in full, and the others beside it."""
        found = self.systems[first]
        others = "".join(
            f", {_NAMES[name]} {_percent(self.systems[name].score)}"
            for name in _NAMES
            if name in self.systems and name != first
        )
        return (
            f"{_NAMES[first]} answers {_percent(found.score)} "
            f"({100 * found.low:.1f}-{100 * found.high:.1f}) of {found.items - found.missing} "
            f"unseen items right{others}"
        )


def _nothing(case: _Case) -> str | None:
    return None if case.systems else "Nothing to tell: no system answered any item"


def _too_few(case: _Case) -> str | None:
    fewest = min(found.items - found.missing for found in case.systems.values())
    if fewest >= MIN_ITEMS:
        return None
    return (
        f"Too few items to tell: n = {fewest}, at least {MIN_ITEMS} are needed; "
        f"{case.say(_first(case))}"
    )


def _unmeasurable(case: _Case) -> str | None:
    if "teacher" not in case.systems or any(
        found.score >= MEASURABLE for found in case.systems.values()
    ):
        return None
    return (
        f"Cannot be judged this way: even {case.say('teacher')}; describe the answer more "
        "strictly, so that there is one right form"
    )


def _no_student(case: _Case) -> str | None:
    if "student" in case.systems:
        return None
    if "base" not in case.systems:
        return f"{case.say('teacher').capitalize()}; train a student to compare it with"
    if case.good("base"):
        return f"Do not fine-tune: already without training {case.say('base')}"
    return f"Worth training: {case.say('base')}"


def _base_is_enough(case: _Case) -> str | None:
    if "base" not in case.systems or not case.good("base") or case.better("student", "base"):
        return None
    return f"Do not fine-tune: the base already answers as well; {case.say('base')}"


def _ship(case: _Case) -> str | None:
    if not case.good("student"):
        return None
    to_base, to_teacher = case.versus("student", "base"), case.versus("student", "teacher")
    if to_base is not None and not case.better("student", "base"):
        return (
            f"Too few items to tell whether training helped: {case.say('student')}, which may be "
            f"chance ({_p(to_base.p_value)}); more test items would tell"
        )
    if to_teacher is None:
        return f"Ship it: {case.say('student')}"
    if to_teacher.by_chance:
        close = "no difference from the teacher can be told"
    else:
        close = "better than" if to_teacher.difference > 0 else "within 2 points of"
        close = f"{close} the teacher"
    return f"Ship it: {case.say('student')}; {close} ({_p(to_teacher.p_value)})"


def _not_yet(case: _Case) -> str:
    to_base, to_teacher = case.versus("student", "base"), case.versus("student", "teacher")
    if to_base is not None and not case.better("student", "base"):
        return (
            f"Not yet: {case.say('student')}, so training has not visibly helped "
            f"({_p(to_base.p_value)}); try more examples or a larger student"
        )
    if to_teacher is None:
        return f"Not yet: {case.say('student')}; more examples are the first thing to try"
    if to_teacher.by_chance:
        return (
            f"Too few items to tell: {case.say('student')}, and the distance to the teacher may be "
            f"chance ({_p(to_teacher.p_value)}); more test items would tell"
        )
    return (
        f"Not yet: {case.say('student')}; the teacher is better ({_p(to_teacher.p_value)}), "
        "and more examples are the first thing to try"
    )


_RULES: tuple[Callable[[_Case], str | None], ...] = (
    _nothing,
    _too_few,
    _unmeasurable,
    _no_student,
    _base_is_enough,
    _ship,
    _not_yet,
)


def _first(case: _Case) -> str:
    return next(name for name in ("student", "base", "teacher") if name in case.systems)


def _why(found: SystemScore) -> str:
    """Why a system never answered, in brackets, if that is known."""
    if found.missing < found.items or not found.why_missing:
        return ""
    return f" ({' '.join(found.why_missing.split())})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}".removesuffix(".0") + " %"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"
