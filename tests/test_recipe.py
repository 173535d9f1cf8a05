"""The recipe chosen from data, student and machine: published rules, reasons, what fits."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from students import make_folder, numbers, write_dataset
from understudy.errors import UsageError
from understudy.project import Project
from understudy.run import Method, Recipe
from understudy.train import rules
from understudy.train.job import Job
from understudy.train.recipe import choose, explain
from understudy.train.sizing import need as fits
from understudy.train.sizing.machine import Gpu, Machine
from understudy.train.sizing.shape import Shape

GB = 10**9
CPU = Machine(memory_bytes=16 * GB, free_bytes=12 * GB, disk_bytes=500 * GB, cores=4)


def with_gpu(free: float) -> Machine:
    """A machine with one GPU of so many free GB."""
    gpu = Gpu("NVIDIA A100", 80 * GB, int(free * GB), (8, 0))
    return Machine(64 * GB, 60 * GB, 900 * GB, cores=8, gpus=(gpu,))


LLAMA_7B = {
    "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "vocab_size": 32000,
    "num_attention_heads": 32, "intermediate_size": 11008, "max_position_embeddings": 4096,
    "torch_dtype": "float16",
}  # fmt: skip
SMALL = {**LLAMA_7B, "hidden_size": 256, "num_hidden_layers": 2, "intermediate_size": 512}


def student(folder: Path, config: dict[str, Any]) -> str:
    """A folder whose headers claim the weights of ``config``; there are no weights behind them."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    header = {"a": {"dtype": "F16", "shape": [Shape.of_config(config).parameters]}}
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    return str(folder)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return student(tmp_path_factory.mktemp("students") / "llama", LLAMA_7B)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    return student(tmp_path_factory.mktemp("students") / "small", SMALL)


def settings_told(recipe: Recipe) -> dict[str, str]:
    return {line.setting: line.value for line in explain(recipe) if line.setting}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(4, 3000), min_size=1, max_size=200),
    st.sampled_from([None, CPU, with_gpu(70), with_gpu(12), with_gpu(3)]),
    st.sampled_from([None, "full", "lora", "qlora"]),
    st.integers(0, 500),
)
def test_every_setting_is_explained_as_it_is(
    llama: str, lengths: list[int], machine: Machine | None, method: Method | None, rows: int
) -> None:
    """What is told as a setting's value is its value, and each has a reason; the same again."""
    recipe = choose(llama, lengths, machine=machine, method=method, validation_rows=rows)
    told = settings_told(recipe)
    for name, value in told.items():
        actual = getattr(recipe, name)
        if isinstance(actual, bool):
            assert value == ("on" if actual else "off")
        elif isinstance(actual, float):
            assert float(value) == pytest.approx(actual, rel=1e-4)
        else:
            assert value == str(actual)
    expected = {
        "method", "epochs", "batch_size", "learning_rate", "max_tokens", "packing", "precision",
        "micro_batch_tokens", "gradient_checkpointing", "evaluations", "patience", "save_steps",
    }  # fmt: skip
    assert expected <= told.keys()
    assert all(line.reason.endswith(".") for line in explain(recipe))
    assert method is None or recipe.method == method
    assert recipe.max_tokens >= min(4096, max(lengths))
    assert choose(llama, lengths, machine=machine, method=method, validation_rows=rows) == recipe


def test_tiny_keeps_what_was_measured() -> None:
    """Dates reached 0.97 with these; evaluations are few and never end it early."""
    recipe = choose("tiny", [60, 70, 90] * 500)
    chosen = recipe.model_dump(exclude={"why"})
    assert chosen == Recipe(
        method="full", epochs=12, batch_size=48, learning_rate=3e-3, matrix_learning_rate=0.02,
        weight_decay=0.5, recut_share=0.2, max_tokens=98, save_steps=47, evaluations=3,
    ).model_dump(exclude={"why"})  # fmt: skip
    long = choose("tiny", [60, *[400] * 1000])
    assert (long.batch_size, long.recut_share) == (24, 0)


