"""Cleaning at size: seconds, memory, near-duplicates found, against comparing every pair.

Support messages as they come and in runs of four or five, with answers of every kind; of the rows
5 % say the same as an earlier one and 10 % nearly the same. Each set is measured in a process of
its own. The reference, comparing every pair, is measured on the first 2,000 rows.

    .venv/bin/python bench/cleaning.py [ROWS] [SET ...]
"""

from __future__ import annotations

import json
import multiprocessing
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from understudy.clean import clean
from understudy.example import Example, Message
from understudy.practice import load
from understudy.practice.support import INTENTS
from understudy.similar import Index, fold, jaccard
from understudy.task import Spec

THRESHOLD, SAMPLE, STEP = 0.8, 2_000, 10_000
SETS = ("short-text", "short-json", "short-label", "long-text", "long-json")


class Rows(NamedTuple):
    """Examples to clean, and which of them were planted: id of the copy to id of the original."""

    examples: list[Example]
    planted: dict[int, int]


def make(name: str, size: int) -> Rows:
    """Return one set of ``size`` rows, the copies anywhere after their originals."""
    length, kind = name.split("-")
    drawn = random.Random(name)
    examples: list[Example] = []
    planted = {}
    fresh = inputs(length, drawn)
    while len(examples) < size:
        number, chance = len(examples) + 1, drawn.random()
        if examples and chance < 0.15:
            original = drawn.choice(examples)
            text = again(original.input) if chance < 0.05 else nearly(original.input, drawn)
            if jaccard(text, original.input) >= THRESHOLD:
                planted[number] = original.id or 0
            answer = original.answer
        else:
            text = next(fresh)
            answer = answer_to(text, kind, number)
        examples.append(
            Example(
                (Message("user", text),),
                answer,
                origin="generated",
                maker="a-teacher-model",
                source=f"ledger:{number:032x}",
                cell={"intent": drawn.choice(INTENTS), "tone": "plain", "length": length},
                id=number,
            )
        )
    return Rows(examples, planted)


def inputs(length: str, drawn: random.Random) -> Iterator[str]:
    """Inputs of 20 to 120 characters, or of 300 to 600, without end."""
    task, seed = load("support"), 0
    if length == "long":
        short = inputs("short", drawn)
        pool = [next(short) for _ in range(20_000)]
        while True:
            text = " ".join(drawn.sample(pool, 6))
            yield text[: text.rfind(" ", 0, drawn.randrange(310, 600))]
    while True:
        yield from (text for text in task.inputs({}, 9, seed) if 20 <= len(text) <= 120)
        seed += 1


def again(text: str) -> str:
    """Say the same in other letters."""
    return f" {text.upper()}\n"


def nearly(text: str, drawn: random.Random) -> str:
    """One short word replaced."""
    words = text.split()
    short = [place for place, word in enumerate(words) if len(word) < 5] or [0]
    words[drawn.choice(short)] = "the"
    return " ".join(words)


def answer_to(text: str, kind: str, number: int) -> str:
    """Answer as a teacher would."""
    if kind == "json":
        return load("support").answer(text)
    heard = json.loads(load("support").answer(text))
    if kind == "label":
        return str(heard["intent"])
    return (
        f"Thank you for writing about your {heard['product'] or 'order'}. We have noted case "
        f"{number * 7919 % 1_000_003} ({heard['intent']}) and will be back within two days."
    )


def spec_of(name: str) -> Spec:
    """Return the spec that the answers of a set keep to."""
    kind = name.split("-")[1]
    support = load("support").spec()
    labels = INTENTS if kind == "label" else ()
    fields = support.fields if kind == "json" else ()
    changed = {"kind": kind, "labels": labels, "fields": fields, "same_answer_same_meaning": False}
    return support.model_copy(update=changed)


