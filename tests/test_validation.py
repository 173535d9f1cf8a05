"""Validation while training: what is measured, that it leaves no trace, and when it ends early."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from students import Heard, make_folder, numbers, recipe, train_here, write_dataset
from understudy.example import Message
from understudy.run import Run
from understudy.task import Spec

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries that train

ADAM = {"matrix_learning_rate": 0, "recut_share": 0, "weight_decay": 0}
LABELS = Spec(
    title="numbers", input="a number", output="its mirror", kind="label", labels=("A", "a"),
    system_message="Repeat it",
)  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "1", numbers(0, 48), numbers(48, 60))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student that drops out, so that a training depends on the random numbers it draws."""
    made = make_folder(tmp_path_factory.mktemp("model") / "qwen")
    config = json.loads((made / "config.json").read_text())
    (made / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.2}))
    return made


def weights(run_folder: Path) -> bytes:
    return (run_folder / "model" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_training_is_the_same_however_often_it_is_looked_at(
    dataset: Path, folder: Path, tmp_path: Path, method: str
) -> None:
    """With many evaluations and with none at all: equal losses, equal weights, equal settings."""
    settings = {**ADAM, "method": method, "lora_rank": 4 if method == "lora" else 0}
    (tmp_path / "blind").mkdir()
    (tmp_path / "blind" / "train.jsonl").write_bytes((dataset / "train.jsonl").read_bytes())
    seen = train_here(tmp_path / "a", dataset, recipe(**settings, evaluations=6), str(folder))
    blind = train_here(tmp_path / "b", tmp_path / "blind", recipe(**settings), str(folder))
    assert len(seen.of("train.evaluation")) == 6
    assert blind.of("train.evaluation") == []
    assert seen.losses == blind.losses
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    generation = [tmp_path / name / "model" / "generation_config.json" for name in "ab"]
    assert generation[0].read_bytes() == generation[1].read_bytes()


def test_what_is_said_is_what_the_saved_student_answers(dataset: Path, tmp_path: Path) -> None:
    """The last evaluation's samples are the saved student's own answers, graded by the task."""
    from understudy.models.local import Local
    from understudy.models.protocol import Request
    from understudy.train.rows import read_rows

    heard = train_here(tmp_path / "run", dataset, recipe(epochs=6, evaluations=3))
    said = heard.of("train.evaluation")
    assert [one["step"] for one in said] == [12, 24, 36]
    assert said[-1]["loss"] < said[0]["loss"]
    assert {one["rows"] for one in said} == {12}
    assert said[-1]["score"] >= sum(one["right"] for one in said[-1]["samples"]) / 12
    done = heard.of("train.done")[0]
    assert done["validation_loss"] == said[-1]["loss"]
    assert done["validation_score"] == said[-1]["score"]

    async def ask(prompt: tuple[Message, ...]) -> str:
        model = Local(tmp_path / "run" / "model", name="student")
        reply = await model.complete(Request(messages=prompt, max_tokens=20))
        await model.close()
        return reply.text

    first = read_rows(dataset / "validation.jsonl")[0]
    sample = said[-1]["samples"][0]
    assert sample["input"] == first.prompt[-1].content
    assert sample["expected"] == first.answer
    assert sample["answer"] == asyncio.run(ask(first.prompt))
    assert sample["right"] == (sample["answer"] == sample["expected"])


def test_the_loss_is_the_mean_over_answer_tokens(dataset: Path, folder: Path) -> None:
    """Batched and padded, it is what each row by itself has."""
    import torch

    from understudy.models.huggingface import load_model, load_tokenizer
    from understudy.train import validation
    from understudy.train.rows import read_rows

    tokenizer, model = load_tokenizer(folder), load_model(folder)
    rows = read_rows(dataset / "validation.jsonl")
    held = validation.held_out(tokenizer, rows, max_tokens=256)
    assert held is not None
    evaluation, answers = validation.evaluate(model, tokenizer, held, None, recipe(), step=1)
    total, count = 0.0, 0
    for prompt, answer in zip(held.prompts, held.answers, strict=True):
        with torch.no_grad():
            log_probs = model(torch.tensor([[*prompt, *answer]])).logits.log_softmax(-1)[0]
        for at, token in enumerate(answer, len(prompt) - 1):
            total -= float(log_probs[at, token])
            count += 1
    assert evaluation.loss == pytest.approx(total / count, rel=1e-4)
    assert len(answers) == evaluation.rows == 12


@pytest.mark.parametrize(("spec", "score"), [(None, 1.0), (LABELS, 0.0)])
def test_the_score_is_the_tasks_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch, spec: Spec | None, score: float
) -> None:
    """An answer in other letters is right as text, and wrong where letters tell labels apart."""
    from understudy.models.huggingface import load_model, load_tokenizer
    from understudy.train import validation
    from understudy.train.rows import Row

    tokenizer = load_tokenizer(folder)
    (spoken,) = tokenizer(["a"], add_special_tokens=False).input_ids
    monkeypatch.setattr(
        validation,
        "generate",
        lambda _, prompts, **__: [[*spoken, tokenizer.eos_token_id, 5] for _ in prompts],
    )
    held = validation.held_out(tokenizer, [Row(1, (Message("user", "x"),), "A")], max_tokens=99)
    assert held is not None
    measured, answers = validation.evaluate(
        load_model(folder), tokenizer, held, spec, recipe(), step=1
    )
    assert answers == ["a"]
    assert measured.score == score


