"""Text, names and files from strangers: no code runs, nothing leaves the folder, no key is written
down, no terminal is driven (T71, T79, T80, T84-T87)."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import KEY, PRICES, Done, understudy_command
from rehearsal import (
    asked,
    environment,
    examples,
    made_project,
    one_line,
    select,
    serving,
    states,
    teacher,
)
from understudy.errors import SetupError
from understudy.example import Message
from understudy.practice.faults import At
from understudy.practice.spoiled import CONTROLS
from understudy.task import Spec

Cli = Callable[..., Done]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and what is in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# -- data is never a template or a path --------------------------------------------------------

TEMPLATES = (
    "{{ cycler.__init__.__globals__.os.popen('touch MARKER').read() }}",
    "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    "{0.__class__.__init__.__globals__} {description} {spec} {input} {request}",
    "%(os)s %s ${HOME} $(touch MARKER) `touch MARKER`",
    "<%= `touch MARKER` %> #{`touch MARKER`} @{1+1} ${{7*7}}",
    "__import__('os').system('touch MARKER')",
    "!!python/object/apply:os.system ['touch MARKER']",
)


def test_text_is_never_a_template(understudy: Cli, tmp_path: Path) -> None:
    """T80: code in the description and in inputs arrives word for word, and none of it runs."""
    with serving(tmp_path / "bill") as provider:
        description = " ".join(TEMPLATES)
        project = tmp_path / "p"
        assert understudy("new", project, "--describe", f"durations {description}").code == 0
        (tmp_path / "inputs.txt").write_text("".join(f"{one}\n" for one in TEMPLATES))
        command = ("generate", "-p", project, "--inputs", "inputs.txt")
        done = understudy(*command, *teacher(provider, "durations"))
        assert done.code in (0, 6), done.err
    rows = select(project, "SELECT purpose, request FROM call ORDER BY rowid")
    assert description in json.loads(rows[0]["request"])[-1][1]
    answered = [json.loads(row["request"])[-1][1] for row in rows if row["purpose"] == "answer"]
    assert answered == list(TEMPLATES)
    assert not list(tmp_path.rglob("MARKER"))


def test_a_chat_template_cannot_reach_the_system(tmp_path: Path) -> None:
    """T80: one that a model folder brings runs in a sandbox; refused in one line."""
    pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    from understudy.models.rendering import encode_prompts

    marker = tmp_path / "marker"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<eos>": 0}, unk_token="<eos>")),
        eos_token="<eos>",
    )
    for template in (TEMPLATES[0].replace("MARKER", str(marker)), TEMPLATES[1]):
        tokenizer.chat_template = template
        with pytest.raises(SetupError, match="chat template"):
            encode_prompts(tokenizer, [[Message("user", "x")]])
    assert not marker.exists()


def test_names_from_a_teacher_are_never_paths(understudy: Cli, tmp_path: Path) -> None:
    """T71: a spec full of them, through freezing and writing out: nothing outside the project."""
    evil = "../../../evil/x\\..\\CON"
    spec = Spec(
        title=evil, input=evil, output=evil, kind="label", system_message=evil, labels=(evil, "b")
    )
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    project = made_project(understudy, tmp_path / "p")
    assert understudy("describe", "-p", project, "--file", "spec.json").code == 0
    rows = "".join(
        f"{evil} {hashlib.sha256(bytes([n])).hexdigest()},{evil if n % 2 else 'b'}\n"
        for n in range(60)
    )
    (tmp_path / "rows.csv").write_text(f"prompt,response\n{rows}")
    before = tree(tmp_path)
    assert understudy("import", "rows.csv", "-p", project).code == 0
    done = understudy("freeze", "-p", project)
    assert done.code == 0, done.err
    assert understudy("export", "--examples", project / "out.csv", "-p", project).code == 0
    after = tree(tmp_path)
    assert all(path.startswith("p/") for path in after.keys() - before.keys())
    outside = {path: body for path, body in before.items() if not path.startswith("p/")}
    assert outside.items() <= after.items()


@pytest.mark.parametrize("name", ["run:../../x", "run:-1"])
def test_a_run_is_a_number(name: str, understudy: Cli, tmp_path: Path) -> None:
    """T71: no path is made of what is given as one."""
    project = made_project(understudy, tmp_path / "p")
    done = understudy("predict", "x", "--model", name, "-p", project)
    assert done.code == 2, done.err
    assert len(done.err.strip().splitlines()) == 1


def test_a_folder_that_cannot_be(understudy: Cli, tmp_path: Path) -> None:
    """T71: a name that is too long, a file, a loop of links: one line, and nothing is made."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_text("mine")
    for name in ("x" * 300, "loop", "file/below"):
        done = understudy("new", name, "--describe", "x")
        assert done.code in (2, 9), (name, done.err)
        assert len(done.err.strip().splitlines()) == 1, done.err
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "loop"]


# -- the key -----------------------------------------------------------------------------------

SPELLINGS = (
    KEY.encode(),
    base64.b64encode(KEY.encode())[:-4],
    base64.b64encode(f":{KEY}".encode())[4:-4],
    urllib.parse.quote(f"{KEY}&").encode(),
    KEY.encode().hex().encode(),
)
"""The key as it is, in base64, in an address and in hexadecimal."""


def must_not_hold_the_key(folder: Path, *outputs: Done) -> None:
    for done in outputs:
        assert KEY not in done.out + done.err
    for path, body in tree(folder).items():
        for spelling in SPELLINGS:
            assert spelling not in body, path


KINDS = ("400", "500", "503", "content_filter", "cut_body", "cut_json", "error_200", "refusal")
KINDS += ("length", "hang", "headers", "not_utf8", "no_usage", "empty_body", "context_length")
FATAL = ("401", "429_quota", "307", "html", "404_model")


