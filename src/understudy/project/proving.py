"""The verbs that ask whether it was worth it, and what would make it better; part of Project."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from understudy.evaluate.reality import Reality
from understudy.money import Quote
from understudy.project import checking, failing, improving, judging, learning, report_page
from understudy.project.reviewing import Review
from understudy.project.workplace import Workplace
from understudy.report import Report
from understudy.score import Judged


class Proving(Workplace):
    """See ``Project``."""

    def check(self) -> Reality:
        """Before the spend: whether the teacher is sure of itself, and prompting as good.

        Up to 20 own examples and the first 20 generated ones are put to the teacher twice, and to
        the student before training, without and with examples. What was found is kept, and asked
        once. Raises UsageError if there is no example yet, BudgetReached and ProviderRefused.
        """
        with self.writing():
            return checking.check(self)

    def last_check(self) -> Reality | None:
        """What ``check`` found last for what is learned now; None if it was not asked."""
        with self.database.read() as connection:
            return checking.last(connection, self.versions(connection))

    def evaluate(
        self,
        *,
        models: Sequence[str] = (),
        few_shot: int | None = None,
        metric: str | Judged | None = None,
        gate: str | Sequence[str] = (),
        confirm: Callable[[Quote], None] = lambda _: None,
    ) -> Report:
        """Ask teacher, base and student the test items; score, compare, and say the verdict.

        ``models`` are others to ask too; ``few_shot`` how many training examples one more system,
        the base, is shown (default 5; none if it was made from scratch). ``metric`` is a name
        (score/metrics.py) or a function of (reference, answer) to a number from 0 to 1. ``gate`` is
        a condition or several, such as ``"student >= teacher - 0.02"``: see ``report.gate_met``.

        With the setting ``judge`` that model compares free-text answers too; ``confirm`` is given
        the quote for its calls before they are made, and raises if they are not to be.

        Raises UsageError for what makes no sense before anybody is asked; BudgetReached or
        ProviderRefused after what was answered until then was made a report of.
        """
        gates = [gate] if isinstance(gate, str) else list(gate)
        others = [models] if isinstance(models, str) else models
        how = judging.How(others, few_shot, metric, gates, confirm)
        with self.writing():
            return judging.evaluate(self, how)

    @property
    def review(self) -> Review:
        """Pairs of answers for a person to decide between: what a judge is measured by."""
        return Review(self)

    def samples(self, report: Report, number: int = 5) -> list[judging.Sample]:
        """A few of the student's answers in a report, with what was expected."""
        return judging.samples(self, report, number)

    def report(self, number: int | None = None) -> Report:
        """The newest report, or that of a number, as it was stored; a notebook shows it.

        Raises UsageError if there is none.
        """
        return report_page.report_of(self, number)

    def write_report(self, path: str | Path, number: int | None = None) -> int:
        """Write a report as one page, HTML (Markdown if ``path`` ends in .md); its size in bytes.

        It shows some misses, which counts as a look at the test items, once for each report.
        Raises UsageError if there is no such report or ``path`` may not be written; DiskError.
        """
        with self.writing():
            return report_page.write_report(self, Path(path), number)

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
