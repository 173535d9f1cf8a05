"""Fits or not: the machine, a model's shape, the rows' lengths, the estimate, the choice."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from students import SYSTEM, make_folder, numbers, recipe, write_dataset
from understudy.errors import SetupError
from understudy.run import Recipe
from understudy.train.rows import encode_rows, read_rows
from understudy.train.sizing import lengths, machine
from understudy.train.sizing.largest import advice, choose_fitting
from understudy.train.sizing.machine import Gpu, look
from understudy.train.sizing.need import Machine, Shape, estimate, saving_bytes
from understudy.train.sizing.smaller import smaller

GB = 10**9
LLAMA_7B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "intermediate_size": 11008,
    "vocab_size": 32000,
    "num_attention_heads": 32,
    "dtype": "float16",
}
HERE = Machine(memory_bytes=16 * GB, free_bytes=14 * GB, disk_bytes=10**13, cores=4)
PRESETS = [("small", 360_000_000), ("middle", 1_700_000_000), ("large", 30_000_000_000)]


def write(root: Path, files: dict[str, str]) -> Path:
    """A made-up /proc and /sys."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = "MemTotal: 16000000 kB\nMemFree: 1000000 kB\nMemAvailable: 12000000 kB\n"


# -- the machine -------------------------------------------------------------------------------


def test_nothing_but_limits_bounds_a_machine(tmp_path: Path) -> None:
    """Without limits it is what the kernel says; a folder that is not there yet has a disk."""
    root = write(tmp_path, {"proc/meminfo": MEMINFO, "proc/cpuinfo": "flags : avx2 amx_bf16\n"})
    seen = look(tmp_path / "not" / "yet", root=root)
    assert (seen.memory_bytes, seen.free_bytes) == (16_000_000 * 1024, 12_000_000 * 1024)
    assert (seen.limit, seen.bf16, seen.vectors) == ("", True, "avx2")
    assert seen.disk_bytes > 0
    assert seen.cores >= 1


@pytest.mark.parametrize(
    ("cpu", "fast"),
    [
        ("vendor_id : AuthenticAMD\nflags : avx512f avx512_bf16", True),
        ("vendor_id : GenuineIntel\nflags : avx512f avx512_bf16", False),
        ("vendor_id : GenuineIntel\nflags : avx512f avx512_bf16 amx_bf16", True),
        ("vendor_id : AuthenticAMD\nflags : avx2", False),
        ("Features : asimd bf16", False),
    ],
)
def test_half_precision_is_used_where_it_is_fast(tmp_path: Path, cpu: str, fast: bool) -> None:
    """The same instruction is fast from one maker and slow from another."""
    both = f"processor : 0\n{cpu}\n\nprocessor : 1\n{cpu}\n"
    root = write(tmp_path, {"proc/meminfo": MEMINFO, "proc/cpuinfo": both})
    assert look(tmp_path, root=root).bf16 is fast


def test_a_container_counts_as_what_it_may_use(tmp_path: Path) -> None:
    """Version 2: the tightest of the nested limits, cached files as free, a share of processors."""
    root = write(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/a/memory.max": "4000000000\n",
            "sys/fs/cgroup/a/memory.current": "1500000000\n",
            "sys/fs/cgroup/a/memory.stat": "anon 1\ninactive_file 500000000\n",
            "sys/fs/cgroup/a/b/memory.max": "max\n",
            "sys/fs/cgroup/a/cpu.max": "50000 100000\n",
            "sys/fs/cgroup/a/b/memory.events": "oom 3\noom_kill 2\n",
            "proc/vmstat": "nr_free_pages 1\noom_kill 5\n",
        },
    )
    seen = look(tmp_path, root=root)
    assert (seen.memory_bytes, seen.free_bytes, seen.cores) == (4 * GB, 3 * GB, 1)
    assert seen.limit == "cgroup"
    assert machine.oom_kills(root) == 7


def test_an_old_container_too(tmp_path: Path) -> None:
    """Version 1: a limit, and the number that stands for none."""
    folder = "sys/fs/cgroup/memory/c"
    root = write(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "4:memory:/c\n3:cpu,cpuacct:/\n",
            f"{folder}/memory.limit_in_bytes": "2000000000\n",
            f"{folder}/memory.usage_in_bytes": "500000000\n",
            f"{folder}/memory.oom_control": "oom_kill_disable 0\noom_kill 4\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
    )
    seen = look(tmp_path, root=root)
    assert (seen.memory_bytes, seen.free_bytes) == (2 * GB, 1_500_000_000)
    assert machine.oom_kills(root) == 4


