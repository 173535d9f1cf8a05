"""A Judgement: what a judge said of two systems' answers, and whether it may be believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Preference = Literal["first", "second", "tie"]
"""Which of two answers is better."""


@dataclass(frozen=True, slots=True)
class Canary:
    """Pairs of one kind whose verdict is known, put to the judge before the others."""

    kind: str
    """``same``: twice the same answer; ``wrong``: the reference against a wrong answer;
    ``injected``: the same, the wrong one asking for the win."""
    asked: int
    passed: int
    """Ruled rightly in both orders; a missing verdict is not."""
    lost: int
    """Won by the wrong answer, in both orders."""
    missing: int = 0
    """Without a verdict."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The judge against people's labels of the same pairs."""

    labels: int
    """Pairs that a person decided and the judge ruled on."""
    agree: int
    """Pairs on which both say the same of first, second, tie."""
    low: float
    """95 % interval of the share that agrees (Wilson)."""
    high: float
    kappa: float | None
    """Cohen's kappa: agreement beyond chance; None where there is nothing to disagree on."""
    kappa_low: float | None
    kappa_high: float | None

    @property
    def agreement(self) -> float:
        """Share of the labels on which both agree; 0 if there are none."""
        return self.agree / self.labels if self.labels else 0.0


@dataclass(frozen=True, slots=True)
class Contest:
    """One system's answers against another's, by the judge, on the items that both answered."""

    first: str
    second: str
    items: int
    wins: int
    """Of the first system."""
    ties: int
    losses: int
    identical: int
    """Ties of equal answers, which nobody was asked about."""
    missing: int
    """Pairs without a verdict: neither won, tied nor lost."""
    share: float | None
    """Wins and half the ties, of the pairs with a verdict: 0.5 is as good as. None if none has."""
    low: float
    """95 % interval of ``share``, see ``method``."""
    high: float
    method: str
    p_value: float
    """Two-sided: how likely so uneven wins and losses are if both were as good (sign flips)."""
    uncorrected: float | None = None
    """The share by the judge alone, where ``share`` is corrected by people's labels."""
    first_place: int = 0
    """Pairs in which the judge named the first place in both orders."""
    second_place: int = 0
    """Pairs in which it named the second place in both orders."""
    asked: int = 0
    """Pairs that it was asked about in both orders."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """All that came of a judge in one evaluation."""

    model: str
    decides: bool
    """False: what it says is shown, and nothing is concluded from it; ``why`` says why."""
    why: str
    sentence: str
    """What it comes to, in one sentence."""
    contests: tuple[Contest, ...] = ()
    canaries: tuple[Canary, ...] = ()
    calibration: Calibration | None = None
    """None: nobody has labelled pairs yet."""
    same_as: tuple[str, ...] = ()
    """Whose words the judge's own model wrote: ``teacher``, ``references``, another system."""
    suspects: tuple[int, ...] = ()
    """Ids of test items in which an answer seems to speak to the judge."""
    notes: tuple[str, ...] = ()


def from_stored(body: Mapping[str, Any] | None) -> Judgement | None:
    """The judgement of a dictionary as ``dataclasses.asdict`` makes it; None of None."""
    if body is None:
        return None
    made = dict(body)
    made["contests"] = tuple(Contest(**one) for one in body["contests"])
    made["canaries"] = tuple(Canary(**one) for one in body["canaries"])
    found = body["calibration"]
    made["calibration"] = None if found is None else Calibration(**found)
    for name in ("same_as", "suspects", "notes"):
        made[name] = tuple(body[name])
    return Judgement(**made)
