"""Export: a folder that plain transformers opens, with a card that runs and a proof of parity."""

from __future__ import annotations

import hashlib
import json
import re
import runpy
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from students import SYSTEM, make_folder, numbers, recipe, train_here, write_dataset
from understudy import export as exporting
from understudy.errors import DiskError, SetupError, UnderstudyError, UsageError
from understudy.example import Message
from understudy.export import CardFacts, export
from understudy.models.protocol import Request
from understudy.report import Report, SystemScore

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries that run models

SCORE = SystemScore("run:1", 40, 38, 0, 0.95, 0.835, 0.986, 0.95, None, 4.0)
REPORT = Report(1, "exact match", 40, {"student": SCORE}, (), "The student is as good.")
FACTS = CardFacts(
    title="Numbers | backwards",
    description="Writes numbers backwards.\n```\nfence```",
    system_message=SYSTEM,
    teacher="practice:numbers",
    student="tiny",
    counts={"train": 64, "test": 40},
    report=REPORT,
)
ITEMS = [
    Request((Message("system", SYSTEM), Message("user", f"number {n} <|end|>")), 20)
    for n in range(25)
]


class Trained(NamedTuple):
    tiny: Path
    qwen: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    where = tmp_path_factory.mktemp("trained")
    dataset = write_dataset(where / "data", numbers(0, 64))
    train_here(where / "tiny", dataset, recipe(epochs=6, batch_size=16))
    settings = recipe(recut_share=0, matrix_learning_rate=0, epochs=1)
    folder = make_folder(where / "student")
    train_here(where / "qwen", dataset, settings, student=str(folder))
    return Trained(where / "tiny" / "model", where / "qwen" / "model")


