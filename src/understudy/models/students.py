"""Students that are known by name, as data: size, licence, what the licence asks, the template.

Nothing here is needed to train a model: any ``hf:org/name`` and any folder will do. In our own few
words and no legal advice: the licences themselves count, and they change. A row is ``verified``
where size, licence and template were read in published copies on the day below; the others are
from memory.
"""

from __future__ import annotations

import difflib
from typing import NamedTuple

CHECKED_ON = "2026-11-22"


class Licence(NamedTuple):
    """A licence, and what it asks of a model that is made from one under it and passed on."""

    name: str
    url: str
    tag: str
    """As the hub names it."""
    duty: str = ""
    """Empty where keeping the licence's text is all."""


class Student(NamedTuple):
    """One row."""

    id: str
    """org/name on the hub."""
    parameters: float
    """Billions."""
    context: int
    """Tokens that it was made to read, prompt and answer."""
    licence: Licence
    gated: bool = False
    system: bool | None = True
    """Whether its template knows a system message; None if that is not known."""
    note: str = ""
    template: str = ""
    """The published chat format, for a repository older than chat templates."""
    checked_on: str = CHECKED_ON
    verified: bool = False

    @property
    def licence_tag(self) -> str:
        """As the hub names the licence."""
        return self.licence.tag


_APACHE = Licence("Apache 2.0", "https://www.apache.org/licenses/LICENSE-2.0", "apache-2.0")
_MIT = Licence("MIT", "https://opensource.org/license/mit", "mit")
_LLAMA_2 = Licence(
    "Llama 2 Community License",
    "https://ai.meta.com/llama/license/",
    "llama2",
    "pass on the licence and a Notice file: “Llama 2 is licensed under the LLAMA 2 Community "
    "License, Copyright (c) Meta Platforms, Inc. All Rights Reserved.”; its outputs may not be "
    "used to improve other language models",
)
_LLAMA_3_2 = Licence(
    "Llama 3.2 Community License",
    "https://www.llama.com/llama3_2/license/",
    "llama3.2",
    "show “Built with Llama”, begin the model's name with “Llama”, pass on the licence and its "
    "notice",
)
_GEMMA = Licence(
    "Gemma Terms of Use",
    "https://ai.google.dev/gemma/terms",
    "gemma",
    "pass on the terms with their use restrictions, say what was changed, and add the notice "
    "“Gemma is provided under and subject to the Gemma Terms of Use found at "
    "ai.google.dev/gemma/terms”",
)
_QWEN_RESEARCH = Licence(
    "Qwen Research License",
    "https://huggingface.co/Qwen/Qwen2.5-3B-Instruct/blob/main/LICENSE",
    "other",
    "no commercial use; show “Built with Qwen”",
)

_LLAMA_2_FORMAT = (
    "{%- set system = messages[0].content if messages[0].role == 'system' else none -%}"
    "{%- for message in (messages if system is none else messages[1:]) -%}"
    "{%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{ raise_exception('user and assistant must take turns') }}{%- endif -%}"
    "{%- if message.role == 'user' -%}"
    "{{ bos_token + '[INST] ' }}"
    "{%- if loop.first and system is not none -%}"
    "{{ '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' }}{%- endif -%}"
    "{{ message.content | trim + ' [/INST]' }}"
    "{%- else -%}{{ ' ' + message.content | trim + ' ' + eos_token }}{%- endif -%}"
    "{%- endfor -%}"
)
"""Format of Touvron et al. 2023 (arXiv 2307.09288) and the reference code of Llama 2."""

