"""From outcomes to a Report: a score with its interval for every system, and paired comparisons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from statistics import mean, median
from typing import Any

from understudy.evaluate.verdict import verdict
from understudy.report import Comparison, Outcome, Report, SystemScore
from understudy.statistics import mcnemar_exact, wilson

PAIRS = (("student", "base"), ("student", "teacher"), ("teacher", "base"))


def summarise(
    dataset_id: int,
    metric: str,
    outcomes: Iterable[Outcome],
    models: Mapping[str, str],
    *,
    seconds: float = 0.0,
) -> Report:
    """Sum up ``outcomes`` (of one system on one item the last counts) into a Report.

    ``models`` gives each system's model name. A missing answer counts neither as right nor as
    wrong: scores are shares of the items answered. A system of which there is no outcome is left
    out.
    """
    answers: dict[str, dict[int, Outcome]] = {system: {} for system in models}
    for outcome in outcomes:
        answers[outcome.system][outcome.example_id] = outcome
    answers = {system: found for system, found in answers.items() if found}
    systems = {
        system: _score(models[system], list(found.values())) for system, found in answers.items()
    }
    comparisons = tuple(
        compared
        for first, second in PAIRS
        if first in answers
        and second in answers
        and (compared := _compare(first, second, answers[first], answers[second]))
    )
    return Report(
        dataset_id=dataset_id,
        metric=metric,
        items=len({number for found in answers.values() for number in found}),
        systems=systems,
        comparisons=comparisons,
        verdict=verdict(systems, comparisons),
        outcomes=tuple(outcome for found in answers.values() for outcome in found.values()),
        seconds=seconds,
    )


def as_json(report: Report) -> dict[str, Any]:
    """The report as ``evaluate --json`` prints it: plain values, without the outcomes.

    What is not known is null: a price, a latency, the score of a system that never answered.
    """
    systems = {}
    for name, system in report.systems.items():
        systems[name] = asdict(system)
        if system.missing == system.items:
            systems[name] |= {"score": None, "low": None, "high": None, "partial": None}
    return {
        "items": report.items,
        "systems": systems,
        "comparisons": [asdict(comparison) for comparison in report.comparisons],
        "verdict": report.verdict,
        "seconds": report.seconds,
        "metric": report.metric,
        "dataset": report.dataset_id,
    }


def _score(model: str, outcomes: list[Outcome]) -> SystemScore:
    scores = [outcome.score for outcome in outcomes if outcome.score is not None]
    right = sum(score == 1 for score in scores)
    low, high = wilson(right, len(scores))
    costs = [outcome.cost_micro for outcome in outcomes if outcome.score is not None]
    known = [cost for cost in costs if cost is not None]
    reasons = Counter(outcome.note for outcome in outcomes if outcome.score is None)
    latencies = [outcome.latency_ms for outcome in outcomes if outcome.latency_ms is not None]
    return SystemScore(
        model=model,
        items=len(outcomes),
        right=right,
        missing=len(outcomes) - len(scores),
        score=right / len(scores) if scores else 0.0,
        low=low,
        high=high,
        partial=mean(scores) if scores else 0.0,
        # micro-dollars a call to dollars a thousand calls
        usd_per_1k=mean(known) / 1000 if known and len(known) == len(costs) else None,
        latency_ms_p50=median(latencies) if latencies else None,
        why_missing=reasons.most_common(1)[0][0] if reasons else "",
    )


def _compare(
    first: str, second: str, firsts: Mapping[int, Outcome], seconds: Mapping[int, Outcome]
) -> Comparison | None:
    """Compare on the items that both answered; None if there are none."""
    pairs = [
        (firsts[number].score == 1, seconds[number].score == 1)
        for number in firsts.keys() & seconds.keys()
        if firsts[number].score is not None and seconds[number].score is not None
    ]
    if not pairs:
        return None
    only_first = sum(one and not other for one, other in pairs)
    only_second = sum(other and not one for one, other in pairs)
    return Comparison(
        first=first,
        second=second,
        items=len(pairs),
        only_first=only_first,
        only_second=only_second,
        difference=(only_first - only_second) / len(pairs),
        p_value=mcnemar_exact(only_first, only_second),
    )
