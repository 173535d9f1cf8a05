"""Where a student fails: slices against an oracle, clusters, confusions, flips, aims."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from understudy.evaluate.aims import aims
from understudy.evaluate.clusters import Cluster, clusters
from understudy.evaluate.flips import flips
from understudy.evaluate.slices import (
    OTHER,
    Case,
    Trait,
    confusions,
    labels_of,
    lengths,
    slices,
    worse_by_chance,
)
from understudy.example import Example, Message
from understudy.report import Outcome
from understudy.task import Attribute, Impossible, Option, OutputField, Plan, Spec

LABELS = Spec(
    title="t", input="i", output="o", kind="label", labels=("red", "green"), system_message="s"
)
PLAN = Plan(
    attributes=(
        Attribute(name="form", values=(Option(value="words"), Option(value="figures"))),
        Attribute(name="size", values=(Option(value="long"), Option(value="short"))),
    ),
    impossible=(
        Impossible(attribute="form", value="figures", other_attribute="size", other_value="long"),
    ),
)


def case(
    number: int,
    *,
    right: bool,
    cell: dict[str, str] | None = None,
    text: str = "",
    answer: str = "",
) -> Case:
    """One item; its input is a text of its own unless one is given."""
    asked = text or "".join(Random(number).choices("abcdefghijklmnopqrstuvwxyz", k=20))
    example = Example((Message("user", asked),), "red", cell=cell or {}, id=number)
    return Case(example, answer or ("red" if right else "green"), right)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_worse_by_chance_is_fishers_test(data: st.DataObject) -> None:
    """Equal to scipy's hypergeometric tail to 1e-9."""
    total = data.draw(st.integers(1, 3000))
    wrong, here = data.draw(st.integers(0, total)), data.draw(st.integers(1, total))
    found = data.draw(st.integers(max(0, here + wrong - total), min(here, wrong)))
    expected = float(hypergeom.sf(found - 1, total, wrong, here))
    assert worse_by_chance(found, here, wrong, total) == pytest.approx(
        expected, rel=1e-9, abs=1e-12
    )


def test_where_nothing_is_worse_hardly_anything_is_called_so() -> None:
    """Of 300 sets without any difference at most 5 % show a slice that is worse, about."""
    luck, alarms = Random(0), 0
    for _ in range(300):
        cases = [
            case(
                at,
                right=luck.random() > 0.3,
                cell={"a": luck.choice("xyz"), "b": luck.choice("uvw")},
            )
            for at in range(60)
        ]
        alarms += any(one.worse for one in slices(cases, None))
    assert alarms <= 0.05 * 300 + 8, alarms  # two standard errors beyond


def test_a_slice_that_is_worse_is_found() -> None:
    """Words are mostly wrong, the rest is right: counts, interval, elsewhere, worse."""
    cases = [
        case(at, right=at > 8, cell={"form": "words" if at < 10 else "figures"}) for at in range(40)
    ]
    by = {(one.by, one.value): one for one in slices(cases, LABELS)}
    words = by["form", "words"]
    assert (words.wrong, words.items, words.elsewhere, words.worse) == (9, 10, 0, True)
    assert words.low < 0.9 < words.high
    assert not by["form", "figures"].worse
    assert by["label", "red"].elsewhere is None  # there is no other


@given(st.lists(st.integers(0, 300), min_size=1, max_size=50))
def test_lengths_fall_into_the_range_that_names_them(sizes: list[int]) -> None:
    """At most four ranges that do not overlap; none where all are of one length."""
    names = lengths(sizes)
    if len(set(sizes)) == 1:
        assert set(names) == {""}
        return
    ranges = set()
    for size, name in zip(sizes, names, strict=True):
        numbers = [int(word) for word in name.split() if word.isdigit()]
        assert numbers[0] <= size <= numbers[-1]
        ranges.add((numbers[0], numbers[-1]))
    assert len(ranges) <= 4
    assert all(one[1] < other[0] for one, other in pairwise(sorted(ranges)))


def test_confusions_count_every_case() -> None:
    """Rows are the right labels, columns the answered ones; what is no label stands apart."""
    cases = [
        case(1, right=True), case(2, right=False), case(3, right=False, answer="Who knows?"),
        case(4, right=True, answer='"Red".'),
    ]  # fmt: skip
    found = confusions(cases, LABELS)[0]
    assert (found.of, found.labels) == ("label", ("green", "red"))
    assert found.counts == ((0, 0, 0), (1, 2, 1))