@pytest.mark.parametrize("kind", ["AS", "DATA"])
def test_ulimits_count_and_nothing_heavy_is_loaded(tmp_path: Path, kind: str) -> None:
    """Under ulimit a machine is as large as that; the question alone imports no torch."""
    code = (
        "import resource, sys; from pathlib import Path\n"
        f"resource.setrlimit(resource.RLIMIT_{kind}, (4_000_000_000, 4_000_000_000))\n"
        "from understudy.train.sizing import largest, lengths, machine, need, smaller\n"
        "seen = machine.look(Path('.'))\n"
        "print(seen.memory_bytes, seen.free_bytes, seen.limit)\n"
        "assert not {'torch', 'transformers', 'trl', 'numpy'} & sys.modules.keys()\n"
    )
    said = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, text=True)
    total, free, name = said.split(maxsplit=2)
    assert int(free) < int(total) == 4_000_000_000
    assert name.startswith("ulimit")


@pytest.mark.parametrize(
    ("visible", "names"),
    [(None, ["A", "B"]), ("1", ["B"]), ("1,0", ["B", "A"]), ("", []), ("-1", []), ("GPU-b", ["B"])],
)
def test_gpus_are_those_that_cuda_would_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, names: list[str]
) -> None:
    """nvidia-smi says which there are, CUDA_VISIBLE_DEVICES which of them count."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\n"
        "echo '0, GPU-aa, A, 16384, 16000, 7.5'\n"
        "echo '1, GPU-bb, B, 81920, 80000, 9.0'\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(machine.metadata, "version", lambda _name: "2.13.0")
    seen = look(tmp_path, environ={} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    assert [gpu.name for gpu in seen.gpus] == names
    assert all(gpu.bf16 == (gpu.name == "B") for gpu in seen.gpus)
    monkeypatch.setattr(machine.metadata, "version", lambda _name: "2.13.0+cpu")
    assert look(tmp_path).gpus == ()


# -- shapes ------------------------------------------------------------------------------------

_SMALL = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 500}
_FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"intermediate_size": 200, "num_key_value_heads": 2},
    "qwen2": {"intermediate_size": 200, "tie_word_embeddings": True},
    "qwen3": {"intermediate_size": 200, "head_dim": 32},
    "mistral": {"intermediate_size": 100, "num_key_value_heads": 1},
    "gemma2": {"intermediate_size": 150, "head_dim": 16},
    "gemma3_text": {"intermediate_size": 150, "head_dim": 16},
    "phi3": {"intermediate_size": 150, "pad_token_id": 0},
    "opt": {"ffn_dim": 256},
    "gpt_neox": {"intermediate_size": 256},
    "gpt2": {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 64},
    "mixtral": {"intermediate_size": 90, "num_local_experts": 5, "num_experts_per_tok": 2},
    "qwen3_moe": {"moe_intermediate_size": 40, "num_experts": 6, "intermediate_size": 90},
}


@pytest.mark.parametrize("family", _FAMILIES)
@pytest.mark.filterwarnings("default")
def test_a_shape_has_as_many_weights_as_the_model(family: str, tmp_path: Path) -> None:
    """For each family the weights by formula are those of the real model, but for the small ones.

    Positions of gpt2 and opt, norms and biases are left out: under four in a hundred here.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(family, **{**_SMALL, "max_position_embeddings": 64}
                                  | _FAMILIES[family])  # fmt: skip
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    real = sum(weight.numel() for weight in model.parameters())
    config.save_pretrained(tmp_path)
    shape = Shape.of_config(json.loads((tmp_path / "config.json").read_text()))
    assert shape.parameters == pytest.approx(real, rel=0.05)
    assert shape.used_parameters <= shape.parameters


def test_a_known_model_has_its_known_size() -> None:
    """Llama 2 7B: 6.74 billion weights, and 40 million in adapters of rank 16."""
    shape = Shape.of_config(LLAMA_7B)
    assert shape.parameters == pytest.approx(6.74e9, rel=0.001)
    assert shape.adapter_parameters(16) == 39_976_960  # as PEFT counts them
    assert Shape.of_config({"text_config": LLAMA_7B, "vision_config": {}}) == shape


@pytest.mark.parametrize("wrong", [None, "many", -3, 0, [1], True])
def test_a_config_without_sizes_is_an_error(wrong: Any) -> None:
    """A size that is missing or no number is named."""
    with pytest.raises(SetupError, match="hidden_size"):
        Shape.of_config({**LLAMA_7B, "hidden_size": wrong})


@given(st.integers(10**6, 10**12))
def test_a_typical_shape_has_the_size_asked_for(parameters: int) -> None:
    """Where there is no config, the number of weights is kept."""
    assert Shape.typical(parameters).parameters == parameters


# -- lengths -----------------------------------------------------------------------------------


