"""The plan: its cells, what of it is covered, and whether new inputs still add something."""

from __future__ import annotations

import json
from collections import Counter
from hashlib import sha256
from itertools import combinations, islice, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.errors import UsageError
from understudy.generate.coverage import OTHER, coverage, thin
from understudy.generate.novelty import Novelty
from understudy.generate.plan import cells, parse_cell
from understudy.practice import load
from understudy.task import Attribute, Cell, Impossible, Option, Plan

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)


def a_plan(weights: dict[str, dict[str, float]], *never: tuple[str, str, str, str]) -> Plan:
    attributes = tuple(
        Attribute(name=name, values=tuple(Option(value=v, weight=w) for v, w in values.items()))
        for name, values in weights.items()
    )
    pairs = tuple(
        Impossible(attribute=a, value=v, other_attribute=b, other_value=w) for a, v, b, w in never
    )
    return Plan(attributes=attributes, impossible=pairs)


@st.composite
def plans(draw: st.DrawFn, most_pairs: int = 6) -> Plan:
    """Plans of two to four attributes with a few impossible pairs."""
    names = draw(st.lists(NAMES, min_size=2, max_size=4, unique=True))
    weight = st.sampled_from((1.0, 2.0, 3.0, 0.7))
    weights = {name: draw(st.dictionaries(NAMES, weight, min_size=1, max_size=4)) for name in names}
    never = []
    for _ in range(draw(st.integers(0, most_pairs))):
        one, other = draw(st.permutations(names))[:2]
        value, other_value = (draw(st.sampled_from(sorted(weights[name]))) for name in (one, other))
        never.append((one, value, other, other_value))
    return a_plan(weights, *never)


def all_cells(plan: Plan) -> list[Cell]:
    """Every possible cell, by trying all."""
    rows = product(*([(a.name, option.value) for option in a.values] for a in plan.attributes))
    return [cell for cell in map(dict, rows) if plan.allows(cell)]


STARVED = a_plan(
    {
        "unit": {"minutes": 2, "hours": 2, "both": 2, "days": 2},
        "form": {"figures": 3, "words": 3, "fraction": 9},
    },
    ("unit", "both", "form", "fraction"),
    ("unit", "days", "form", "fraction"),
)
"""Fractions are wanted more often than the units allow that can have one."""


@settings(max_examples=60, deadline=None)
@given(plans(), st.integers(0, 99), st.booleans(), st.data())
def test_cells_are_possible_and_the_same_for_the_same_seed(
    plan: Plan, seed: int, every_pair: bool, data: st.DataObject
) -> None:
    """No impossible pair occurs, whatever is fixed; no cell comes only where there is none."""
    some = data.draw(st.sampled_from(plan.attributes))
    fixed = data.draw(
        st.sampled_from([None, *({some.name: option.value} for option in some.values)])
    )
    possible = [cell for cell in all_cells(plan) if cell | (fixed or {}) == cell]

    def drawn() -> list[Cell]:
        return list(islice(cells(plan, seed, fixed=fixed, every_pair=every_pair), 25))

    if not possible:
        with pytest.raises(UsageError, match="impossible pairs"):
            drawn()
        return
    assert all(cell in possible for cell in drawn())
    assert drawn() == drawn()


def test_the_cells_of_a_plan_never_change() -> None:
    """Inputs that were paid for are found again by their cell: another order would lose them."""
    plan = a_plan(
        {
            "topic": {"money": 1, "health": 3.3, "travel": 0.7},
            "length": {"one line": 5, "a page": 1, "ten words": 2},
            "tone": {"calm": 1, "angry": 1, "terse": 1, "odd": 0.1},
        },
        ("topic", "travel", "tone", "angry"),
        ("length", "a page", "tone", "terse"),
        ("length", "a page", "topic", "money"),
    )
    drawn = [list(cell.items()) for cell in islice(cells(plan, 7), 300)]
    assert sha256(json.dumps(drawn).encode()).hexdigest()[:16] == "4ad67777feebf6a8"


