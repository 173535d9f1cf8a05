"""Talking the spec over: the teacher's questions, answered."""

from __future__ import annotations

from collections.abc import Mapping

from understudy.generate import spec as specs
from understudy.project.workplace import Workplace
from understudy.task import Spec, Task


def answer_questions(place: Workplace, answers: Mapping[str, str]) -> Task:
    """Have the teacher write the spec anew by the answers to its questions: a new version.

    Questions without an answer keep what was assumed. Without any answer nothing changes.
    """
    task, given = place.task, {one: said.strip() for one, said in answers.items() if said.strip()}
    if not given or task.spec is None:
        return task
    own, before = place.own_examples(), task.spec
    place.say("describe.start", teacher=place.teacher, description=task.description)
    spec = place.paid(
        lambda model: specs.describe(model, task.description, own, before=before, answers=given)
    )
    return place.store_task(task.description, _with_rules(before, spec, given), place.teacher)


def _with_rules(before: Spec, spec: Spec, given: Mapping[str, str]) -> Spec:
    """The new spec; a teacher that heard nothing has the answers added as they were given."""
    if spec != before:
        return spec
    rules = tuple(f"{question} {answer}" for question, answer in given.items())
    return spec.model_copy(
        update={
            "rules": (*spec.rules, *rules),
            "questions": tuple(one for one in spec.questions if one not in given),
            "system_message": "\n".join([spec.system_message, *(f"- {rule}" for rule in rules)]),
        }
    )