STUDENTS = (
    Student("Qwen/Qwen3-0.6B", 0.6, 32_768, _APACHE, verified=True, note="writes an empty thought"),
    Student("Qwen/Qwen3-1.7B", 1.7, 32_768, _APACHE, note="writes an empty thought"),
    Student("Qwen/Qwen3-4B", 4.0, 32_768, _APACHE, note="writes an empty thought"),
    Student("Qwen/Qwen3-4B-Instruct-2507", 4.0, 262_144, _APACHE, note="never thinks"),
    Student("Qwen/Qwen2.5-0.5B-Instruct", 0.5, 32_768, _APACHE),
    Student("Qwen/Qwen2.5-1.5B-Instruct", 1.5, 32_768, _APACHE),
    Student("Qwen/Qwen2.5-3B-Instruct", 3.1, 32_768, _QWEN_RESEARCH),
    Student("HuggingFaceTB/SmolLM2-360M-Instruct", 0.36, 8_192, _APACHE, note="English"),
    Student("HuggingFaceTB/SmolLM2-1.7B-Instruct", 1.7, 8_192, _APACHE, note="English"),
    Student("google/gemma-3-270m-it", 0.27, 32_768, _GEMMA, gated=True, verified=True),
    Student("google/gemma-3-1b-it", 1.0, 32_768, _GEMMA, gated=True, verified=True),
    Student("meta-llama/Llama-3.2-1B-Instruct", 1.2, 131_072, _LLAMA_3_2, gated=True),
    Student("meta-llama/Llama-3.2-3B-Instruct", 3.2, 131_072, _LLAMA_3_2, gated=True),
    Student("microsoft/Phi-4-mini-instruct", 3.8, 131_072, _MIT, verified=True),
    Student(
        "mistralai/Mistral-7B-Instruct-v0.3",
        7.2,
        32_768,
        _APACHE,
        system=False,
        note="its template forgets the system message once it is answered, so it is folded in",
        verified=True,
    ),
    Student(
        "NousResearch/Llama-2-7b-chat-hf",
        6.7,
        4_096,
        _LLAMA_2,
        note="the classic: an open copy of Meta's",
        template=_LLAMA_2_FORMAT,
    ),
    Student(
        "meta-llama/Llama-2-7b-chat-hf", 6.7, 4_096, _LLAMA_2, gated=True, template=_LLAMA_2_FORMAT
    ),
)
SUGGESTED = "Qwen/Qwen3-0.6B"

_BY_NAME = (
    ("llama-2", _LLAMA_2),
    ("llama-3", Licence("a Llama Community License", "", "", _LLAMA_3_2.duty)),
    ("llama-4", Licence("a Llama Community License", "", "", _LLAMA_3_2.duty)),
    ("gemma", _GEMMA),
)
"""What a name says of the licence of a model that is not in the table."""


def preset(name: str) -> Student | None:
    """The row of a model, by ``org/name`` or ``hf:org/name@revision``; None if there is none."""
    repo = _repo(name).lower()
    return next((student for student in STUDENTS if student.id.lower() == repo), None)


def suggested() -> Student:
    """A current small open model, for those who have no other wish."""
    found = preset(SUGGESTED)
    assert found is not None  # noqa: S101  the table holds it, a test says so
    return found


def closest(name: str) -> list[str]:
    """Names in the table that look like ``name``, the likeliest first, three at the most."""
    names = {student.id.lower(): student.id for student in STUDENTS}
    shorts = {student.id.lower().rpartition("/")[2]: student.id for student in reversed(STUDENTS)}
    repo = _repo(name).lower()
    found = difflib.get_close_matches(repo, names, n=3, cutoff=0.75)
    also = difflib.get_close_matches(repo.rpartition("/")[2], shorts, n=3, cutoff=0.75)
    ids = [names[key] for key in found] + [shorts[key] for key in also]
    return list(dict.fromkeys(ids))[:3]


def duties(name: str) -> tuple[str, ...]:
    """What the licence of the model that a student began from asks, each in one line.

    ``name`` is the student as a run records it. A model that is not in the table is judged by its
    name, and the line says that the licence was not read.
    """
    if not name.startswith("hf:") or "/" not in _repo(name):
        return ()
    repo, known = _repo(name), preset(name)
    if known is not None:
        row = known.licence
        lines = [f"Licence of {repo}: {row.name} ({row.url}, table of {known.checked_on})"]
        return (*lines, f"It asks, of what is passed on: {row.duty}") if row.duty else (*lines,)
    page = f"https://huggingface.co/{repo}"
    unread = f"Licence of {repo}: not verified here, read it at {page}"
    for part, licence in _BY_NAME:
        if part in repo.lower() and "tinyllama" not in repo.lower():
            return (unread, f"By its name, {licence.name}: {licence.duty}")
    return (unread,)


def _repo(name: str) -> str:
    return name.removeprefix("hf:").partition("@")[0]