@settings(max_examples=40, deadline=None)
@given(plans(most_pairs=0), st.integers(0, 99))
def test_values_come_as_often_as_their_weights_say(plan: Plan, seed: int) -> None:
    """After any number of cells no value is a whole cell ahead of its share, nor far behind it."""
    counts: Counter[tuple[str, str]] = Counter()
    for number, cell in enumerate(islice(cells(plan, seed), 80), start=1):
        counts.update(cell.items())
        for attribute in plan.attributes:
            weight = sum(option.weight for option in attribute.values)
            ahead = [
                counts[attribute.name, option.value] - number * option.weight / weight
                for option in attribute.values
            ]
            assert max(ahead) < 1 + 1e-9
            assert min(ahead) > -(len(ahead) - 1) - 1e-9


def test_a_value_that_nothing_can_meet_does_not_end_it() -> None:
    """It lags behind for ever, and the others still come as their weights say."""
    plan = a_plan(
        {"a": {"never": 5, "x": 1, "y": 3}, "b": {"p": 1, "q": 1}},
        ("a", "never", "b", "p"),
        ("a", "never", "b", "q"),
    )
    counts = Counter(cell["a"] for cell in islice(cells(plan, 0), 200))
    assert counts.keys() == {"x", "y"}
    assert abs(counts["x"] - 50) <= 2


def pairs_in(found: list[Cell]) -> set[tuple[tuple[str, str], ...]]:
    return {pair for cell in found for pair in combinations(cell.items(), 2)}


@settings(max_examples=30, deadline=None)
@given(plans(), st.integers(0, 9))
def test_every_possible_pair_comes_if_asked_for(plan: Plan, seed: int) -> None:
    """However the impossible pairs lie, no other pair of values is kept away by them."""
    possible = all_cells(plan)
    if possible:
        drawn = list(islice(cells(plan, seed, every_pair=True), 400))
        assert pairs_in(drawn) == pairs_in(possible)


def test_pairs_come_before_they_are_repeated() -> None:
    """With even weights three quarters of all pairs come in the fewest cells that could hold them.

    All of them come in three times as many; 64 cells are needed to see 8 values with 8 others.
    """
    plan = a_plan({name: dict.fromkeys("abcdefgh", 1.0) for name in "123456"})
    drawn = list(islice(cells(plan, 0, every_pair=True), 192))
    assert len(pairs_in(drawn[:64])) >= 0.7 * 15 * 64
    assert len(pairs_in(drawn)) == 15 * 64


def test_a_greedy_value_does_not_keep_pairs_away() -> None:
    """Fractions do not take every minute and hour for themselves; the shares stay as they were."""
    without, with_it = (
        list(islice(cells(STARVED, 0, every_pair=every_pair), 300)) for every_pair in (False, True)
    )
    assert {"unit": "hours", "form": "words"} not in without[50:]
    assert pairs_in(with_it[:50]) == pairs_in(all_cells(STARVED))
    fractions = [sum(cell["form"] == "fraction" for cell in row) for row in (without, with_it)]
    assert abs(fractions[0] - fractions[1]) <= 6


def test_what_is_thin_comes_first() -> None:
    """Cells seen before count, in whole calls; what the plan does not know in them does not."""
    plan = a_plan({"a": {"x": 1, "y": 1}, "b": {"p": 1, "q": 1}})
    seen = [{"a": "x", "b": "p"}] * 20 + [{"a": "gone", "c": "?"}, {}]
    assert [cell["a"] for cell in islice(cells(plan, 0, seen=seen), 20)] == ["y"] * 20
    in_calls = Counter(cell["a"] for cell in islice(cells(plan, 0, seen=seen, per_call=10), 22))
    assert in_calls["y"] - in_calls["x"] == 2


def test_a_pair_that_forbids_nothing_is_dropped() -> None:
    """A teacher's slip in an impossible pair does not cost the plan that was paid for."""
    weights: dict[str, dict[str, float]] = {"a": {"x": 1}, "b": {"p": 1, "q": 1}}
    real = ("a", "x", "b", "p")
    plan = a_plan(
        weights, ("a", "gone", "b", "p"), ("c", "x", "b", "p"), ("a", "x", "a", "x"), real
    )
    assert plan == a_plan(weights, real)
    assert next(cells(plan, 0)) == {"a": "x", "b": "q"}


