"""The validation and test items, while examples are made because of what was missed among them.

Such examples are for training alone. A new input that would fall to a held-out side is not
answered; an answered one that gives a held-out item away, or would fall to its side, is stored as
rejected. So what was held out is the same before and after, and nothing of it is learnt.
"""

from __future__ import annotations

from dataclasses import replace

from understudy import dataset
from understudy.clean import Kept
from understudy.dataset import Unseen, asked, group_of, input_group
from understudy.example import Example, Message
from understudy.generate.answers import Answer
from understudy.generate.inputs import Candidate
from understudy.models.protocol import CallFailed
from understudy.project.examples import kept_so_far
from understudy.project.shelf import Splits
from understudy.project.workplace import Workplace

REASON = "held out"


class HeldOut:
    """What was held out, and what must not be made beside it."""

    def __init__(self, place: Workplace, splits: Splits) -> None:
        settings, spec = place.settings, place.spec
        held = [*splits["validation"], *splits["test"]]
        self.ids = frozenset(item.id for item in held if item.id is not None)
        """Examples that the teacher is never shown."""
        with place.database.read() as connection:
            versions = place.versions(connection)
        self._kept: Kept = kept_so_far(place, versions)
        self._by_answer = spec.same_answer_same_meaning
        self._inputs = {asked(item) for item in held}
        self._trained = {group_of(item) for item in splits["train"]}
        self._unseen = Unseen(
            held, similarity=settings.duplicate_similarity, free_text=spec.kind == "text"
        )
        self._shares = {
            "seed": settings.seed,
            "validation_share": settings.validation_share,
            "test_share": settings.test_share,
        }

    def guarding(self, answer: Answer) -> Answer:
        """``answer``, but not of inputs that fall to a held-out side; what gives away is rejected.

        The function raises CallFailed for an input that is not answered.
        """

        async def guarded(candidate: Candidate) -> Example:
            why_not = self.input_fault(candidate)
            if why_not:
                raise CallFailed(why_not)
            example = await answer(candidate)
            fault = "" if example.state == "rejected" else self.fault(example)
            return replace(example, state="rejected", reason=fault) if fault else example

        return guarded

    def input_fault(self, candidate: Candidate) -> str:
        """Why an input must not be answered, by what is known before; empty if it may be."""
        example = Example((Message("user", candidate.text),), "")
        if asked(example) in self._inputs:
            return f"{REASON}: the input is a held-out one"
        if self._by_answer:
            return ""
        near = self._kept.near(example)
        return self._side_fault(group_of(near[0].example) if near else input_group(example))

    def fault(self, example: Example) -> str:
        """Why an answered example must not be accepted; empty if it may be."""
        near = self._kept.near(example)
        group = self._kept.group(example, near, self._kept.clashes(example, near))
        leak = self._unseen.given_away_by(replace(example, group=group))
        if leak is not None:
            return f"{REASON}: it and example {leak.other_id} {leak.reason}"
        return self._side_fault(group)

    def _side_fault(self, group: str) -> str:
        if group in self._trained:
            return ""
        side = dataset.split_of(group, **self._shares)  # type: ignore[arg-type]
        return "" if side == "train" else f"{REASON}: it would fall to the {side} split"
