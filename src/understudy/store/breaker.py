"""The circuit breaker: when calls to an endpoint fail so often that no more should be paid for."""

from __future__ import annotations

from collections import Counter, deque

from understudy.errors import ProviderRefused, UnderstudyError

IN_A_ROW = 20
"""Failures in a row after which the endpoint is given up."""
WINDOW = 100
"""Outcomes looked at for the share that failed."""
WINDOW_LEAST = 50
"""Outcomes that must have been seen before their share means anything."""
WINDOW_SHARE = 0.5
"""Share of failed ones above which the endpoint is given up."""


class Breaker:
    """Counts how calls ended. Refusals that only ask to wait are no outcome."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._last: deque[str | None] = deque(maxlen=WINDOW)  # why it failed; None: it did not
        self._failed = 0  # of the last ones

    def answered(self) -> None:
        """A usable reply came."""
        self._in_a_row = 0
        self._add(None)

    def failed(self, error: UnderstudyError) -> None:
        """A call gave nothing usable. Raises ProviderRefused when that happens too often."""
        self._in_a_row += 1
        self._add(error.what)
        seen = len(self._last)
        if self._in_a_row >= IN_A_ROW:
            seen, share = self._in_a_row, f"{self._in_a_row} calls in a row failed"
        elif seen >= WINDOW_LEAST and self._failed > WINDOW_SHARE * seen:
            share = f"{self._failed} of the last {seen} calls failed"
        else:
            return
        whys = [why for why in list(self._last)[-seen:] if why is not None]
        what, times = Counter(whys).most_common(1)[0]
        raise ProviderRefused(
            f"{share}, {times} of them with: {what}",
            "Everything so far is saved; run the same command when it works again",
        )

    def _add(self, why: str | None) -> None:
        if len(self._last) == WINDOW and self._last[0] is not None:
            self._failed -= 1
        self._last.append(why)
        if why is not None:
            self._failed += 1
