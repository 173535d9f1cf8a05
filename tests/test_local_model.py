"""A local model: batches, token counts, endings, cancelling, and what it refuses."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from students import make_folder, numbers, recipe, train_here, write_dataset
from understudy.errors import SetupError
from understudy.example import Message
from understudy.models import local
from understudy.models.local import Local
from understudy.models.protocol import CallFailed, Reply, Request

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries that run models


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny student that has learnt to end its answers."""
    where = tmp_path_factory.mktemp("student")
    dataset = write_dataset(where / "data", numbers(0, 64), system="")
    train_here(where / "run", dataset, recipe(epochs=8, batch_size=16))
    return where / "run" / "model"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model") / "qwen")


def ask(text: str, max_tokens: int = 16, temperature: float | None = None) -> Request:
    return Request((Message("user", text),), max_tokens, temperature=temperature)


def with_model(folder: Path, work: Callable[[Local], Awaitable[Any]], **options: Any) -> Any:
    """Run ``work`` with an open model."""

    async def run() -> Any:
        model = Local(folder, name="run:1", **options)
        try:
            return await work(model)
        finally:
            await model.close()

    return asyncio.run(run())


async def all_of(model: Local, requests: list[Request]) -> list[Reply]:
    return await asyncio.gather(*map(model.complete, requests))


REQUESTS = [ask(f"number {n}" + " please" * (n % 5)) for n in range(23)]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """How many rows shared each pass of the model, and how many tokens of each it read."""
    shapes: list[tuple[int, int]] = []
    load = local.load_model

    def note(_: Any, __: Any, given: dict[str, Any]) -> None:
        shapes.append(tuple(given["input_ids"].shape))

    def watched(folder: Path) -> Any:
        model = load(folder)
        model.register_forward_pre_hook(note, with_kwargs=True)
        return model

    monkeypatch.setattr(local, "load_model", watched)
    return shapes


def test_together_the_answers_are_the_same_as_alone(
    student: Path, passes: list[tuple[int, int]]
) -> None:
    """Requests made together share passes; nobody's answer depends on the company."""

    async def alone(model: Local) -> list[Reply]:
        return [await model.complete(request) for request in REQUESTS]

    together = with_model(student, lambda model: all_of(model, REQUESTS), max_batch=8)
    shared = len(passes)
    assert max(rows for rows, _ in passes) == 8
    passes.clear()
    one_by_one = with_model(student, alone)
    assert {rows for rows, _ in passes} == {1}
    assert len(passes) > 2 * shared
    plain = [(reply.text, reply.finish, reply.output_tokens) for reply in together]
    assert plain == [(reply.text, reply.finish, reply.output_tokens) for reply in one_by_one]
    assert "stop" in {reply.finish for reply in together}
    assert len({reply.text for reply in together}) > 5
    assert all(reply.model == "run:1" for reply in together)


def test_replies_count_tokens_and_say_how_they_ended(student: Path) -> None:
    """Cut at max_tokens the finish is ``length``; the counts are those of prompt and answer."""

    async def work(model: Local) -> list[Reply]:
        return await all_of(
            model, [ask("number 123", 1), ask("number 123"), ask("number 123 " * 9)]
        )

    cut, whole, longer = with_model(student, work)
    assert (cut.finish, cut.output_tokens) == ("length", 1)
    assert whole.finish == "stop"
    assert whole.text.startswith(cut.text)
    assert 1 <= whole.output_tokens < 16
    assert longer.input_tokens > whole.input_tokens == cut.input_tokens
    assert whole.latency_s > 0


def test_temperature_draws_and_none_is_greedy(folder: Path, passes: list[tuple[int, int]]) -> None:
    """At a temperature answers differ; without one, and at zero, they do not."""
    greedy = [ask("number 5"), ask("number 5", temperature=0), ask("number 5")]
    drawn = [ask("number 5", temperature=1.5) for _ in range(4)]
    replies = with_model(folder, lambda model: all_of(model, [*greedy, *drawn]))
    assert len({reply.text for reply in replies[:3]}) == 1
    assert len({reply.text for reply in replies[3:]}) > 1
    assert max(rows for rows, _ in passes) > 4  # the drawn are four


