"""The commands of a report and behind it: report, learning-curve, failures, improve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from understudy.cli.face import Face, verb
from understudy.cli.verbs import MONEY, confirm_quote
from understudy.errors import UsageError

Change = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting of the recipe, as for train."),
]
Side = Literal["validation", "test"]


@verb()
def report(
    face: Face,
    number: Annotated[int | None, typer.Argument(help="Of that report; default: newest.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write it as a page, to this file.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write it as Markdown (.md).")] = None,
) -> None:
    """A report that is stored: scores, tests, verdict; as a page with misses, as Markdown."""
    from understudy.cli.report_table import report_json, report_table

    if markdown is not None and markdown.suffix.lower() not in (".md", ".markdown"):
        raise UsageError(f"{markdown} does not end in .md", "Name the file REPORT.md")
    if html is not None and html.suffix.lower() in (".md", ".markdown"):
        raise UsageError(f"{html} ends in {html.suffix}", "--markdown writes such a file")
    files = {"html": html, "markdown": markdown}
    with face.open(progress=False) as project:
        found = project.report(number)
        written = {
            name: (path, project.write_report(path, found.id))
            for name, path in files.items()
            if path is not None
        }
    body: dict[str, Any] = report_json(found)
    body |= {name: str(path) for name, (path, _) in written.items()}
    told = "\n".join(f"{path}: {size:,} bytes" for path, size in written.values())
    face.finish(body, told or report_table(found))


@verb("student", name="learning-curve")
def learning_curve(
    face: Face,
    shares: Annotated[
        str, typer.Option(help="Parts of the training split, per cent.")
    ] = "25,50,75,100",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each part.")] = 1,
    on: Annotated[
        str, typer.Option(help="validation, or test, which counts as a look at it.")
    ] = "validation",
    change: Change = None,
) -> None:
    """How many examples are needed: what twice as many should bring, and what they would cost."""
    from understudy.cli.proof_tables import curve_table
    from understudy.cli.recipe_table import AUTO, overrides
    from understudy.project.learning import as_json

    recipe = overrides(AUTO, change or [], None, None, None)
    side, parts = _side(on), _shares(shares)
    with face.open() as project:
        found = project.learning_curve(parts, seeds=seeds, side=side, **recipe)
    face.finish(as_json(found), curve_table(found))


@verb()
def failures(
    face: Face,
    on: Annotated[
        str, typer.Option(help="test (the report's), or validation: asks the student.")
    ] = "test",
    report: Annotated[int | None, typer.Option(help="Of that report; default: newest.")] = None,
) -> None:
    """Where the student fails: by value, length and label; what it confuses; clusters of misses."""
    from understudy.cli.proof_tables import failures_table
    from understudy.project.failing import as_json

    side = _side(on)
    with face.open() as project:
        found = project.failures(side=side, report=report)
    face.finish(as_json(found), failures_table(found))


@verb(*MONEY, "student")
def improve(
    face: Face,
    examples: Annotated[int, typer.Argument(min=1, help="Examples to generate near them.")] = 100,
    on: Annotated[str, typer.Option(help="Whose misses choose: auto, validation, test.")] = "auto",
    change: Change = None,
) -> None:
    """New examples near the misses, a new student, a new report: which items flipped."""
    from understudy.cli.proof_tables import improved_table
    from understudy.cli.recipe_table import AUTO, overrides
    from understudy.money import Quote
    from understudy.project.improving import as_json

    recipe = overrides(AUTO, change or [], None, None, None)
    side = None if on == "auto" else _side(on)
    with face.open_following() as (project, progress):

        def confirm(quote: Quote) -> None:
            with progress.pause():
                confirm_quote(face, quote)

        found = project.improve(examples, side=side, confirm=confirm, **recipe)
    face.finish(as_json(found), improved_table(found))


def _side(name: str) -> Side:
    if name == "validation":
        return "validation"
    if name == "test":
        return "test"
    raise UsageError(f"--on {name}: no such side", "There are: validation, test")


def _shares(text: str) -> list[float]:
    try:
        return sorted({float(part) / 100 for part in text.split(",")})
    except ValueError:
        raise UsageError(f"--shares {text}: no per cents", "For example 25,50,75,100") from None
