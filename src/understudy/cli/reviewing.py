"""The command review: a person decides between pairs of answers, one key each."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from understudy.cli.face import Face, verb
from understudy.cli.words import printable

if TYPE_CHECKING:
    from understudy.project import Project
    from understudy.project.reviewing import Question

KEYS = {
    "a": "a",
    "b": "b",
    "t": "tie",
    "tie": "tie",
    "=": "tie",
    "s": "skip",
    "skip": "skip",
    "u": "undo",
    "undo": "undo",
    "q": "quit",
    "quit": "quit",
}
ASKED = "a, b, t(ie), s(kip), u(ndo), q(uit)"


@verb()
def review(
    face: Face,
    wanted: Annotated[
        int, typer.Argument(min=1, metavar="[LABELS]", help="Labels to have in all.")
    ] = 30,
) -> None:
    """Decide between pairs of answers, without names: what a judge is measured by."""
    with face.open(progress=False) as project:
        left = project.review.questions()
        before = project.review.decided()
        stopped = _loop(face, project, left, wanted) if before < wanted else False
        there = project.review.decided()
    told = f"{there:,} labels, {max(there - before, 0):,} of them new"
    if stopped:
        told += "; the same command goes on"
    elif there < wanted:
        told += "; there are no more pairs that differ"
    face.finish({"labels": there, "new": there - before, "left": max(wanted - there, 0)}, told)


def _loop(face: Face, project: Project, left: list[Question], wanted: int) -> bool:
    """Show pairs until there are ``wanted`` labels; True if the person stopped before."""
    place = 0
    while place < len(left) and project.review.decided() < wanted:
        _show(left[place], project.review.decided() + 1, wanted)
        said = _read()
        if said == "quit":
            return True
        if said == "undo":
            again = project.review.undo()
            if again is None:
                print("There is nothing to undo", file=sys.stderr)
            else:
                left.insert(place, again)
            continue
        project.review.label(left[place], cast("Literal['a', 'b', 'tie', 'skip']", said))
        place += 1
    return False


def _show(question: Question, number: int, wanted: int) -> None:
    parts = {
        "Input": question.input,
        "Reference": question.reference,
        "A": question.a,
        "B": question.b,
    }
    print(f"\n--- {number} of {wanted}", file=sys.stderr)
    for name, text in parts.items():
        print(f"{name}:\n{_indented(text)}", file=sys.stderr)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in printable(text).splitlines()) or "    (empty)"


def _read() -> str:
    """What the person says; the end of the input is the end of the review."""
    while True:
        print(f"Which answer is better? {ASKED}: ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            print(file=sys.stderr)
            return "quit"
        said = KEYS.get(line.strip().lower())
        if said:
            return said
        print(f"That is none of {ASKED}", file=sys.stderr)
