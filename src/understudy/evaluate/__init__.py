"""Evaluation: every system answers the same unseen items; what comes is graded, summed up, judged.

``evaluate`` asks and yields outcomes, ``summarise`` makes a Report of them with its verdict,
``as_json`` its shape for programs; a ``Gate`` is one condition on the report.
"""

from understudy.evaluate.asking import evaluate, request
from understudy.evaluate.gate import Condition, decide, parse
from understudy.evaluate.shots import shots
from understudy.evaluate.summary import Context, as_json, summarise

__all__ = [
    "Condition",
    "Context",
    "as_json",
    "decide",
    "evaluate",
    "parse",
    "request",
    "shots",
    "summarise",
]