def test_a_cancelled_request_is_dropped_and_the_others_are_answered(
    student: Path, passes: list[tuple[int, int]]
) -> None:
    """Cancelled before its turn, a request costs nothing and harms nobody."""

    async def work(model: Local) -> list[Any]:
        await model.complete(ask("number 1"))
        tasks = [asyncio.create_task(model.complete(request)) for request in REQUESTS[:6]]
        await asyncio.sleep(0)
        tasks[2].cancel()
        tasks[4].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = with_model(student, work)
    assert [isinstance(result, Reply) for result in results] == [
        True,
        True,
        False,
        True,
        False,
        True,
    ]
    assert max(rows for rows, _ in passes) <= 4


def test_nobody_waits_for_a_cancelled_answer(folder: Path) -> None:
    """A long answer is given up in the middle once nobody wants it, and the loop stays free."""

    async def work(model: Local) -> int:
        await model.complete(ask("number 1", 2))
        long = asyncio.create_task(model.complete(ask("number 1", 480)))
        turns = 0
        while turns < 5:
            await asyncio.sleep(0)
            turns += 1
        long.cancel()
        reply = await model.complete(ask("number 1", 2))
        assert isinstance(reply, Reply)
        return turns

    assert with_model(folder, work) == 5


def test_closing_drops_what_waits(student: Path) -> None:
    """After ``close`` waiting requests have failed and new ones are refused."""

    async def work() -> list[Any]:
        model = Local(student, name="run:1")
        await model.complete(ask("number 1"))
        waiting = [asyncio.create_task(model.complete(ask("number 2"))) for _ in range(3)]
        await asyncio.sleep(0)
        await model.close()
        with pytest.raises(CallFailed, match="closed"):
            await model.complete(ask("number 3"))
        return await asyncio.gather(*waiting, return_exceptions=True)

    assert all(isinstance(end, CallFailed | Reply) for end in asyncio.run(work()))


def test_a_prompt_that_does_not_fit_fails_alone(folder: Path) -> None:
    """Too long for the model: that call fails and says why, the others are answered."""

    async def work(model: Local) -> list[Any]:
        calls = [model.complete(ask("number 1")), model.complete(ask("9 " * 600))]
        return await asyncio.gather(*calls, return_exceptions=True)

    fine, failed = with_model(folder, work)
    assert isinstance(fine, Reply)
    assert isinstance(failed, CallFailed)
    assert "reads 512" in str(failed)


def test_messages_that_the_template_refuses_fail_alone(student: Path) -> None:
    """A role that the template does not know is an error of that call."""

    async def work(model: Local) -> list[Any]:
        odd = Request((Message("tool", "x"),), 4)  # type: ignore[arg-type]
        return await asyncio.gather(
            model.complete(odd), model.complete(ask("number 1")), return_exceptions=True
        )

    refused, fine = with_model(student, work)
    assert isinstance(refused, SetupError)
    assert "template" in str(refused)
    assert isinstance(fine, Reply)


def test_thinking_in_front_of_an_answer_is_not_part_of_it(
    student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty thinking block, as some templates write it, is left out of the text."""
    from understudy.models.huggingface import load_tokenizer

    tokenizer = load_tokenizer(student)
    ids = tokenizer("<think>\n\n</think>\n\n42", add_special_tokens=False).input_ids
    told = iter([*ids, tokenizer.eos_token_id])
    load = local.load_model

    def say(_: Any, __: Any, said: Any) -> None:
        said.logits[:, -1, next(told)] = 1000

    def saying(folder: Path) -> Any:
        model = load(folder)
        model.register_forward_hook(say)
        return model

    monkeypatch.setattr(local, "load_model", saying)
    reply = with_model(student, lambda model: model.complete(ask("number 24", 64)))
    assert reply.text == "42"


def test_a_model_that_cannot_be_loaded_says_so_to_everyone(student: Path, tmp_path: Path) -> None:
    """A folder without a model is refused at once, a damaged one at the first call."""
    with pytest.raises(SetupError, match="no model folder"):
        Local(tmp_path / "none", name="hf:none")
    broken = tmp_path / "broken"
    shutil.copytree(student, broken)
    (broken / "model.safetensors").write_bytes(b"\x08" * 64)

    async def work(model: Local) -> list[Any]:
        calls = [model.complete(ask("a")), model.complete(ask("b"))]
        return await asyncio.gather(*calls, return_exceptions=True)

    results = with_model(broken, work)
    assert all(isinstance(result, SetupError) for result in results)
    assert "cannot be read" in str(results[0])


@pytest.mark.parametrize("package", ["transformers", "torch"])
def test_without_the_extra_the_pip_line_is_said(
    student: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    """Without torch or transformers, one line names the command that installs them."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SetupError, match=r'pip install "understudy\[train\]"'):
        with_model(student, lambda model: model.complete(ask("number 1")))
