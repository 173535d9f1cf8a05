"""The parts of a learning curve and the law through them: nested, whole groups, known curves."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.dataset import group_of, nested
from understudy.evaluate.learning import LEAST_ITEMS, Curve, Training, fit
from understudy.example import Example, Message

SHARES = (0.25, 0.5, 0.75, 1.0)


def made(groups: list[int]) -> list[Example]:
    """Examples, each with the group of that number."""
    return [
        Example((Message("user", f"input {at}"),), "a", state="accepted", group=f"g{group}", id=at)
        for at, group in enumerate(groups)
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.integers(0, 5), st.randoms())
def test_parts_are_nested_and_of_whole_groups(groups: list[int], seed: int, luck: Random) -> None:
    """Each part lies in the larger, splits no group, has its share, and depends on no order."""
    examples = made(groups)
    parts = [{one.id for one in part} for part in nested(examples, SHARES, seed=seed)]
    assert parts[-1] == {one.id for one in examples}
    for smaller, larger in pairwise(parts):
        assert smaller <= larger
    largest = max(groups.count(group) for group in groups)
    for share, part in zip(SHARES, parts, strict=True):
        inside = {group_of(one) for one in examples if one.id in part}
        assert part == {one.id for one in examples if group_of(one) in inside}
        assert 0 <= len(part) - round(share * len(examples)) < largest or len(inside) == 1
    shuffled = list(examples)
    luck.shuffle(shuffled)
    assert [{one.id for one in part} for part in nested(shuffled, SHARES, seed=seed)] == parts


def test_another_seed_draws_another_part() -> None:
    """Parts of 25 % by two seeds differ, and keep the order of the examples."""
    examples = made(list(range(40)))
    first, second = (nested(examples, [0.25], seed=seed)[0] for seed in (0, 1))
    assert {one.id for one in first} != {one.id for one in second}
    assert [one.id for one in first] == sorted(one.id or 0 for one in first)


def measured(
    errors: list[float], *, items: int = 1000, examples: int = 400, seed: int = 0
) -> list[Training]:
    """One training a share whose share of wrong answers is just that; the wrong ones nested."""
    order = Random(seed).sample(range(items), items)
    return [
        Training(share, round(share * examples), 0, tuple(at >= error * items for at in order))
        for share, error in zip(SHARES, errors, strict=True)
    ]


def law(floor: float, reach: float, speed: float, times: float) -> float:
    return floor + reach * times**-speed


@settings(max_examples=8, deadline=None)
@given(st.floats(0, 0.1), st.floats(0.02, 0.15), st.floats(0.2, 1.2))
def test_a_known_curve_is_found_again(floor: float, reach: float, speed: float) -> None:
    """What the law says of twice as many is foretold, and lies within the intervals."""
    errors = [law(floor, reach, speed, share) for share in SHARES]
    found = fit(measured(errors, items=5_000)).forecast
    assert found is not None
    assert found.examples == 800
    assert found.score == pytest.approx(1 - law(floor, reach, speed, 2), abs=0.006)
    gain = law(floor, reach, speed, 1) - law(floor, reach, speed, 2)
    assert found.gain == pytest.approx(gain, abs=0.006)
    assert found.low <= found.score <= found.high
    assert 0 <= found.gain_low <= found.gain <= found.gain_high
    assert found.gain == pytest.approx(found.score - found.now)


def test_a_flat_curve_promises_nothing() -> None:
    """Where more examples brought nothing, twice as many should bring hardly anything."""
    found = fit(measured([0.1, 0.1, 0.1, 0.1])).forecast
    assert found is not None
    assert found.gain < 0.002
    assert found.gain_high < 0.03
    rising = fit(measured([0.1, 0.11, 0.1, 0.12])).forecast
    assert rising is not None
    assert rising.gain == 0


def test_all_right_is_not_taken_for_certain() -> None:
    """With every item right the score of twice as many is still not known to be 1."""
    found = fit(measured([0, 0, 0, 0], items=40)).forecast
    assert found is not None
    assert found.score == 1
    assert found.low < 0.98


def test_points_that_no_law_fits_foretell_nothing() -> None:
    """A curve that falls again is said to be no power law; what was seen is told instead."""
    found = fit(measured([0.3, 0.05, 0.4, 0.05]))
    assert found.forecast is None
    assert "no power law" in found.why_not
    assert [round(size.score, 2) for size in found.sizes] == [0.7, 0.95, 0.6, 0.95]


def why_not(trainings: list[Training]) -> str:
    found: Curve = fit(trainings)
    assert found.forecast is None
    return found.why_not


def test_too_little_is_said() -> None:
    """Too few items, or too few sizes, and nothing is foretold."""
    assert f"at least {LEAST_ITEMS}" in why_not(measured([0.3, 0.2, 0.1, 0.1], items=10))
    assert "3 sizes are too few" in why_not(measured([0.3, 0.2, 0.1, 0.1])[:3])
    assert "curve's beginning" in why_not(measured([0.99, 0.95, 0.9, 0.6]))
    with pytest.raises(ValueError, match="no trainings"):
        fit([])


def test_seeds_are_averaged_and_missing_answers_count_for_nothing() -> None:
    """Trainings of one share are one size, whatever their rows; None is neither right nor wrong."""
    first, second = measured([0.4, 0.3, 0.2, 0.1]), measured([0.2, 0.1, 0.1, 0.1], seed=1)
    second = [Training(one.share, one.examples + 2, 1, one.right) for one in second]
    found = fit([*first, *second])
    assert [size.trainings for size in found.sizes] == [2, 2, 2, 2]
    assert [round(size.score, 2) for size in found.sizes] == [0.7, 0.8, 0.85, 0.9]
    assert [size.examples for size in found.sizes] == [101, 201, 301, 401]
    half = tuple(None if at % 2 else right for at, right in enumerate(first[0].right))
    only = fit([Training(0.25, 10, 0, half), *first[1:]])
    answered = [right for right in half if right is not None]
    assert only.sizes[0].score == pytest.approx(sum(answered) / len(answered))


def test_items_of_one_group_are_no_more_evidence_than_one() -> None:
    """The same answers in blocks of ten give wider intervals than apart."""
    trainings = measured([0.4, 0.3, 0.25, 0.22], items=400)
    ordered = [
        Training(one.share, one.examples, 0, tuple(sorted(map(bool, one.right))))
        for one in trainings
    ]
    apart, together = fit(ordered).forecast, fit(ordered, [at // 10 for at in range(400)]).forecast
    assert apart is not None
    assert together is not None
    assert together.high - together.low > 1.5 * (apart.high - apart.low)


@pytest.mark.sweep
@pytest.mark.parametrize("items", [30, 100, 500])
def test_intervals_hold_what_they_should(items: int) -> None:
    """Over five laws, half of what decides an item common to all sizes: docs/evaluation.md."""
    luck, held, gains, told = Random(items), 0, 0, 0
    for floor, reach, speed in [(0, 0.1, 0.5), (0.05, 0.1, 1), (0.02, 0.3, 0.3), (0.1, 0, 1)]:
        for _ in range(100):
            common = [luck.random() for _ in range(items)]
            trainings = [
                Training(
                    share,
                    round(400 * share),
                    0,
                    tuple(
                        (shared if luck.random() < 0.5 else luck.random())
                        >= law(floor, reach, speed, share)
                        for shared in common
                    ),
                )
                for share in SHARES
            ]
            found = fit(trainings).forecast
            if found is None:
                continue
            told += 1
            then = law(floor, reach, speed, 2)
            held += found.low <= 1 - then <= found.high
            gains += found.gain_low <= law(floor, reach, speed, 1) - then <= found.gain_high
    assert held / told >= 0.93, held / told
    assert gains / told >= 0.9, gains / told
