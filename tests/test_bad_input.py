"""Bad input: one clear line, the right exit code, nothing lost, never a traceback."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import KEY, PRICES, Done, understudy_command

Cli = Callable[..., Done]
ROWS = "text,team\n" + "".join(
    f"message number {n} about parcels,team {n % 3}\n" for n in range(60)
)


@pytest.fixture
def project(understudy: Cli, tmp_path: Path) -> Path:
    """A project with a description and nothing else."""
    folder = tmp_path / "p"
    assert understudy("new", folder, "--describe", "Name the team").code == 0
    return folder


def one_line(done: Done, code: int, *words: str) -> None:
    """The command failed with that code and one line that holds these words."""
    assert done.code == code, (done.code, done.err)
    lines = [line for line in done.err.splitlines() if line.startswith("understudy: ")]
    assert len(lines) == 1, done.err
    for word in words:
        assert word in lines[0], lines[0]


# -- the teacher -------------------------------------------------------------------------------


def test_no_key(understudy: Cli, project: Path) -> None:
    """Without a key and a named teacher, the ways out are named."""
    one_line(understudy("generate", "10", "-p", project), 5, "OPENAI_API_KEY", "practice:")


def test_a_named_provider_without_its_key(understudy: Cli, project: Path) -> None:
    """The variable that should hold the key is named."""
    done = understudy("generate", "10", "-p", project, "--teacher", "mistral:mistral-large")
    one_line(done, 5, "MISTRAL_API_KEY")


def test_wrong_key(understudy: Cli, project: Path, server: Callable[..., Any]) -> None:
    """Exit code 5; the key stands in no output and in no file."""
    with server("--key", "sk-right") as provider:
        env = {"OPENAI_BASE_URL": provider.url, "OPENAI_API_KEY": KEY}
        done = understudy("generate", "9", "-p", project, "--teacher", "dates", *PRICES, env=env)
    one_line(done, 5, "OPENAI_API_KEY")
    assert KEY not in done.out + done.err
    for path in project.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path


def test_endpoint_down(understudy: Cli, project: Path) -> None:
    """Nobody listens: the address is named, nothing is owed."""
    teacher = ("--teacher", "http://127.0.0.1:9/v1#m", *PRICES)
    one_line(understudy("generate", "9", "-p", project, *teacher), 5, "127.0.0.1:9")
    assert understudy("ledger", "-p", project, "--json").json["spent_usd"] == 0


def test_endpoint_that_answers_html(
    understudy: Cli, project: Path, server: Callable[..., Any]
) -> None:
    """A login page is not an API."""
    with server("--fault", "html:1") as provider:
        teacher = ("--teacher", provider.teacher("dates"), *PRICES)
        done = understudy("generate", "9", "-p", project, *teacher)
    one_line(done, 5, "not an OpenAI-compatible API")


def test_unknown_model_name(understudy: Cli, project: Path, server: Callable[..., Any]) -> None:
    """An endpoint that has no such model; a provider that does not exist."""
    with server() as provider:
        teacher = ("--teacher", provider.teacher("gpt-nope"), *PRICES)
        one_line(understudy("generate", "9", "-p", project, *teacher), 5, "gpt-nope", "doctor")
    done = understudy("generate", "9", "-p", project, "--teacher", "nobody:m")
    one_line(done, 2, "nobody", "openai")


def test_model_without_a_price(understudy: Cli, project: Path) -> None:
    """An unknown price is said, never taken for nothing."""
    done = understudy("generate", "9", "-p", project, "--teacher", "http://127.0.0.1:9/v1#m")
    one_line(done, 2, "--price-in")


def test_budget_too_small_for_the_pilot(
    understudy: Cli, project: Path, server: Callable[..., Any]
) -> None:
    """Exit code 4; nothing was billed beyond the budget; a higher one goes on."""
    with server() as provider:
        teacher = ("--teacher", provider.teacher("dates"), *PRICES)
        done = understudy("pilot", "-p", project, *teacher, "--budget", "0.000001")
        one_line(done, 4, "--budget")
        assert provider.paid() == {}
        done = understudy("pilot", "-p", project, *teacher, "--budget", "1", "--json")
        assert done.code == 0, done.err
        assert done.json["low_micro"] > 0


def test_empty_description(understudy: Cli, tmp_path: Path) -> None:
    """Blank is empty; no folder is made."""
    one_line(understudy("run", "  ", "-p", tmp_path / "q"), 2, "description")
    assert not (tmp_path / "q").exists()


# -- the folder --------------------------------------------------------------------------------


def test_a_folder_that_is_no_project(understudy: Cli, tmp_path: Path) -> None:
    """Exit code 8, and how to make one."""
    for verb in ("status", "train", "ledger"):
        one_line(understudy(verb, "-p", tmp_path), 8, "understudy new")
    one_line(understudy("status", "-p", tmp_path / "nowhere"), 8, "does not exist")


def test_a_project_from_a_newer_version(understudy: Cli, project: Path) -> None:
    """It is left untouched."""
    with sqlite3.connect(project / "understudy.db") as connection:
        connection.execute("PRAGMA user_version=99")
    one_line(understudy("status", "-p", project), 8, "newer", "Upgrade")


def test_a_damaged_project(understudy: Cli, project: Path) -> None:
    """Bytes that are no database are named so."""
    (project / "understudy.db").write_bytes(b"not a database" * 1000)
    one_line(understudy("status", "-p", project), 8, "damaged")


def test_a_project_in_use_by_another_process(
    understudy: Cli, project: Path, server: Callable[..., Any]
) -> None:
    """T43: the second writer is told the first one's process id; reading goes on."""
    with server("--latency", "30") as provider:
        teacher = ("--teacher", provider.teacher("dates"), *PRICES)
        first = subprocess.Popen(
            understudy_command("generate", "9", "-p", project, *teacher, "-q"),
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while not provider.log.exists() or not provider.requests():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        one_line(understudy("generate", "9", "-p", project, *teacher), 8, str(first.pid))
        assert understudy("status", "-p", project).code == 0
        first.send_signal(signal.SIGKILL)
        first.wait()
        one_line(understudy("freeze", "-p", project), 2, "no usable example")


def test_a_read_only_project(project: Path, tmp_path: Path) -> None:
    """Seen before any money is spent. Root may write anything, so somebody else asks."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        project.chmod(0o500)
        command = understudy_command("generate", "9", "-p", project)
    else:
        tmp_path.chmod(0o755)
        for parent in tmp_path.parents:
            if parent.name.startswith(("pytest-", "popen-")):
                parent.chmod(0o755)
        project.chmod(0o755)
        for name in ("understudy.db", "understudy.toml"):
            (project / name).chmod(0o644)
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        command = [*nobody, *understudy_command("generate", "9", "-p", project)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    project.chmod(0o700)
    one_line(Done(done.returncode, done.stdout, done.stderr), 9, "cannot be written")


# -- files of examples -------------------------------------------------------------------------


def test_a_csv_without_the_named_column(understudy: Cli, project: Path) -> None:
    """The columns that there are stand in the message."""
    Path(project, "rows.csv").write_text(ROWS)
    done = understudy("import", project / "rows.csv", "-p", project, "--prompt", "body")
    one_line(done, 2, "body", "text", "team")


def test_bad_lines_are_named_and_the_good_ones_kept(understudy: Cli, project: Path) -> None:
    """Broken UTF-8 and NUL bytes cost one line each; a 10 MB cell is a cell."""
    body = ROWS.encode() + b"broken \xff text,team 1\nnul \x00 byte,team 1\n"
    body += b"x" * 10_000_000 + b",team 2\n"
    Path(project, "rows.csv").write_bytes(body)
    command = ("import", project / "rows.csv", "-p", project, "--prompt", "text")
    done = understudy(*command, "--response", "team", "--json")
    one_line(done, 6, "2 of the lines")
    assert ":62: " in done.err
    counts = [line for line in done.out.splitlines() if '"rows"' in line][-1]
    assert '"rows": 61' in counts
    again = understudy(*command, "--response", "team", "--json")
    assert '"added": 0' in again.out


def test_zero_usable_examples_and_too_few_to_split(understudy: Cli, project: Path) -> None:
    """Both say what to do; the second how many there are."""
    one_line(understudy("freeze", "-p", project), 2, "no usable example", "import")
    Path(project, "few.csv").write_text("text,team\none parcel,a\ntwo letters,b\n")
    done = understudy(
        "import", project / "few.csv", "-p", project, "--prompt", "text", "--response", "team"
    )
    assert done.code == 0, done.err
    one_line(understudy("freeze", "-p", project), 2, "Too few", "2")


def test_the_verbs_in_the_wrong_order(understudy: Cli, project: Path) -> None:
    """Each says which one comes before it."""
    one_line(understudy("train", "-p", project), 2, "understudy freeze")
    one_line(understudy("predict", "x", "-p", project), 2, "understudy train")
    one_line(understudy("evaluate", "-p", project), 2, "understudy freeze")


def test_a_missing_file_and_an_unknown_setting(understudy: Cli, project: Path) -> None:
    """Paths, settings and tasks that do not exist are named."""
    one_line(understudy("import", "nowhere.csv", "-p", project), 2, "nowhere.csv")
    one_line(understudy("config", "colour", "red", "-p", project), 2, "colour")
    one_line(understudy("config", "budget", "lots", "-p", project), 2, "budget")
    one_line(understudy("demo", "--task", "poems", "-p", project), 2, "poems", "dates")
    Path(project, "understudy.toml").write_text("budget = \n")
    one_line(understudy("status", "-p", project), 2, "understudy.toml")


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs a mount namespace")
def test_a_full_disk_loses_nothing(
    understudy: Cli, server: Callable[..., Any], tmp_path: Path
) -> None:
    """T47: sending stops before the disk is full; with room again it goes on."""
    small, script = tmp_path / "small", tmp_path / "go.sh"
    small.mkdir()
    with server() as provider:
        teacher = f"--teacher {provider.teacher('dates')} {' '.join(PRICES)}"
        run = " ".join(understudy_command())
        script.write_text(
            f"mount -t tmpfs -o size=12m none {small} || exit 77\n"
            f"{run} new {small}/p --describe dates || exit 78\n"
            f"{run} generate 3000 -p {small}/p -q {teacher}\n"
            "echo code $?\n"
            f"mount -o remount,size=200m {small}\n"
            f"{run} generate 1500 -p {small}/p -q --json {teacher} | tail -1\n"
            f"{run} ledger -p {small}/p --json\n"
        )
        done = subprocess.run(
            ["unshare", "-rm", "sh", str(script)], capture_output=True, text=True, check=False
        )
        if done.returncode in (1, 77) and "code" not in done.stdout:
            pytest.skip("no mount namespace on this machine")
        assert "code 9" in done.stdout, done.stdout + done.stderr
        assert "nearly full" in done.stderr or "full" in done.stderr
        assert '"unknown": 0' in done.stdout.splitlines()[-1]
        assert set(provider.paid().values()) == {1}
