"""The forgetting guard: the bundled questions, the comparison, the base's own answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from students import make_folder
from understudy.train import forgetting

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries that train


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    import torch

    from understudy.models.huggingface import load_model, load_tokenizer

    torch.set_num_threads(1)  # its matrices are too small to share
    folder = make_folder(tmp_path_factory.mktemp("model") / "qwen")
    return load_model(folder), load_tokenizer(folder)


@pytest.mark.parametrize(
    ("answer", "accepted", "expected"),
    [
        ("The capital is **Paris**.", ["Paris"], True),
        ("PARIS", ["Paris"], True),
        ("It is Parisian.", ["Paris"], False),
        ("18 legs", ["8", "eight"], False),
        ("一年有十二个月。", ["12", "十二"], True),
        ("Use the <a> tag.", ["<a>"], True),
        ("", ["0"], False),
    ],
)
def test_an_answer_is_right_if_it_holds_the_word_as_a_whole(
    answer: str, accepted: list[str], expected: bool
) -> None:
    """Case and company do not matter; a part of a word or of a number is not enough."""
    assert forgetting.right(answer, accepted) is expected


def test_every_question_is_right_when_answered_as_written() -> None:
    """Each accepted answer counts, and no question gives its own answer away."""
    asked = forgetting._general()["probe"]
    assert len({one["prompt"] for one in asked}) == len(asked) > 100
    for one in asked:
        assert all(forgetting.right(f"It is {said}.", one["accept"]) for said in one["accept"])
    offered = sum(forgetting.right(one["prompt"], one["accept"]) for one in asked)
    assert offered < len(asked) / 5  # those that name the choices


def test_what_is_kept_is_no_question_of_the_probe() -> None:
    """The remedy does not teach the test."""
    general = forgetting._general()
    probed = {one["prompt"] for one in general["probe"]}
    kept = {
        form.format(topic)
        for form in general["keep"]["forms"]
        for topic in general["keep"]["topics"]
    }
    assert len(kept) > 200
    assert not probed & kept


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200))
def test_a_comparison_adds_up_and_cries_only_when_more_is_lost(
    pairs: list[tuple[bool, bool]],
) -> None:
    """Lost and gained explain the difference; the same answers are never a loss."""
    base, student = [one for one, _ in pairs], [other for _, other in pairs]
    found = forgetting.compare(base, student)
    assert found.base - found.lost + found.gained == found.student
    assert not (found.worse and found.gained >= found.lost)
    assert not forgetting.compare(base, base).worse
    assert (forgetting.REMEDY in found.text) is found.worse


def test_losing_ten_of_twenty_is_more_than_chance_and_losing_three_is_not() -> None:
    """The words follow McNemar's exact test."""
    base = [True] * 20 + [False] * 100
    assert forgetting.compare(base, [False] * 10 + [True] * 10 + [False] * 100).worse
    assert not forgetting.compare(base, [False] * 3 + [True] * 17 + [False] * 100).worse


def test_the_probe_leaves_the_model_as_it_was(base: tuple[Any, Any]) -> None:
    """Asked twice it answers the same, and a model in training stays in training."""
    model, tokenizer = base
    model.train()
    before = model.generation_config
    first = forgetting.probe(model, tokenizer)
    assert model.training
    assert model.generation_config is before
    assert forgetting.probe(model, tokenizer) == first


def test_kept_rows_are_the_bases_own_answers(base: tuple[Any, Any]) -> None:
    """As many as asked for, the same for the same seed, more than there are prompts too."""
    model, tokenizer = base
    rows = forgetting.kept_rows(model, tokenizer, 6, seed=1)
    assert len(rows) in (0, 6)  # random weights seldom end an answer
    assert rows == forgetting.kept_rows(model, tokenizer, 6, seed=1)
    assert all(row.answer and row.id < 0 for row in rows)


def test_what_the_base_said_is_remembered(base: tuple[Any, Any], tmp_path: Path) -> None:
    """A resumed training compares with the base, not with the half-trained student."""
    path = tmp_path / "general.json"
    first = forgetting.before(*base, path, count=3, seed=0, probed=True)
    assert len(first.kept) in (0, 3)
    assert len(first.probe) > 100
    assert forgetting.before(None, None, path, count=3, seed=0, probed=True) == first
