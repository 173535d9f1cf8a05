"""The practice teacher that repeats itself, over real HTTP on loopback."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from practice_client import inputs_of
from understudy.practice import TASKS, dates, load, repeating
from understudy.practice.options import Options
from understudy.practice.server import in_background

CELL = {"language": "French", "form": "in full"}


def texts(url, cell, calls, how_many=5):
    """Inputs of that many calls for one cell, each with a batch of its own."""
    return [row["text"] for batch in range(calls) for row in inputs_of(url, cell, how_many, batch)]


def bare(text):
    """The text without what a light rephrasing changes."""
    words = r"^(so|well|hi,|hello,|ok,) | (please|thanks|thank you|ok\?|right\?)$"
    return re.sub(r"[^\w]+", "", re.sub(words, "", text, flags=re.IGNORECASE).lower())


@pytest.fixture(scope="module")
def always():
    with in_background(Options(repeat=1.0)) as url:
        yield url


def test_it_has_few_favourites_some_far_above_others(always):
    """Of 200 inputs of a cell no more than twelve differ, the first comes most."""
    favourites = dates.inputs(CELL, repeating.FAVOURITES, 0)
    counts = Counter(map(bare, texts(always, CELL, 40)))
    assert counts.keys() == set(map(bare, favourites))
    first, last = counts[bare(favourites[0])], counts[bare(favourites[-1])]
    assert first > 2 * last
    assert counts.most_common(1)[0][0] == bare(favourites[0])


def test_a_call_does_not_repeat_itself_before_it_must(always):
    """Within one list a model names each favourite once, until it has none left."""
    for batch in range(5):
        rows = inputs_of(always, CELL, repeating.FAVOURITES, batch)
        assert len({bare(row["text"]) for row in rows}) == repeating.FAVOURITES
    assert len(inputs_of(always, CELL, 30)) == 30


def test_some_come_in_slightly_other_words(always):
    """There are more texts than favourites, and each means what its favourite does."""
    said = set(texts(always, CELL, 40))
    assert len(said) > repeating.FAVOURITES
    answers = {dates.answer(text) for text in dates.inputs(CELL, repeating.FAVOURITES, 0)}
    assert {dates.answer(text) for text in said} == answers


def test_favourites_belong_to_the_cell(always):
    """Each cell has its own, so a plan spreads them; an empty cell has one set for everything."""
    cells = [{"language": name, "form": "in full"} for name in ("French", "German", "Polish")]
    seen = [set(map(bare, texts(always, cell, 8))) for cell in cells]
    assert all(one.isdisjoint(other) for one in seen for other in seen if one is not other)
    assert len(set(map(bare, texts(always, {}, 20)))) <= repeating.FAVOURITES


def test_each_batch_is_another_draw_and_the_same_one_again(always):
    """A batch number, like the seed, settles what is drawn."""
    assert inputs_of(always, CELL, batch=1) != inputs_of(always, CELL, batch=2)
    assert inputs_of(always, CELL, batch=1) == inputs_of(always, CELL, batch=1)
    with in_background(Options(repeat=1.0)) as again:
        assert inputs_of(again, CELL, batch=1) == inputs_of(always, CELL, batch=1)
    with in_background(Options(repeat=1.0, seed=1)) as other:
        assert not {*map(bare, texts(other, CELL, 4))} & {*map(bare, texts(always, CELL, 4))}


def test_the_share_is_kept_and_the_rest_is_as_without():
    """With a half, about half of the inputs are what the teacher says without repeating."""
    with in_background(Options(repeat=0.5)) as url:
        half = [inputs_of(url, CELL, 10, batch) for batch in range(20)]
    with in_background(Options()) as url:
        none = [inputs_of(url, CELL, 10, batch) for batch in range(20)]
    pairs = [
        (some["text"], new["text"])
        for rows, news in zip(half, none, strict=True)
        for some, new in zip(rows, news, strict=True)
    ]
    assert sum(some == new for some, new in pairs) / len(pairs) == pytest.approx(0.5, abs=0.1)


def test_favourites_are_told_to_be_likelier(always):
    """The stated probabilities show what is a favourite, as a model's own words do."""
    with in_background(Options(repeat=0.5)) as url:
        rows = [row for batch in range(10) for row in inputs_of(url, CELL, 10, batch)]
    favourites = set(map(bare, dates.inputs(CELL, repeating.FAVOURITES, 0)))
    known = [row["probability"] for row in rows if bare(row["text"]) in favourites]
    others = [row["probability"] for row in rows if bare(row["text"]) not in favourites]
    assert sum(known) / len(known) > 2 * sum(others) / len(others)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_can_repeat_itself(name):
    """Rephrased or not, its texts are solved as the favourite is."""
    task = load(name)
    answers = Counter(task.answer(text) for text in task.inputs({}, repeating.FAVOURITES, 3))
    for draw in range(10):
        for one in repeating.inputs(task, {}, 10, share=1.0, seed=3, draw=draw):
            assert task.answer(one.text) in answers
