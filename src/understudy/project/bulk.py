"""Answers in batches, for whoever asks for them: what speaks HTTP is imported only then."""

from __future__ import annotations

from understudy.models.function import Function
from understudy.project.making import Way
from understudy.project.workplace import Workplace


def batch_share(place: Workplace) -> float:
    """What an answer in a batch costs of one bought live."""
    from understudy.project.batching import batch_share

    return batch_share(place.teacher, place.settings)


def in_batches(function: Function | None) -> Way:
    """How answers are had in batches. Raises UsageError for a function: it has none."""
    from understudy.models.batches import no_batches
    from understudy.project.batching import in_batches

    if function is not None:
        raise no_batches(function.name)
    return in_batches
