"""Models of the practice server beside its tasks: the fine-tuned ones, and one to begin with.

A fine-tuned model answers like the task that its rows showed; ``novice`` repeats what it is asked,
so that an evaluation has something to tell.
"""

from __future__ import annotations

from understudy.practice import TASKS, PracticeTask, load
from understudy.practice.provider import Provider

NOVICE = "novice"
_ANY = "dates"
"""A task whose place another takes."""


class _Novice:
    """A model that has learned nothing. Of a task it has the answer alone."""

    def answer(self, text: str) -> str:
        """Repeat."""
        return text


def fine_tuned(provider: Provider) -> list[str]:
    """Names of the models that were fine-tuned."""
    jobs = provider.shelf.tuned.values()
    return [job.fine_tuned_model for job in jobs if job.fine_tuned_model]


def stands_for(body: object, provider: Provider) -> tuple[object, PracticeTask | None]:
    """A body with a name that every dialect knows, and who answers; None: the name is known."""
    name = body.get("model") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(name, str):
        return body, None
    if name.removeprefix("practice:") == NOVICE:
        return {**body, "model": _ANY}, _Novice()  # type: ignore[return-value]
    for job in provider.shelf.tuned.values():
        # With its provider's account in front, as Fireworks has it; at a step, as checkpoints are.
        if job.fine_tuned_model and name.partition(":ckpt-step-")[0] == job.fine_tuned_model:
            return {**body, "model": _ANY}, load(job.task)
    return body, None


def base_of(model: str) -> str | None:
    """The task, or the novice, that a base's name stands for; None if there is none."""
    plain = model.removeprefix("practice:").rpartition("/")[2]
    return plain if plain in (*TASKS, NOVICE) else None
