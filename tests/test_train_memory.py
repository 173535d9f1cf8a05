"""Trainings that run out of memory or disk: what is said and kept, how they go on (T57, T58)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from forked import forks
from students import CHATML, make_folder, numbers, recipe, train_here, write_dataset
from understudy import train
from understudy.errors import SetupError, UnderstudyError
from understudy.models.out_of_memory import said
from understudy.run import Recipe, Run
from understudy.train import checkpoint, out_of_memory
from understudy.train import shrinking as fitting
from understudy.train.checkpoint import fault
from understudy.train.job import Job, reading_order
from understudy.train.shrinking import fitted

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries that train

ROWS, LONG_ROW, LONG_TOKENS = 48, 20, 400
LIMIT = 3_200_000_000
"""Bytes of address space: room for a trainer with four long rows in a pass, not for eight."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = numbers(0, ROWS)
    rows[LONG_ROW] = ("7 " * (LONG_TOKENS // 2), "7")
    return write_dataset(tmp_path_factory.mktemp("data") / "1", rows)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student of one layer so wide that a row of some hundred tokens takes much memory."""
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM, set_seed

    folder = make_folder(tmp_path_factory.mktemp("model") / "wide", template=CHATML)
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    set_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=16_384,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=2_048,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def settings_of(dataset: Path, wide: Path) -> Recipe:
    """A recipe that meets the long row in the second half of its six steps."""
    from understudy.train.sizing import lengths

    tokens = lengths.of_split(wide, dataset / "train.jsonl").tokens
    asked = recipe(epochs=1, matrix_learning_rate=0, recut_share=0, max_tokens=1_024, save_steps=2)
    for seed in range(100):
        tried = asked.model_copy(update={"seed": seed})
        if reading_order(tokens, tried).index(LONG_ROW) // tried.batch_size in (3, 4):
            return tried
    raise AssertionError("no seed puts the long row there")


def test_a_training_without_memory_goes_on_smaller(
    dataset: Path, wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Host memory runs out at the long row: the next process goes on from the checkpoint, smaller.

    What it then learns is what a training with memory enough learns, step by step.
    """
    asked = settings_of(dataset, wide)
    run_folder = tmp_path / "run"
    run = Run(1, 1, str(wide), run_folder, asked)
    forks(monkeypatch, AS=LIMIT)
    events = list(fitted(run, dataset))
    kinds = [event.kind for event in events]
    assert kinds[-1] == "train.done", events[-1]
    assert "train.out_of_memory" in kinds
    failed = events[kinds.index("train.out_of_memory")]
    assert 2 <= failed.data["step"] <= 4
    assert "memory" in failed.data["message"]
    smaller = events[kinds.index("train.smaller")]
    assert "half as many rows" in smaller.data["text"]
    resumed = events[kinds.index("train.resumed")]
    assert resumed.data["step"] in (2, 4)
    steps = {event.data["step"]: event.data["loss"] for event in events if "step" in event.kind}
    whole = train_here(tmp_path / "whole", dataset, asked, student=str(wide))
    assert steps == pytest.approx(whole.losses, abs=1e-5)
    assert (run_folder / "model" / "model.safetensors").is_file()
    assert (
        fitting.remembered(run).micro_batch_tokens == smaller.data["recipe"]["micro_batch_tokens"]
    )
    again = list(fitted(run, dataset))
    assert [event.kind for event in again] == ["train.done"]


SAVE = (
    "import torch\n"
    "from pathlib import Path\n"
    "from transformers import PreTrainedModel\n"
    "save = PreTrainedModel.save_pretrained\n"
    "def full(model, folder, **options):\n"
    "    if Path(folder).name.startswith('.model'):\n"
    "        raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB')\n"
    "    save(model, folder, **options)\n"
    "PreTrainedModel.save_pretrained = full\n"
)


MERGE = (
    "from understudy.train import merge\n"
    "def full(*_given):\n"
    "    raise MemoryError('Unable to allocate memory for the merge')\n"
    "merge.write = full\n"
)


def test_a_finished_training_is_not_trained_anew_for_want_of_memory(
    dataset: Path, wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No room to merge: it ends, however often, with its checkpoint and adapter kept.

    What it needs is said, and with memory enough the same command has only to save.
    """
    settings = recipe(
        epochs=1, method="lora", lora_rank=4, matrix_learning_rate=0, recut_share=0, save_steps=3
    )
    run = Run(1, 1, str(wide), tmp_path / "run", settings)
    inputs = Job(run.folder, dataset, str(wide), settings).inputs()
    forks(monkeypatch, before=MERGE)
    for _attempt in range(2):
        events = list(fitted(run, dataset))
        kinds = [event.kind for event in events]
        assert kinds[-2:] == ["train.out_of_memory", "train.failed"]
        assert "train.smaller" not in kinds
        assert "saving needs about" in events[-1].data["message"]
        assert "goes on from there" in events[-1].data["fix"]
        assert fault(run.folder / "checkpoint-6", inputs=inputs) is None
        assert (run.folder / "adapter").is_dir()
        assert not (run.folder / "model").exists()
    rest = train_here(run.folder, dataset, settings, student=str(wide))
    assert rest.losses == {}
    assert (run.folder / "model").is_dir()


@pytest.mark.parametrize(
    ("said", "over"),
    [
        ([("checkpoint", 4), ("checkpoint", 6)], True),
        ([("checkpoint", 4), ("step", 6)], False),  # an evaluation may still be to come
        ([("checkpoint", 4), ("best", 2)], True),  # patience had ended it
        ([("checkpoint", 6), ("loading", 0)], False),  # another training, from its start
        ([("checkpoint", 6), ("loading", 0), ("resumed", 6)], True),
        ([("checkpoint", 6), ("loading", 0), ("resumed", 4), ("step", 5)], False),
        ([], False),
    ],
)
def test_a_training_is_over_when_its_last_step_is_sealed(
    tmp_path: Path, said: list[tuple[str, int]], over: bool
) -> None:
    """What was trained is told from what was not by what the last trainer said."""
    lines = [
        json.dumps({"kind": f"train.{kind}", "data": {"step": step, "steps": 6}})
        for kind, step in [("loading", 0), *said]
    ]
    (tmp_path / "events.jsonl").write_text("\n".join(lines) + '\n{"kind": "tor')
    assert out_of_memory.trained(tmp_path) == over
    assert out_of_memory.data(tmp_path, "no room")["trained"] == over


def test_a_whole_checkpoint_of_another_training_is_kept_until_there_is_one_to_replace_it(
    tmp_path: Path,
) -> None:
    """It is put aside, found by its own training again, and goes when a newer one is sealed."""
    for step in (4, 6):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "weights").write_text("of hours")
        checkpoint.seal(tmp_path / f"checkpoint-{step}", inputs="one")
    found = checkpoint.newest(tmp_path, inputs="other")
    assert (found.step, found.folder) == (0, None)
    assert found.removed[0] == "checkpoint-6 belongs to another training"
    assert list(tmp_path.glob("checkpoint-*")) == []
    assert checkpoint.newest(tmp_path, inputs="one").step == 6
    assert fault(tmp_path / "checkpoint-4", inputs="one") is None
    checkpoint.newest(tmp_path, inputs="other")
    (tmp_path / "checkpoint-2").mkdir()
    checkpoint.seal(tmp_path / "checkpoint-2", inputs="other")
    checkpoint.rotate(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]
    assert checkpoint.newest(tmp_path, inputs="one").step == 0


def test_no_memory_to_save_the_model(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of memory while the model is saved: an exit code of its own, checkpoints kept, no model.

    The next start has only to save it.
    """
    settings = recipe(epochs=1, save_steps=3)
    run = Run(1, 1, "tiny", tmp_path / "run", settings)
    forks(monkeypatch, before=SAVE)
    training = train.start(run, dataset)
    last = list(train.follow(training))[-1]
    assert training.process.returncode == out_of_memory.EXIT_CODE
    assert last.kind == "train.out_of_memory"
    assert last.data["step"] == 6
    assert "CUDA out of memory" in last.data["message"]
    assert not (run.folder / "model").exists()
    inputs = Job(run.folder, dataset, "tiny", settings).inputs()
    assert fault(run.folder / "checkpoint-6", inputs=inputs) is None
    rest = train_here(run.folder, dataset, settings)
    assert rest.losses == {}
    assert (run.folder / "model").is_dir()


def test_a_full_disk_leaves_the_older_checkpoint(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint that cannot be written: exit code 9, the one before it is whole, and goes on."""
    settings = recipe(epochs=2, save_steps=4)
    train_here(tmp_path / "run", dataset, settings, at=4)
    before = max((tmp_path / "run").glob("checkpoint-*"))
    forks(monkeypatch, FSIZE=1_000_000)
    last = list(fitted(Run(1, 1, "tiny", tmp_path / "run", settings), dataset))[-1]
    assert (last.kind, last.data["exit_code"]) == ("train.failed", 9)
    assert not (tmp_path / "run" / "model").exists()
    inputs = Job(tmp_path / "run", dataset, "tiny", settings).inputs()
    assert fault(before, inputs=inputs) is None
    rest = train_here(tmp_path / "run", dataset, settings)
    whole = train_here(tmp_path / "whole", dataset, settings)
    assert rest.losses == pytest.approx(
        {step: loss for step, loss in whole.losses.items() if step >= min(rest.losses)}, abs=1e-5
    )


# -- the chain, without the cost of real trainings ---------------------------------------------


def test_every_way_down_is_tried_and_then_it_ends(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trainer that never has memory enough: each attempt is smaller, the last line is clear."""
    tried: list[Recipe] = []

    def start(run: Run, _dataset: Path, **_options: Any) -> train.Training:
        run.folder.mkdir(exist_ok=True)
        given = {"student": run.student, "recipe": run.recipe.model_dump()}
        (run.folder / "run.json").write_text(json.dumps(given))
        (run.folder / "events.jsonl").touch()
        tried.append(run.recipe)
        words = (
            "from understudy.train import out_of_memory as o; import sys; from pathlib import Path"
        )
        code = (
            f"{words}\nfrom understudy.train.progress import EventLog\n"
            "folder = Path(sys.argv[1])\n"
            "EventLog(folder / 'events.jsonl').say(o.KIND, **o.data(folder, 'no room'))\n"
        )
        offset = (run.folder / "events.jsonl").stat().st_size
        process = subprocess.Popen([sys.executable, "-c", code, str(run.folder)])
        return train.Training(run, process, offset)

    monkeypatch.setattr(fitting, "start", start)
    monkeypatch.setattr("understudy.train.sizing.smaller.can_quantise", lambda: True)
    run = Run(1, 1, str(tmp_path / "none"), tmp_path / "run", recipe(batch_size=2, max_tokens=400))
    events = list(fitted(run, dataset))
    assert [event.kind for event in events].count("train.smaller") == len(tried) - 1
    assert all(one != other for one, other in pairwise(tried))
    assert [one.method for one in tried][-1] == "qlora"
    assert events[-1].kind == "train.failed"
    assert "no smaller way" in events[-1].data["message"]
    assert events[-1].data["exit_code"] == UnderstudyError.exit_code
    assert fitting.remembered(run) == tried[-1]
    other = Run(1, 1, run.student, run.folder, recipe(batch_size=4))
    assert fitting.remembered(other) == other.recipe


@pytest.mark.parametrize(
    ("peak_mb", "kills", "code", "kind"),
    [
        (1e9, 0, -signal.SIGKILL, "train.out_of_memory"),
        (1.0, 0, -signal.SIGKILL, "train.failed"),
        (1.0, -1, -signal.SIGKILL, "train.out_of_memory"),  # the kernel's count has risen
        (1e9, 0, -signal.SIGTERM, "train.failed"),
        (1e9, -1, 3, "train.failed"),
    ],
)
def test_a_kill_by_the_kernel_is_told_from_others(
    tmp_path: Path, peak_mb: float, kills: int, code: int, kind: str
) -> None:
    """SIGKILL means memory only where the kernel counts it, or where the last step had it all."""
    step = json.dumps({"kind": "train.step", "data": {"step": 7, "peak_memory_mb": peak_mb}})
    end = f"os.kill(os.getpid(), {-code})" if code < 0 else f"sys.exit({code})"
    said = f"import os, sys; open(sys.argv[1], 'a').write({step + chr(10)!r}); {end}"
    (tmp_path / "events.jsonl").touch()
    process = subprocess.Popen([sys.executable, "-c", said, str(tmp_path / "events.jsonl")])
    run = Run(1, 1, "tiny", tmp_path, recipe())
    from understudy.train.sizing import machine

    training = train.Training(run, process, 0, oom_kills=machine.oom_kills() + kills)
    assert [event.kind for event in train.follow(training)] == ["train.step", kind]


def causes() -> Iterator[BaseException]:
    """Errors of libraries and of the system that mean it."""
    yield RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
    yield RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    yield MemoryError()
    yield OSError(12, "Cannot allocate memory")
    try:
        try:
            raise MemoryError
        except MemoryError:
            raise SetupError("The model in x cannot be read", "Fetch it again") from None
    except SetupError as error:
        yield error


@pytest.mark.parametrize("error", list(causes()), ids=lambda error: type(error).__name__)
def test_want_of_memory_is_known_by_any_name(error: BaseException) -> None:
    """Whatever was raised on top of it, the cause is found; another cause is not taken for it."""
    assert said(error)
    assert not said(SetupError("The model in x cannot be read", "Fetch it again"))
    assert not said(OSError(28, "No space left on device"))
