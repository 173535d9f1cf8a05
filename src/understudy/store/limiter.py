"""How fast calls may go out: what the endpoint says it allows, and what it turns out to allow.

``Meter`` spaces out one resource (requests, or tokens) by virtual scheduling, the generic cell
rate algorithm of ITU-T I.371: one moment in time instead of a bucket to fill, so that a machine
that slept wakes up to no storm. ``Probe`` finds a rate that nobody tells.
"""

from __future__ import annotations

import math
from typing import NamedTuple

BURST_S = 0.2
"""Seconds' worth of the rate that may go at once: makes up for late timers, and no more."""
TOLD_SHARE = 0.98
"""Share of a told limit that is used while no more than a call's worth is known to be left."""
CUSHION_S = 0.5
"""Seconds' worth of the limit to keep in hand; with less left, sending slows down."""
SLOWEST = 0.05
"""Share of a told limit that is used at the least, though nothing seems to be left."""

CUT = 0.75
"""A refusal brings the rate down to this share of itself, or less,"""
CUT_MOST = 0.5
"""but not below this share."""
DIP = 0.92
"""Share of the rate thought to be allowed with which sending goes on after a cut."""
CLIMB_S = 20.0
"""Seconds of sending until the rate thought to be allowed is reached again."""
CLIMB_WAITS = 20.0
"""The same, as a multiple of the wait that a refusal costs: refusals that cost more come rarer."""
CLIMB_CALLS = 60
"""The same, in calls."""
CLIMB_MOST_S = 120.0
"""The longest climb."""
SEARCH_S = 6.0
"""The same while it is not yet known what is allowed."""
SLOWEST_PER_S = 0.2
"""Calls a second below which no refusal brings the rate."""
LOOK_BACK_S = 20.0
"""Seconds, up to twice as many, that tell what is allowed."""
RISEN = 2.5
"""Climbs without a refusal after which the limit is thought to have risen."""
KNOWN = 0.8
"""What went through is near what is allowed if it is more than this share of what was tried."""
APART = 3
"""Octaves (doublings) between two rates; as many refusals at the lower: cuts are in vain."""
PROOF, PROOF_REFUSED = 20, 4
"""Calls that must have ended at either, and refusals at the lower, to show it."""
FEW, FAR_MORE = 2, 4
"""So many times as many refusals at the higher rates disprove it: until proven, and afterwards;"""
ALIKE, FAR_APART = 1.5, 3
"""and so does it if so many times as many go through at the lower: at a limit as many as the rates
are apart."""
FAR_FEWER = 4
"""So many times fewer at the lower: the endpoint has changed in between (an outage)."""
MEMORY = 200
"""Calls remembered for each power of two of the rate."""


_Ended = tuple[float, float]  # calls, and those of them refused


class Meter:
    """Spaces out one resource. ``due`` is the moment from which the next call may go."""

    __slots__ = (
        "_cushion",
        "_left",
        "_left_at",
        "_left_when_used",
        "_most_left",
        "due",
        "told",
        "used",
    )

    def __init__(self) -> None:
        self.due = -math.inf
        self.told = math.inf  # a second
        self.used = 0.0  # ever
        self._left = math.inf  # at _left_at, when _left_when_used had been used
        self._left_at = -math.inf
        self._left_when_used = 0.0
        self._most_left = 0.0
        self._cushion = 0.0

    def take(self, now: float, cost: float, most: float = math.inf) -> None:
        """A call of ``cost`` goes out now; ``most`` is a rate from elsewhere."""
        self.used += cost
        rate = min(self.told, most)
        if rate < math.inf:
            rate = min(rate, self.told * self._share(now, cost))
            self.due = max(self.due, now - min(BURST_S, BURST_S**2 * rate)) + cost / rate

    def correct(self, used: float) -> None:
        """A call turned out to use so much more (less: negative) than was thought."""
        if self.told < math.inf:
            self.used += used
            self.due += used / self.told

    def hold(self, until: float) -> None:
        """Nothing goes before, and nothing is saved up until then."""
        self.due = max(self.due, until)

    def heard(
        self, limit: float | None, left: float | None, sent_at: float, used_then: float
    ) -> None:
        """What the endpoint said (a minute) with the reply to a call sent at ``sent_at``."""
        if limit is not None and limit > 0:
            self.told = limit / 60
        if left is None or self.told == math.inf or sent_at < self._left_at:
            return
        self._left, self._left_at, self._left_when_used = left, sent_at, used_then
        self._most_left = max(self._most_left, left)
        # A bucket smaller than the cushion is never seen full of it.
        self._cushion = min(CUSHION_S * self.told, self._most_left / 2)

    def _share(self, now: float, cost: float) -> float:
        """Share of the told limit to use: less, the less there is left of the cushion.

        What should be left now is what was, filled up since, less what went out.
        """
        if self._cushion <= cost:
            return TOLD_SHARE
        filled = self.told * (now - self._left_at)
        left = self._left + filled - (self.used - self._left_when_used)
        return min(1.0, max(SLOWEST, left / self._cushion))


