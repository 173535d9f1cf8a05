"""What every verb has in common: the global options, the settings as flags, errors, output.

stdout is data, stderr is progress. A setting is declared once, in settings.py: a verb names the
settings it takes, and their flags, types and help come from there.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from understudy.cli.words import printable
from understudy.errors import UnderstudyError, UsageError
from understudy.settings import Settings

if TYPE_CHECKING:
    from rich.console import RenderableType

    from understudy.cli.progress import Follower
    from understudy.project import Project

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Describe a task in a sentence, get a small model that does it, with proof.",
    epilog="Exit codes: 0 done, 1 failure, 2 usage, 3 setup, 4 budget reached, 5 provider refused, "
    "6 done in part, 7 gate not met, 8 project busy or damaged, 9 disk, 130 interrupted.",
)

Folder = Annotated[
    Path, typer.Option("-p", "--project", help="Project folder.", envvar="UNDERSTUDY_PROJECT")
]
Json = Annotated[bool, typer.Option("--json", help="Last line of stdout is one JSON object.")]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Ask nothing; take the assumptions.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress on stderr.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="More on stderr; tracebacks too.")]
_COMMON: dict[str, tuple[Any, Any]] = {
    "project": (Folder, Path()),
    "json": (Json, False),
    "yes": (Yes, False),
    "quiet": (Quiet, False),
    "verbose": (Verbose, False),
}
WIDE = 160
"""Columns where nobody's terminal sets them: a file or a pipe."""
EVERYWHERE = ("seed", "offline")
"""Settings that every verb takes as flags."""


@dataclass(frozen=True, slots=True)
class Face:
    """One command's view of the world: which project, which flags, how to print."""

    folder: Path
    flags: Mapping[str, Any]
    json: bool
    yes: bool
    quiet: bool
    verbose: bool

    @contextmanager
    def open(self, *, progress: bool = True) -> Iterator[Project]:
        """Open the project, showing its events as they come."""
        if progress:
            with self.open_following() as (project, _):
                yield project
            return
        from understudy.project import Project

        with closing(Project(self.folder, self.flags)) as project:
            yield project

    @contextmanager
    def open_following(self) -> Iterator[tuple[Project, Follower]]:
        """Open the project; with it comes who shows its events, and can be told to pause."""
        from understudy.cli.progress import following
        from understudy.project import Project

        with (
            closing(Project(self.folder, self.flags)) as project,
            following(project, as_json=self.json, quiet=self.quiet) as follower,
        ):
            yield project, follower

    def finish(self, data: Mapping[str, Any], shown: RenderableType = "") -> None:
        """Print the result: one JSON object, or what a person wants to read."""
        if self.json:
            print(json.dumps(data, ensure_ascii=False), flush=True)
        else:
            self.show(shown)

    @property
    def width(self) -> int:
        """Columns that there are on stdout."""
        from rich.console import Console

        return Console().width if sys.stdout.isatty() else WIDE

    def show(self, shown: RenderableType) -> None:
        """Print something for people on stdout."""
        from rich.console import Console

        shown = printable(shown) if isinstance(shown, str) else shown
        if sys.stdout.isatty():
            Console(highlight=False, soft_wrap=isinstance(shown, str)).print(shown, markup=False)
            return
        console = Console(highlight=False, width=WIDE, soft_wrap=isinstance(shown, str))
        with console.capture() as captured:
            console.print(shown, markup=False)
        for line in captured.get().splitlines():
            print(line.rstrip())

    def say(self, text: str) -> None:
        """Print a line on stderr, unless quiet."""
        if not self.quiet:
            print(printable(text), file=sys.stderr, flush=True)

    def say_all(self, shown: RenderableType) -> None:
        """Print something for people on stderr, unless quiet."""
        from rich.console import Console

        if not self.quiet:
            Console(stderr=True, highlight=False).print(shown, markup=False)

    @property
    def asks(self) -> bool:
        """True if somebody is there to be asked, and wants to be."""
        return not self.yes and not self.json and sys.stdin.isatty()

    def ask(self, question: str) -> str:
        """Ask for a line; nothing if --yes is given or nobody is there, and so on Enter."""
        if not self.asks:
            return ""
        try:
            said: str = typer.prompt(
                f"{printable(question)} (Enter: as assumed)",
                default="",
                show_default=False,
                err=True,
            )
            return said
        except typer.Abort:
            print(file=sys.stderr)
            raise KeyboardInterrupt from None

    def confirm(self, question: str, *, otherwise: str) -> None:
        """Ask a yes-or-no question. Raises UsageError if it is no, or nobody is there."""
        if self.yes:
            return
        if not sys.stdin.isatty():
            raise UsageError(f"{question} Nobody is there to ask", otherwise)
        try:
            agreed = typer.confirm(question, err=True)
        except typer.Abort:
            print(file=sys.stderr)
            raise KeyboardInterrupt from None
        if not agreed:
            raise UsageError("not confirmed", "Nothing more was spent")


def verb(
    *settings: str, name: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a command of a function ``(face, its own options)``, adding the common options.

    ``settings`` are the names of the settings that it takes as flags.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        added = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
            for key, (kind, default) in (_flags((*settings, *EVERYWHERE)) | _COMMON).items()
        ]

        @functools.wraps(function)
        def command(**given: Any) -> None:
            flags = {key: given.pop(key) for key in (*settings, *EVERYWHERE)}
            common = {key: given.pop(key) for key in _COMMON}
            face = Face(folder=common.pop("project"), flags=flags, **common)
            try:
                function(face, **given)
                sys.stdout.flush()  # or the interpreter would find out, and complain
            except BrokenPipeError:
                raise SystemExit(_reader_left()) from None

        command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own] + added
        )
        app.command(name)(command)
        return command

    return decorate


def _reader_left() -> int:
    """Whoever read stdout went away (``| head``): nothing goes there any more; the exit code.

    Told here, since Typer would make a failure of it. 141 is what a shell shows for SIGPIPE.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return 128 + signal.SIGPIPE


def _flags(settings: tuple[str, ...]) -> dict[str, tuple[Any, Any]]:
    flags = {}
    for name in settings:
        field = Settings.model_fields[name]
        kind = field.annotation
        option = f"--{name.replace('_', '-')}"
        declared = typer.Option(option, help=_sentence(field.description or ""), show_default=False)
        # None means "not given", so that the environment and understudy.toml can speak.
        flags[name] = (Annotated[kind | None, declared], None)  # type: ignore[operator]
    return flags


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def fail(error: UnderstudyError, *, as_json: bool) -> int:
    """Print one clear line and return the exit code."""
    if as_json:
        body = {"error": error.what, "fix": error.fix, "exit_code": error.exit_code}
        print(json.dumps(body, ensure_ascii=False), flush=True)
    print(f"understudy: {printable(' '.join(str(error).split()))}", file=sys.stderr, flush=True)
    return error.exit_code
