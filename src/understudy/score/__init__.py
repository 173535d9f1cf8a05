"""Is an answer right, and how right: comparisons, metrics by name, chrF, the user's own function.

``grade`` chooses by the spec's kind:

    text    right if equal after ``normalise``
    label   right if it names the same label
    json    right if every field is equal; partial credit is the share of equal fields
"""

from understudy.score.answers import (
    Tolerance,
    canonical,
    exact,
    json_each,
    json_fields,
    label,
    named,
    normalise,
    normalised,
    number,
)
from understudy.score.chrf import chrf
from understudy.score.metrics import METRICS, Detail, Grade, Judged, Metric, detail, grade, metric

__all__ = [
    "METRICS",
    "Detail",
    "Grade",
    "Judged",
    "Metric",
    "Tolerance",
    "canonical",
    "chrf",
    "detail",
    "exact",
    "grade",
    "json_each",
    "json_fields",
    "label",
    "metric",
    "named",
    "normalise",
    "normalised",
    "number",
]
