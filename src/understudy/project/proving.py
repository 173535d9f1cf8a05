"""The verbs that ask whether it was worth it, and what would make it better; part of Project."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from understudy.money import Quote
from understudy.project import failing, improving, learning
from understudy.project.workplace import Workplace


class Proving(Workplace):
    """See ``Project``."""

    def learning_curve(
        self,
        shares: Sequence[float] = learning.SHARES,
        *,
        seeds: int = 1,
        side: failing.Side = "validation",
        **recipe: Any,
    ) -> learning.LearningCurve:
        """Train on parts of the training split: what would twice the examples bring, and cost.

        ``shares``: parts, 0 to 1, nested and of whole groups; with fewer than four nothing is
        foretold. ``seeds``: trainings of each, the first with the project's seed. ``side``: where
        they are scored; ``test`` counts as a look at it. ``recipe`` as for ``train``. Finished
        trainings are not repeated. Raises UsageError for wrong shares or an empty side, and what
        a training failed with.
        """
        with self.writing():
            return learning.learning_curve(
                self, shares=shares, seeds=seeds, side=side, overrides=recipe
            )

    def failures(
        self, *, side: failing.Side = "test", report: int | None = None
    ) -> failing.Failures:
        """Where the student of the newest report fails: slices, confusions, clusters of misses.

        ``test`` reads that report (or that of the number ``report``), and counts as a look at the
        test; ``validation`` asks the student. Raises UsageError if no student was evaluated.
        """
        with self.writing():
            return failing.failures(self, side=side, report=report)

    def improve(
        self,
        examples: int,
        *,
        side: failing.Side | None = None,
        confirm: Callable[[Quote], None] = lambda _quote: None,
        **recipe: Any,
    ) -> improving.Improved:
        """A round against the misses: new examples near them, a new student, a new report.

        ``examples``: how many more to generate. ``side``: whose misses choose where; None takes
        validation if it has enough, else the test, which is booked. ``confirm`` is given the quote
        and raises to stop before the spend. ``recipe`` as for ``train``. The same call goes on
        where it stopped. Raises UsageError if no student was evaluated, nothing is wrong or there
        is no plan, and as ``generate`` and ``train`` do.
        """
        with self.writing():
            return improving.improve(self, examples, side=side, confirm=confirm, recipe=recipe)
