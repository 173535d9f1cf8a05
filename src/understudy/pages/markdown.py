"""A document as Markdown (GitHub's tables). Text of strangers stays text: every mark is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence

from understudy.pages.document import Block, Document, Facts, Lines, Paragraph, Plot, Table
from understudy.pages.frame import visible

BEGIN = "# Report"
"""What a report in Markdown begins with."""

_MARKS = {mark: f"\\{mark}" for mark in r"\`*_[]#|~!$"}
_MARKS |= {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;"}
_SHOWN = str.maketrans(_MARKS)
_LINKS = re.compile(r"(?i)(?<=:)/(?=/)|(?<=\bwww)\.")
"""What GitHub would make a link of by itself."""


def text(value: str) -> str:
    """Any text in one line that Markdown shows as it is: no markup, no tag, no link."""
    flat = " ".join(visible(value).split())
    return _LINKS.sub(r"\\\g<0>", flat.translate(_SHOWN))


def page(document: Document) -> str:
    """The whole text."""
    parts = [f"# {text(document.title)}\n", *map(_block, document.head)]
    for section in document.sections:
        parts += [f"## {text(section.title)}\n", *map(_block, section.blocks)]
    return "\n".join(part for part in parts if part)


def _block(block: Block) -> str:
    match block:
        case Paragraph(said, strong):
            return f"**{text(said)}**\n" if strong else f"{text(said)}\n"
        case Lines(lines):
            return "".join(f"- {text(line)}\n" for line in lines)
        case Facts(facts):
            return "".join(f"- {text(name)}: {text(said)}\n" for name, said in facts)
        case Table():
            return _table(block)
        case Plot():
            return ""  # the table beside it has the same numbers


def _table(table: Table) -> str:
    if not table.rows:
        return ""
    sides = ["---" if number < table.words else "---:" for number in range(len(table.head))]
    return "".join(_line(row) for row in ([text(name) for name in table.head], sides)) + "".join(
        _line([text(value) for value in row]) for row in table.rows
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"
