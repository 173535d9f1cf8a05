"""Folding, similarity and the index that finds near-duplicates."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.similar import Index, fold, jaccard

WORDS = [
    "parcel",
    "order",
    "late",
    "refund",
    "broken",
    "screen",
    "please",
    "send",
    "again",
    "tomorrow",
    "invoice",
    "number",
    "address",
    "wrong",
    "colour",
    "blue",
    "green",
    "shoes",
    "jacket",
    "size",
    "small",
    "large",
    "return",
    "money",
    "card",
    "charged",
    "twice",
    "cancel",
    "account",
    "password",
    "delivery",
    "driver",
    "neighbour",
    "morning",
    "evening",
    "missing",
    "part",
    "manual",
    "battery",
    "charger",
    "cable",
]


def sentence(chance: random.Random, words: int = 12) -> str:
    return " ".join(chance.choice(WORDS) for _ in range(words))


def edited(chance: random.Random, text: str) -> str:
    """One word replaced, dropped or misspelt."""
    words = text.split()
    place = chance.randrange(len(words))
    words[place] = chance.choice([chance.choice(WORDS), "", words[place][:-1]])
    return " ".join(words)


def all_pairs(texts: list[str], threshold: float) -> set[tuple[int, int]]:
    return {
        (i, j)
        for j in range(len(texts))
        for i in range(j)
        if jaccard(texts[i], texts[j]) >= threshold
    }


def found_pairs(texts: list[str], threshold: float) -> set[tuple[int, int]]:
    index, pairs = Index(threshold), set()
    for number, text in enumerate(texts):
        pairs |= {(other, number) for other, _ in index.similar(text)}
        index.add(number, text)
    return pairs


@given(st.text())
def test_folding_twice_changes_nothing_more(text):
    assert fold(fold(text)) == fold(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Where is\n my  ORDER ", "where is my order"),
        ("Ｗｈｅｒｅ", "where"),
        ("STRASSE", "straße"),
        ("cafe\u0301", "CAFÉ"),
        ("or\u200bder\ufeff", "order"),
        ("1\u00a0000", "1 000"),
    ],
)
def test_texts_that_mean_the_same_fold_to_the_same(one, other):
    assert fold(one) == fold(other)
    assert jaccard(one, other) == 1


@given(st.text(max_size=30), st.text(max_size=30))
def test_similarity_is_symmetric_and_one_only_for_texts_of_the_same_pieces(one, other):
    assert jaccard(one, other) == jaccard(other, one)
    assert 0 <= jaccard(one, other) <= 1
    assert jaccard(one, one) == 1


def test_similarity_counts_shared_pieces_of_five_characters():
    assert jaccard("abcdef", "abcdefg") == 2 / 3
    assert jaccard("abcde", "vwxyz") == 0


@settings(max_examples=60)
@given(st.lists(st.text("abc ", max_size=14), max_size=25), st.sampled_from([0.5, 0.8, 1.0]))
def test_the_index_never_returns_a_pair_below_the_threshold(texts, threshold):
    """Precision is exact: what MinHash proposes is compared in full."""
    assert found_pairs(texts, threshold) <= all_pairs(texts, threshold)


@pytest.mark.parametrize(("threshold", "recall"), [(0.9, 1.0), (0.8, 0.995), (0.5, 0.98)])
def test_the_index_finds_what_comparing_all_pairs_finds(threshold, recall):
    chance = random.Random(1)
    texts = [sentence(chance, 6 + n % 9) for n in range(150)]
    texts += [edited(chance, text) for text in texts]
    wanted = all_pairs(texts, threshold)
    assert len(wanted) > 15
    found = found_pairs(texts, threshold)
    assert found <= wanted
    assert len(found) >= recall * len(wanted)


def test_the_index_finds_every_equal_text():
    texts = ["", "a", "ab", "yes", "2021-03-04", "好", "where is it"]
    index = Index(0.8)
    for number, text in enumerate(texts):
        index.add(number, text)
    assert [index.similar(f" {text.upper()}") for text in texts] == [[(n, 1.0)] for n in range(7)]


def test_the_most_alike_comes_first_and_equals_by_key():
    index = Index(0.5)
    for key, text in [
        (3, "where is my order"),
        (2, "where is my orders"),
        (1, "where is my order"),
    ]:
        index.add(key, text)
    assert [key for key, _ in index.similar("where is my order")] == [1, 3, 2]


CHINESE = (
    "我上周在你们网店买的蓝色羽绒服到现在还没有收到，物流信息三天没有更新了，请帮我查一下订单到底在哪里",
    "请问这款咖啡机可以用胶囊吗？说明书上没有写清楚，我想知道需要买哪一种配件才能用，谢谢你们的帮助",
)


def test_chinese_near_duplicates_are_found_and_others_are_not():
    """Words cannot be told apart there, so pieces of three characters are compared."""
    index = Index(0.8)
    for number, text in enumerate(CHINESE):
        index.add(number, text)
    near = CHINESE[0].replace("三天", "四天")
    assert [key for key, _ in index.similar(near)] == [0]
    assert index.similar("今天天气很好，我们一起去公园散步，然后在湖边的餐厅吃午饭吧") == []


def test_lone_surrogates_are_text_like_any_other():
    index = Index(0.8)
    index.add(0, "broken \ud800 character here")
    assert index.similar("broken \ud800 character here") == [(0, 1.0)]


def test_boilerplate_that_hundreds_share_does_not_slow_every_look_up():
    """A crowd of texts alike is stood for by some of them."""
    index = Index(0.8)
    frame = "please convert the following amount to euros and answer with the number alone: "
    for number in range(2000):
        index.add(number, f"{frame}{number}")
    assert 0 < len(index.similar(f"{frame}77")) <= 16 * 32


def test_the_index_answers_alike_in_every_process():
    script = (
        "import random; from understudy.similar import Index; r = random.Random(0); i = Index(.3)\n"
        "w = 'red green blue order parcel late'.split()\n"
        "t = [' '.join(r.choices(w, k=7)) for _ in range(90)]\n"
        "[i.add(*pair) for pair in enumerate(t)]; print([i.similar(text) for text in t])"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1
    assert len(seen.pop()) > 1000


@pytest.mark.parametrize("threshold", [0.5, 0.8])
@pytest.mark.parametrize("alphabet", ["abcdefgh ", "абвгдежз ", "àéîõüçñß ", "ab❤☃🙂жé "])
def test_near_texts_are_found_in_any_alphabet_and_length(alphabet, threshold):
    chance = random.Random(alphabet)
    texts = ["".join(chance.choices(alphabet, k=30 + 20 * n)) for n in range(40)]
    texts += [text[:-1] for text in texts]
    assert found_pairs(texts, threshold) == all_pairs(texts, threshold)


def test_texts_of_different_alphabets_are_compared_letter_by_letter():
    """Of one text in Latin-1 and one beyond it, and of letters that share a byte."""
    one = "please send the parcel to the other address"
    assert jaccard(one, f"{one} ☃") == 38 / 40  # " the " comes twice
    index = Index(0.8)
    index.add(0, one)
    index.add(1, "".join(chr(ord(letter) + 0x400) for letter in one))
    assert index.similar(one) == [(0, 1.0)]
    assert index.similar(f"{one} ☃") == [(0, 38 / 40)]


@pytest.mark.parametrize("piece", ["x", "ab", "where is my order? "])
def test_long_texts_that_repeat_themselves_are_found(piece):
    """They have far fewer different pieces than characters."""
    index = Index(0.8)
    for number in (10, 100, 1000, 9000):
        index.add(number, piece * number + "and something at the end of it all")
    for number in (11, 130, 999, 8000):
        found = index.similar(piece * number + "and something at the end of it all")
        assert [key for key, _ in found] == [10, 100, 1000, 9000]


def test_an_index_may_ask_for_its_texts_instead_of_holding_them():
    chance = random.Random(3)
    texts = [sentence(chance) for _ in range(60)]
    texts += [edited(chance, text) for text in texts]
    holding, asking = Index(0.8), Index(0.8, texts.__getitem__)
    for number, text in enumerate(texts):
        holding.add(number, text)
        asking.add(number, text)
    found = [holding.similar(text) for text in texts]
    assert [asking.similar(text) for text in texts] == found
    assert sum(map(len, found)) > 150