def test_lengths_are_those_of_training(tmp_path: Path) -> None:
    """Counted without transformers, a row is as long as in training; never shorter."""
    from understudy.models.huggingface import load_tokenizer

    folder = make_folder(tmp_path / "student")
    rows = read_rows(write_dataset(tmp_path / "data", numbers(0, 80)) / "train.jsonl")
    real = encode_rows(load_tokenizer(folder), rows, max_tokens=10**6)
    measured = lengths.of_rows(folder, rows)
    assert measured.exact
    assert measured.answers == real.answer_lengths
    assert {ours - its for ours, its in zip(measured.tokens, real.lengths, strict=True)} <= {0, 1}
    (folder / "chat_template.jinja").unlink()
    assert "chat template" in lengths.of_rows(folder, rows).how
    (folder / "tokenizer.json").write_text("{")
    fallback = lengths.of_rows(folder, rows)
    assert not fallback.exact
    assert "bytes" in fallback.how
    assert all(len(SYSTEM) < ours for ours in fallback.tokens)


# -- the estimate ------------------------------------------------------------------------------

shapes = st.builds(
    Shape,
    hidden=st.sampled_from([64, 512, 4096]),
    layers=st.integers(2, 40),
    intermediate=st.sampled_from([256, 2048, 11008]),
    vocabulary=st.sampled_from([500, 32000, 151936]),
    heads=st.sampled_from([4, 32]),
    kv_heads=st.sampled_from([1, 4]),
    head_size=st.sampled_from([16, 128]),
    tied=st.booleans(),
)
recipes = st.builds(
    lambda method, **rest: recipe(method=method, lora_rank=0 if method == "full" else 16, **rest),
    method=st.sampled_from(["full", "lora", "qlora"]),
    batch_size=st.integers(1, 64),
    max_tokens=st.integers(64, 4096),
    micro_batch_tokens=st.integers(64, 32768),
    gradient_checkpointing=st.booleans(),
    precision=st.sampled_from(["float32", "bfloat16"]),
)
row_lengths = st.lists(st.integers(1, 5000), min_size=1, max_size=50)


@given(shapes, recipes, row_lengths)
def test_more_never_needs_less(shape: Shape, asked: Recipe, rows: list[int]) -> None:
    """More layers or rows in a pass never take less memory, more passes never less time."""
    need = estimate(shape, asked, rows, HERE)
    wider = asked.model_copy(update={"micro_batch_tokens": 2 * asked.micro_batch_tokens})
    assert estimate(shape, wider, rows, HERE).memory_bytes >= need.memory_bytes
    deeper = estimate(replace(shape, layers=2 * shape.layers), asked, rows, HERE)
    assert deeper.memory_bytes > need.memory_bytes
    assert deeper.training_s[1] > need.training_s[1]
    longer = asked.model_copy(update={"epochs": 2 * asked.epochs})
    assert estimate(shape, longer, rows, HERE).training_s[0] > need.training_s[0]
    assert 0 < need.training_s[0] < need.training_s[1]
    assert need.host_bytes == need.memory_bytes  # nothing but a processor here