@pytest.mark.parametrize("which", ["tiny", "qwen"])
def test_an_export_is_whole_and_answers_as_the_trained_model(
    trained: Trained, tmp_path: Path, which: str
) -> None:
    """Every file is listed with its hash, twenty prompts were replayed, nothing else is there."""
    manifest = export(getattr(trained, which), tmp_path / "out", card=FACTS, parity_items=ITEMS)
    files = {path.name: path for path in (tmp_path / "out").iterdir()}
    assert {"README.md", "config.json", "model.safetensors", "chat_template.jinja"} < files.keys()
    listed = json.loads(files.pop("manifest.json").read_text())["files"]
    assert listed.keys() == files.keys() == manifest.sha256.keys()
    for name, path in files.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == listed[name]["sha256"]
    assert manifest.files == len(files) + 1
    assert manifest.parity == json.loads(files["parity.json"].read_text())["prompts"] == 20
    assert {path.suffix for path in files.values()} <= {".safetensors", ".json", ".jinja", ".md"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_code_in_the_card_runs_and_answers_alike(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The card's Python, run in the folder with plain transformers, gives the student's answer."""
    import asyncio

    from understudy.models.local import Local

    export(trained.tiny, tmp_path / "out", card=FACTS, parity_items=ITEMS[:1])
    card = (tmp_path / "out" / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    (tmp_path / "run.py").write_text(code)
    monkeypatch.chdir(tmp_path / "out")
    capsys.readouterr()
    runpy.run_path(str(tmp_path / "run.py"))
    said = capsys.readouterr().out.strip()

    async def ask() -> str:
        model = Local(tmp_path / "out", name="out")
        asked = (Message("system", SYSTEM), Message("user", "Your input"))
        reply = await model.complete(Request(asked, 256))
        await model.close()
        return reply.text

    assert said == asyncio.run(ask())


def test_the_card_says_what_matters(trained: Trained, tmp_path: Path) -> None:
    """Task, system message word for word, teacher, counts, scores with intervals, verdict."""
    export(trained.tiny, tmp_path / "out", card=FACTS, parity_items=[])
    card = (tmp_path / "out" / "README.md").read_text()
    for part in ("Writes numbers backwards.", SYSTEM, "practice:numbers", "64 for train"):
        assert part in card
    assert "| student | run:1 | 0.950 | 0.835 to 0.986 |" in card
    assert REPORT.verdict in card
    assert "LlamaForCausalLM" in card


def test_held_out_text_does_not_travel_with_the_model(trained: Trained, tmp_path: Path) -> None:
    """The parity record holds hashes, no prompt and no answer."""
    secret = "number 4711 of the secret customer"
    item = Request((Message("system", SYSTEM), Message("user", secret)), 8)
    export(trained.tiny, tmp_path / "out", card=FACTS, parity_items=[item])
    for path in (tmp_path / "out").iterdir():
        assert b"secret customer" not in path.read_bytes()


def test_an_earlier_export_is_replaced(trained: Trained, tmp_path: Path) -> None:
    """Exporting again to the same folder leaves the new one, and nothing of the old."""
    export(trained.qwen, tmp_path / "out", card=FACTS, parity_items=[])
    (tmp_path / "out" / "stray.txt").write_text("of the old one")
    second = export(trained.tiny, tmp_path / "out", card=FACTS, parity_items=[])
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {*second.sha256, "manifest.json"}
    assert "Llama" in (tmp_path / "out" / "config.json").read_text()


@pytest.mark.parametrize("there", ["file", "folder", "link", "other manifest"])
def test_what_is_not_an_earlier_export_is_never_overwritten(
    trained: Trained, tmp_path: Path, there: str
) -> None:
    """Anything else at the target is a usage error, and is left as it was."""
    target = tmp_path / "out"
    if there == "file":
        target.write_text("mine")
    elif there == "link":
        (tmp_path / "elsewhere").mkdir()
        target.symlink_to(tmp_path / "elsewhere")
    else:
        target.mkdir()
        name = "manifest.json" if there == "other manifest" else "thesis.tex"
        (target / name).write_text('{"made_by": "somebody"}')
    with pytest.raises(UsageError):
        export(trained.tiny, target, card=FACTS, parity_items=[])
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(left) == (0 if there == "link" else 1)


def test_without_room_nothing_is_written(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is too full is told before the first byte is copied."""
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(exporting.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DiskError, match="MB free"):
        export(trained.tiny, tmp_path / "out", card=FACTS, parity_items=[])
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_leaves_the_earlier_export(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that fails in the middle: the old export stays, no half of the new one."""
    export(trained.tiny, tmp_path / "out", card=FACTS, parity_items=[])
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting.shutil, "copyfile", full)
    with pytest.raises(DiskError, match="No space left"):
        export(trained.tiny, tmp_path / "out", card=FACTS, parity_items=[])
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(("victim", "verb"), [("model.safetensors", "answers"), ("chat", "reads")])
def test_a_model_that_answers_differently_is_not_exported(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: str, verb: str
) -> None:
    """If the copy reads or answers one prompt in another way, the prompt is named."""
    copy = shutil.copyfile

    def spoiling(source: Path, target: Path) -> None:
        copy(source, target)
        if target.name.startswith(victim):
            content = bytearray(target.read_bytes())
            if victim == "chat":
                content += b"!"
            else:
                content[-200_000:] = bytes(200_000)
            target.write_bytes(content)

    monkeypatch.setattr(exporting.shutil, "copyfile", spoiling)
    with pytest.raises(UnderstudyError, match=rf"{verb} prompt \d+ \('number"):
        export(trained.tiny, tmp_path / "out", card=FACTS, parity_items=ITEMS)
    assert list(tmp_path.iterdir()) == []


def test_only_a_model_can_be_exported(tmp_path: Path) -> None:
    """A folder that is no model is refused before anything is made."""
    with pytest.raises(SetupError, match="no model folder"):
        export(tmp_path / "none", tmp_path / "out", card=FACTS, parity_items=[])
    assert list(tmp_path.iterdir()) == []