@pytest.mark.parametrize(
    ("machine", "method", "half"),
    [(with_gpu(75), "lora", True), (with_gpu(8), "qlora", True), (None, "lora", False)],
)
def test_the_method_is_what_fits(
    llama: str, monkeypatch: pytest.MonkeyPatch, machine: Machine, method: str, half: bool
) -> None:
    """Seven billion weights: adapters on a large GPU, on 4 bits on a small one, and it fits."""
    monkeypatch.setattr("understudy.train.sizing.largest.can_quantise", lambda: True)
    recipe = choose(llama, [400] * 500, answers=[100] * 500, machine=machine)
    assert recipe.method == method
    assert (recipe.precision == "bfloat16") == half
    assert recipe.packing
    if machine is not None:
        need = fits.estimate(Shape.of(Path(llama)), recipe, [400] * 500, machine, local=True)
        assert need.memory_bytes < machine.training_bytes


def test_a_small_student_is_trained_in_full_on_a_processor(small: str) -> None:
    """All weights, in float32 where bfloat16 is slower; packing pays there too."""
    recipe = choose(small, [100] * 500, machine=CPU)
    assert (recipe.packing, recipe.method, recipe.precision) == (True, "full", "float32")


def test_what_was_asked_for_stays_and_the_rest_makes_room(llama: str) -> None:
    """Asked-for adapters get smaller passes, and the reasons say so; what cannot fit stays."""
    recipe = choose(llama, [4000] * 500, answers=[100] * 500, machine=with_gpu(24), method="lora")
    assert (recipe.method, recipe.gradient_checkpointing) == ("lora", True)
    told = {line.setting: line.reason for line in explain(recipe)}
    assert "memory" in told["gradient_checkpointing"]
    assert told["method"] == "as asked."
    full = choose(llama, [400] * 500, machine=with_gpu(8), method="full")
    assert full == choose(llama, [400] * 500, machine=with_gpu(70), method="full")


def test_overrides_are_kept_and_decide_what_follows(llama: str) -> None:
    """Fewer passes ask for smaller batches and fewer evaluations; what was asked for is said so."""
    asked = {"epochs": 1, "learning_rate": 1e-5, "method": "lora"}
    recipe = choose(llama, [100] * 500, overrides=asked, machine=with_gpu(75))
    usual = choose(llama, [100] * 500, machine=with_gpu(75))
    assert (recipe.epochs, recipe.learning_rate) == (1, 1e-5)
    assert recipe.batch_size < usual.batch_size
    assert recipe.evaluations < usual.evaluations
    told = {line.setting: line.reason for line in explain(recipe)}
    assert told["epochs"] == told["learning_rate"] == "as asked."
    with pytest.raises(UsageError, match="lora_rank"):
        choose(llama, [100], overrides={"lora_rank": 0})


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"epochs": float("inf")}, "epochs"),
        ({"epochs": 1e300}, "epochs"),
        ({"learning_rate": float("inf")}, "learning_rate"),
        ({"weight_decay": float("nan")}, "weight_decay"),
        ({"seed": 10**20}, "seed"),
        ({"batch_size": 10**20}, "batch_size"),
        ({"why": ["x"]}, "why is no setting"),
        ({"max_tokens": 4097}, "no more than 4,096 tokens"),
    ],
)
def test_what_no_training_can_do_is_refused(
    llama: str, overrides: dict[str, Any], named: str
) -> None:
    """One line names the setting, before anything is planned."""
    with pytest.raises(UsageError, match=named) as refused:
        choose(llama, [100] * 50, overrides=overrides)
    assert "\n" not in str(refused.value)


def test_a_seed_of_the_project_is_checked_too(llama: str) -> None:
    """However it was given."""
    with pytest.raises(UsageError, match="seed"):
        choose(llama, [100] * 50, seed=10**20)


def test_tiny_has_nothing_to_keep() -> None:
    """A student that starts from nothing is not mixed with its own answers."""
    with pytest.raises(UsageError, match="no answers to keep"):
        choose("tiny", [60] * 100, overrides={"base_share": 0.5})
    assert choose("tiny", [60] * 100, overrides={"base_share": 0}).base_share == 0


