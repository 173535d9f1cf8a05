"""What the server's tests share: a project with two students, a real server, its SDK."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from conftest import understudy_command
from students import make_folder, numbers, recipe, train_here, write_dataset

TOKEN = "a-token-for-tests-0123456789"
SYSTEM = "Turn the number round."


def make_project(folder: Path) -> Path:
    """A project whose task has a system message: run 1 is a tiny student, run 2 babbles."""
    from understudy import Project
    from understudy.store import runs
    from understudy.task import Spec

    with (
        warnings.catch_warnings(action="ignore"),  # of the libraries that train
        closing(Project.new(folder, "Turn a number round", {})) as project,
    ):
        rows = folder / "rows.jsonl"
        lines = [json.dumps({"prompt": text, "completion": said}) for text, said in numbers(0, 64)]
        rows.write_text("\n".join(lines))
        project.import_examples(rows)
        project.edit_spec(
            Spec(title="x", input="x", output="x", kind="text", system_message=SYSTEM)
        )
        frozen = project.freeze()
        for number in (1, 2):
            with project.database.write() as connection:
                run = runs.add_run(connection, frozen.id, "tiny", recipe(), folder / "runs")
            run.folder.mkdir(parents=True)
            if number == 1:
                data = write_dataset(folder / "data", numbers(0, 64), system=SYSTEM)
                train_here(run.folder, data, recipe(epochs=4, batch_size=16))
            else:
                make_folder(run.folder / "model")
            with project.database.write() as connection:
                runs.set_run(connection, replace(run, state="succeeded"))
    return folder


class Home(NamedTuple):
    """A running server."""

    url: str
    token: str
    process: subprocess.Popen[str]

    @property
    def root(self) -> str:
        return self.url.removesuffix("/v1")

    @property
    def host(self) -> str:
        return self.root.removeprefix("http://")


@contextmanager
def serving(project: Path, *options: str, env: dict[str, str] | None = None) -> Iterator[Home]:
    """``understudy serve --json`` in a process of its own."""
    command = understudy_command("serve", "-p", project, "--port", "0", "--json", *options)
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "UNDERSTUDY_TOKEN": TOKEN, **(env or {})},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        told: dict[str, Any] = json.loads(line)
        try:
            yield Home(told["url"], told["token"], process)
        finally:
            process.kill()


class Inside(NamedTuple):
    """A server in a thread of this process, to look into."""

    url: str
    serving: Any

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://").removesuffix("/v1")

    def rows(self) -> int:
        """Rows that the engines of all open models write at this moment, or are to write."""
        found = 0
        for entry in self.serving._open.values():
            engine = entry.coming.done() and entry.coming.result()._engine
            if engine:
                batch = engine._batch  # read once: an idle engine gives it back
                rows = batch.rows if batch else []
                found += sum(not row.dropped for row in [*rows, *engine._waiting])
        return found


@contextmanager
def inside(project: Path, limits: Any = None, **options: Any) -> Iterator[Inside]:
    """Serve a project in a thread of this process."""
    from understudy import Project
    from understudy.project.serving import Serving
    from understudy.server import door, listening
    from understudy.server.app import app
    from understudy.server.guard import Limits

    limits = limits or Limits()
    listener = door.bound("127.0.0.1", 0)
    where = door.Door("127.0.0.1", listener.getsockname()[1], TOKEN)
    up = threading.Event()
    with closing(Project(project)) as opened:
        serving = Serving(opened, **options)
        server = listening.server(app(serving, where, limits), limits, up.set)
        work = server.serve(sockets=[listener])
        thread = threading.Thread(target=lambda: asyncio.run(work))
        thread.start()
        try:
            assert up.wait(30)
            yield Inside(where.url, serving)
        finally:
            server.should_exit = True
            thread.join(30)


def until(true: Callable[[], bool], seconds: float = 20) -> bool:
    """Wait until something holds; False if it never does."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def older_sdk() -> dict[str, str]:
    """The environment in which ``import openai`` gives the generation before."""
    return {"PYTHONPATH": os.pathsep.join([str(Path(sys.prefix) / "openai-2"), *sys.path])}