def test_fields_with_few_values_are_labels_too() -> None:
    """Of a JSON answer, also of one that is broken."""
    field = OutputField(name="want", type="string", values=("refund", "repair"), nullable=True)
    free = OutputField(name="order", type="string")
    spec = Spec(
        title="t", input="i", output="o", kind="json", fields=(field, free), system_message="s"
    )
    assert labels_of('{"want": "refund", "order": "7"}', spec) == {"want": "refund"}
    assert labels_of('{"want": null, "order": "7"}', spec) == {"want": "null"}
    assert labels_of('{"want": ["x"]}', spec) == labels_of("{", spec) == {"want": OTHER}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from("xyz"), st.sampled_from("uv")),
        min_size=1,
        max_size=40,
    )
)
def test_every_miss_is_in_one_cluster(rows: list[tuple[bool, str, str]]) -> None:
    """And nothing that is right is in any."""
    cases = [case(at, right=row[0], cell={"a": row[1], "b": row[2]}) for at, row in enumerate(rows)]
    found = [one.example.id for cluster in clusters(cases, None) for one in cluster.misses]
    assert sorted(found) == [one.example.id for one in cases if not one.right]


def test_clusters_by_values_then_by_near_inputs() -> None:
    """What shares values is named by them; what is alike by its wording; the rest is single."""
    cases = [
        case(at, right=at >= 8, cell={"form": "words" if at < 10 else "figures"})
        for at in range(60)
    ]
    cases += [
        case(70 + n, right=False, cell={"form": "figures"}, text=f"cancel my order no {n}")
        for n in (1, 2)
    ]
    cases.append(case(80, right=False, cell={"form": "figures"}, text="something else, yes."))
    found = clusters(cases, None)
    assert found[0].traits == (Trait("form", "words"),)
    assert (found[0].name, found[0].wrong, found[0].items) == ("form = words", 8, 10)
    assert found[0].p_value is not None
    assert found[0].p_value < 0.001
    near = next(one for one in found if "cancel my order" in one.name)
    assert [one.example.id for one in near.misses] == [71, 72]
    assert (found[-1].name, [one.example.id for one in found[-1].misses]) == ("single misses", [80])


def cluster(*cells: dict[str, str], traits: tuple[Trait, ...] = ()) -> Cluster:
    misses = tuple(case(at, right=False, cell=cell) for at, cell in enumerate(cells))
    return Cluster("c", traits, misses)


def test_aims_are_values_of_the_plan_and_add_up() -> None:
    """Shared values first; what the plan does not know, or forbids, becomes the whole plan."""
    words, long = {"form": "words"}, {"form": "words", "size": "long"}
    found = aims(
        [
            cluster(
                words, words, words, words, traits=(Trait("form", "words"), Trait("length", "x"))
            ),
            cluster(long, long),
            cluster({}, {"form": "figures", "size": "long"}, {"colour": "red"}),
        ],
        PLAN,
        30,
    )
    assert [(one.cell, one.misses) for one in found] == [(words, 4), ({}, 3), (long, 2)]
    assert sum(one.examples for one in found) == 30
    assert sum(one.examples for one in aims([cluster(long, words, {})], PLAN, 1)) == 1


@given(
    st.dictionaries(st.integers(1, 30), st.sampled_from([0.0, 1.0, None]), max_size=30),
    st.dictionaries(st.integers(1, 30), st.sampled_from([0.0, 1.0, None]), max_size=30),
)
def test_flips_are_what_changed(
    before: dict[int, float | None], now: dict[int, float | None]
) -> None:
    """Newly right less newly wrong is the change of right ones on the common items; and back."""

    def outcomes(scores: dict[int, float | None]) -> list[Outcome]:
        return [Outcome(at, "student", "a", score, True) for at, score in scores.items()]

    found = flips(outcomes(before), outcomes(now))
    common = [at for at in before if at in now and None not in (before[at], now[at])]
    assert found.items == len(common)
    right = sum(now[at] or 0 for at in common) - sum(before[at] or 0 for at in common)
    assert len(found.newly_right) - len(found.newly_wrong) == right
    back = flips(outcomes(now), outcomes(before))
    assert {one.example_id for one in back.newly_wrong} == {
        one.example_id for one in found.newly_right
    }
    assert back.p_value == found.p_value
