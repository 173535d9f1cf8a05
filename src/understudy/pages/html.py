"""A document as HTML: a whole page, or a fragment for a notebook. Every text is escaped."""

from __future__ import annotations

from collections.abc import Iterable

from understudy.pages.document import Block, Document, Facts, Lines, Paragraph, Table
from understudy.pages.frame import framed, text
from understudy.pages.plot import svg

_STYLE = """\
.verdict { font-size: 1.1rem; padding: .6rem .8rem; margin: 1rem 0;
  border-left: 4px solid var(--bar); background: var(--tint); }
.wide { overflow-x: auto; margin: .8rem 0; } th { vertical-align: bottom; overflow-wrap: normal; }
td { overflow-wrap: break-word; min-width: 3rem; }
td.n { white-space: nowrap; }
figure { margin: 1rem 0; } figcaption { color: var(--dim); font-size: .9rem; }
.plot { display: block; margin: .3rem 0; color: var(--bar); } .plot text { fill: var(--ink); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .8rem; margin: .8rem 0;
  padding: .4rem .8rem; border-left: 2px solid var(--line); font-size: .9rem; }
dt { color: var(--dim); max-width: 12rem; } dd { margin: 0; white-space: pre-wrap; }
@media print { dl, tr, svg { break-inside: avoid; } h2 { break-after: avoid; } }
"""


def page(document: Document) -> str:
    """The whole page."""
    body = f"<h1>{text(document.title)}</h1>\n{fragment(document.head)}"
    for section in document.sections:
        body += f"<h2>{text(section.title)}</h2>\n{fragment(section.blocks)}"
    return framed(document.title, body, _STYLE)


def fragment(blocks: Iterable[Block]) -> str:
    """Blocks alone, readable without any style."""
    return "".join(map(_block, blocks))


def facts(**named: object) -> str:
    """Names and values for a notebook; a name without a value is left out."""
    given = {name.replace("_", " "): _told(value) for name, value in named.items()}
    return fragment([Facts([(name, said) for name, said in given.items() if said])])


def _told(value: object) -> str:
    """A value in a line; of what is counted by name, each with its number."""
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_told(one)}" for name, one in value.items())
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    return "" if value is None else str(value)


def _block(block: Block) -> str:
    match block:
        case Paragraph(said, strong):
            if strong:
                return f'<p class="verdict"><strong>{text(said)}</strong></p>\n'
            return f"<p>{text(said)}</p>\n"
        case Lines(lines):
            return _around("ul", "".join(f"<li>{text(line)}</li>\n" for line in lines))
        case Table():
            return _table(block)
        case Facts(facts):
            inside = (f"<dt>{text(name)}</dt><dd>{text(said)}</dd>\n" for name, said in facts)
            return _around("dl", "".join(inside))
        case _:
            return svg(block)


def _around(tag: str, inside: str) -> str:
    return f"<{tag}>\n{inside}</{tag}>\n" if inside else ""


def _table(table: Table) -> str:
    if not table.rows:
        return ""
    sides = [
        "" if number < table.words else ' class="n" align="right"'
        for number in range(len(table.head))
    ]
    head = "".join(
        f'<th scope="col"{side}>{text(name)}</th>'
        for side, name in zip(sides, table.head, strict=True)
    )
    rows = "".join(
        "<tr>"
        + "".join(f"<td{side}>{text(value)}</td>" for side, value in zip(sides, row, strict=True))
        + "</tr>\n"
        for row in table.rows
    )
    return (
        f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}</tbody>\n</table></div>\n"
    )
