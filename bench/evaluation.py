"""The statistics of a large report: 10,000 items by four systems, by metric; and 10,000 resamples.

.venv/bin/python bench/evaluation.py [ITEMS]
"""

from __future__ import annotations

import sys
import time

import numpy as np

from understudy.evaluate import Context, summarise
from understudy.report import Outcome
from understudy.statistics import bootstrap

RATES = {"teacher": 0.95, "base": 0.3, "few-shot": 0.7, "student": 0.93}
LIMIT_S = 2.0


def outcomes(items: int, kind: str) -> list[Outcome]:
    """Return what four systems answered."""
    chance = np.random.default_rng(0)
    made = []
    for system, rate in RATES.items():
        if kind == "graded":
            scores = chance.beta(4 * rate, 4 * (1 - rate), items)
        elif kind == "json":
            scores = chance.binomial(4, rate, items) / 4
        else:
            scores = (chance.random(items) < rate).astype(float)
        for item, score in enumerate(scores.tolist(), 1):
            right = score == 1
            fields = {"a": right, "b": score > 0.4, "c": score > 0.1} if kind == "json" else {}
            names = (f"label {item % 20}", f"label {(item + (not right)) % 20}")
            expected, given = names if kind == "label" else ("", "")
            made.append(
                Outcome(
                    item,
                    system,
                    "answer",
                    score,
                    right,
                    latency_ms=5.0,
                    cost_micro=3,
                    fields=fields,
                    expected=expected,
                    given=given,
                    measures={"chrF": score} if kind == "graded" else {},
                )
            )
    return made


def main(items: int) -> None:
    """Print seconds for each kind of report."""
    models = {system: f"model of {system}" for system in RATES}
    for kind in ("label", "json", "graded", "graded, in groups"):
        found = outcomes(items, kind.partition(",")[0])
        groups = {item: str(item // 3) for item in range(1, items + 1)} if "," in kind else {}
        context = Context(graded=kind.startswith("graded"), groups=groups)
        started, own = time.perf_counter(), time.process_time()
        report = summarise(1, kind, found, models, context=context)
        taken, own = time.perf_counter() - started, time.process_time() - own
        print(
            f"{kind:18} {items:,} items by {len(RATES)} systems, {len(report.comparisons)} "
            f"comparisons: {taken:.2f} s ({own:.2f} s of processor time)"
        )
        assert own < LIMIT_S, f"{own:.2f} s"
    for n in (500, 10_000):
        for name, values in (
            ("right or wrong", np.random.default_rng(1).integers(0, 2, n).astype(float)),
            ("graded", np.random.default_rng(1).random(n)),
        ):
            bootstrap(values)
            started = time.perf_counter()
            bootstrap(values)
            print(
                f"10,000 resamples of {n:,} items, {name}: "
                f"{1000 * (time.perf_counter() - started):.1f} ms"
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
