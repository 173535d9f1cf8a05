"""What changed from one report to the next: items newly right and newly wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from understudy.report import Outcome
from understudy.statistics import mcnemar_exact


@dataclass(frozen=True, slots=True)
class Flip:
    """One item that was answered otherwise than before."""

    example_id: int
    before: str
    now: str


@dataclass(frozen=True, slots=True)
class Flips:
    """One system before and now, on the items that both reports have answered."""

    items: int
    newly_right: tuple[Flip, ...]
    newly_wrong: tuple[Flip, ...]
    p_value: float
    """Exact McNemar test that it only changed by chance."""

    @property
    def difference(self) -> float:
        """Share of right answers now less that before."""
        return (len(self.newly_right) - len(self.newly_wrong)) / self.items if self.items else 0.0

    @property
    def sentence(self) -> str:
        """In words."""
        if not self.items:
            return "No item was answered both before and now"
        chance = "beyond chance" if self.p_value < 0.05 else "which may be chance"
        p = "p < 0.001" if self.p_value < 0.001 else f"p = {self.p_value:.2g}"
        return (
            f"Of {self.items:,} items {len(self.newly_right):,} are newly right and "
            f"{len(self.newly_wrong):,} newly wrong: {100 * self.difference:+.1f} points, {chance} "
            f"(exact McNemar, {p})"
        )


def flips(before: Iterable[Outcome], now: Iterable[Outcome], *, system: str = "student") -> Flips:
    """Compare what ``system`` answered in two reports; an item that one lacks counts in neither."""
    old, new = _answered(before, system), _answered(now, system)
    both = sorted(old.keys() & new.keys())
    turned = [
        (new[one].score == 1, Flip(one, old[one].answer or "", new[one].answer or ""))
        for one in both
        if (old[one].score == 1) != (new[one].score == 1)
    ]
    right = tuple(flip for is_right, flip in turned if is_right)
    wrong = tuple(flip for is_right, flip in turned if not is_right)
    return Flips(len(both), right, wrong, mcnemar_exact(len(wrong), len(right)))


def _answered(outcomes: Iterable[Outcome], system: str) -> dict[int, Outcome]:
    return {
        outcome.example_id: outcome
        for outcome in outcomes
        if outcome.system == system and outcome.score is not None
    }
