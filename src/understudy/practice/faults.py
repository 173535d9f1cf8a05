"""Which request meets which of the ways in which a provider fails.

It is settled by the request's number and the server's seed, so that a rehearsal repeats.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection

from understudy.errors import UsageError
from understudy.practice.options import At, Faults
from understudy.practice.refused import REFUSED
from understudy.practice.spoiled import SHAPES, TEXTS
from understudy.practice.wires import WIRES

PAID = {
    **{kind: refusal.billed != "nothing" for kind, refusal in REFUSED.items()},
    **{kind: wire.paid for kind, wire in WIRES.items()},
    **dict.fromkeys(TEXTS, True),
    **dict.fromkeys(SHAPES, True),
}
"""Kind of fault to whether a provider bills a request that met it."""

NO_FAULT = ""

_AT = re.compile(r"([0-9]+)(?:(-)([0-9]+)?)?")


def parse_fault(text: str, kinds: Collection[str] = PAID) -> tuple[str, float] | At:
    """Read ``KIND:SHARE``, ``KIND@N``, ``KIND@N-M`` or ``KIND@N-``. Raises UsageError.

    For example ``429:0.1``, every tenth or so; ``401@20-``, from the twentieth on.
    """
    kind, sign, rest = re.match(r"([^:@]*)([:@]?)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    if kind in kinds and sign == "@" and (at := _AT.fullmatch(rest)):
        first = int(at[1])
        last = int(at[3]) if at[3] else math.inf if at[2] else first
        if 1 <= first <= last:
            return At(kind, first, last)
    try:
        if kind in kinds and sign == ":" and 0 <= float(rest) <= 1:
            return kind, float(rest)
    except ValueError:
        pass
    raise UsageError(
        f"fault {text!r} is not KIND:SHARE or KIND@N",
        f"Share is 0 to 1, N or N-M counts from 1, kind is one of: {', '.join(kinds)}",
    )


def pick(faults: Faults, seed: int, n: int) -> str:
    """Choose the fault, or none, of the ``n``-th request; what is said for its number wins."""
    for fault in faults:
        if isinstance(fault, At) and fault.first <= n <= fault.last:
            return fault.kind
    digest = hashlib.sha256(f"{seed} {n}".encode()).digest()
    place = int.from_bytes(digest[:8]) / 2**64
    for fault in faults:
        if isinstance(fault, At):
            continue
        kind, share = fault
        if place < share:
            return kind
        place -= share
    return NO_FAULT
