"""The commands of the model: train, evaluate, predict, export. Those of the data: verbs.py."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from understudy.cli.face import Face, fail, verb
from understudy.cli.verbs import MONEY, Format, confirm_quote
from understudy.errors import GateNotMet, UsageError
from understudy.example import valid
from understudy.money import Quote

if TYPE_CHECKING:
    from understudy.project.hosted_plan import TrainingQuote

HostedJob = Annotated[str, typer.Option(metavar="RUN", help="That job, at its host: run:7.")]


@verb("student", "budget", "train_price", "student_price_in", "student_price_out", "timeout")
def train(
    face: Face,
    method: Annotated[str, typer.Option(help="full, lora, qlora; auto takes what fits.")] = "auto",
    epochs: Annotated[float | None, typer.Option(help="Passes over the training split.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other setting of the recipe."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what would be done and why; start nothing.")
    ] = False,
    trials: Annotated[int, typer.Option(min=0, help="Recipes to try first.")] = 0,
    keep_base: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", help="Mix in the base's own answers, against forgetting: 0.1."
        ),
    ] = None,
    launch: Annotated[
        str | None,
        typer.Option(help="Processes on this machine, fsdp2, or an accelerate configuration."),
    ] = None,
    report_to: Annotated[
        str, typer.Option(help="Trackers: tensorboard, trackio, wandb; several with commas.")
    ] = "",
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Start although it does not seem to fit.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Train anew what is trained.")] = False,
    cancel: HostedJob = "",
    pause: HostedJob = "",
    resume: HostedJob = "",
) -> None:
    """Fine-tune the student on the newest dataset. An interrupted training goes on."""
    if cancel or pause or resume:
        _act(face, cancel=cancel, pause=pause, resume=resume)
        return
    from understudy.cli.recipe_table import explained, explained_json, overrides
    from understudy.cli.show import trained
    from understudy.project.here import here

    chosen = overrides(method, change or [], epochs, learning_rate, keep_base)
    trackers = [name.strip() for name in report_to.split(",") if name.strip()]
    if explain:
        with face.open(progress=False) as project:
            prepared = project.explain(launch=launch, report_to=trackers, **chosen)
        face.finish(explained_json(prepared), explained(prepared))
        return
    with face.open_following() as (project, progress):

        def confirm(quote: TrainingQuote) -> None:
            with progress.pause():
                confirm_quote(face, quote)

        result = project.train(
            again=again,
            anyway=anyway,
            trials=trials,
            launch=launch,
            report_to=trackers,
            confirm=confirm,
            **chosen,
        )
    body = {"run": result.id, "state": result.state, **result.metrics, "model": result.model}
    face.finish(body, trained(result, here(face.folder)))


def _act(face: Face, **named: str) -> None:
    """Cancel, pause or resume a job at its host."""
    from understudy.cli.show import trained
    from understudy.project.here import here

    (what, run), *others = [(what, run) for what, run in named.items() if run]
    if others:
        raise UsageError(f"--{what} and --{others[0][0]} do not go together", "Give one of them")
    with face.open() as project:
        result = getattr(project, what)(run)
    body = {"run": result.id, "state": result.state, **result.metrics, "model": result.model}
    face.finish(body, trained(result, here(face.folder)))


EVALUATE = ("judge", "judge_price_in", "judge_price_out", "student_price_in", "student_price_out")


@verb(*MONEY, *EVALUATE)
def evaluate(
    face: Face,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="NAME", help="Another model to ask too; again for more."),
    ] = None,
    few_shot: Annotated[
        int | None,
        typer.Option(min=0, max=1000, help="Training examples that the base is shown."),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="exact, normalised, label, json, fields, number[:T], spec, regex:PATTERN, chrf."
        ),
    ] = None,
    gate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION", help='Exit 7 unless it holds: "student >= teacher - 0.02".'
        ),
    ] = None,
) -> None:
    """Teacher, base and student on the untouched test items: scores, tests, verdict."""
    from understudy.cli.report_table import report_json, report_table
    from understudy.project.here import here

    with face.open_following() as (project, progress):

        def confirm(quote: Quote) -> None:
            with progress.pause():
                confirm_quote(face, quote)

        report = project.evaluate(
            models=model or (),
            few_shot=few_shot,
            metric=metric,
            gate=gate or (),
            confirm=confirm,
        )
    face.finish(report_json(report), report_table(report))
    face.say(f"as a page: understudy report {report.id} --html report.html{here(face.folder)}")
    missed = [one for one in report.gates if not one.met]
    if missed:
        # The last line of stdout stays the report: whoever asks for a gate wants its numbers.
        told = "; ".join(f"{one.expression}: {one.why}" for one in missed)
        error = GateNotMet(f"the gate is not met: {told}", "More test items narrow the interval")
        raise SystemExit(fail(error, as_json=False))


@verb(*MONEY, "student_price_in", "student_price_out")
def predict(
    face: Face,
    text: Annotated[str, typer.Argument(metavar="INPUT", help="The input; - reads stdin.")],
    model: Annotated[
        str, typer.Option(help="run:N, run:latest, or any model name.")
    ] = "run:latest",
) -> None:
    """The answer of the student (or another model) to one input, alone on stdout."""
    from understudy.project.folder import DATABASE
    from understudy.project.students import predict_alone

    text = sys.stdin.read() if text == "-" else text
    if not text.strip():
        raise UsageError("the input is empty", "Say what the model is to answer")
    if (face.folder / DATABASE).exists() or model.startswith("run:"):
        with face.open(progress=False) as project:
            answer = project.predict(valid(text), model)
    else:
        answer = predict_alone(valid(text), model)
    if not face.json and not sys.stdout.isatty():
        print(answer)  # to the letter, whatever is in it: nobody's terminal reads it
        return
    face.finish({"answer": answer, "model": model}, answer)


@verb()
def export(
    face: Face,
    target: Annotated[Path | None, typer.Argument(help="Folder (or file) to write.")] = None,
    examples: Annotated[bool, typer.Option("--examples", help="The examples, to a file.")] = False,
    format: Format = None,
    raw: Annotated[bool, typer.Option("--raw", help="CSV for machines: no formula guard.")] = False,
) -> None:
    """The trained model as a folder to hand over, or with --examples the data as a file."""
    with face.open() as project:
        if examples:
            if target is None:
                raise UsageError("no file is named", "understudy export --examples FILE.jsonl")
            result = project.export_examples(target, format=format, raw=raw)
            text = f"{result.rows:,} examples in {result.path}"
        else:
            result = project.export(target)
            text = f"{result.path}: {result.files} files, answers equal on {result.parity} prompts"
    face.finish(asdict(result), text)