class Probe:
    """Finds the calls a second that an endpoint allows, from its refusals alone.

    A cut, then a curve that comes back fast to the rate thought to be allowed, dwells there and
    then goes beyond it ever faster: CUBIC (Ha, Rhee, Xu 2008; RFC 9438), of a rate and not of a
    window. It follows the seconds in which the rate was all that held calls back.

    The allowed rate is bracketed by what went through since the last cut: over all the time, less
    than was allowed, for nothing went in a pause; over the time of sending, more, for a bucket that
    filled up in a pause was emptied.

    An endpoint that is merely overloaded refuses as many calls at far lower rates. Then cuts are in
    vain (``in_vain``), and the rate goes back to where they began. Every refusal is evidence: when
    many more are refused at the high rates than were at the low ones, there is a limit after all.
    """

    def __init__(self) -> None:
        self.rate = math.inf  # calls a second
        self.octave: int | None = None  # of the rate; calls that go out now are counted there
        self.in_vain = False  # refusals do not depend on the rate
        self._sending = math.inf  # calls a second that went out of late, where known
        self._allowed = math.inf  # thought to be
        self._beyond = 0.0  # how far the curve goes beyond it, in another climb
        self._grown_s = 0.0
        self._climb_s = CLIMB_S
        self._paused_s = 0.0  # ever
        self._taken = 0  # calls, ever
        self._mark = _Mark(math.nan, 0.0, 0)
        self._older_mark = self._mark
        self._best = 0.0  # rate before the cuts began that came one after the other
        self._proof = 0  # octave up to which the low rates were that proved cuts to be in vain
        self._ended: dict[int | None, list[float]] = {}  # by octave: calls ended, refused

    def taken(self, octave: int | None) -> None:
        """A call went through that was sent when the rate was in that octave."""
        self._taken += 1
        self._count(octave, 0)

    def paused(self, seconds: float) -> None:
        """Nothing is sent for so long."""
        self._paused_s += seconds

    def refused(self, octave: int | None) -> None:
        """A call was refused that was sent when the rate was in that octave."""
        self._count(octave, 1)

    def mark(self, now: float, sending: float) -> None:
        """Look back no farther than to here, a while from now; called every second or so.

        ``sending``: calls a second since the last time. A rate that is not used shows nothing.
        """
        self._sending = sending
        self._note_octave()
        if not now - self._mark.at < LOOK_BACK_S:
            last = self._mark if self._taken else _Mark(now, self._paused_s, 0)
            self._older_mark, self._mark = last, _Mark(now, self._paused_s, self._taken)

    def cut(self, now: float, measured: float, wait_s: float) -> None:
        """A refusal came, the first of a burst; ``measured`` is the rate of sending, of late."""
        tried = min(self.rate, measured)
        if None in self._ended:
            self._ended[_octave(tried)] = self._ended.pop(None)
        self.in_vain = self._refused_alike(_octave(tried))
        if self.in_vain:
            if self.rate < self._best:
                self._sending = math.inf
                self._set_out(self._best, grown_s=self._climb_s)
            return
        self._best = tried if self._grown_s > self._climb_s else max(self._best, tried)
        allowed, known = self._estimate(now, tried)
        allowed = max(allowed, CUT_MOST * tried, SLOWEST_PER_S)
        if known:
            climb_s = max(CLIMB_S, CLIMB_WAITS * wait_s, CLIMB_CALLS / allowed)
        else:
            climb_s = max(SEARCH_S, 2 * wait_s)
        self._beyond = max(tried - allowed, (1 - DIP) * allowed)
        self._climb_s = min(climb_s, CLIMB_MOST_S)
        self._set_out(allowed, grown_s=0.0)
        self._older_mark = self._mark = _Mark(now, self._paused_s, self._taken)

    def _estimate(self, now: float, tried: float) -> tuple[float, bool]:
        """The rate thought to be allowed, and whether that is near the truth."""
        seconds = max(now - self._older_mark.at, 1e-3)
        sending = max(seconds - (self._paused_s - self._older_mark.paused_s), 1e-3)
        taken = self._taken - self._older_mark.taken
        over_all, over_sending = taken / seconds, min(tried, taken / sending)
        middle = (over_all + over_sending) / 2
        climbs = self._grown_s / self._climb_s
        # After many climbs the limit must have risen, and what went through lags behind.
        if climbs >= RISEN:
            return CUT * tried, False
        # The last estimate held for a climb: the truth lies between it and the rate tried now.
        if climbs > 1 or middle > KNOWN * tried:
            return over_sending, True
        return min(middle, CUT * tried), False

    def grow(self, seconds: float) -> None:
        """Calls were held back by the rate for so long."""
        self._set_out(self._allowed, self._grown_s + seconds)

    def _set_out(self, allowed: float, grown_s: float) -> None:
        """Set the rate to where the curve is after so many seconds."""
        self._allowed, self._grown_s = allowed, grown_s
        past = grown_s / self._climb_s - 1
        self.rate = allowed + (self._beyond if past > 0 else (1 - DIP) * allowed) * past**3
        self._note_octave()

    def _note_octave(self) -> None:
        if self.rate < math.inf:
            self.octave = _octave(min(self.rate, self._sending))

    def _count(self, octave: int | None, refused: int) -> None:
        ended = self._ended.setdefault(octave, [0.0, 0.0])
        ended[0] += 1
        ended[1] += refused
        if ended[0] > MEMORY:
            ended[:] = ended[0] / 2, ended[1] / 2

    def _refused_alike(self, now_at: int) -> bool:
        """True if calls at much lower rates were refused about as often.

        Once proven, the octave that calls go out at now is held against those that proved it, as
        far as they are lower: there a limit would show. Disproven, all is forgotten: it was of
        another time.
        """
        if self.in_vain:
            low = self._sums(-math.inf, min(self._proof, now_at - 1))
            high = self._sums(now_at, now_at)
            told = low[0] * high[1] >= PROOF_REFUSED * high[0]  # so many refusals are expected
            if not told or _alike(low, high, FAR_MORE, FAR_APART) is not False:
                return True
            self._ended.clear()
            return False
        for split in sorted(octave for octave in self._ended if octave is not None):
            low = self._sums(-math.inf, split)
            high = self._sums(split + APART, math.inf)
            if low[1] >= PROOF_REFUSED and _alike(low, high, FEW, ALIKE):
                self._proof = split
                return True
        return False

    def _sums(self, first: float, last: float) -> _Ended:
        """Calls that ended, and those refused, in these octaves."""
        counts = [self._ended[o] for o in self._ended if o is not None and first <= o <= last]
        return sum(ended for ended, _ in counts), sum(refused for _, refused in counts)


class _Mark(NamedTuple):
    """A moment; seconds of pauses and calls taken until then."""

    at: float
    paused_s: float
    taken: int


def _alike(low: _Ended, high: _Ended, more: float, through: float) -> bool | None:
    """Whether as many were refused at low rates as at high; None: too few calls to tell."""
    if low[0] < PROOF or high[0] < PROOF:
        return None
    share, share_high = low[1] / low[0], high[1] / high[0]
    ratio = (1 - share) / max(1 - share_high, 1e-9)  # of those that went through
    return share > share_high / more and 1 / FAR_FEWER < ratio < through


def _octave(rate: float) -> int:
    return math.frexp(rate)[1]