@pytest.mark.parametrize(
    ("fixed", "said"),
    [
        ({"from": "words"}, "no attribute 'from'. Did you mean form? There are: unit, form."),
        ({"form": "wrds"}, "form has no value 'wrds'. Did you mean words? There are: figures"),
        ({"unit": "days", "form": "fraction"}, "forbid unit=days, form=fraction"),
    ],
)
def test_what_cannot_be_fixed_is_said(fixed: Cell, said: str) -> None:
    """At once, before a call is paid for, and in one line."""
    with pytest.raises(UsageError) as error:
        cells(STARVED, 0, fixed=fixed)
    assert said in f"{error.value}."


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text("xyz ", min_size=1).filter(lambda name: name == name.strip()),
        st.lists(st.text("abAB,=.(", min_size=1, max_size=4), min_size=1, max_size=4, unique=True),
        min_size=1,
        max_size=3,
    ),
    st.integers(0, 99),
)
def test_a_cell_is_read_as_it_is_written(values: dict[str, list[str]], seed: int) -> None:
    """Also where values hold commas and equals signs, or differ in case alone."""
    plan = a_plan({name: dict.fromkeys(there_are, 1.0) for name, there_are in values.items()})
    cell = next(cells(plan, seed))
    assert parse_cell(", ".join(f"{name}={value}" for name, value in cell.items()), plan) == cell


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no cell is given. Write NAME=VALUE"),
        ("words", "no attribute 'words'"),
        ("form=wrods", "Did you mean words"),
        ("form=words, length=3", "no attribute 'length'"),
        ("form=words, form=figures", "form is given twice"),
        ("form=words unit=days", "form has no value 'words unit=days'"),
    ],
)
def test_a_cell_that_is_none_is_refused(text: str, said: str) -> None:
    """Naming what the plan has."""
    with pytest.raises(UsageError, match=said.replace("'", ".")):
        parse_cell(text, STARVED)
    assert parse_cell(" Form = WORDS ,unit=days,", STARVED) == {"form": "words", "unit": "days"}


@settings(max_examples=40, deadline=None)
@given(plans(), st.integers(0, 500), st.data())
def test_coverage_adds_up(plan: Plan, wanted: int, data: st.DataObject) -> None:
    """Each attribute accounts for all examples and for all that is wanted; so do the cells."""
    possible = all_cells(plan)
    if not possible:
        with pytest.raises(UsageError):
            coverage(plan, [], wanted)
        return
    states = st.sampled_from(("new", "accepted", "rejected"))
    known = st.sampled_from([*possible, {}, {plan.attributes[0].name: "a value of old"}])
    examples = data.draw(st.lists(st.tuples(known, states), max_size=20))
    found = coverage(plan, examples, wanted)
    for attribute in plan.attributes:
        rows = [row for row in found.values if row.attribute == attribute.name]
        assert sum(row.wanted for row in rows) == wanted
        assert sum(row.made for row in rows) == len(examples)
        assert sum(row.accepted for row in rows) == sum(s == "accepted" for _, s in examples)
        dead = {o.value for o in attribute.values} - {cell[attribute.name] for cell in possible}
        assert all(row.wanted == 0 for row in rows if row.value in dead | {OTHER})
    assert sum(row.made for row in found.cells) == len(examples)
    assert sum(row.rejected for row in found.cells) == sum(s == "rejected" for _, s in examples)
    kept = [cell for cell, state in examples if state != "rejected" and cell in possible]
    assert found.pairs_covered == (len(pairs_in(kept)), len(pairs_in(possible)))


def test_what_is_wanted_is_what_the_cells_bring() -> None:
    """Where impossible pairs keep a value from its weight, as much is wanted as can come."""
    drawn = list(islice(cells(STARVED, 3), 1000))
    found = coverage(STARVED, [(cell, "accepted") for cell in drawn], 1000)
    assert all(abs(row.accepted - row.wanted) <= 5 for row in found.values)
    assert thin(found) == ()
    assert [row.wanted for row in found.values if row.attribute == "unit"] == [250] * 4


