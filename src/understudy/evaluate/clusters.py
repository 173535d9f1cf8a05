"""Misses that belong together: by values that they share, else by inputs that are near.

Values and pairs of values are tried as in slice finding (Y. Chung et al., "Slice Finder: automated
data slicing for model validation", 2019): the combination that is worst beyond chance is taken,
its misses are set aside, and the next is looked for among those left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from understudy.evaluate.slices import Case, Trait, traits, worse_by_chance
from understudy.similar import Index
from understudy.statistics import holm
from understudy.task import Spec

LEAST = 3
"""Misses that make a cluster by shared values."""
WORSE = 1.25
"""A cluster fails at least so many times as often as all items."""
NEAR = 0.4
"""Jaccard index of n-grams from which two inputs count as near."""
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Cluster:
    """Some misses, and what they have in common."""

    name: str
    """In words."""
    traits: tuple[Trait, ...]
    """What they share; empty where it is the wording of the input, or nothing."""
    misses: tuple[Case, ...]
    """Each miss is in one cluster."""
    items: int | None = None
    """All items with those traits, right ones too; None without traits."""
    wrong: int | None = None
    """Of these, the wrong ones: some may have gone to a cluster before."""
    p_value: float | None = None
    """That it is so bad by chance, adjusted (Holm) for every combination tried; None: no traits."""


def clusters(cases: Sequence[Case], spec: Spec | None) -> tuple[Cluster, ...]:
    """Every miss of ``cases`` in one cluster: shared values, near inputs, the rest."""
    found = traits(cases, spec)
    left = {at for at, case in enumerate(cases) if not case.right}
    made = []
    for chosen, items, wrong, p_value in _by_traits(cases, found, left):
        members = tuple(cases[at] for at in sorted(left) if set(chosen) <= set(found[at]))
        left -= {at for at in left if set(chosen) <= set(found[at])}
        made.append(Cluster(_named(chosen), chosen, members, items, wrong, p_value))
    for near in _by_input([(at, cases[at]) for at in sorted(left)]):
        left -= set(near)
        shortest = min((cases[at].example.input for at in near), key=len)
        made.append(
            Cluster(f"inputs like “{_short(shortest)}”", (), tuple(cases[at] for at in near))
        )
    if left:
        made.append(Cluster("single misses", (), tuple(cases[at] for at in sorted(left))))
    return tuple(made)


def _by_traits(
    cases: Sequence[Case], found: Sequence[tuple[Trait, ...]], left: set[int]
) -> Iterator[tuple[tuple[Trait, ...], int, int, float]]:
    """Combinations of traits, the worst first, while misses of theirs are in ``left``.

    Whoever is given one takes its misses out of ``left`` before asking for the next.
    """
    wrong_all, total = len(left), len(cases)
    if not wrong_all:
        return
    wrong = Counter(chosen for at in left for chosen in _combined(found[at]))
    tried = {chosen for chosen, count in wrong.items() if count >= LEAST}
    there = Counter(chosen for one in found for chosen in _combined(one) if chosen in tried)
    order = sorted(tried)
    raw = [worse_by_chance(wrong[one], there[one], wrong_all, total) for one in order]
    p_values = dict(zip(order, holm(raw), strict=True))
    ranked = sorted(zip(raw, map(len, order), order, strict=True))
    bad = [
        chosen
        for _, _, chosen in ranked
        if wrong[chosen] * total >= WORSE * wrong_all * there[chosen]
    ]
    for chosen in bad:
        if sum(set(chosen) <= set(found[at]) for at in left) >= LEAST:
            yield chosen, there[chosen], wrong[chosen], p_values[chosen]


def _combined(found: tuple[Trait, ...]) -> list[tuple[Trait, ...]]:
    """Each trait, and each pair of them."""
    ordered = sorted(set(found))
    return [*((one,) for one in ordered), *combinations(ordered, 2)]


def _by_input(misses: Sequence[tuple[int, Case]]) -> list[list[int]]:
    """Groups of at least two whose inputs are near, directly or by way of others."""
    index = Index(NEAR)
    home: dict[int, int] = {}
    members: dict[int, list[int]] = {}
    for at, case in misses:
        near = {home[key] for key, _ in index.similar(case.example.input)}
        index.add(at, case.example.input)
        first = min(near, default=at)
        joined = [one for other in sorted(near) for one in members.pop(other)] + [at]
        members[first] = joined
        home.update(dict.fromkeys(joined, first))
    grouped = [sorted(group) for group in members.values() if len(group) > 1]
    return sorted(grouped, key=lambda group: (-len(group), group))


def _named(chosen: Sequence[Trait]) -> str:
    return ", ".join(f"{by} = {value}" for by, value in chosen)


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN else f"{flat[: _SHOWN - 1]}…"
