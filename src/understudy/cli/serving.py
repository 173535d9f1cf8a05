"""The command that serves: a project's students behind OpenAI's protocol, on this machine."""

from __future__ import annotations

import importlib.util
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from understudy.cli.face import Face, verb
from understudy.errors import SetupError, UsageError
from understudy.settings import load

if TYPE_CHECKING:
    from understudy.project import Project
    from understudy.project.serving import Served, Serving
    from understudy.server.door import Door

SHOWN = 12
"""Names that are shown when it starts, at the most."""


@verb()
def serve(
    face: Face,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="UNDERSTUDY_TOKEN", help="What requests must bring; default: one of its own."
        ),
    ] = None,
    base: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=STUDENT", help="One more name to answer to; repeatable."),
    ] = None,
    without_tls: Annotated[
        bool, typer.Option("--without-tls", help="Listen beyond this machine, unencrypted.")
    ] = False,
    production: Annotated[
        bool, typer.Option("--production", help="Print the commands of vLLM and its like; end.")
    ] = False,
) -> None:
    """Serve the students, and their training, to programs written for OpenAI's API."""
    _check_extra()
    from understudy.project.serving import Serving, check_bases
    from understudy.server import door, listening
    from understudy.server.app import app
    from understudy.server.guard import Limits

    stop = listening.Stop()
    stop.install()
    door.check_address(host, token, without_tls=without_tls)
    bases = load(face.folder, face.flags).settings.bases | _pairs(base or [])
    check_bases(bases)
    with replace(face, flags={**face.flags, "bases": bases}).open(progress=False) as project:
        serving = Serving(project)
        if production:
            _print_production(face, project, serving)
            return
        listener = door.bound(host, port)
        given = token or door.kept_token(project.folder)
        where = door.Door(host, listener.getsockname()[1], given)

        def listens() -> None:
            text = "" if face.json else _told(face, where, serving.served(), kept=token is None)
            face.finish({"url": where.url, "token": where.token}, text)

        limits = Limits()
        listening.serve(app(serving, where, limits), listener, stop, listens, limits)


def _check_extra() -> None:
    needed = ("starlette", "uvicorn", "python_multipart")
    if any(importlib.util.find_spec(name) is None for name in needed):
        raise SetupError(
            "serving needs packages that are not installed", 'pip install "understudy[serve,train]"'
        )


def _pairs(given: list[str]) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in given]
    for pair, (name, equals, student) in zip(given, pairs, strict=True):
        if not (name.strip() and equals and student.strip()):
            raise UsageError(
                f"--base {pair!r} is not NAME=STUDENT", "--base gpt-3.5-turbo=hf:org/name"
            )
    return {name.strip(): student.strip() for name, _, student in pairs}


def _told(face: Face, where: Door, served: list[Served], *, kept: bool) -> str:
    """What somebody at the terminal wants to know. The token is not shown: screens are shared."""
    from understudy.project.here import here
    from understudy.server.door import TOKEN_FILE

    file = shlex.quote(str(face.folder / TOKEN_FILE))
    token = f"in {file}" if kept else "the one you gave"
    key = f"open({str(face.folder / TOKEN_FILE)!r}).read().strip()" if kept else "TOKEN"
    first = next((one.name for one in served if one.answers), "NAME")
    width = max(len(one.name) for one in served[:SHOWN])
    names = [f"{one.name:<{width}}  {one.model}" for one in served[:SHOWN]]
    more = [f"and {len(served) - SHOWN} more: GET /v1/models"] if len(served) > SHOWN else []
    return "\n".join(
        [
            f"serving     {where.url}",
            f"token       {token}",
            "",
            *(f"{'models' if not at else '':<11} {name}" for at, name in enumerate(names + more)),
            "",
            "in Python   from openai import OpenAI",
            f'            client = OpenAI(base_url="{where.url}", api_key={key})',
            f'            client.chat.completions.create(model="{first}", messages=[...])',
            "",
            f"at scale    understudy serve --production{here(face.folder)}",
            "to stop     Ctrl-C",
        ]
    )


def _print_production(face: Face, project: Project, serving: Serving) -> None:
    from understudy.project.here import here
    from understudy.server.door import kept_token
    from understudy.server.production import commands

    served = serving.find("run:latest")
    if served is not None and served.remote:
        raise UsageError(
            f"{served.model} is at its host as {served.remote}", "Its weights are not here to serve"
        )
    if served is None or served.folder is None:
        raise UsageError(
            "there is no trained student in this project",
            f"understudy train{here(face.folder)}",
        )
    kept_token(project.folder)  # the commands read it
    typed = commands(served, project.folder)
    said = served.system_message
    parts = [f"# {engine}\n{lines}" for engine, lines in typed.items()]
    note = (
        "# Ollama adds the system message itself; to the others, send it with every request:\n"
        + "\n".join(f"# {line}" for line in said.splitlines())
    )
    shown = "\n\n".join([*parts, note] if said else parts)
    face.finish({"model": served.model, "system_message": said, "commands": typed}, shown)