@pytest.mark.parametrize(
    "fatal", ["", *(pytest.param(kind, marks=pytest.mark.sweep) for kind in FATAL)]
)
def test_the_key_is_written_nowhere(fatal: str, understudy: Cli, tmp_path: Path) -> None:
    """T85: every fault met with a key in the environment, everything shown and written out."""
    faults = tuple(At(kind, n, n) for n, kind in enumerate(KINDS, 6))
    if fatal:
        faults = (At(fatal, 4, float("inf")),)
    with serving(tmp_path / "bill", faults=faults, key=KEY) as provider:
        bound = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": provider.url}
        env = bound | environment(timeout=0.5)
        project = made_project(understudy, tmp_path / "p")
        command = ("generate", "30", "-p", project, "-v", "--teacher", "openai:durations", *PRICES)
        done = understudy(*command, env=env)
        assert done.code == (5 if fatal else 0), done.err
        assert asked(provider) > 3
        shown = [done]
        if not fatal:
            out = tmp_path / "out"
            out.mkdir()
            shown += [
                understudy(*verb, "-p", project, env=env)
                for verb in (
                    ("config",),
                    ("events", "--json"),
                    ("freeze",),
                    ("export", "--examples", out / "x.csv"),
                    ("funnel", "--html", out / "page.html"),
                )
            ]
        must_not_hold_the_key(tmp_path, *shown)


def test_no_flag_takes_a_key(understudy: Cli) -> None:
    """T85: what stands in an argument is seen by every user of the machine."""
    for verb in ("generate", "new"):
        options = re.findall(r"--[a-z-]+", understudy(verb, "--help").out)
        assert "--teacher" in options
        assert [one for one in options if "key" in one or one.endswith("token")] == []


# -- the terminal ------------------------------------------------------------------------------


def test_no_text_drives_a_terminal(understudy: Cli, tmp_path: Path) -> None:
    """T86: escape sequences and marks of direction in description, spec, inputs and answers are
    not in what any verb prints."""
    evil = CONTROLS.replace("\x00", "").format("durations")
    with serving(tmp_path / "bill", faults=(At("controls", 2, 9),)) as provider:
        project = tmp_path / "p"
        flags = teacher(provider, "durations")
        assert understudy("new", project, "--describe", evil, *flags).code == 0
        (tmp_path / "inputs.txt").write_text("".join(f"{evil} {n}\n" for n in range(6)))
        generated = understudy("generate", "-p", project, "--inputs", "inputs.txt")
        spec = json.loads(understudy("describe", "-p", project, "--json").out)["spec"]
        (tmp_path / "spec.json").write_text(json.dumps(spec | {"title": evil, "input": evil}))
        shown = [generated, understudy("describe", "--file", "spec.json", "-p", project)]
        verbs = ("status", "describe", "funnel", "events")
        shown += [understudy(verb, "-p", project) for verb in verbs]
    assert examples(project) or states(project)
    for done in shown:
        seen = set(done.out + done.err) - {"\n"}
        assert {one for one in seen if not one.isprintable()} == set(), done


# -- settings and files ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "teacher = !!python/object/apply:os.system ['touch MARKER']\n",
        "teacher = '''" + "x" * 100 + "\n",
        "seed = " + "[" * 5000 + "]" * 5000 + "\n",
        "seed = " + "9" * 5000 + "\n",
        "[teacher]\nname = 'x'\n",
        "teacher = 'a'\nteacher = 'b'\n",
        "seed = 2021-01-01\n",
    ],
    ids=["yaml", "open", "deep", "long", "table", "twice", "date"],
)
def test_a_settings_file_of_a_stranger(text: str, understudy: Cli, tmp_path: Path) -> None:
    """T84: it is TOML and nothing else; what is wrong is one line that names the file."""
    project = made_project(understudy, tmp_path / "p")
    (project / "understudy.toml").write_text(text)
    one_line(understudy("status", "-p", project), 2, "understudy.toml")
    assert not list(tmp_path.rglob("MARKER"))


def test_a_project_is_its_owners_alone(tmp_path: Path) -> None:
    """T87: with umask 000 the folder is 0700, and its database, settings, lock and exports 0600."""
    project = tmp_path / "p"
    verbs = (
        ("new", project, "--describe", "dates", "--teacher", "practice:dates"),
        ("generate", "30", "-p", project),
        ("config", "seed", "3", "-p", project),
        ("freeze", "-p", project),
        ("export", "--examples", project / "out.jsonl", "-p", project),
    )
    for verb in verbs:
        done = subprocess.run(
            understudy_command(*verb), capture_output=True, text=True, umask=0, check=False
        )
        assert done.returncode == 0, done.stderr
    assert project.stat().st_mode & 0o777 == 0o700
    found = {path.name: path.stat().st_mode & 0o777 for path in project.iterdir() if path.is_file()}
    assert found.keys() >= {"understudy.db", "understudy.toml", "understudy.lock", "out.jsonl"}
    assert set(found.values()) == {0o600}


def test_a_planted_link_is_not_followed(understudy: Cli, tmp_path: Path) -> None:
    """T87: where the settings, the lock or the spool would be written through it."""
    project = made_project(understudy, tmp_path / "p")
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (project / ".understudy.toml.new").symlink_to(mine)
    assert understudy("config", "seed", "3", "-p", project).code == 0
    (project / "understudy.lock").symlink_to(mine)
    one_line(understudy("freeze", "-p", project), 9, "understudy.lock")
    assert mine.read_text() == "mine"
    assert (project / "understudy.lock").is_symlink()
