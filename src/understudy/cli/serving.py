"""The command that serves: a project's students behind OpenAI's protocol, on this machine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from understudy.cli.face import Face, verb
from understudy.errors import SetupError, UsageError
from understudy.settings import load

if TYPE_CHECKING:
    from understudy.project.serving import Served


@verb()
def serve(
    face: Face,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="UNDERSTUDY_TOKEN", help="What requests must bring; default: a new one."
        ),
    ] = None,
    base: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=STUDENT", help="A name to answer to; again for more."),
    ] = None,
    without_tls: Annotated[
        bool, typer.Option("--without-tls", help="Listen beyond this machine, unencrypted.")
    ] = False,
) -> None:
    """Serve the students, and their training, to programs written for OpenAI's API."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise SetupError(
            "serving needs an extra", 'pip install "understudy[serve,train]"'
        ) from None
    from understudy.project.serving import Serving
    from understudy.server import door, listening
    from understudy.server.app import app
    from understudy.server.guard import Limits

    stop = listening.Stop()
    stop.install()
    door.check_address(host, token, without_tls=without_tls)
    bases = load(face.folder, face.flags).settings.bases | _pairs(base or [])
    with replace(face, flags={**face.flags, "bases": bases}).open(progress=False) as project:
        listener = door.bound(host, port)
        where = door.Door(host, listener.getsockname()[1], token or door.kept_token(project.folder))
        serving = Serving(project)

        def listens() -> None:
            face.finish(
                {"url": where.url, "token": where.token}, _told(where.url, serving.served())
            )

        limits = Limits()
        listening.serve(app(serving, where, limits), listener, stop, listens, limits)


def _pairs(given: list[str]) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in given]
    for pair, (name, equals, student) in zip(given, pairs, strict=True):
        if not (name.strip() and equals and student.strip()):
            raise UsageError(
                f"--base {pair!r} is not NAME=STUDENT", "--base gpt-3.5-turbo=hf:org/name"
            )
    return {name.strip(): student.strip() for name, _, student in pairs}


def _told(url: str, served: list[Served]) -> str:
    return f"{url}\n" + "\n".join(f"{one.name} = {one.model}" for one in served)
