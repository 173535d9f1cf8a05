"""The verb that takes over what a fine-tuned model was trained on, or said: adopt.

The files are read twice: once to find the task in them (system messages) and what must not be kept
(secrets), once to store. What is stored was cut before. Of a conversation every learned turn
becomes an example, and all of one conversation stay on one side of the split; conversations of one
example come first, so that their groups are known when the longer ones are placed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from understudy.clean.conversations import Groups
from understudy.clean.secrets import PERSONAL, SECRETS, Form, count, cut
from understudy.errors import UsageError
from understudy.example import Example
from understudy.formats.chats import Found, Kind, read_chats
from understudy.formats.conversations import Conversation, examples
from understudy.formats.keys import Keys
from understudy.formats.source import BadLine
from understudy.formats.turns import Turn
from understudy.project.examples import BATCH, clean, freeze
from understudy.project.results import Adopted, AdoptedFile
from understudy.project.workplace import Workplace
from understudy.store import events
from understudy.store import examples as stored
from understudy.task import Spec

LONGEST_DESCRIPTION = 300
"""Characters taken of a system message as the description."""


@dataclass
class Survey:
    """What the files hold; texts are cut already."""

    paths: tuple[Path, ...]
    files: list[AdoptedFile] = field(default_factory=list)
    systems: Counter[str] = field(default_factory=Counter)
    """Conversations by their system message; '' counts those without."""
    secrets: Counter[str] = field(default_factory=Counter)
    places: list[tuple[str, int, dict[str, int]]] = field(default_factory=list)
    """File, line and kinds of every row with a secret."""
    personal: Counter[str] = field(default_factory=Counter)

    @property
    def common(self) -> str:
        """The system message of most conversations; '' if there is none."""
        message, times = self.systems.most_common(1)[0]
        return message if 2 * times > self.systems.total() else ""


def adopt(
    place: Workplace, survey: Survey, description: str = "", *, cut_personal: bool = False
) -> Adopted:
    """Make the task of the files if there is none yet; store, clean and freeze their examples.

    The same file again adds nothing. Raises UsageError if the project was not made by adopting, or
    if there are too few to split: they are stored all the same.
    """
    _check_adoptable(place)
    paths = survey.paths
    place.say("adopt.start", files=[path.name for path in paths])
    if place.find_task() is None:
        _store_task(place, survey, description)
    forms = (*SECRETS, *PERSONAL) if cut_personal else SECRETS
    system = place.spec.system_message
    added = _store(place, paths, system, forms, several=False)
    looked_at = clean(place)
    if any(file.examples > file.conversations for file in survey.files):
        added += _store(place, paths, system, forms, several=True)
        more = clean(place)
        looked_at = replace(
            looked_at,
            looked_at=looked_at.looked_at + more.looked_at,
            accepted=looked_at.accepted + more.accepted,
            reasons=dict(Counter(looked_at.reasons) + Counter(more.reasons)),
        )
    place.say("adopt.done", added=added, accepted=looked_at.accepted, secrets=survey.secrets)
    frozen = freeze(place)
    return Adopted(
        files=tuple(survey.files),
        description=place.task.description,
        kind=place.spec.kind,
        system_message=system,
        system_messages=len(survey.systems.keys() - {""}),
        own_system=sum(n for message, n in survey.systems.items() if message not in ("", system)),
        no_system=survey.systems[""],
        secrets=dict(survey.secrets),
        places=tuple(survey.places),
        personal=dict(survey.personal),
        cut_personal=cut_personal,
        added=added,
        accepted=looked_at.accepted,
        reasons=looked_at.reasons,
        dataset=frozen,
    )


def adopted(place: Workplace) -> bool:
    """True if the project was made by adopting: its teacher is a model that was tuned for it."""
    with place.database.read() as connection:
        return events.last_of(connection, "adopt.start") is not None


def _check_adoptable(place: Workplace) -> None:
    if place.find_task() is None:
        return
    if not adopted(place):
        raise UsageError(
            f"{place.folder} is a project that adopt did not make",
            "Name a new folder with -p DIR, or add rows to this one: understudy import FILE",
        )


# -- looking -----------------------------------------------------------------------------------


def look(files: Sequence[str | Path]) -> Survey:
    """Read every file once; nothing is stored.

    Raises UsageError if a file is not there or no JSON, or if none holds anything to learn,
    DiskError if one cannot be read.
    """
    survey = Survey(tuple(map(Path, files)))
    for path in survey.paths:
        name = _name(path)
        kinds: Counter[Kind] = Counter()
        made = 0
        bad: list[tuple[int, str]] = []
        for item in read_chats(path):
            if isinstance(item, BadLine):
                bad.append((item.number, cut(item.reason).text))  # it may quote the row
                continue
            kinds[item.kind] += 1
            conversation, secrets = _without(item.conversation, SECRETS)
            made += len(examples(conversation, maker=name, source=""))
            survey.systems[_system(conversation)] += 1
            survey.personal += _personal(conversation)
            if secrets:
                survey.secrets += secrets
                survey.places.append((name, conversation.number, dict(secrets)))
        kind = kinds.most_common(1)[0][0] if kinds else ""
        survey.files.append(AdoptedFile(str(path), kind, kinds.total(), made, tuple(bad)))
    if not survey.systems:
        raise UsageError(
            f"nothing to learn in {_names(survey.paths)}: {_first_reason(survey)}",
            "Give fine-tuning files, exported chats or stored completions, as JSON or JSONL",
        )
    return survey


def _without(
    conversation: Conversation, forms: Sequence[Form]
) -> tuple[Conversation, Counter[str]]:
    """The conversation with what has those forms cut out, and how many of each kind there were."""
    found: Counter[str] = Counter()
    turns = []
    for turn in conversation.turns:
        text, here = cut(turn.content, forms)
        found += here
        turns.append(turn._replace(content=text))
    return conversation._replace(turns=tuple(turns)), found


def _personal(conversation: Conversation) -> Counter[str]:
    return sum((count(turn.content) for turn in conversation.turns), Counter[str]())


def _system(conversation: Conversation) -> str:
    first = conversation.turns[0]
    return first.content if first.role == "system" else ""


# -- the task ----------------------------------------------------------------------------------


def _store_task(place: Workplace, survey: Survey, description: str) -> None:
    """The task as far as it can be told before its rows are stored; cleaning infers the kind."""
    description = description or _described(survey.common, survey.paths)
    spec = Spec(
        title=" ".join(description.split())[:80],
        input="as in the examples",
        output="as in the examples",
        kind="text",
        system_message=survey.common,
    )
    place.store_task(description, spec, "examples")


def _described(system: str, paths: Sequence[Path]) -> str:
    """The beginning of the common system message, or where the examples come from."""
    flat = " ".join(system.split())
    if not flat:
        return f"Answer as in the conversations of {_names(paths)}"
    if len(flat) <= LONGEST_DESCRIPTION:
        return flat
    return flat[:LONGEST_DESCRIPTION].rpartition(" ")[0] + " ..."


# -- storing -----------------------------------------------------------------------------------


def _store(
    place: Workplace, paths: Sequence[Path], system: str, forms: Sequence[Form], *, several: bool
) -> int:
    """Store the conversations of one example, or those of ``several``; how many were new."""
    added = 0
    waiting: list[Example] = []
    for conversation in _conversations(place, paths, system, forms, several=several):
        waiting += conversation
        if len(waiting) >= BATCH:
            added += _add(place, waiting)
            waiting.clear()
    return added + _add(place, waiting)


def _add(place: Workplace, waiting: Sequence[Example]) -> int:
    with place.database.write() as connection:
        return stored.add(connection, waiting)


def _conversations(
    place: Workplace, paths: Sequence[Path], system: str, forms: Sequence[Form], *, several: bool
) -> Iterator[list[Example]]:
    """The examples of each conversation, in its group where they are several."""
    version = place.task.version
    groups = _groups(place) if several else None
    for path in paths:
        keys, name = Keys(), _name(path)
        for item in read_chats(path):
            if not isinstance(item, Found):
                continue
            conversation = _under(_without(item.conversation, forms)[0], system)
            made = examples(conversation, maker=name, source="")
            if (len(made) > 1) is not several:
                continue
            keyed = [
                replace(one, source=keys.of(one.messages, one.answer), task_version=version)
                for one in made
            ]
            yield list(groups.grouped(keyed)) if groups else keyed


def _groups(place: Workplace) -> Groups:
    with place.database.read() as connection:
        versions = place.versions(connection)
        known = stored.stream(connection, versions, state="accepted")
        return Groups(place.settings.duplicate_similarity, known)


def _under(conversation: Conversation, system: str) -> Conversation:
    """The conversation without its system message if that is the task's."""
    first, *rest = conversation.turns
    if first == Turn("system", system, learned=False):
        return conversation._replace(turns=tuple(rest))
    return conversation


def _name(path: Path) -> str:
    return os.fsencode(path.name).decode(errors="replace")


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(_name(path) for path in paths[:5]) + (" ..." if len(paths) > 5 else "")


def _first_reason(survey: Survey) -> str:
    for file in survey.files:
        for number, reason in file.bad:
            return f"line {number} of {Path(file.path).name}: {reason}"
    return "it is empty"
