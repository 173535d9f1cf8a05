"""Near-duplicates by MinHash against comparing every pair: time and recall, medians of three.

.venv/bin/python bench/duplicates.py [TEXTS]
"""

from __future__ import annotations

import random
import statistics
import sys
import time

from understudy.practice import load
from understudy.similar import Index, jaccard

ROUNDS, THRESHOLD = 3, 0.8


def corpus(size: int, seed: int) -> list[str]:
    """Support messages, every tenth of them a copy with one word changed."""
    task = load("support")
    drawn = random.Random(seed)
    texts = [text for n in range(size // 10) for text in task.inputs({}, 9, seed * 10**6 + n)]
    for text in drawn.sample(texts, size // 10):
        words = text.split()
        words[drawn.randrange(len(words))] = "really"
        texts.append(" ".join(words))
    return texts


def by_index(texts: list[str]) -> set[tuple[int, int]]:
    """Pairs that the index finds."""
    index, found = Index(THRESHOLD), set()
    for number, text in enumerate(texts):
        found |= {(other, number) for other, _ in index.similar(text)}
        index.add(number, text)
    return found


def by_pairs(texts: list[str]) -> set[tuple[int, int]]:
    """Pairs that comparing every text with every other finds."""
    return {
        (first, second)
        for second in range(len(texts))
        for first in range(second)
        if jaccard(texts[first], texts[second]) >= THRESHOLD
    }


def main(size: int) -> None:
    """Measure both in turn."""
    fast, slow, recall = [], [], []
    for seed in range(ROUNDS):
        texts = corpus(size, seed)
        started = time.perf_counter()
        found = by_index(texts)
        fast.append(time.perf_counter() - started)
        started = time.perf_counter()
        truth = by_pairs(texts)
        slow.append(time.perf_counter() - started)
        recall.append(len(found & truth) / max(len(truth), 1))
        assert found <= truth
    ratio = statistics.median(one / other for one, other in zip(slow, fast, strict=True))
    print(
        f"{size:,} texts: index {statistics.median(fast):.2f} s, every pair "
        f"{statistics.median(slow):.2f} s, {ratio:.0f} times as fast, "
        f"recall {statistics.median(recall):.3f}, precision 1 (exact check)"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 600)
