"""Splits that never move an example, and the check that no test item leaks."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.dataset import (
    MIN_GROUPS,
    check_leaks,
    fingerprint,
    freeze,
    group_of,
    leaks,
    prompt,
    rows,
    split_of,
)
from understudy.errors import UnderstudyError, UsageError
from understudy.example import Example, Message

SHARES = {"validation_share": 0.1, "test_share": 0.15}


def example(text: str, answer: str = "yes", number: int | None = None, **more) -> Example:
    messages = (Message("user", text),)
    return Example(messages, answer, **{"id": number, "state": "accepted", **more})


def examples(groups: list[str]) -> list[Example]:
    return [
        example(f"text {number} {group}", number=number, group=group)
        for number, group in enumerate(groups, 1)
    ]


def sides(splits) -> dict[int | None, str]:
    return {item.id: side for side, items in splits.items() for item in items}


# -- which side --------------------------------------------------------------------------------


@given(
    st.text(), st.integers(0, 2**31), st.floats(0, 0.49), st.floats(0.01, 0.49), st.floats(0, 0.49)
)
def test_changing_the_validation_share_never_moves_a_test_item(group, seed, some, test, other):
    one = split_of(group, seed=seed, validation_share=some, test_share=test)
    two = split_of(group, seed=seed, validation_share=other, test_share=test)
    assert (one == "test") == (two == "test")


@given(st.text(), st.floats(0, 0.49), st.floats(0.01, 0.49), st.floats(0.01, 0.49))
def test_growing_the_test_share_takes_from_train_alone(group, validation, one, other):
    small, large = sorted((one, other))
    before = split_of(group, seed=0, validation_share=validation, test_share=small)
    after = split_of(group, seed=0, validation_share=validation, test_share=large)
    assert before == after or (before, after) == ("train", "test")


def test_shares_are_kept_and_the_seed_deals_anew():
    groups = [f"g{n}" for n in range(20_000)]
    dealt = [split_of(group, seed=0, **SHARES) for group in groups]
    assert dealt.count("test") / 20_000 == pytest.approx(0.15, abs=0.01)
    assert dealt.count("validation") / 20_000 == pytest.approx(0.1, abs=0.01)
    again = [split_of(group, seed=1, **SHARES) for group in groups]
    both = sum(one == two == "test" for one, two in zip(dealt, again, strict=True))
    assert both / 20_000 == pytest.approx(0.15**2, abs=0.005)


# -- freezing ----------------------------------------------------------------------------------

some_groups = st.lists(st.sampled_from([f"g{n}" for n in range(60)]), max_size=60)
enough_groups = st.builds(
    lambda ten, more: [*ten, *more],
    st.permutations([f"g{n}" for n in range(MIN_GROUPS)]),
    some_groups,
)


@given(
    enough_groups,
    some_groups,
    st.integers(0, 2**31 - 1),
    st.sampled_from([(0.1, 0.15), (0.0, 0.15), (0.02, 0.02), (0.45, 0.45)]),
)
def test_adding_examples_never_moves_one(before, more, seed, shares):
    """Even where chance left a side empty and a group had to sit there."""
    grown = examples(before + more)
    keep = {"seed": seed, "validation_share": shares[0], "test_share": shares[1]}
    small, large = freeze(grown[: len(before)], **keep), freeze(grown, **keep)
    assert sides(small).items() <= sides(large).items()


@given(st.integers(0, 2**31 - 1), st.sampled_from([(0.1, 0.15), (0.02, 0.02), (0.49, 0.49)]))
def test_no_side_is_empty_from_ten_groups_up(seed, shares):
    splits = freeze(
        examples([f"g{n}" for n in range(MIN_GROUPS)]),
        seed=seed,
        validation_share=shares[0],
        test_share=shares[1],
    )
    assert all(splits.values())


@given(enough_groups, st.randoms())
def test_a_group_stays_on_one_side_and_nobody_is_lost(groups, chance):
    given_ = examples(groups)
    splits = freeze(chance.sample(given_, len(given_)), seed=3, **SHARES)
    where = {(item.group, side) for side, items in splits.items() for item in items}
    assert len(where) == len(set(groups))
    assert sorted(sides(splits)) == [item.id for item in given_]
    assert all(
        [item.id for item in items] == sorted(item.id for item in items)
        for items in splits.values()
    )


def test_without_a_validation_share_there_is_no_validation():
    splits = freeze(
        examples([f"g{n}" for n in range(30)]), seed=0, validation_share=0, test_share=0.2
    )
    assert splits["validation"] == []
    assert splits["test"]


def test_only_accepted_examples_are_used():
    usable = examples([f"g{n}" for n in range(20)])
    others = [example("a", number=50, state="rejected"), example("b", number=51, state="new")]
    assert sides(freeze(usable + others, seed=0, **SHARES)).keys() == {item.id for item in usable}


def test_nothing_accepted_is_a_usage_error_that_says_what_to_do():
    with pytest.raises(UsageError, match=r"No example is accepted.*generate") as caught:
        freeze([example("a", number=1, state="rejected")], seed=0, **SHARES)
    assert caught.value.exit_code == 2


def test_too_few_to_split_says_how_many_there_are_and_are_needed():
    with pytest.raises(
        UsageError, match=r"9 accepted examples in 4 groups.*at least 10 are needed.*Add 6"
    ):
        freeze(examples(["a", "b", "c", "d", "a", "a", "b", "c", "d"]), seed=0, **SHARES)


def test_examples_that_were_never_cleaned_go_by_their_input():
    bare = [example(f"input {n // 2}", number=n) for n in range(40)]
    splits = freeze(bare, seed=0, **SHARES)
    assert len({group_of(item) for item in bare}) == 20
    check_leaks(splits)


# -- rows and fingerprint ----------------------------------------------------------------------


def test_a_row_is_the_system_message_the_conversation_and_the_answer():
    assert rows(example("hello", "hi", 7), "Be kind.") == {
        "id": 7,
        "prompt": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "hello"},
        ],
        "completion": [{"role": "assistant", "content": "hi"}],
    }


def test_an_example_that_brought_a_system_message_keeps_it():
    own = Example((Message("system", "Be brief."), Message("user", "hello")), "hi")
    assert prompt(own, "Be kind.") == own.messages
    assert prompt(example("hello"), "") == (Message("user", "hello"),)


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=8), st.randoms())
def test_the_fingerprint_knows_content_and_side_but_neither_order_nor_ids(pairs, chance):
    given_ = [example(text, answer, n) for n, (text, answer) in enumerate(pairs)]
    mixed = [replace(item, id=n) for n, item in enumerate(chance.sample(given_, len(given_)))]
    mark = fingerprint({"train": given_, "test": []}, "s")
    assert fingerprint({"test": [], "train": mixed}, "s") == mark
    assert fingerprint({"train": [], "test": given_}, "s") != mark
    assert fingerprint({"train": given_, "test": []}, "t") != mark
    changed = [replace(given_[0], answer=given_[0].answer + "."), *given_[1:]]
    assert fingerprint({"train": changed, "test": []}, "s") != mark
    assert len(mark) == 64


def test_lone_surrogates_can_be_frozen():
    odd = [example(f"broken \ud800 {n}", "\udfff", number=n) for n in range(12)]
    assert json.dumps(rows(odd[0], "s"))
    assert fingerprint(freeze(odd, seed=0, **SHARES), "s")


# -- leaks -------------------------------------------------------------------------------------

LONG = "My parcel with order number 4711 has not arrived although it was promised for last Tuesday"
NEAR = LONG.replace("Tuesday", "Monday")
TEST = [
    example(f"some quite different test question number {n * 7919}", f"a{n}", n, group=f"t{n}")
    for n in range(30)
]
TRAIN = [
    example(f"train text {n * 104729} of its own kind", f"b{n}", 100 + n, group=f"r{n}")
    for n in range(60)
]

PLANTED = {
    "the same example": (
        example(LONG, "x", 500, group="p"),
        example("other words", "y", 500, group="q"),
    ),
    "one group": (example(LONG, "x", 500, group="p"), example("other words", "y", 501, group="p")),
    "the same input": (
        example(LONG, "x", 500, group="p"),
        example(f"  {LONG.upper()}", "y", 501, group="q"),
    ),
    "the same answer": (
        example(LONG, "late", 500, group="p"),
        example(NEAR, "Late.", 501, group="q"),
    ),
}


@pytest.mark.parametrize("kind", PLANTED)
@pytest.mark.parametrize("side", ["train", "validation"])
def test_every_kind_of_planted_leak_fails_loudly_and_names_both(kind, side):
    one, other = PLANTED[kind]
    splits = {"train": TRAIN, "validation": [], "test": [*TEST, other]}
    splits[side] = [*splits[side], one]
    with pytest.raises(UnderstudyError, match=f"{one.id} and {other.id} .*{kind}") as caught:
        check_leaks(splits)
    assert "new project" in caught.value.fix


def test_what_validates_may_not_be_trained_on():
    one, other = PLANTED["the same input"]
    with pytest.raises(UnderstudyError, match="validation split is leaked"):
        check_leaks({"train": [one], "validation": [other], "test": TEST})


def test_every_leak_is_counted():
    copies = [replace(item, id=900 + n, group=f"c{n}") for n, item in enumerate(TEST[:5])]
    assert len(list(leaks([*TRAIN, *copies], TEST))) == 5
    with pytest.raises(UnderstudyError, match="and 4 more"):
        check_leaks({"train": copies, "test": TEST})


def test_near_inputs_with_other_answers_are_a_contrast_and_no_leak():
    one, other = PLANTED["the same answer"]
    assert not list(leaks([replace(one, answer="lost")], [other]))


def test_near_answers_count_as_the_same_only_in_free_text():
    answer = "We are sorry that your parcel is late and will send another one today"
    one, other = example(LONG, answer, 1, group="p"), example(NEAR, f"{answer}!!", 2, group="q")
    other = replace(other, answer=answer.replace("today", "now"))
    assert not list(leaks([one], [other]))
    assert len(list(leaks([one], [other], free_text=True))) == 1


def test_the_same_question_under_another_system_message_is_another_question():
    one, other = (
        Example((Message("system", text), Message("user", LONG)), "yes", group=text)
        for text in ("Is it about a parcel?", "Is it about money?")
    )
    assert not list(leaks([one], [other]))
    assert list(leaks([one], [replace(other, messages=one.messages)]))


def test_clean_splits_have_no_leak():
    check_leaks({"train": TRAIN[:40], "validation": TRAIN[40:], "test": TEST})


@settings(max_examples=40)
@given(st.integers(0, 29), st.integers(0, 59), st.sampled_from(["id", "group", "messages"]))
def test_one_shared_trait_anywhere_is_found(test_at, train_at, trait):
    train = list(TRAIN)
    train[train_at] = replace(train[train_at], **{trait: getattr(TEST[test_at], trait)})
    found = list(leaks(train, TEST))
    assert [(leak.id, leak.other_id) for leak in found] == [(train[train_at].id, TEST[test_at].id)]