@given(shapes, recipes, row_lengths, st.integers(1, 400))
def test_what_is_chosen_fits(shape: Shape, asked: Recipe, rows: list[int], free: int) -> None:
    """A choice that fits does by its own estimate; more memory never takes a good thing away."""
    here = replace(HERE, memory_bytes=free * GB // 2, free_bytes=free * GB // 2)
    chosen = choose_fitting(shape, asked, rows, here)
    assert chosen.fits == (not chosen.need.lacking(here)) == (not chosen.lacking)
    assert chosen.recipe.batch_size == asked.batch_size
    more = choose_fitting(shape, asked, rows, replace(here, free_bytes=2 * here.free_bytes))
    assert more.fits >= chosen.fits
    if chosen.fits:
        assert more.recipe.max_tokens >= chosen.recipe.max_tokens
        assert bool(chosen.changes) == (
            chosen.recipe.model_dump(exclude={"why"}) != asked.model_dump(exclude={"why"})
        )
    if not estimate(shape, asked, rows, here).lacking(here):
        assert chosen.recipe == asked


def test_a_model_that_does_not_fit_gets_advice() -> None:
    """7 billion weights in 9 GB: no way is found, and the largest preset that fits is named."""
    here = replace(HERE, free_bytes=9 * GB)
    chosen = choose_fitting(Shape.of_config(LLAMA_7B), recipe(), [200], here, presets=PRESETS)
    assert not chosen.fits
    assert any("GB of memory" in reason for reason in chosen.lacking)
    assert chosen.preset == "middle"
    assert "middle" in advice(chosen)
    none = choose_fitting(Shape.of_config(LLAMA_7B), recipe(), [200], replace(here, free_bytes=1))
    assert "tiny" in advice(none)


def test_what_was_asked_for_stays() -> None:
    """A method that the user named is not changed, and then it may not fit."""
    shape = Shape.of_config(LLAMA_7B)
    here = replace(HERE, free_bytes=60 * GB)
    assert choose_fitting(shape, recipe(), [200], here).recipe.method == "lora"
    stubborn = choose_fitting(shape, recipe(), [200], here, fixed={"method"})
    assert (stubborn.fits, stubborn.recipe.method) == (False, "full")


def test_a_gpu_is_what_counts_where_there_is_one() -> None:
    """On a GPU its memory decides, and RAM has to hold what passes through."""
    shape = Shape.of_config(LLAMA_7B)
    asked = recipe(method="lora", lora_rank=16, precision="bfloat16", gradient_checkpointing=True)
    large = Gpu("NVIDIA H100 80GB HBM3", 80 * GB, 79 * GB, (9, 0))
    here = replace(HERE, free_bytes=40 * GB, gpus=(large,))
    need = estimate(shape, asked, [300] * 100, here)
    assert 13 * GB < need.memory_bytes < 30 * GB
    assert not need.lacking(here)
    small = replace(here, gpus=(replace(large, free_bytes=8 * GB),))
    assert "GPU memory" in need.lacking(small)[0]
    assert "GB of memory" in need.lacking(replace(here, free_bytes=4 * GB))[0]
    assert need.training_s[1] < estimate(shape, asked, [300] * 100, HERE).training_s[0]


def test_a_measured_speed_beats_a_guessed_one() -> None:
    """Tokens a second of an earlier run give a narrow range around them."""
    need = estimate(Shape.of_config(LLAMA_7B), recipe(epochs=2), [100] * 50, HERE, tokens_per_s=100)
    low, high = need.training_s
    assert low < 100 < high < 2 * low


def test_saving_is_counted() -> None:
    """Adapters are merged tensor by tensor; what has to be read anew for it counts whole."""
    shape, asked = Shape.of_config(LLAMA_7B), recipe(method="qlora", lora_rank=16, max_tokens=64)
    float32 = shape.parameters * 4
    assert saving_bytes(shape, asked) < estimate(shape, asked, [64], HERE).memory_bytes < float32
    for other in (replace(shape, stored_bytes=1), replace(shape, experts=8, experts_used=2)):
        assert estimate(other, asked, [64], HERE).memory_bytes > other.parameters * 4
        assert saving_bytes(other, asked) > other.parameters * 4
    full = recipe()
    assert saving_bytes(shape, full) > shape.parameters * (4 + 8 + 2)


# -- smaller -----------------------------------------------------------------------------------


@settings(max_examples=60)
@given(recipes, row_lengths, st.booleans())
def test_smaller_ends_and_keeps_the_order(asked: Recipe, rows: list[int], adapters: bool) -> None:
    """Each step says what it did and changes what is needed; after the last there is none.

    Rows in a pass, checkpointing, adapters, length: in this order, and nothing else changes.
    """
    order = ["rows in a pass", "computed twice", "adapters", "4 bits", "cut behind"]
    shape, steps, reached = Shape.of_config(LLAMA_7B), 0, 0
    current: Recipe = asked
    while (found := smaller(current, "Full", lengths=rows, adapters=adapters)) is not None:
        after, text = found
        stage = next(number for number, words in enumerate(order) if words in text)
        assert text.startswith("Full: ")
        assert text in after.why[-1]
        assert stage >= reached
        assert adapters or after.method == asked.method
        needs = [estimate(shape, one, rows, HERE).memory_bytes for one in (after, current)]
        assert needs[0] <= needs[1]  # the same where saving needs the most
        assert Recipe(**after.model_dump()) == after  # still a valid one
        assert after.batch_size == asked.batch_size
        current, reached, steps = after, stage, steps + 1
        assert steps < 40


@settings(max_examples=60)
@given(
    recipes,
    row_lengths,
    st.sets(st.sampled_from(["method", "max_tokens", "gradient_checkpointing", "learning_rate",
                             "micro_batch_tokens", "lora_rank"])),
)  # fmt: skip
def test_every_setting_that_was_asked_for_stays(
    asked: Recipe, rows: list[int], fixed: set[str]
) -> None:
    """Where memory is short everything else is tried, and these are never touched."""
    shape, short = Shape.of_config(LLAMA_7B), replace(HERE, free_bytes=6 * GB)
    for here in (HERE, short, replace(HERE, free_bytes=40 * GB)):
        chosen = choose_fitting(shape, asked, rows, here, fixed=fixed).recipe
        assert {name: getattr(chosen, name) for name in fixed} == {
            name: getattr(asked, name) for name in fixed
        }
        assert (chosen.method == "full") == (chosen.lora_rank == 0)
