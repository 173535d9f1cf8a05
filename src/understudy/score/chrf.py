"""chrF: how alike two texts are, by the character n-grams that they share.

Popović 2015, "chrF: character n-gram F-score for automatic MT evaluation" (WMT), as sacreBLEU
defines chrF2 (Post 2018, "A call for clarity in reporting BLEU scores"): n-grams of 1 to 6
characters without white space, precision and recall averaged over the lengths that both texts
have, recall weighing twice as much.
"""

from __future__ import annotations

from collections import Counter

LONGEST = 6
BETA = 2


def chrf(reference: str, answer: str) -> float:
    """0 (nothing in common) to 1 (the same characters); 0 if either is empty."""
    wanted, given = "".join(reference.split()), "".join(answer.split())
    lengths = min(LONGEST, len(wanted), len(given))
    precision = recall = 0.0
    for n in range(1, lengths + 1):
        right, said = _grams(wanted, n), _grams(given, n)
        shared = sum(min(count, said[gram]) for gram, count in right.items() if gram in said)
        precision += shared / (len(given) - n + 1)
        recall += shared / (len(wanted) - n + 1)
    if precision + recall == 0:
        return 0.0
    precision, recall = precision / lengths, recall / lengths
    return (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)


def _grams(text: str, n: int) -> Counter[str]:
    return Counter(text[at : at + n] for at in range(len(text) - n + 1))
