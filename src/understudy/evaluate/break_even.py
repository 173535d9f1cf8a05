"""After how many calls a student has paid for the data and the training that made it."""

from __future__ import annotations

from math import ceil

from understudy.money import MICRO, usd
from understudy.report import BreakEven, SystemScore


def break_even(
    teacher: SystemScore | None, student: SystemScore | None, spent_micro: int
) -> BreakEven | None:
    """Of a student against its teacher; None if one of the two gave no answer.

    ``spent_micro`` is what data and training cost, in micro-dollars. The time of one's own machine
    has no price here, and is said not to have.
    """
    answered = [one for one in (teacher, student) if one and one.missing < one.items]
    if teacher is None or student is None or len(answered) < 2:
        return None
    spent = spent_micro / MICRO
    if teacher.usd_per_1k is None or student.usd_per_1k is None:
        whose = "the teacher" if teacher.usd_per_1k is None else "the student"
        return BreakEven(
            None, spent, None, f"What a call of {whose} costs is not known, so no saving is."
        )
    saved = teacher.usd_per_1k - student.usd_per_1k
    paid = f"{usd(spent_micro)} for data and training"
    if saved <= 0:
        return BreakEven(
            None, spent, saved, f"Never: a call of the student costs no less ({paid})."
        )
    calls = ceil(spent / saved * 1000)
    own = "; the time of your own machine is not counted" if student.usd_per_1k == 0 else ""
    made_up = " (practice prices are made up)" if teacher.model.startswith("practice:") else ""
    saving = f"{usd(round(saved * MICRO))} saved a thousand calls"
    why = f"After about {calls:,} calls: {paid}, {saving}{own}{made_up}."
    return BreakEven(calls, spent, saved, why)
