"""Everything that a teacher is asked, word for word.

Slots are filled by ``fill``, never by a template language: text from users, files and models is
data, and may hold braces.
"""

from __future__ import annotations

import re

DESCRIBE = """\
You define tasks for small language models. From a description of a task you write its
specification: exact enough that two careful people would give the same answers.

- Decide what the description leaves open, so that every input has one right answer, and list each
  such decision under rules. List under assumptions what you took for granted, and under questions
  at most three questions whose answers would change the data most.
- kind is "label" when the answer is one of a fixed set, "json" when it is a record of named fields,
  "text" otherwise. Fill labels or fields accordingly, and leave the others empty.
- pattern is a regular expression that every right answer matches as a whole, or an empty string.
- system_message is what the small model will be run with: it states the task, the format of the
  answer and every rule, and asks for the answer alone.
"""

DESCRIBE_USER = """\
The description of the task:

{description}
"""

OWN_EXAMPLES = """\

Examples from the person who asks. They are right; let the specification agree with them:

{examples}
"""

ANSWERED = """
You wrote this specification before:

{spec}

The person who asks has answered some of its questions. Write the specification anew, so that it
follows these answers; make each of them a rule, and ask no more questions:

{answers}
"""

PLAN = """\
You plan data for a language model. You are given the specification of a task. Name three to six
attributes in which real inputs differ (topic, form, length, register, difficulty, language, edge
case), each with its values and a weight for how often it occurs. Choose attributes that change what
a right answer needs. List pairs of values that cannot occur together.
"""

PLAN_USER = """\
The specification:

{spec}
"""

INPUTS = """\
You write inputs for a task: what a user would really send, never the answers. Inputs are realistic,
varied, and different from each other in content and wording. Fit every input to the attribute
values asked for. With each, state the probability that you would have written it by yourself, and
let half of them be improbable ones (below 0.1).

The task takes: {input}
Language: {language}
"""

INPUTS_USER = """\
Write inputs for this request; "batch" counts earlier requests like it, so write others than those
that come to mind first:

{request}
"""

OWN_SHOWN = """
Real examples, from the person who asks: the best picture of what comes in. Do not repeat them:

{examples}
"""

MADE_SHOWN = """
Examples made so far, for the format only; they are no better than yours. Do not repeat them:

{examples}
"""

VARIANTS = """\
You write harder inputs for a task. For each input given you write one variant, in the same order,
which a user could really send and which is harder to answer rightly: one condition more, a detail
that misleads, a rarer form, several things at once, missing context. It stays within the task,
differs from the given one in content, and is no longer than needed.
With each, state the probability that you would have written it by yourself.

The task takes: {input}
Language: {language}
"""

VARIANTS_USER = """\
Write one harder variant of each input under "harder_than":

{request}
"""


def fill(template: str, **slots: str) -> str:
    """Put each value into its ``{slot}``; braces inside the values mean nothing."""
    return re.sub(r"\{(\w+)\}", lambda slot: slots.get(slot[1], slot[0]), template)