def test_the_thinnest_value_is_named_first() -> None:
    """By the share that is there of what is wanted; a rejected example does not count."""
    plan = a_plan({"a": {"x": 1, "y": 1, "z": 2}})
    examples = [({"a": "x"}, "accepted")] * 9 + [({"a": "y"}, "accepted")] * 12
    rows = thin(coverage(plan, [*examples, *[({"a": "z"}, "rejected")] * 40], 100))
    assert [row.value for row in rows] == ["z", "x", "y"]
    assert [row.value for row in thin(coverage(plan, examples, 100), share=0.4)] == ["z", "x"]


def watched(texts: list[str], answers: list[str] | None = None) -> Novelty:
    novelty = Novelty(0.8)
    for number, text in enumerate(texts):
        novelty.see(text)
        if answers:
            novelty.answered(text, answers[number])
    return novelty


@given(st.lists(st.text(max_size=12), max_size=40))
@settings(max_examples=40, deadline=None)
def test_every_input_is_counted_once(texts: list[str]) -> None:
    """A repeat is one for case and spaces too; what is seen again brings no novelty at all."""
    novelty = Novelty(0.8, window=1)
    seen = [hundred for text in texts if (hundred := novelty.see(text)) is not None]
    assert [hundred.number for hundred in seen] == list(range(1, len(texts) + 1))
    again = [hundred for text in texts if (hundred := novelty.see(f" {text.upper().lower()}  "))]
    same = [text for text in texts if text.upper().lower() == text]
    assert sum(hundred.repeats for hundred in again) >= len(same)
    assert all((hundred.novelty or 0) == 0 for hundred in again if hundred.repeats)
    assert all(0 <= (hundred.novelty or 0) <= 1 for hundred in seen)


def test_near_duplicates_are_not_new() -> None:
    """One word of a long sentence makes no new input; own examples count as there already."""
    sentence = "My order number 12345 came without the grey kettle that I paid for last week"
    novelty = Novelty(0.8, window=3)
    novelty.add("How do I return a parcel?")
    novelty.see(sentence)
    novelty.see(sentence.replace("grey", "blue"))
    hundred = novelty.see("how do I return a parcel?")
    assert hundred is not None
    assert (hundred.repeats, hundred.near) == (1, 1)
    assert hundred.novelty < 0.5


@pytest.mark.parametrize("name", ["dates", "durations", "support"])
def test_a_closed_task_is_not_stopped(name: str) -> None:
    """Short inputs, all alike and all different, are worth their money."""
    task = load(name)
    drawn = enumerate(islice(cells(task.plan(), 0), 200))
    novelty = watched([text for batch, cell in drawn for text in task.inputs(cell, 10, batch)])
    assert len(novelty.hundreds) == 20
    assert novelty.warning() is None
    assert novelty.exhausted() is None


def test_a_teacher_that_repeats_itself_is_stopped() -> None:
    """First a word of warning, then the end, each with figures."""
    texts = [f"Tell me about the {n % 40}th day of my stay in Rome" for n in range(900)]
    said = [(novelty.warning(), novelty.exhausted()) for novelty in [watched(texts[:250])]]
    assert said == [(None, None)]
    half = [text if n % 10 < 7 else str(n**7) for n, text in enumerate(texts)]
    novelty = watched(half)
    assert novelty.exhausted() is None
    assert "of the last 300 inputs 210 are repeats" in (novelty.warning() or "")
    assert "300 are repeats" in (watched(texts).exhausted() or "")


def test_near_duplicates_with_answers_of_their_own_are_worth_their_money() -> None:
    """Only near-duplicates with their twins' answer are wasted: those that cleaning would drop."""
    texts = [
        f"What is the square of the whole number {n}, please? Thank you very much."
        for n in range(400)
    ]
    assert watched(texts).exhausted() is not None
    assert watched(texts, ["a number"] * 400).exhausted() is not None
    assert watched(texts, [str(n**2) for n in range(400)]).warning() is None
