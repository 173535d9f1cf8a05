"""The commands that only look, and set: where a project stands, what happened, what it cost."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from understudy.cli.face import Face, verb
from understudy.errors import SetupError, UsageError


@verb()
def status(face: Face) -> None:
    """Where the project stands, and what to type next."""
    from understudy.cli.show import status_text
    from understudy.project.views import status as read

    with face.open(progress=False) as project:
        body = read(project)
    face.finish(body, status_text(body))


@verb()
def ledger(face: Face) -> None:
    """Every call and every cent."""
    from understudy.cli.show import ledger_table
    from understudy.project.views import ledger as read

    with face.open(progress=False) as project:
        body = read(project)
    face.finish(body, ledger_table(body, face.width))


@verb()
def funnel(
    face: Face,
    html: Annotated[Path | None, typer.Option(help="Write it as a page, to this file.")] = None,
) -> None:
    """From asked to accepted: every loss with its reason, examples of it, and what it cost."""
    from understudy.cli.funnel_table import funnel_table
    from understudy.project.funnel import as_json
    from understudy.project.funnel import funnel as read
    from understudy.project.funnel_html import write_page
    from understudy.project.here import here

    with face.open(progress=False) as project:
        found = read(project)
    body = as_json(found)
    if html is None:
        face.finish(body, funnel_table(found, here(face.folder)))
        return
    size = write_page(html, found)
    face.finish(body | {"html": str(html), "bytes": size}, f"{html}: {size:,} bytes")


@verb()
def coverage(
    face: Face,
    examples: Annotated[
        int | None, typer.Option(min=1, help="Against that many; default: as last asked for.")
    ] = None,
) -> None:
    """What the examples cover of the plan, what is thin, and the command that fills it."""
    from understudy.cli.funnel_table import coverage_json, coverage_table
    from understudy.project.here import here

    with face.open(progress=False) as project:
        _ = project.task  # without a description there is more to be done than to plan
        found = project.coverage(examples)
    if found is None:
        raise UsageError(
            "there is no plan yet", f"`understudy plan{here(face.folder)}` asks for one"
        )
    there = here(face.folder)
    face.finish(coverage_json(found, there), coverage_table(found, there, face.width))


@verb()
def events(
    face: Face,
    after: Annotated[int, typer.Option(help="Only events after that number.")] = 0,
) -> None:
    """What happened, oldest first; with --json one object a line."""
    with face.open(progress=False) as project:
        while found := project.events(after):
            for event in found:
                after = event.seq
                body = {"seq": event.seq, "at": event.at, "event": event.kind, **event.data}
                face.finish(body, f"{event.seq:>6}  {event.at}  {event.kind}  {_flat(event.data)}")


def _flat(data: dict[str, Any]) -> str:
    from understudy.cli.words import printable

    return printable("  ".join(f"{name}={value}" for name, value in data.items()))


@verb("teacher", "price_in", "price_out", "student", "train_price", "timeout")
def doctor(face: Face) -> None:
    """Look at machine, extras, project; ask the teacher that is named, and a student's host."""
    from understudy.cli.show import checks_table
    from understudy.project import Project
    from understudy.project.doctor import doctor as look
    from understudy.project.folder import DATABASE
    from understudy.settings import load

    project = Project(face.folder, face.flags) if (face.folder / DATABASE).exists() else None
    checks = look(load(face.folder, face.flags).settings, project)
    ok = all(check.ok is not False for check in checks)
    face.finish({"ok": ok, "checks": [asdict(check) for check in checks]}, checks_table(checks))
    if not ok:
        raise typer.Exit(SetupError.exit_code)


@verb()
def config(
    face: Face,
    name: Annotated[str | None, typer.Argument(help="Setting to change.")] = None,
    value: Annotated[str | None, typer.Argument(help="Its new value.")] = None,
) -> None:
    """Every setting with its unit, value and origin; or set one in understudy.toml."""
    from understudy.cli.show import settings_table
    from understudy.cli.words import printable
    from understudy.project.folder import change_setting
    from understudy.settings import load

    if name is not None:
        if value is None:
            raise UsageError(f"no value for {name}", f"understudy config {name} VALUE")
        change_setting(face.folder, name, value)
    configured = load(face.folder, face.flags)
    if name is not None:
        body = {"value": getattr(configured.settings, name), "origin": configured.origin[name]}
        told = printable(f"{name} = {body['value']} (from {body['origin']})")
        face.finish({name: body}, told)
        return
    values = configured.settings.model_dump()
    body = {key: {"value": values[key], "origin": configured.origin[key]} for key in sorted(values)}
    face.finish(body, settings_table(configured))
