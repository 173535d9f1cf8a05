"""A run's folder at every moment of a save, damaged, and with nothing to learn (T55, T56, T59)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from students import Heard, numbers, recipe, train_here, write_dataset
from understudy.example import Message
from understudy.train import checkpoint
from understudy.train.job import Job

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries that train

SETTINGS = recipe(epochs=2, save_steps=4)  # 12 steps, checkpoints at 4, 8 and 12
CHANGES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "1", numbers(0, 48), numbers(48, 52))


# -- a kill between any two changes ------------------------------------------------------------


class Moment(NamedTuple):
    """A copy of the run's folder as a kill would have left it, and what had been said by then."""

    folder: Path
    sealed: int
    """The last step that was said to have a checkpoint."""


class Camera:
    """Copies a run's folder before every change of it that Python makes."""

    def __init__(self, run_folder: Path, album: Path, heard: Heard) -> None:
        self.moments: list[Moment] = []
        self._run, self._album, self._heard, self._busy = run_folder, album, heard, False

    def look(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook (PEP 578): called before the change is made."""
        if self._busy or event not in CHANGES or not self._within(event, arguments):
            return
        self._busy = True
        try:
            self.take()
        finally:
            self._busy = False

    def take(self) -> None:
        copy = self._album / str(len(self.moments))
        shutil.copytree(self._run, copy)
        said = [data["step"] for data in self._heard.of("train.checkpoint")]
        self.moments.append(Moment(copy, max(said, default=0)))

    def _within(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "open" and not set(str(arguments[1] or "r")) & set("wax+"):
            return False
        if event in {"os.remove", "os.rmdir"} and arguments[1] >= 0:  # a name within a folder
            return True
        return str(arguments[0]).startswith(f"{self._run}/")


WATCHING: list[Camera] = []  # an audit hook stays for good


@contextmanager
def watched(camera: Camera) -> Iterator[None]:
    if not WATCHING:
        sys.addaudithook(lambda event, given: [one.look(event, given) for one in WATCHING] and None)
    WATCHING.append(camera)
    try:
        yield
    finally:
        WATCHING.remove(camera)


class Filmed(NamedTuple):
    heard: Heard
    run_folder: Path
    moments: list[Moment]


@pytest.fixture(scope="module")
def filmed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Filmed:
    """A whole training, and its folder at every moment of it."""
    import torch

    from understudy.train.fit import fit

    torch.set_num_threads(1)
    run, heard = tmp_path_factory.mktemp("run"), Heard()
    camera = Camera(run, tmp_path_factory.mktemp("album"), heard)
    with watched(camera):
        metrics = fit(Job(run, dataset, "tiny", SETTINGS), heard, heard.stop)  # type: ignore[arg-type]
    camera.take()
    heard.say("train.done", **metrics)
    return Filmed(heard, run, camera.moments)


def test_at_every_moment_of_a_save_a_whole_checkpoint_or_the_model_is_there(
    filmed: Filmed, dataset: Path
) -> None:
    """A checkpoint that was said is never lost; one half written, or half deleted, never counts."""
    inputs = Job(filmed.run_folder, dataset, "tiny", SETTINGS).inputs()
    torn, ended = 0, 0
    for moment in filmed.moments:
        before = {path.name for path in moment.folder.glob("checkpoint-*")}
        if (moment.folder / "training.json").is_file():
            assert (moment.folder / "model" / "model.safetensors").is_file()
            ended += 1
            continue
        found = checkpoint.newest(moment.folder, inputs=inputs)
        assert found.step >= moment.sealed
        left = {path.name for path in moment.folder.glob("checkpoint-*")}
        torn += len(before - left)
    assert torn > 30
    assert ended > 10  # the checkpoints go one file after the other


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_torn_save_is_gone_on_from(
    filmed: Filmed, dataset: Path, tmp_path: Path, share: float
) -> None:
    """Killed there and started again: the steps, the loss and the weights are the same."""
    run = tmp_path / "run"
    moment = filmed.moments[int(share * len(filmed.moments))]
    shutil.copytree(moment.folder, run)
    rest = train_here(run, dataset, SETTINGS)
    whole = filmed.heard.losses
    begun = len(whole) - len(rest.losses)
    assert begun >= moment.sealed
    assert rest.losses == {step: loss for step, loss in whole.items() if step > begun}
    ends = [folder / "model" / "model.safetensors" for folder in (run, filmed.run_folder)]
    assert ends[0].read_bytes() == ends[1].read_bytes()
    assert not list(run.glob("checkpoint-*"))


# -- damage ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(filmed: Filmed) -> Path:
    """A run that was killed with two whole checkpoints."""
    return next(
        moment.folder
        for moment in filmed.moments
        if moment.sealed == 8 and len(list(moment.folder.glob("checkpoint-*/DONE.json"))) == 2
    )


@given(st.data())
def test_any_damage_to_a_checkpoint_is_found(filmed: Filmed, stopped: Path, data: Any) -> None:
    """Any byte flipped, any file cut or gone: it is not used, the one before it is."""
    newest = stopped / "checkpoint-8"
    inputs = json.loads((newest / "DONE.json").read_text())["inputs"]
    assert checkpoint.fault(newest, inputs=inputs) is None
    files = sorted(path for path in newest.rglob("*") if path.is_file())
    victim = data.draw(st.sampled_from(files))
    content = victim.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    flipped = bytes([content[at] ^ 1 << data.draw(st.integers(0, 7))])
    harmed = data.draw(
        st.sampled_from([content[:at], content[:at] + flipped + content[at + 1 :], None])
    )
    try:
        victim.unlink() if harmed is None else victim.write_bytes(harmed)
        reason = checkpoint.fault(newest, inputs=inputs)
    finally:
        victim.write_bytes(content)
    assert reason
    assert "damaged" in reason or "not whole" in reason or "another training" in reason
    assert checkpoint.fault(stopped / "checkpoint-4", inputs=inputs) is None


# -- no room ---------------------------------------------------------------------------------


FULL = (
    "mount -t tmpfs -o size=$4 none $2 && cp -a $1 $2/run || exit 77\n"
    "$6 -m understudy.train.local $2/run $3; code=$?\n"
    "cp -a $2/run $5; exit $code\n"
)


@pytest.mark.sweep
def test_a_disk_that_is_full(filmed: Filmed, dataset: Path, tmp_path: Path) -> None:
    """Half a checkpoint of room: exit code 9, the older checkpoints whole, and it goes on."""
    run, disk, after = (tmp_path / name for name in ("run", "disk", "after"))
    disk.mkdir()
    train_here(run, dataset, SETTINGS, at=4)
    given = {"student": "tiny", "recipe": SETTINGS.model_dump()}
    (run / "run.json").write_text(json.dumps(given))
    one = sum(path.stat().st_size for path in (run / "checkpoint-4").iterdir())
    room = sum(path.stat().st_size for path in run.rglob("*") if path.is_file()) + one // 2
    sizes = (run, disk, dataset, room, after, sys.executable)
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", FULL, "sh", *map(str, sizes)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode in (1, 77, 127):
        pytest.skip("no disk of its own may be made here")
    assert done.returncode == 9, done.stderr
    assert not (after / "model").exists()
    found = checkpoint.newest(after, inputs=Job(run, dataset, "tiny", SETTINGS).inputs())
    assert found.step == 5
    assert "checkpoint-8 is not whole" in found.removed
    rest = train_here(after, dataset, SETTINGS)
    assert rest.losses == {s: loss for s, loss in filmed.heard.losses.items() if s > 5}


# -- nothing to learn --------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=12),
    st.integers(24, 60),
)
def test_every_row_that_is_trained_on_has_something_to_learn(
    tokenizer: Any, lengths: list[tuple[int, int]], room: int
) -> None:
    """Also those with an empty answer: they teach to end at once; a row without is left out."""
    from understudy.errors import UsageError
    from understudy.train.rows import Row, encode_rows

    rows = [Row(n, (Message("user", "1" * a),), "2" * b) for n, (a, b) in enumerate(lengths)]
    try:
        encoded = encode_rows(tokenizer, rows, max_tokens=room)
    except UsageError as error:
        assert "nothing to learn" in str(error)  # noqa: PT017
        return
    assert all(learnt >= 1 for learnt in encoded.answer_lengths)
    assert len(encoded.tokens) + encoded.dropped == len(rows)


@pytest.fixture(scope="module")
def tokenizer(filmed: Filmed) -> Any:
    from understudy.models.huggingface import load_tokenizer

    return load_tokenizer(filmed.run_folder / "base")


def test_empty_answers_are_trained_to_the_end_and_no_further(tmp_path: Path) -> None:
    """A dataset of nothing but empty answers: a loss that is a number, a student that ends."""
    empty = [(text, "") for text, _ in numbers(0, 16)]
    dataset = write_dataset(tmp_path / "data", empty, empty[:2])
    heard = train_here(tmp_path / "run", dataset, recipe(epochs=4))
    (done,) = heard.of("train.done")
    assert done["loss"] < heard.losses[1]
    assert {one["answer"] for one in heard.of("train.evaluation")[-1]["samples"]} == {""}
