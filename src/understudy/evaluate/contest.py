"""From rulings to a Judgement: who is better, how sure that is, and whether the judge decides.

A judge decides only if it is fit (``canaries.py``) and people's labels of the same kind of pairs
bear it out: at least 20 of them, kappa of at least 0.4 ("moderate" by Landis & Koch 1977, "The
measurement of observer agreement for categorical data") and surely above 0. Else what it says is
shown and nothing is concluded from it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import fmean

from understudy.evaluate.judge import Pair, Ruling
from understudy.judgement import Calibration, Contest, Preference
from understudy.statistics import kappa, mean_interval, ppi, sign_flip, wilson

MIN_LABELS = 20
"""Labels without which a judge decides nothing."""
PPI_LABELS = 30
"""Labels of a contest's own pairs from which its share is corrected by them."""
MODERATE = 0.4
MOST_MISSING = 0.2

WORTH: Mapping[Preference, float] = {"first": 1.0, "tie": 0.5, "second": 0.0}

Labels = Mapping[Pair, Preference]
"""What people say of pairs."""

_NAMES = {"base": "the untrained base"}


def matches(systems: Collection[str]) -> list[tuple[str, str]]:
    """Who is put against whom: the student against the others, the teacher first.

    Without a student all others are put against the teacher.
    """
    names = sorted(systems, key=lambda name: (name != "teacher", name))
    if "student" in names:
        return [("student", other) for other in names if other != "student"]
    return [(other, names[0]) for other in names[1:]]


def contest(first: str, second: str, rulings: Sequence[Ruling], labels: Labels) -> Contest:
    """Sum up what was said of the pairs of two systems; a tie counts as half a win.

    With at least 30 labels of these very pairs the share is corrected by them, see ``_corrected``.
    """
    ruled = [one for one in rulings if one.winner is not None]
    values = [_worth(one) for one in ruled]
    blocks = [one.pair.group or one.pair.example_id for one in ruled]
    count = {name: sum(one.winner == name for one in ruled) for name in WORTH}
    share = fmean(values) if values else None
    low, high, method = mean_interval(values, blocks)
    uncorrected = None
    corrected = _corrected(ruled, labels)
    if corrected is not None:
        uncorrected, (share, low, high) = share, corrected
        method = "prediction-powered by people's labels"
    places = [one.places for one in rulings if len(one.places) == 2]
    return Contest(
        first=first,
        second=second,
        items=len(rulings),
        wins=count["first"],
        ties=count["tie"],
        losses=count["second"],
        identical=sum(one.pair.identical for one in rulings),
        missing=len(rulings) - len(ruled),
        share=share,
        low=low,
        high=high,
        method=method,
        p_value=sign_flip([value - 0.5 for value in values], blocks),
        uncorrected=uncorrected,
        first_place=places.count(("first", "first")),
        second_place=places.count(("second", "second")),
        asked=len(places),
    )


def _corrected(ruled: Sequence[Ruling], labels: Labels) -> tuple[float, float, float] | None:
    """The share, the judge's errors mended by what people said of some of the same pairs.

    Prediction-powered inference, see ``statistics.ppi``: the labelled pairs were drawn at random.
    Equal answers tie without a judge and have no error. None if there are fewer than 30 labels.
    """
    asked = [one for one in ruled if not one.pair.identical]
    seen = [one for one in asked if one.pair in labels]
    if len(seen) < PPI_LABELS:
        return None
    found = ppi(
        [WORTH[labels[one.pair]] for one in seen],
        [_worth(one) for one in seen],
        [_worth(one) for one in asked if one.pair not in labels],
    )
    part = len(asked) / len(ruled)  # the rest are ties
    share, low, high = (
        part * min(max(value, 0.0), 1.0) + (1 - part) / 2
        for value in (found.value, found.low, found.high)
    )
    return share, low, high


def _worth(ruling: Ruling) -> float:
    """1 for a win of the first, half for a tie."""
    return WORTH[ruling.winner or "tie"]


def calibration(rulings: Sequence[Ruling], labels: Labels) -> Calibration | None:
    """How the judge's rulings compare with people's labels; None if there is nothing to compare."""
    said = [
        (labels[one.pair], one.winner)
        for one in rulings
        if one.winner is not None and one.pair in labels
    ]
    if not said:
        return None
    agree = sum(person == judge for person, judge in said)
    low, high = wilson(agree, len(said))
    persons, judges = zip(*said, strict=True)
    if len({*persons, *judges}) == 1:  # one word only: chance explains all
        return Calibration(len(said), agree, low, high, None, None, None)
    found = kappa(persons, judges)
    return Calibration(len(said), agree, low, high, found.value, found.low, found.high)


def undecided(found: Calibration | None, contests: Sequence[Contest]) -> str:
    """Why nothing is concluded from a fit judge, in a few words; empty if something may be."""
    number = found.labels if found else 0
    if found is None or number < MIN_LABELS:
        return (
            f"people's labels are needed to tell whether it can be believed: {MIN_LABELS}, "
            f"there are {number} (`understudy review` collects them)"
        )
    told = f"it agrees with people on {found.agree} of {number} labelled pairs"
    if found.kappa is None or found.kappa_low is None:
        return "" if found.low > 0.5 else f"{told}, and all of them are alike"
    if found.kappa < MODERATE or found.kappa_low <= 0:
        return (
            f"{told} (kappa {found.kappa:.2f}, {found.kappa_low:.2f} to {found.kappa_high:.2f}), "
            "which is too little"
        )
    for one in contests:
        if one.missing > MOST_MISSING * one.items:
            return f"it gave no verdict on {one.missing} of {one.items} pairs"
    return ""


def sentence(model: str, why: str, contests: Sequence[Contest]) -> str:
    """What a judge comes to, in one sentence."""
    told = "; ".join(_told(one, decides=not why) for one in contests if one.share is not None)
    if not why:
        return f"By {model} as the judge {told}."
    aside = f" (it would say: {told})" if told else ""
    return f"{model} as the judge decides nothing: {why}{aside}."


def _told(one: Contest, *, decides: bool) -> str:
    first, second = (_NAMES.get(name, f"the {name}") for name in (one.first, one.second))
    if one.low > 0.5:
        close = f"{first} is better than {second}"
    elif one.high < 0.5:
        close = f"{second} is better than {first}"
    else:
        close = f"{first} and {second} cannot be told apart"
    if not decides:
        close = f"{first} against {second}"
    return (
        f"{close}: {one.wins} won, {one.ties} tied, {one.losses} lost, "
        f"{100 * (one.share or 0):.0f} % ({100 * one.low:.0f}-{100 * one.high:.0f}), "
        "where 50 % is as good"
    )
