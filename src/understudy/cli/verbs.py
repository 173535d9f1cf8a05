"""The commands that do something, in the order of the data; those that only look: looking.py.

Each reads its options, calls one verb, prints.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from understudy.cli.face import Face, app, verb
from understudy.errors import PartlyDone, UsageError

if TYPE_CHECKING:
    from understudy.cli.progress import Follower
    from understudy.money import Quote
    from understudy.project import Project
    from understudy.project.flow import Finished
    from understudy.project.hosted_plan import TrainingQuote
    from understudy.task import Task

MONEY = ("teacher", "budget", "price_in", "price_out", "concurrency", "timeout", "resend_unknown")
SPLIT = ("validation_share", "test_share")
QUESTIONS = 3
"""Questions of the teacher that are asked at the most."""
ASK_ABOVE_MICRO = 1_000_000
"""A quote above this is confirmed before the spend (micro-dollars)."""

Examples = Annotated[int | None, typer.Option(min=1, help="Examples to generate in all.")]
Description = Annotated[str, typer.Argument(help="What is to be learned, in a sentence.")]
Format = Annotated[
    str | None, typer.Option(help="chat, prompt, alpaca, sharegpt, csv, tsv, json, parquet.")
]
Column = Annotated[str | None, typer.Option(help="Name of that column, if it cannot be guessed.")]


@app.callback(invoke_without_command=True)
def _understudy(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from understudy import __version__

        print(__version__)
        raise typer.Exit


@verb("budget", "concurrency")
def demo(
    face: Face,
    task: Annotated[str, typer.Option(help="dates, support or durations.")] = "dates",
    examples: Annotated[int, typer.Option(min=1, help="Examples to generate in all.")] = 2000,
) -> None:
    """Practise offline: the whole way with a teacher that is a program, no key, no GPU."""
    from understudy import practice
    from understudy.project.flow import open_demo

    if task not in practice.TASKS:
        raise UsageError(f"no practice task {task!r}", f"There are: {', '.join(practice.TASKS)}")
    folder = face.folder if face.folder != Path() else Path("understudy-demo", task)
    face.say(f"project   {folder}: {task}, {examples:,} examples, prices made up")
    _whole_way(face, lambda flags: open_demo(task, folder, flags), "", examples, folder)


@verb(*MONEY, "student", "train_price", "student_price_in", "student_price_out", *SPLIT)
def run(face: Face, description: Description = "", examples: Examples = None) -> None:
    """The whole way: description, spec, pilot, quote, examples, student, proof, export."""
    from understudy.project.flow import open_or_new

    _whole_way(
        face,
        lambda flags: open_or_new(face.folder, description, flags),
        description,
        examples,
        face.folder,
    )


def _whole_way(face: Face, make: Any, description: str, examples: int | None, folder: Path) -> None:
    from understudy.cli.progress import following
    from understudy.cli.report_table import report_json
    from understudy.cli.show import finished
    from understudy.project import flow
    from understudy.project.views import check_enough

    started = time.monotonic()
    project: Project = make({**face.flags, "examples": examples})
    wanted = project.settings.examples
    try:
        check_enough(project, wanted)
        with following(project, as_json=face.json, quiet=face.quiet) as progress:

            def confirm(quote: Quote | TrainingQuote) -> None:
                with progress.pause():
                    confirm_quote(face, quote)

            _talk_over(face, project, progress, description)
            done: Finished = flow.run(project, description, wanted, confirm)
        body = report_json(done.report) | {
            "seconds": round(time.monotonic() - started, 1),
            "run": done.run.id,
            "model": done.run.model,
            "export": done.exported.path if done.exported else None,
            "project": str(folder),
        }
        face.finish(body, finished(project, done, time.monotonic() - started))
    finally:
        project.close()


def _confirm_pilot(face: Face, worst_micro: int) -> None:
    from understudy.money import usd

    if worst_micro > ASK_ABOVE_MICRO:
        question = f"The first of your inputs alone could cost {usd(worst_micro)}. Go on?"
        face.confirm(question, otherwise="Say --yes to accept that")


def confirm_quote(face: Face, quote: Quote | TrainingQuote) -> None:
    """Ask whether a price above one dollar is accepted."""
    if quote.high_micro > ASK_ABOVE_MICRO and not quote.made_up:
        against = getattr(quote, "warning", "")  # a host's price has none
        question = f"{against} {quote}. Go on?".lstrip()
        face.confirm(question, otherwise="Say --yes to accept the quote")


@verb("teacher", "student", "budget", "price_in", "price_out", *SPLIT)
def new(
    face: Face,
    folder: Annotated[Path, typer.Argument(help="The project folder to make.")],
    describe: Annotated[str, typer.Option(help="What is to be learned, in a sentence.")] = "",
) -> None:
    """Make a project folder. Needs no teacher and no key."""
    from understudy.project import Project
    from understudy.project.here import here

    Project.new(folder, describe, face.flags).close()
    there = here(folder)
    then = f"understudy import FILE{there}, or understudy generate 200{there}"
    if not describe.strip():
        then = f'understudy describe "A model that ..."{there}'
    body = {"project": str(folder), "description": describe or None}
    face.finish(body, f"Made {folder}. Next: {then}")


@verb(*MONEY)
def describe(
    face: Face,
    description: Annotated[str, typer.Argument(help="Leave away to keep the present one.")] = "",
    file: Annotated[Path | None, typer.Option(help="Store the spec in this JSON file.")] = None,
    edit: Annotated[bool, typer.Option("--edit", help="Edit the spec in $EDITOR.")] = False,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="Change one field: FIELD=VALUE; repeatable.")
    ] = None,
) -> None:
    """The spec: asked of the teacher, talked over, edited. A change makes a new version."""
    from understudy.cli.editor import changed, edited, read_spec
    from understudy.cli.show import spec_text

    with face.open_following() as (project, progress):
        if file is not None:
            text = file.read_text(encoding="utf-8", errors="replace")
            task = project.edit_spec(read_spec(text, str(file)))
        elif edit:
            task = project.edit_spec(edited(project.spec))
        elif change:
            task = project.edit_spec(changed(project.spec, change))
        else:
            task = _talk_over(face, project, progress, description, shown_later=True)
    spec = task.spec.model_dump() if task.spec else None
    body = {"version": task.version, "author": task.author, "spec": spec}
    face.finish(body, spec_text(task))


def _talk_over(
    face: Face, project: Project, progress: Follower, description: str, *, shown_later: bool = False
) -> Task:
    """The task; a spec that was just written is shown, and the teacher's questions are asked.

    ``shown_later`` is True if the spec is shown in any case: then only questions need it before.
    """
    from understudy.cli.show import assumed

    before = project.find_task()
    task = project.describe(description)
    if task.spec is None or (before is not None and before.version == task.version):
        return task
    with progress.pause():
        if not face.json and (face.asks or not shown_later):
            face.say_all(assumed(task))
        answers = {one: face.ask(one) for one in task.spec.questions[:QUESTIONS]}
    return project.answer(answers)


@verb(*MONEY)
def plan(face: Face) -> None:
    """The plan: in what inputs differ, and how often."""
    from understudy.cli.show import plan_table

    with face.open() as project:
        found = project.plan()
    face.finish(found.model_dump(), plan_table(found))


@verb(*MONEY)
def pilot(
    face: Face,
    examples: Examples = None,
    check: Annotated[
        bool, typer.Option(help="Is the teacher sure of itself, is prompting as good?")
    ] = True,
) -> None:
    """A few examples end to end, a quote for the rest, and whether it is worth it."""
    from understudy.evaluate.reality import as_json

    with face.open() as project:
        quote = project.pilot(examples, check=check)
        found = project.last_check() if check else None
    body = asdict(quote) | {"check": as_json(found) if found else None}
    text = f"Quote for the rest: {quote}"
    face.finish(body, f"{quote.warning}\n{text}" if quote.warning else text)


@verb(*MONEY, "per_call", "answers", "evolve", "max_answer_tokens")
def generate(
    face: Face,
    examples: Annotated[
        int | None, typer.Argument(min=1, help="Generated examples in all.")
    ] = None,
    cell: Annotated[str, typer.Option(help='Only these: "NAME=VALUE, NAME=VALUE".')] = "",
    fill: Annotated[bool, typer.Option("--fill", help="First what the plan lacks.")] = False,
    inputs: Annotated[
        Path | None, typer.Option(help="Your own inputs: one a line, or JSONL, or CSV.")
    ] = None,
    batch: Annotated[
        bool, typer.Option("--batch", help="Answers in batches: half the price, within a day.")
    ] = False,
) -> None:
    """Generate until there are that many. The same command again goes on where it stopped."""
    from understudy.cli.show import generated
    from understudy.formats import read_texts
    from understudy.project.in_all import in_all, mark

    if bool(cell) + fill + (inputs is not None) > 1:
        raise UsageError("--cell, --fill and --inputs do not go together", "Give one of them")
    texts = None if inputs is None else read_texts(inputs)
    wish: dict[str, Any] = {"cell": cell or None, "fill": fill, "inputs": texts}
    with face.open_following() as (project, progress):
        before = mark(project)
        if texts is not None:
            _confirm_pilot(face, project.worst_of_pilot(texts))
        quote = project.pilot(examples, batch=batch, **wish)
        with progress.pause():
            confirm_quote(face, quote)
        result = in_all(project, before, project.generate(examples, batch=batch, **wish))
    body = asdict(result) | {"spent_usd": result.spent_micro / 1e6}
    del body["spent_micro"]
    face.finish(body, generated(result, told=not face.quiet))
    if result.total < result.asked:
        raise PartlyDone(
            f"{result.total:,} of {result.asked:,} examples were made",
            "The teacher repeats itself or its calls fail, as told above; the same command goes on",
        )


@verb(name="import")
def import_(
    face: Face,
    file: Annotated[Path, typer.Argument(help="CSV, TSV, JSONL, JSON or Parquet.")],
    prompt: Column = None,
    response: Column = None,
    system: Column = None,
    format: Format = None,
) -> None:
    """Own examples from a file. The same file again adds nothing."""
    with face.open() as project:
        result = project.import_examples(
            file, format=format, prompt=prompt, response=response, system=system
        )
    for number, reason in result.bad[:20]:
        face.say(f"{file}:{number}: {reason}")
    if len(result.bad) > 20:
        face.say(f"{file}: and {len(result.bad) - 20:,} more bad lines")
    text = (
        f"{result.added:,} new examples of {result.rows:,} good rows, {result.accepted:,} accepted"
    )
    face.finish(asdict(result), text)
    if result.bad:
        raise PartlyDone(
            f"{len(result.bad):,} of the lines in {file} are bad, as told above",
            "The good ones are kept; mend the file and import it again",
        )


@verb()
def clean(face: Face) -> None:
    """Accept or set apart, with a reason, what was not looked at yet."""
    with face.open() as project:
        result = project.clean()
    face.finish(asdict(result), f"{result.accepted:,} of {result.looked_at:,} accepted")


@verb(*SPLIT)
def freeze(face: Face) -> None:
    """Split the accepted examples into train, validation and test, for good."""
    with face.open() as project:
        frozen = project.freeze()
    counts = ", ".join(f"{number:,} {split}" for split, number in frozen.counts.items())
    face.finish(asdict(frozen), f"Dataset {frozen.id}: {counts}")


@verb("teacher")
def purge(face: Face) -> None:
    """Erase the examples that a teacher wrote: purge --teacher M. What they cost stays booked."""
    from understudy.project.purging import look
    from understudy.project.views import status

    teacher = face.flags.get("teacher") or ""
    with face.open_following() as (project, progress):
        found = look(project, teacher)
        with progress.pause():
            face.confirm(
                f"{found.examples:,} examples and the text of {found.calls:,} calls by "
                f"{', '.join(found.models)} are erased for good. Go on?",
                otherwise="Say --yes",
            )
        erased = project.purge(teacher)
        then = status(project)["next"]
    text = f"{erased:,} examples and the text of {found.calls:,} calls erased. Next: {then}"
    face.finish({"erased": erased, "calls": found.calls}, text)