def test_the_spec_travels_to_the_trainer(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``start`` is given is what the trainer reads; it decides weights only with patience."""
    from understudy import train
    from understudy.train.job import Job, read_job

    monkeypatch.setattr(train.subprocess, "Popen", lambda *_, **__: None)
    run = Run(1, 1, "tiny", tmp_path / "run", recipe())
    train.start(run, dataset, spec=LABELS, saves=False)
    job = read_job(run.folder, dataset)
    assert (job.spec, job.saves) == (LABELS, False)
    train.start(run, dataset)
    assert read_job(run.folder, dataset) == Job(run.folder, dataset, "tiny", recipe())
    for settings, same in ((recipe(), True), (recipe(patience=2), False)):
        jobs = [Job(run.folder, dataset, "tiny", settings, spec) for spec in (None, LABELS)]
        assert (jobs[0].inputs() == jobs[1].inputs()) == same


# -- patience ----------------------------------------------------------------------------------

HASTY: dict[str, Any] = {
    **ADAM, "learning_rate": 0.05, "epochs": 4, "evaluations": 12, "patience": 3, "save_steps": 1,
}  # fmt: skip
"""A rate that destroys: the student is best early on."""


class Ended(NamedTuple):
    folder: Path
    heard: Heard
    last: int


@pytest.fixture(scope="module")
def whole(dataset: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """A training that nobody interrupted."""
    made = tmp_path_factory.mktemp("whole")
    heard = train_here(made, dataset, recipe(**HASTY), str(folder))
    return Ended(made, heard, heard.of("train.done")[0]["steps"])


def test_it_ends_early_and_keeps_the_best_weights(whole: Ended, dataset: Path) -> None:
    """The saved student is the best one that was measured, not the last."""
    from understudy.models.huggingface import load_model, load_tokenizer
    from understudy.train import validation
    from understudy.train.rows import read_rows

    said, done = whole.heard.of("train.evaluation"), whole.heard.of("train.done")[0]
    best = max(said, key=lambda one: (one["score"], -one["loss"]))
    assert done["steps"] == said[-1]["step"] < 24
    assert [one["step"] for one in said].index(best["step"]) == len(said) - 1 - 3
    assert done["best_step"] == best["step"] == whole.heard.of("train.best")[0]["step"]
    assert done["validation_loss"] == best["loss"]
    saved = whole.folder / "model"
    tokenizer = load_tokenizer(saved)
    held = validation.held_out(tokenizer, read_rows(dataset / "validation.jsonl"), max_tokens=256)
    assert held is not None
    again, _ = validation.evaluate(load_model(saved), tokenizer, held, None, recipe(), step=1)
    assert again.loss == pytest.approx(best["loss"], abs=1e-5)


def test_a_training_that_goes_on_knows_its_earlier_evaluations(
    dataset: Path, folder: Path, tmp_path: Path
) -> None:
    """Adapters, stopped and started again: the same end at the same step, the same weights."""
    settings = recipe(**{**HASTY, "method": "lora", "lora_rank": 4})
    alone = train_here(tmp_path / "whole", dataset, settings, str(folder))
    last = alone.of("train.done")[0]["steps"]
    stops = (last - 3, 0)
    parts = [train_here(tmp_path / "parts", dataset, settings, str(folder), at=at) for at in stops]
    assert parts[1].of("train.resumed")[0]["step"] == last - 2
    measured = {one["step"]: one for part in parts for one in part.of("train.evaluation")}
    assert list(measured.values()) == alone.of("train.evaluation")
    for name in ("steps", "best_step", "validation_loss"):
        assert parts[1].of("train.done")[0][name] == alone.of("train.done")[0][name]
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")


def test_stopped_before_its_early_end_was_saved(
    whole: Ended, dataset: Path, folder: Path, tmp_path: Path
) -> None:
    """A save that failed: started again it trains no further, it has only to save the best."""
    in_the_way = tmp_path / "run" / ".model.new"
    in_the_way.parent.mkdir()
    in_the_way.write_text("a file where a folder has to be")
    with pytest.raises(OSError, match="exists"):
        train_here(tmp_path / "run", dataset, recipe(**HASTY), str(folder))
    in_the_way.unlink()
    again = train_here(tmp_path / "run", dataset, recipe(**HASTY), str(folder))
    assert again.losses == {}
    assert weights(tmp_path / "run") == weights(whole.folder)
    assert again.of("train.done")[0]["best_step"] == whole.heard.of("train.done")[0]["best_step"]


def test_a_best_checkpoint_that_is_damaged_is_said(
    whole: Ended, dataset: Path, folder: Path, tmp_path: Path
) -> None:
    """Rotation spares the best; where it is damaged the last weights are kept, and that is said."""
    run, stop = tmp_path / "run", whole.last - 2
    train_here(run, dataset, recipe(**HASTY), str(folder), at=stop)
    best = f"checkpoint-{whole.heard.of('train.done')[0]['best_step']}"
    kept = {path.name for path in run.glob("checkpoint-*")}
    assert kept == {best, f"checkpoint-{stop}", f"checkpoint-{stop + 1}"}
    assert len(kept) == 3
    victim = run / best / "model.safetensors"
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(content)
    heard = train_here(run, dataset, recipe(**HASTY), str(folder))
    (told,) = heard.of("train.best")
    assert best in told["ignored"][0]
    done = heard.of("train.done")[0]
    assert done["best_step"] == done["steps"] == told["step"] == whole.last
    assert weights(run) != weights(whole.folder)


@given(st.lists(st.integers(0, 3), max_size=12), st.integers(0, 5))
def test_patience_ends_when_so_many_were_no_better(scores: list[int], patience: int) -> None:
    """Not before, not with patience 0, and a training that still gets better never ends."""
    from understudy.train.validation import Evaluation, out_of_patience

    measured = [Evaluation(step, 1.0, score, 9) for step, score in enumerate(scores, 1)]
    ended = out_of_patience(measured, patience)
    since = len(scores) - 1 - scores.index(max(scores)) if scores else 0
    assert ended == (patience > 0 and since >= patience)


@given(st.integers(0, 9), st.integers(1, 2000))
def test_evaluations_are_spread_evenly_and_the_last_is_at_the_end(times: int, steps: int) -> None:
    """As many as asked where there are steps enough, each within the training."""
    from understudy.train.validation import due

    when = sorted(due(recipe(evaluations=times), steps))
    assert when[-1] == steps
    assert when[0] >= 1
    assert len(when) <= max(1, times)
    if steps >= 2 * times > 0:
        assert len(when) == times
        gaps = [after - before for before, after in zip([0, *when], when, strict=False)]
        assert max(gaps) - min(gaps) <= 2
        assert math.isclose(sum(gaps), steps)
