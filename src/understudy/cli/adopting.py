"""The command that takes over a fine-tuned model's data; with --student it goes the whole way."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from understudy.cli.face import Face, verb
from understudy.cli.verbs import SPLIT, confirm_quote
from understudy.errors import PartlyDone
from understudy.money import Quote

if TYPE_CHECKING:
    from rich.console import RenderableType

    from understudy.project import Project
    from understudy.project.adopting import Survey
    from understudy.project.results import Adopted

SHOWN = 20
"""Bad lines, and lines with secrets, that are told one by one."""


@verb("student", "budget", "price_in", "price_out", *SPLIT)
def adopt(
    face: Face,
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Fine-tuning files, exported chats, stored completions.", metavar="FILE"
        ),
    ],
    old: Annotated[
        str, typer.Option(metavar="MODEL", help="The model to replace; evaluate asks it.")
    ] = "",
    describe: Annotated[str, typer.Option(help="What it does; default: read off the rows.")] = "",
    cut_personal: Annotated[
        bool,
        typer.Option("--cut-personal", help="Cut e-mail addresses, phone and card numbers too."),
    ] = False,
) -> None:
    """Fine-tuning files and chat logs become a project: task, rows without secrets, dataset."""
    from understudy.cli.progress import following
    from understudy.cli.report_table import report_json, report_table
    from understudy.project.adopting import look
    from understudy.project.flow import open_to_adopt

    survey = look(files)  # before a folder is made for files that hold nothing
    _tell(face, survey)  # before the good rows may turn out to be too few
    folder = _folder(face.folder, files[0])
    flags = {**face.flags, "teacher": old or None}
    project: Project = open_to_adopt(folder, flags)
    try:
        with following(project, as_json=face.json, quiet=face.quiet) as progress:

            def confirm(quote: Quote) -> None:
                with progress.pause():
                    confirm_quote(face, quote)

            result = project.adopt(survey, description=describe, cut_personal=cut_personal)
            trains = face.flags["student"] is not None
            body = _body(result, folder, project.settings.teacher, trains=trains)
            shown = [_table(result, folder, project.settings.teacher, trains=trains)]
            if trains:
                run = project.train()
                report = project.evaluate(confirm=confirm)
                body |= {"run": run.id, "model": run.model, "report": report_json(report)}
                shown.append(report_table(report))
    finally:
        project.close()
    if face.json:
        face.finish(body)
    for one in () if face.json else shown:
        face.show(one)
    bad = sum(len(file.bad) for file in result.files)
    if bad:
        raise PartlyDone(
            f"{bad:,} of the lines are bad, as told above",
            "The good ones are kept; mend the file and adopt it again",
        )


def _folder(given: Path, first: Path) -> Path:
    """The project: the one named, the one that we stand in, or a new one named after the file."""
    from understudy.project.folder import DATABASE

    if given != Path() or Path(DATABASE).exists():
        return given
    return Path(first.name.partition(".")[0] or "adopted")


def _tell(face: Face, survey: Survey) -> None:
    """Bad lines and lines with secrets, on stderr; never what was in them."""
    bad = [(file.path, line, why) for file in survey.files for line, why in file.bad]
    cut = [(file, line, f"{', '.join(kinds)} cut out") for file, line, kinds in survey.places]
    for told, what in ((bad, "bad lines"), (cut, "lines with secrets")):
        for file, line, why in told[:SHOWN]:
            face.say(f"{file}:{line}: {why}")
        if len(told) > SHOWN:
            face.say(f"and {len(told) - SHOWN:,} more {what}")


def _next(folder: Path, *, trains: bool) -> list[str]:
    """What to type then; with --student the training and its report are there already."""
    from understudy.models.students import SUGGESTED
    from understudy.project.here import here

    there = here(folder)
    if trains:
        return [f'understudy predict "INPUT"{there}', f"understudy export{there}"]
    return [f"understudy train --student hf:{SUGGESTED}{there}", f"understudy evaluate{there}"]


def _body(result: Adopted, folder: Path, old: str, *, trains: bool) -> dict[str, Any]:
    return asdict(result) | {
        "project": str(folder),
        "old": old or None,
        "dataset": result.dataset.id,
        "counts": result.dataset.counts,
        "next": _next(folder, trains=trains),
    }


def _table(result: Adopted, folder: Path, old: str, *, trains: bool) -> RenderableType:
    from rich.console import Group

    from understudy.cli.show import listed, sheet
    from understudy.cli.words import counted, printable

    files = sheet("File", "Kind", "Conversations", "Examples", "Bad", right=_NUMBERS)
    for file in result.files:
        numbers = (file.conversations, file.examples, len(file.bad))
        files.add_row(printable(file.path), file.kind, *(f"{number:,}" for number in numbers))
    counts = ", ".join(f"{number:,} {split}" for split, number in result.dataset.counts.items())
    apart = f" (set apart: {counted(result.reasons)})" if result.reasons else ""
    told = listed(
        [
            ("task", f"{result.kind}: {result.description}"),
            ("system", _systems(result)),
            ("secrets", f"{counted(result.secrets)}, all cut out" if result.secrets else ""),
            ("personal", _personal(result)),
            ("examples", f"{result.added:,} new, {result.accepted:,} accepted{apart}"),
            (f"dataset {result.dataset.id}", counts),
            ("old model", old),
            *(("next", command) for command in _next(folder, trains=trains)),
        ]
    )
    return Group(files, "", told)


_NUMBERS = ("Conversations", "Examples", "Bad")


def _systems(result: Adopted) -> str:
    """What the rows say of the system message."""
    number = result.system_messages
    if not number:
        return "none in any row: the student is run without one"
    if not result.system_message:
        return f"{number:,} different ones, none of them in most rows: rows keep their own"
    parts = ["the same in all rows" if number == 1 else f"{number:,} different ones"]
    if result.own_system:
        parts.append(f"{result.own_system:,} conversations keep one of their own")
    if result.no_system:
        parts.append(f"{result.no_system:,} have none and are given the task's")
    return "; ".join(parts)


def _personal(result: Adopted) -> str:
    from understudy.cli.words import counted

    if not result.personal:
        return ""
    done = "cut out" if result.cut_personal else "kept (--cut-personal cuts them)"
    return f"{counted(result.personal)}: {done}"
