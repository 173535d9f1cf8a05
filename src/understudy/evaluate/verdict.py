"""One sentence for whoever has to decide, by written rules; the first that applies speaks.

    nobody answered anything                                      -> Nothing to tell (nothing)
    fewer than 20 items answered by one of the systems            -> Too few items to tell (too_few)
    a teacher, and nobody gets even half right                    -> Cannot be judged this way:
                                                                     the teacher is not sure of
                                                                     itself (teacher_unsure)
    no student:   base or few-shot is good                        -> Do not fine-tune (prompting)
                  there is a base                                 -> Worth training (train)
                  only a teacher                                  -> The teacher ... (teacher_only)
    a student:    base or few-shot is good, the student not better-> Do not fine-tune (prompting)
                  it is good, but perhaps no better than those    -> Too few items to tell (too_few)
                  it is good                                      -> Ship it (ship)
                  no better than base or few-shot                 -> Not yet (not_yet)
                  far from the teacher, but that may be chance    -> Too few items to tell (too_few)
                  otherwise                                       -> Not yet (not_yet)

*Good* is at most 2 points below the teacher, or at most 5 where that may be chance; without a
teacher, a score of at least 90 %. *May be chance*: p is 0.05 or more by the paired test of the
report (exact McNemar; sign-flip for graded scores and blocks). *Better*: a higher score that is not
chance after Holm's correction, so that of students no better than their base at most one in 40 is
said to be better. *Half right* is asked of shares of right answers alone: a graded score has no
middle that means anything. Where more items would tell, the sentence says about how many examples
that is: what a paired test needs at 80 % power if the difference is the one that was seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import ceil
from typing import NamedTuple

from understudy.evaluate.words import NAMES, called
from understudy.report import Comparison, Decision, SystemScore
from understudy.statistics import items_needed

MIN_ITEMS = 20
MEASURABLE = 0.5
GOOD = 0.9
SURELY_CLOSE = 0.02
PERHAPS_CLOSE = 0.05
CHANCE = 0.05
FAR = 100
"""Times the items that there are: needing more than that is as good as none."""
UNTRAINED = ("base", "few-shot")
Numbers = dict[str, float | int | str | None]


class Verdict(NamedTuple):
    """The sentence, what it comes to, and the numbers behind it."""

    decision: Decision
    sentence: str
    numbers: Numbers


class _Said(NamedTuple):
    decision: Decision
    sentence: str


def verdict(
    systems: Mapping[str, SystemScore],
    comparisons: Iterable[Comparison],
    *,
    graded: bool = False,
    metric: str = "",
    test_share: float | None = None,
    few_shot: int = 0,
) -> Verdict:
    """The verdict for these scores, whichever of student, few-shot, base and teacher are there.

    ``test_share`` is test items per example, ``few_shot`` how many examples that system was shown.
    """
    answered = {name: found for name, found in systems.items() if found.missing < found.items}
    case = _Case(
        {name: found for name, found in answered.items() if name in NAMES},
        {(pair.first, pair.second): pair for pair in comparisons},
        graded,
        metric,
        test_share,
        few_shot,
    )
    said = next(found for rule in _RULES if (found := rule(case)))
    silent = [
        f"{called(name)} gave no answer to {found.missing} of {found.items}{_why(found)}"
        for name, found in systems.items()
        if found.missing
    ]
    sentence = "; ".join([said.sentence, *silent]) + "."
    return Verdict(said.decision, sentence, case.numbers())


class _Versus(NamedTuple):
    """How one system stands to another on the items that both answered."""

    difference: float
    p_value: float
    p_adjusted: float
    spread: float
    """Share of items on which they differ; of graded scores the most that it can be."""
    items: int

    @property
    def by_chance(self) -> bool:
        return self.p_value >= CHANCE


class _Case(NamedTuple):
    """What is known: the systems that answered, and their comparisons."""

    systems: Mapping[str, SystemScore]
    pairs: Mapping[tuple[str, str], Comparison]
    graded: bool
    metric: str
    test_share: float | None
    few_shot: int

    def versus(self, first: str, second: str) -> _Versus | None:
        """How ``first`` stands to ``second``; None if they were not compared."""
        pair = self.pairs.get((first, second)) or self.pairs.get((second, first))
        if pair is None:
            return None
        adjusted = pair.p_value if pair.p_adjusted is None else pair.p_adjusted
        difference = pair.difference if pair.first == first else -pair.difference
        spread = (pair.only_first + pair.only_second) / pair.items
        return _Versus(difference, pair.p_value, adjusted, spread, pair.items)

    @property
    def untrained(self) -> list[str]:
        """What there is without training, the better one first."""
        there = [name for name in UNTRAINED if name in self.systems]
        return sorted(there, key=lambda name: -self.systems[name].score)

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
        return found is not None and found.difference > 0 and found.p_adjusted < CHANCE

    def rival(self) -> tuple[str, _Versus] | None:
        """What there is without training and the student is not better than, if anything."""
        for name in self.untrained:
            found = self.versus("student", name)
            if found is not None and not self.better("student", name):
                return name, found
        return None

    def say(self, first: str) -> str:
        """What ``first`` scored, in full, and the others beside it."""
        found = self.systems[first]
        others = "".join(
            f", {NAMES[name]} {self.figure(self.systems[name].score)}"
            for name in NAMES
            if name in self.systems and name != first
        )
        verb, end = ("scores", "unseen items") if self.graded else ("answers", "unseen items right")
        of = f" in {self.metric} on" if self.graded else " of"
        interval = f"{100 * found.low:.1f}-{100 * found.high:.1f}"
        return (
            f"{NAMES[first]} {verb} {self.figure(found.score)} ({interval}){of} "
            f"{found.items - found.missing} {end}{others}"
        )

    def figure(self, score: float) -> str:
        """A share in percent, a graded score in points of 100."""
        return f"{100 * score:.1f}" if self.graded else _percent(score)

    def more(self, versus: _Versus) -> int | None:
        """Test items beyond those that are there, until this difference would be found."""
        needed = items_needed(versus.difference, versus.spread)
        if needed > FAR * versus.items:
            return None
        return max(1, ceil(needed) - versus.items)

    def would_tell(self, versus: _Versus) -> str:
        """How many more test items would tell, and how many examples that is."""
        more = self.more(versus)
        if more is None:
            return "the difference is so small that more test items are not worth it"
        if not self.test_share:
            return f"about {_round(more):,} more test items should tell"
        examples = _round(ceil(more / self.test_share))
        return f"about {_round(more):,} more test items, so {examples:,} more examples, should tell"

    def numbers(self) -> Numbers:
        """What the rules looked at, by name."""
        found: Numbers = {}
        for name, system in self.systems.items():
            key = name.replace("-", "_")
            found |= {key: system.score, f"{key}_low": system.low, f"{key}_high": system.high}
        for name in ("teacher", *UNTRAINED):
            versus = self.versus("student", name)
            if versus is None:
                continue
            key = name.replace("-", "_")
            more = self.more(versus) if versus.by_chance else 0
            found |= {
                f"student_minus_{key}": versus.difference,
                f"p_{key}": versus.p_value,
                f"p_{key}_adjusted": versus.p_adjusted,
                f"more_items_{key}": more,
                f"more_examples_{key}": ceil(more / self.test_share)
                if more is not None and self.test_share
                else None,
            }
        return found | {
            "min_items": MIN_ITEMS,
            "surely_close": SURELY_CLOSE,
            "perhaps_close": PERHAPS_CLOSE,
            "good": GOOD,
        }


def _nothing(case: _Case) -> _Said | None:
    if case.systems:
        return None
    return _Said("nothing", "Nothing to tell: no system answered any item")


def _too_few(case: _Case) -> _Said | None:
    fewest = min(found.items - found.missing for found in case.systems.values())
    if fewest >= MIN_ITEMS:
        return None
    return _Said(
        "too_few",
        f"Too few items to tell: n = {fewest}, at least {MIN_ITEMS} are needed; "
        f"{case.say(_first(case))}",
    )


def _unmeasurable(case: _Case) -> _Said | None:
    if "teacher" not in case.systems or case.graded:
        return None
    if any(found.score >= MEASURABLE for found in case.systems.values()):
        return None
    return _Said(
        "teacher_unsure",
        f"Cannot be judged this way: even {case.say('teacher')}, so it is not sure of itself; mend "
        "the spec: describe the answer more strictly, so that there is one right form",
    )


def _no_student(case: _Case) -> _Said | None:
    if "student" in case.systems:
        return None
    if not case.untrained:
        said = case.say("teacher")
        return _Said(
            "teacher_only", f"{said[0].upper()}{said[1:]}; train a student to compare it with"
        )
    best = case.untrained[0]
    if case.good(best):
        return _Said("prompting", f"Do not fine-tune: already without training {case.say(best)}")
    return _Said("train", f"Worth training: {case.say(best)}")


def _prompting_is_enough(case: _Case) -> _Said | None:
    for name in case.untrained:
        if not case.good(name) or case.better("student", name):
            continue
        if name == "base":
            return _Said(
                "prompting",
                f"Do not fine-tune: the base already answers as well; {case.say('base')}",
            )
        shown = f"{case.few_shot} examples" if case.few_shot else "examples"
        return _Said(
            "prompting",
            f"Do not fine-tune: prompting is as good, the base shown {shown} answers as well; "
            f"{case.say(name)}",
        )
    return None


def _ship(case: _Case) -> _Said | None:
    if not case.good("student"):
        return None
    to_teacher, rival = case.versus("student", "teacher"), case.rival()
    if rival is not None:
        return _Said(
            "too_few",
            f"Too few items to tell whether training helped: {case.say('student')}, which may be "
            f"chance ({_p(rival[1].p_adjusted)}); {case.would_tell(rival[1])}",
        )
    if to_teacher is None:
        return _Said("ship", f"Ship it: {case.say('student')}")
    if to_teacher.by_chance:
        close = "no difference from the teacher can be told"
    else:
        close = "better than" if to_teacher.difference > 0 else "within 2 points of"
        close = f"{close} the teacher"
    return _Said("ship", f"Ship it: {case.say('student')}; {close} ({_p(to_teacher.p_value)})")


def _not_yet(case: _Case) -> _Said:
    to_teacher, rival = case.versus("student", "teacher"), case.rival()
    said = case.say("student")
    if rival is not None:
        return _Said(
            "not_yet",
            f"Not yet: {said}, so training has not visibly helped over {called(rival[0])} "
            f"({_p(rival[1].p_adjusted)}); try more examples or a larger student",
        )
    if to_teacher is None:
        return _Said("not_yet", f"Not yet: {said}; more examples are the first thing to try")
    if to_teacher.by_chance:
        return _Said(
            "too_few",
            f"Too few items to tell: {said}, and the distance to the teacher may be "
            f"chance ({_p(to_teacher.p_value)}); {case.would_tell(to_teacher)}",
        )
    return _Said(
        "not_yet",
        f"Not yet: {said}; the teacher is better ({_p(to_teacher.p_value)}), and more examples are "
        "the first thing to try: `understudy learning-curve` says what twice as many would bring",
    )


_RULES: tuple[Callable[[_Case], _Said | None], ...] = (
    _nothing,
    _too_few,
    _unmeasurable,
    _no_student,
    _prompting_is_enough,
    _ship,
    _not_yet,
)


def _round(number: int) -> int:
    """Two figures: an estimate is no more exact."""
    step = int(10 ** max(0, len(str(number)) - 2))
    return ceil(number / step) * step


def _first(case: _Case) -> str:
    return next(name for name in ("student", "few-shot", "base", "teacher") if name in case.systems)


def _why(found: SystemScore) -> str:
    """Why a system never answered, in brackets, if that is known."""
    if found.missing < found.items or not found.why_missing:
        return ""
    return f" ({' '.join(found.why_missing.split())})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}".removesuffix(".0") + " %"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"
