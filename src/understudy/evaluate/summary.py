"""From outcomes to a Report: a score with its interval for every system, and paired comparisons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import mean, median
from typing import Any

from understudy.evaluate.gate import Condition, decide
from understudy.evaluate.verdict import verdict
from understudy.evaluate.words import notes
from understudy.report import (
    ROLES,
    Comparison,
    Gate,
    LabelCount,
    Outcome,
    Report,
    SystemScore,
)
from understudy.statistics import (
    difference_interval,
    holm,
    mean_interval,
    sign_flip,
    smallest_difference,
    worth,
)

PAIRS = (
    ("student", "base"),
    ("student", "teacher"),
    ("teacher", "base"),
    ("student", "few-shot"),
    ("few-shot", "teacher"),
)
Answers = Mapping[str, Mapping[int, Outcome]]


@dataclass(frozen=True, slots=True)
class Context:
    """What a report should know beside the outcomes."""

    graded: bool = False
    """True if scores between right and wrong count as such; else only whole ones are right."""
    groups: Mapping[int, str] = field(default_factory=dict)
    """Group of each test item, by its id; items of one group are one block."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Bytes on disk of each system that runs here."""
    looks: int = 1
    few_shot: int = 0
    test_share: float | None = None
    """Test items per example of the dataset: what more items cost in examples."""
    own_references: bool = False
    """True if the teacher wrote most of the references itself."""
    conditions: Sequence[Condition] = ()
    """Gates to decide."""


def summarise(
    dataset_id: int,
    metric: str,
    outcomes: Iterable[Outcome],
    models: Mapping[str, str],
    *,
    seconds: float = 0.0,
    context: Context | None = None,
) -> Report:
    """Sum up ``outcomes`` (of one system on one item the last counts) into a Report.

    ``models`` gives each system's model name. A missing answer counts neither as right nor as
    wrong: scores are shares of the items answered. A system of which there is no outcome is left
    out.
    """
    known = context or Context()
    answers: dict[str, dict[int, Outcome]] = {system: {} for system in models}
    for outcome in outcomes:
        answers[outcome.system][outcome.example_id] = outcome
    answers = {system: found for system, found in answers.items() if found}
    systems = {
        system: _score(models[system], list(found.values()), known, known.sizes.get(system))
        for system, found in answers.items()
    }
    comparisons = _adjusted(
        compared
        for first, second in _pairs(answers, known.conditions)
        if (compared := _compare(first, second, answers, known))
    )
    numbers = {number for found in answers.values() for number in found}
    groups = len({known.groups.get(number, number) for number in numbers}) if numbers else None
    said = verdict(
        systems,
        comparisons,
        graded=known.graded,
        metric=metric,
        test_share=known.test_share,
        few_shot=known.few_shot,
    )
    report = Report(
        dataset_id=dataset_id,
        metric=metric,
        items=len(numbers),
        systems=systems,
        comparisons=comparisons,
        verdict=said.sentence,
        outcomes=tuple(outcome for found in answers.values() for outcome in found.values()),
        seconds=seconds,
        graded=known.graded,
        decision=said.decision,
        numbers=said.numbers,
        looks=known.looks,
        groups=groups,
        few_shot=known.few_shot,
        gates=tuple(_gate(condition, systems, comparisons) for condition in known.conditions),
    )
    return replace(report, notes=notes(report, own_references=known.own_references))


