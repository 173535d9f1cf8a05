"""What makes an answer good: metrics by name, by the spec's kind, or the user's own function.

exact           equal to the letter, but for blanks around
normalised      equal after ``normalise``                     (what texts are judged by)
label           names the same label                          (labels)
json            every field equal                             (JSON)
fields          share of JSON fields that are equal
number[:T]      the number is right within T: 0.01, or 1%; in JSON, every number
spec            keeps the spec's checks; the reference does not count
regex:PATTERN   the whole answer matches; the reference does not count
chrf            character n-grams in common with the reference
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from understudy.errors import UsageError
from understudy.score.answers import (
    Tolerance,
    exact,
    json_each,
    json_fields,
    label,
    named,
    normalised,
    number,
)
from understudy.score.chrf import chrf
from understudy.task import Kind, Spec

METRICS = {"text": "exact match", "label": "label accuracy", "json": "all fields right"}
"""Title of the metric that each kind of answer is judged by."""
OF_KIND: Mapping[Kind, str] = {"text": "normalised", "label": "label", "json": "json"}
NAMES = ("exact", "normalised", "label", "json", "fields", "number", "spec", "regex", "chrf")
Judged = Callable[[str, str], float | bool]
"""The user's own metric: from reference and answer to a score from 0 to 1."""


class Grade(NamedTuple):
    """How good one answer is."""

    score: float
    """1 if right, else 0."""
    exact: bool
    """True if it equals the reference to the letter."""
    partial: float
    """0 to 1: share of right JSON fields, or a graded metric; else equal to ``score``."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A way to judge answers."""

    name: str
    title: str
    """In words, for reports."""
    judge: Judged
    graded: bool = False
    """True if scores between right and wrong count as such."""
    tolerance: Tolerance | None = None
    """Of numbers, also in JSON fields."""
    own: bool = field(default=False)
    """True for a user's function, which may do what it likes."""

    def __call__(self, reference: str, answer: str) -> Grade:
        """Judge. Raises UsageError if a user's function fails or gives no share."""
        partial = self._own(reference, answer) if self.own else float(self.judge(reference, answer))
        return Grade(float(partial == 1), exact(reference, answer), partial)

    def _own(self, reference: str, answer: str) -> float:
        try:
            score = float(self.judge(reference, answer))
        except Exception as error:
            raise UsageError(
                f"the metric {self.name} failed: {type(error).__name__}: {error}",
                "It is called with (reference, answer) and gives a number from 0 to 1",
            ) from error
        if not (math.isfinite(score) and 0 <= score <= 1):
            raise UsageError(f"the metric {self.name} gave {score}", "Give a number from 0 to 1")
        return score


def metric(wanted: str | Judged | None, spec: Spec | None) -> Metric:
    """The metric of that name, the user's own function, or for None that of the spec's kind.

    Raises UsageError if there is none of that name, or it does not fit the spec.
    """
    if callable(wanted):
        name = getattr(wanted, "__name__", type(wanted).__name__)
        return Metric(name, name, wanted, graded=True, own=True)
    kind = spec.kind if spec else "text"
    name, colon, detail = (wanted or OF_KIND[kind]).partition(":")
    if name not in NAMES or (colon and name not in ("number", "regex")):
        raise UsageError(f"there is no metric {wanted}", f"There are: {', '.join(NAMES)}")
    needed = {"label": "label", "json": "json", "fields": "json"}.get(name, kind)
    if kind != needed:
        raise UsageError(f"the metric {name} needs answers of kind {needed}, not {kind}", _OTHERS)
    if name == "number":
        return _numbers(_tolerance(detail), kind)
    if name == "regex":
        return _regex(detail)
    if name == "spec":
        checked = spec
        return Metric(
            name,
            "keeps the spec",
            lambda _, answer: checked is None or checked.violation(answer.strip()) is None,
        )
    labels = spec.labels if spec else ()
    made = {
        "exact": Metric(name, "equal to the letter", exact),
        "normalised": Metric(name, METRICS["text"], normalised),
        "label": Metric(name, METRICS["label"], lambda one, two: label(one, two, labels)),
        "json": Metric(name, METRICS["json"], json_fields),
        "fields": Metric(name, "share of fields right", json_fields, graded=True),
        "chrf": Metric(name, "chrF", chrf, graded=True),
    }
    return made[name]


_OTHERS = "exact, normalised, number, spec, regex and chrf take any"


def _numbers(tolerance: Tolerance, kind: Kind) -> Metric:
    size = f"{tolerance.size:.3g}" if not tolerance.relative else f"{100 * tolerance.size:.3g} %"
    if kind == "json":
        title = f"all fields right, numbers within {size}"
        return Metric(
            "number",
            title,
            lambda one, two: json_fields(one, two, tolerance),
            tolerance=tolerance,
        )
    title = f"number right within {size}"
    return Metric("number", title, lambda one, two: number(one, two, tolerance))


def _tolerance(detail: str) -> Tolerance:
    if not detail:
        return Tolerance()
    try:
        size = float(detail.removesuffix("%"))
    except ValueError:
        size = -1.0
    if not 0 <= size < math.inf:
        raise UsageError(f"number:{detail} is no tolerance", "Write number:0.01 or number:1%")
    return Tolerance(size / 100, relative=True) if detail.endswith("%") else Tolerance(size, False)


def _regex(pattern: str) -> Metric:
    try:
        compiled = re.compile(pattern, re.DOTALL)
    except re.error as error:
        raise UsageError(f"regex:{pattern} is no regular expression: {error}") from None
    return Metric(
        "regex",
        f"matches {pattern}",
        lambda _, answer: compiled.fullmatch(answer.strip()) is not None,
    )


class Detail(NamedTuple):
    """What else an answer tells, whatever it is judged by."""

    fields: dict[str, bool]
    """Of JSON: whether each field is right."""
    expected: str
    """Of labels: the one of the reference."""
    given: str
    """Of labels: the one that the answer names, or empty."""
    measures: dict[str, float]
    """Of texts: chrF."""


def detail(
    spec: Spec | None, reference: str, answer: str, tolerance: Tolerance | None = None
) -> Detail:
    """Look at an answer more closely, as the spec's kind asks."""
    kind = spec.kind if spec else "text"
    if spec and kind == "label":
        labels = spec.labels
        expected = named(reference, labels) or reference.strip()
        return Detail({}, expected, named(answer, labels), {})
    if kind == "json":
        wanted = json_each(reference, reference) or {}
        found = json_each(reference, answer, tolerance) or {}
        return Detail({name: found.get(name, False) for name in wanted}, "", "", {})
    return Detail({}, "", "", {"chrF": chrf(reference, answer)})


def grade(spec: Spec | None, reference: str, answer: str) -> Grade:
    """Compare ``answer`` with ``reference`` as the spec's kind asks; without a spec, as text."""
    return metric(None, spec)(reference, answer)
