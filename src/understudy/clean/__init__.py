"""Cleaning: which examples are kept, and why each of the others is set apart.

The reasons, in the order in which they are looked for (the first two of the list are given by
whoever read the reply, and are left as they are):

    cut off, malformed          the reply was not whole
    empty                       nothing is in the input or in the answer
    refusal                     a generated free-text answer declines to answer
    breaks the spec: WHY        also own examples: to train on one would contradict the check
    duplicate of N              an example that is kept teaches the same
    contradicts N               an example that is kept answers the same input otherwise

Nothing is deleted: an example set apart can be read, and accepted by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from itertools import chain
from operator import attrgetter

from understudy.clean.duplicates import ORIGINS, Kept, rank
from understudy.clean.refusals import refuses
from understudy.example import Example, State
from understudy.similar import fold
from understudy.task import Spec

__all__ = ["ORIGINS", "Kept", "clean", "decide", "fault_of", "precedence"]


def clean(
    examples: Iterable[Example],
    spec: Spec | None,
    *,
    similarity: float,
    decided: Iterable[Example] = (),
) -> Iterator[Example]:
    """Decide about every new one of ``examples``; yield each with state, reason, twin and group.

    ``decided`` are those decided before: the accepted ones are what the new are compared with. Own
    examples are looked at before generated ones, earlier ids before later; without ids, the order
    given. An example decided before is yielded again only if a new one of higher precedence takes
    its place. ``similarity`` is the Jaccard index (0 to 1) from which two inputs are near.
    Examples that are not new are yielded untouched. ``decided`` may be a stream: of an accepted one
    a packed copy is kept, no reference. ``examples`` are held until the end, to be put in order;
    who has too many for that calls ``decide`` on them one by one in the order of ``precedence``.
    """
    new = sorted(examples, key=precedence)
    kept = Kept(spec, similarity)
    for example in chain(decided, new):
        if example.state == "accepted":
            kept.add(example)
    for example in new:
        yield from decide(kept, example)


def precedence(example: Example) -> tuple[int, bool, int]:
    """Sort key of the order in which examples are looked at."""
    return rank(example), example.id is None, example.id or 0


def decide(kept: Kept, example: Example) -> Iterator[Example]:
    """Decide about ``example`` if it is new, and keep it in ``kept`` if it is accepted.

    Yields it decided, after those kept ones (rejected now) whose place it takes: these were
    yielded, or added, as accepted before. Run to its end before the next one is decided.
    """
    if example.state != "new":
        yield example
        return
    near = kept.near(example)
    clashes = kept.clashes(example, near)
    group = example.group or kept.group(example, near, clashes)
    fault = fault_of(example, kept.spec)
    if fault:
        yield _decided(example, "rejected", fault, example.twin, group)
        return
    for twin, how in clashes:
        if rank(twin.example) <= rank(example):
            yield _rejected(example, how, twin.example, group)
            return
    for twin, how in clashes:
        kept.drop(twin)
        yield _rejected(twin.example, how, example, twin.example.group)
    accepted = _decided(example, "accepted", example.reason, example.twin, group)
    kept.add(accepted)
    yield accepted


def _rejected(example: Example, how: str, twin: Example, group: str) -> Example:
    name = "another" if twin.id is None else twin.id
    return _decided(example, "rejected", f"{how} {name}", twin.id, group)


_NAMES = [field.name for field in fields(Example)]
_FIRST = attrgetter(*_NAMES[: _NAMES.index("state")])
_LAST = attrgetter(*_NAMES[_NAMES.index("group") + 1 :])


def _decided(example: Example, state: State, reason: str, twin: int | None, group: str) -> Example:
    """Do what dataclasses.replace does, in a third of its time."""
    return Example(*(*_FIRST(example), state, reason, twin, group, *_LAST(example)))


def fault_of(example: Example, spec: Spec | None) -> str:
    """What is wrong with the example by itself, '' if nothing."""
    if not fold(example.input) or not fold(example.answer):
        return "empty"
    violation = spec.violation(example.answer) if spec else None
    free_text = spec is None or spec.kind == "text"
    if example.origin == "generated" and (violation or free_text) and refuses(example.answer, spec):
        return "refusal"
    return f"breaks the spec: {violation}" if violation else ""