def as_json(report: Report) -> dict[str, Any]:
    """The report as ``evaluate --json`` prints it: plain values, without the outcomes.

    What is not known is null: a price, a latency, the score of a system that never answered.
    ``gate`` is null if none was asked for.
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
        "report": report.id,
        "graded": report.graded,
        "decision": report.decision,
        "numbers": report.numbers,
        "notes": list(report.notes),
        "looks": report.looks,
        "groups": report.groups,
        "few_shot": report.few_shot,
        "break_even": asdict(report.break_even) if report.break_even else None,
        "gate": {
            "met": report.gate_met,
            "conditions": [asdict(gate) for gate in report.gates],
        }
        if report.gates
        else None,
        "judge": asdict(report.judge) if report.judge else None,
    }


def _value(outcome: Outcome, *, graded: bool) -> float | None:
    """What an answer counts for; None if it is missing."""
    if outcome.score is None or graded:
        return outcome.score
    return float(outcome.score == 1)


def _score(model: str, outcomes: list[Outcome], known: Context, size: int | None) -> SystemScore:
    answered = [outcome for outcome in outcomes if outcome.score is not None]
    partial = [outcome.score for outcome in answered if outcome.score is not None]
    right = sum(score == 1 for score in partial)
    values = partial if known.graded else [float(score == 1) for score in partial]
    blocks = [known.groups.get(outcome.example_id, outcome.example_id) for outcome in answered]
    low, high, method = mean_interval(values, blocks)
    costs = [outcome.cost_micro for outcome in answered]
    prices = [cost for cost in costs if cost is not None]
    reasons = Counter(outcome.note for outcome in outcomes if outcome.score is None)
    latencies = [outcome.latency_ms for outcome in outcomes if outcome.latency_ms is not None]
    labels = _labels(answered)
    return SystemScore(
        model=model,
        items=len(outcomes),
        right=right,
        missing=len(outcomes) - len(answered),
        score=mean(values) if values and known.graded else right / len(values) if values else 0.0,
        low=low,
        high=high,
        partial=mean(partial) if partial else 0.0,
        # micro-dollars a call to dollars a thousand calls
        usd_per_1k=mean(prices) / 1000 if prices and len(prices) == len(costs) else None,
        latency_ms_p50=median(latencies) if latencies else None,
        why_missing=reasons.most_common(1)[0][0] if reasons else "",
        interval=method,
        exact=mean(bool(outcome.exact) for outcome in answered) if answered else None,
        valid=mean(not outcome.note for outcome in answered) if answered else None,
        macro_f1=mean(count.f1 for count in labels.values()) if labels else None,
        labels=labels,
        fields=_means(outcome.fields for outcome in answered),
        measures=_means(outcome.measures for outcome in answered),
        size_bytes=size,
    )


def _labels(answered: Iterable[Outcome]) -> dict[str, LabelCount]:
    """Of each label how often it was expected, given, and both; none where there are no labels."""
    pairs = Counter((one.expected, one.given) for one in answered if one.expected)
    names = sorted({name for pair in pairs for name in pair if name})
    return {
        name: LabelCount(
            expected=sum(count for (wanted, _), count in pairs.items() if wanted == name),
            given=sum(count for (_, given), count in pairs.items() if given == name),
            right=pairs[name, name],
        )
        for name in names
    }


def _means(found: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each name's values, over those who have it."""
    values: dict[str, list[float]] = {}
    for one in found:
        for name, value in one.items():
            values.setdefault(name, []).append(float(value))
    return {name: mean(given) for name, given in values.items()}


def _pairs(answers: Answers, conditions: Sequence[Condition]) -> list[tuple[str, str]]:
    """Who is compared with whom: the roles, each other model with the student, every gate."""
    subject = "student" if "student" in answers else "teacher"
    others = [(subject, name) for name in answers if name not in ROLES]
    found = [pair for pair in (*PAIRS, *others) if pair[0] in answers and pair[1] in answers]
    for gate in conditions:
        pair = gate.first, gate.second
        wanted = gate.second and pair[0] in answers and pair[1] in answers
        if wanted and pair not in found and pair[::-1] not in found:
            found.append(pair)
    return found


def _compare(first: str, second: str, answers: Answers, known: Context) -> Comparison | None:
    """Compare on the items that both answered; None if there are none."""
    differences, blocks = [], []
    for number, one in answers[first].items():
        other = answers[second].get(number)
        if other is None:
            continue
        ours, theirs = _value(one, graded=known.graded), _value(other, graded=known.graded)
        if ours is not None and theirs is not None:
            differences.append(ours - theirs)
            blocks.append(known.groups.get(number, number))
    if not differences:
        return None
    n = len(differences)
    single = len(set(blocks)) == n
    for_first = sum(difference > 0 for difference in differences)
    for_second = sum(difference < 0 for difference in differences)
    difference = sum(differences) / n if known.graded else (for_first - for_second) / n
    given = None if single else blocks
    low, high, interval = difference_interval(differences, given)
    spread = sum(difference * difference for difference in differences) / n
    if known.graded or not single:
        method = "sign-flip" if single else "sign-flip, by blocks"
    else:
        method = "exact McNemar"
    return Comparison(
        first=first,
        second=second,
        items=n,
        only_first=for_first,
        only_second=for_second,
        difference=difference,
        p_value=sign_flip(differences, given),
        low=low,
        high=high,
        method=method,
        interval=interval,
        detectable=smallest_difference(worth(differences, given), spread),
    )


def _adjusted(comparisons: Iterable[Comparison]) -> tuple[Comparison, ...]:
    found = tuple(comparisons)
    adjusted = holm([pair.p_value for pair in found])
    return tuple(replace(pair, p_adjusted=p) for pair, p in zip(found, adjusted, strict=True))


def _gate(
    condition: Condition, systems: Mapping[str, SystemScore], comparisons: Sequence[Comparison]
) -> Gate:
    wanted = {condition.first, condition.second}
    compared = next((pair for pair in comparisons if {pair.first, pair.second} == wanted), None)
    return decide(condition, systems, compared)