def memory(name: str) -> float:
    """Resident memory in MB: now (VmRSS) or at its highest (VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


def measured(name: str, size: int) -> None:
    """Clean one set and print what it took and what it found."""
    rows, spec = make(name, size), spec_of(name)
    texts = [len(example.input) for example in rows.examples]
    print(f"{name}: {size:,} rows of {sum(texts) / size:.0f} characters")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak starts from here
    before, reasons, steps = memory("VmRSS"), {}, []
    started, own_started = time.perf_counter(), time.process_time()
    at = own_started
    for count, item in enumerate(clean(rows.examples, spec, similarity=THRESHOLD), 1):
        if item.state == "rejected":
            reasons[item.id or 0] = (item.reason, item.twin or 0)
        if count % STEP == 0:
            steps.append(STEP / (time.process_time() - at))
            at = time.process_time()
    seconds, own = time.perf_counter() - started, time.process_time() - own_started
    grown = memory("VmHWM") - before
    print(
        f"  clean       {seconds:.2f} s ({own:.2f} s of processor time), "
        f"{grown:.0f} MB more at the peak, {grown * 2**20 / size:,.0f} B a row"
    )
    print(f"  rows/s      {' '.join(f'{rate:,.0f}' for rate in steps)}  (of each {STEP:,}, same)")
    report_found(rows, reasons)
    report_reference(name, rows.examples[:SAMPLE])


def report_found(rows: Rows, reasons: dict[int, tuple[str, int]]) -> None:
    """Print the share of planted copies that were found, and of drops that were wrong."""
    wanted = [copy for copy, original in rows.planted.items() if original not in reasons]
    found = sum(copy in reasons for copy in wanted)
    drops = [(number, twin) for number, (_, twin) in reasons.items() if twin]
    looked_at = random.Random(0).sample(drops, min(len(drops), SAMPLE))
    of = rows.examples
    wrong = sum(
        jaccard(of[one - 1].input, of[twin - 1].input) < THRESHOLD for one, twin in looked_at
    )
    print(f"  found       {found:,} of {len(wanted):,} planted: recall {found / len(wanted):.4f}")
    print(f"  dropped     {len(drops):,} in all; of {len(looked_at):,} looked at {wrong} wrongly")


def report_reference(name: str, examples: list[Example]) -> None:
    """Print what comparing every pair of a sample takes, and whether it says the same."""
    spec = spec_of(name)
    started = time.perf_counter()
    fast = {item.id for item in clean(examples, spec, similarity=THRESHOLD) if item.twin}
    seconds = time.perf_counter() - started
    started = time.perf_counter()
    slow = {one.id for one in by_pairs(examples)}
    took = time.perf_counter() - started
    print(
        f"  {len(examples):,} rows  every pair {took:.2f} s for the inputs alone, clean "
        f"{seconds:.2f} s; dropped by both {len(fast & slow)}, only by every pair "
        f"{len(slow - fast)}, only by clean {len(fast - slow)}"
    )


def by_pairs(examples: list[Example]) -> Iterator[Example]:
    """Yield those that repeat an earlier one which is kept, by comparing with all of them."""
    kept: list[tuple[set[str], Example]] = []
    for example in examples:
        text = fold(example.input)
        grams = {text[at : at + 5] for at in range(len(text) - 4)}
        for other, twin in kept:
            shared = len(grams & other)
            alike = shared / (len(grams) + len(other) - shared)
            if alike == 1 or (alike >= THRESHOLD and same_answer(example, twin)):
                yield example
                break
        else:
            kept.append((grams, example))


def same_answer(one: Example, other: Example) -> bool:
    """Whether two answers are one, or near enough in free text."""
    if one.answer == other.answer:
        return True
    return one.answer.startswith("Thank") and jaccard(one.answer, other.answer) >= THRESHOLD


def index_alone(size: int) -> None:
    """Print what the index alone holds for the short inputs."""
    rows = make("short-label", size).examples
    before, started = memory("VmRSS"), time.process_time()
    index = Index(THRESHOLD)
    for number, example in enumerate(rows):
        index.add(number, example.input)
    grown = memory("VmRSS") - before
    print(
        f"index alone: {size:,} short texts, {grown:.0f} MB, {grown * 2**20 / size:,.0f} B a text, "
        f"{(time.process_time() - started) / size * 1e6:.0f} us a text"
    )


def main(size: int, names: tuple[str, ...]) -> None:
    """Measure every set, each in a fresh process."""
    fresh = multiprocessing.get_context("spawn")
    jobs = [(measured, (name, size)) for name in names] + [(index_alone, (size,))]
    for job, given in jobs:
        process = fresh.Process(target=job, args=given)
        process.start()
        process.join()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, tuple(sys.argv[2:]) or SETS)