@pytest.mark.parametrize(("rows", "patience"), [(19, 0), (20, 2)])
def test_few_validation_rows_end_nothing_early(llama: str, rows: int, patience: int) -> None:
    """Nineteen answers are no ground to stop on; twenty are."""
    assert choose(llama, [100] * 500, validation_rows=rows).patience == patience


def test_the_weights_of_a_local_student_decide_what_is_resumed(small: str, tmp_path: Path) -> None:
    """Other weights of the same size, in the same folder, are another training."""
    dataset = write_dataset(tmp_path / "data", numbers(0, 4))
    recipe, weights = choose(small, [100] * 4), Path(small) / "model.safetensors"

    def inputs(student: str) -> str:
        return Job(tmp_path / "run", dataset, student, recipe).inputs()

    before, hub, tiny = inputs(small), inputs("hf:a/b@1"), inputs("tiny")
    assert inputs(small) == before
    os.utime(weights, ns=(1, 1))
    assert inputs(small) != before
    assert (inputs("hf:a/b@1"), inputs("tiny")) == (hub, tiny)


def test_prompts_beyond_the_context_are_refused_before_a_run_is_made(tmp_path: Path) -> None:
    """No row has room for an answer, which is known before anything is started."""
    student = make_folder(tmp_path / "student")
    with (tmp_path / "own.csv").open("w", newline="") as file:
        long = [(f"{asked} " * 300, answer) for asked, answer in numbers(0, 60)]
        csv.writer(file).writerows([("prompt", "response"), *long])
    project = Project.new(tmp_path / "p", "Reverse a number", {"student": str(student)})
    project.import_examples(tmp_path / "own.csv")
    project.freeze()
    with pytest.raises(UsageError, match="none has an answer within 512 tokens"):
        project.train()
    assert not [event for event in project.events() if event.kind == "train.start"]
    project.close()


# -- the rules ---------------------------------------------------------------------------------


def shape(hidden: int, layers: int = 32) -> Shape:
    return Shape.of_config({**LLAMA_7B, "hidden_size": hidden, "num_hidden_layers": layers})


def test_rates_are_the_published_ones() -> None:
    """The cookbook's figures for Llama shapes and Qwen; QLoRA's own as the most on 4 bits."""
    llama, large = shape(4096), shape(8192, layers=80)
    assert rules.learning_rate(llama, "lora", "llama").value == pytest.approx(2.9e-4, rel=0.02)
    assert rules.learning_rate(llama, "full", "llama").value == pytest.approx(2.9e-5, rel=0.02)
    assert rules.learning_rate(llama, "lora", "qwen3").value == pytest.approx(4.7e-4, rel=0.02)
    assert rules.learning_rate(llama, "qlora", "llama").value == 2e-4
    assert rules.learning_rate(large, "qlora", "llama").value == 1e-4


@given(st.integers(64, 8192), st.integers(64, 8192), st.sampled_from(["lora", "full", "qlora"]))
def test_wider_students_never_get_a_higher_rate(one: int, other: int, method: Method) -> None:
    """The rate falls with width, whatever the method."""
    narrow, wide = sorted((one, other))
    assert (
        rules.learning_rate(shape(narrow), method, "llama").value
        >= rules.learning_rate(shape(wide), method, "llama").value
    )


@given(st.integers(1, 200_000))
def test_passes_and_batches_leave_steps_to_learn_in(rows: int) -> None:
    """One to five passes, more over fewer rows; a batch above the least leaves a hundred steps."""
    passes = rules.epochs(rows).value
    assert 1 <= passes <= 5
    assert rules.epochs(rows + 1).value <= passes
    batch = rules.batch_size(rows, passes, "lora").value
    assert batch in (4, 8, 16)
    assert batch == 4 or rows * passes / batch >= 100


@given(st.integers(1, 10**9), st.integers(1, 10**9))
def test_more_to_learn_never_gets_a_lower_rank(one: int, other: int) -> None:
    """The smallest rank for little data; room for two bits a weight where there is more."""
    few, many = sorted((one, other))
    llama = shape(2048, layers=16)
    low, high = rules.lora_rank(llama, few).value, rules.lora_rank(llama, many).value
    assert 16 <= low <= high <= 256
    assert high == 256 or 2 * llama.adapter_parameters(int(high)) >= many
