"""The verdict by a judge that decides, where equality with a reference cannot tell.

    fewer than 20 pairs with a verdict                      -> Too few items to tell (too_few)
    not surely better than base or few-shot:
        and as good as the teacher                          -> Do not fine-tune (prompting)
        and not                                             -> Not yet (not_yet)
    better than the teacher, or at most 5 points below it,
    counting wins less losses, where that may be chance     -> Ship it (ship)
    surely behind the teacher                               -> Not yet (not_yet)
    otherwise                                               -> Too few items to tell (too_few)

*Surely* is beyond the 95 % interval of the share in which a tie counts half: 50 % is as good.
"""

from __future__ import annotations

from typing import NamedTuple

from understudy.judgement import Contest, Judgement
from understudy.report import Decision

MIN_PAIRS = 20
AS_GOOD = 0.5
CLOSE = 0.025
"""Half of 5 points: of wins less losses the share moves by half."""
UNTRAINED = ("few-shot", "base")


class ByJudge(NamedTuple):
    """What it comes to, and the sentence."""

    decision: Decision
    sentence: str


def by_judge(judgement: Judgement) -> ByJudge | None:
    """The verdict on the student; None if the judge decides nothing, or there is no teacher."""
    against = {one.second: one for one in judgement.contests if one.first == "student"}
    teacher = against.get("teacher")
    if not judgement.decides or teacher is None or teacher.share is None:
        return None
    found = _decision(teacher, [against[name] for name in UNTRAINED if name in against])
    return ByJudge(
        found, f"{_SAID[found]}: {judgement.sentence[0].lower()}{judgement.sentence[1:]}"
    )


def _decision(teacher: Contest, untrained: list[Contest]) -> Decision:
    if teacher.items - teacher.missing < MIN_PAIRS:
        return "too_few"
    close = _close(teacher)
    if any(one.low <= AS_GOOD for one in untrained):
        return "prompting" if close else "not_yet"
    if close:
        return "ship"
    return "not_yet" if teacher.high < AS_GOOD else "too_few"


def _close(teacher: Contest) -> bool:
    share = teacher.share or 0.0
    return share >= AS_GOOD or (share >= AS_GOOD - CLOSE and teacher.high >= AS_GOOD)


_SAID: dict[str, str] = {
    "too_few": "Too few items to tell",
    "prompting": "Do not fine-tune, what there is without training answers as well",
    "ship": "Ship it",
    "not_yet": "Not yet",
}
