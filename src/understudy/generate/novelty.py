"""Whether new inputs still add something: repeats, near-duplicates and novelty, per hundred.

Every input that a teacher writes is one of three:

    repeat      it came before, but for case and spaces (similar.fold); it is not answered again
    near        it is nearly an earlier one (similar.Index); its answer may still differ
    new         neither

The novelty of an input is the share of its character sequences that no earlier input had. It falls
in every closed task, whose words are few, without harm to it: so it is told, but what ends
generation are repeats and those near-duplicates that cleaning would drop, having the same answer.

Repeats are looked for always. The rest takes a third of the time of a whole call, so that after the
first hundred only one in five is looked at, and all of them again as soon as one was bad.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from hashlib import blake2b
from zlib import crc32

from understudy.score import canonical
from understudy.similar import Index, fold, jaccard

WARN, END = 0.5, 0.9
"""Shares of a window wasted that are worth a word, and that end it. Measured: the closed practice
tasks waste at most 0.3 within 10,000 inputs and 0.65 within 100,000. Repeats are cheap, as they are
not answered: with 9 of 10 wasted in that way an example costs about twice as many calls."""
IN_A_ROW = 3
"""Windows that must all be that bad."""
FIRST, ONE_IN = 1, 5
"""Windows looked at in the beginning, and one in how many after that."""
SUSPICIOUS = 0.3
"""Share wasted of a window after which the next one is looked at."""
REMEMBERED = 10_000
"""New inputs that a generation of the index holds; two generations are kept."""
JUDGED, ENOUGH = 100, 20
"""Latest answers to near-duplicates that are compared with their twins', and how many must be."""

_UNKNOWN = 1 << 62
"""Number of an input that was not looked at closely."""
_SEQUENCE = 6
"""Bytes of UTF-8: six letters of English, three of Russian, two of Chinese."""
_LAST = (1 << 27) - 1
"""Last bit; one for each sequence seen, by its hash: 16 MB, 4 % full after 5 million sequences."""
_ANSWER = 200
"""Characters of an answer that are kept to be compared."""


@dataclass(frozen=True, slots=True)
class Hundred:
    """What a hundred inputs (a window of them) brought."""

    number: int
    """Counts from 1."""
    size: int
    repeats: int
    near: int | None
    """None where only repeats were looked for."""
    novelty: float | None
    """Mean share, 0 to 1, of character sequences that no earlier input had."""

    def wasted(self, useless: float = 1.0) -> float:
        """Share of repeats and of useless near-duplicates, 0 to 1; ``useless``: share of those."""
        return (self.repeats + useless * (self.near or 0)) / self.size


class Novelty:
    """Watches inputs as they come.

    ``similarity`` is the Jaccard index from which two inputs are near, ``free_text`` says that two
    answers are the same if they are that near too. Near-duplicates are looked for among the last
    10,000 to 20,000 new inputs, repeats among all.
    """

    def __init__(self, similarity: float, *, free_text: bool = False, window: int = 100) -> None:
        self.hundreds: list[Hundred] = []
        self._similarity, self._free_text, self._window = similarity, free_text, window
        self._came: dict[bytes, int] = {}  # what came: its number if new, else ~ its twin's
        self._sequences = bytearray(_LAST // 8 + 1)
        self._older, self._newer = Index(similarity), Index(similarity)
        self._kept = 0
        self._closely = True
        self._answers: dict[int, str] = {}
        self._same_answers: deque[bool] = deque(maxlen=JUDGED)
        self._repeats = self._near = self._seen = 0
        self._novelty = 0.0

    def add(self, text: str) -> None:
        """Take in an input that is there already (an own example) without judging it."""
        folded = fold(text)
        if (mark := _mark(folded)) not in self._came:
            self._novel(folded)
            self._keep(mark, text)

    def see(self, text: str) -> Hundred | None:
        """Judge an input of the teacher's, repeats too. Every so many give a Hundred."""
        folded = fold(text)
        mark = _mark(folded)
        if mark in self._came:
            self._repeats += 1
        elif not self._closely:
            self._came[mark] = _UNKNOWN
        else:
            self._novelty += self._novel(folded)
            twins = self._newer.similar(text) or self._older.similar(text)
            if twins:
                self._near += 1
                self._came[mark] = ~twins[0][0]
            else:
                self._keep(mark, text)
        self._seen += 1
        return self._close() if self._seen == self._window else None

    def answered(self, text: str, answer: str) -> None:
        """Tell the answer to an input: a near-duplicate with another answer is no waste."""
        number = self._came.get(_mark(fold(text)))
        if number is None or number == _UNKNOWN:
            return
        answer = canonical(answer)[:_ANSWER]
        if number >= 0:
            self._answers[number] = answer
        elif (other := self._answers.get(~number)) is not None:
            near = self._free_text and jaccard(answer, other) >= self._similarity
            self._same_answers.append(near or answer == other)

    def warning(self) -> str | None:
        """One line when much of what comes is nothing new, though worth going on; else None."""
        told = self._told(WARN)
        return told and f"{told}. A plan with more attributes, or fewer examples, costs less"

    def exhausted(self) -> str | None:
        """Why going on adds too little, as one line; None if it does not."""
        told = self._told(END)
        return told and f"{told}. More calls would add next to nothing"

    def _told(self, limit: float) -> str | None:
        """What was wasted, if it was more than that share in each of the last windows."""
        last = [one for one in self.hundreds[-IN_A_ROW * ONE_IN :] if one.near is not None]
        last = last[-IN_A_ROW:]
        useless = self._useless()
        if len(last) < IN_A_ROW or any(one.wasted(useless) <= limit for one in last):
            return None
        repeats, near = sum(one.repeats for one in last), sum(one.near or 0 for one in last)
        total = sum(one.size for one in last)
        return f"of the last {total} inputs {repeats} are repeats and {near} are nearly repeats"

    def _useless(self) -> float:
        """Share of near-duplicates whose answer is their twin's; 1 until enough is known."""
        judged = self._same_answers
        return sum(judged) / len(judged) if len(judged) >= ENOUGH else 1.0

    def _novel(self, folded: str) -> float:
        """Share of the character sequences that are seen for the first time."""
        data = folded.encode("utf-8", "surrogatepass")
        ends = range(_SEQUENCE, max(len(data), _SEQUENCE) + 1)
        sequences = {crc32(data[end - _SEQUENCE : end]) & _LAST for end in ends}
        seen = self._sequences
        fresh = [one for one in sequences if not seen[one >> 3] >> (one & 7) & 1]
        for one in fresh:
            seen[one >> 3] |= 1 << (one & 7)
        return len(fresh) / len(sequences)

    def _keep(self, mark: bytes, text: str) -> None:
        if self._kept and self._kept % REMEMBERED == 0:
            self._older, self._newer = self._newer, Index(self._similarity)
            first = self._kept - REMEMBERED
            self._answers = {at: said for at, said in self._answers.items() if at >= first}
        self._came[mark] = self._kept
        self._newer.add(self._kept, text)
        self._kept += 1

    def _close(self) -> Hundred:
        hundred = Hundred(
            number=len(self.hundreds) + 1,
            size=self._seen,
            repeats=self._repeats,
            near=self._near if self._closely else None,
            novelty=self._novelty / self._seen if self._closely else None,
        )
        self.hundreds.append(hundred)
        due = hundred.number < FIRST or hundred.number % ONE_IN == 0
        self._closely = due or hundred.wasted() > SUSPICIOUS
        self._repeats = self._near = self._seen = 0
        self._novelty = 0.0
        return hundred


def _mark(folded: str) -> bytes:
    return blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=8).digest()
