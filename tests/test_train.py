"""Training: recipes, tiny students, real TRL runs, checkpoints, and every way it may end."""

from __future__ import annotations

import copy
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forked import forks
from students import CHATML, SYSTEM, make_folder, numbers, recipe, train_here, write_dataset
from understudy import train
from understudy.errors import ProjectBusy, ProjectError, SetupError, UnderstudyError, UsageError
from understudy.example import Message
from understudy.run import Run
from understudy.train.recipe import choose

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries that train


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "1", numbers(0, 48), numbers(48, 60))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("model") / "qwen")


def tokenizer_of(folder: Path) -> Any:
    from understudy.models.huggingface import load_tokenizer

    return load_tokenizer(folder)


# -- recipes -----------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=300), st.integers(0, 99))
def test_every_dataset_gets_a_recipe_that_says_why(lengths: list[int], seed: int) -> None:
    """Whatever the rows, the recipe is valid, has room for the longest row, and says why."""
    chosen = choose("tiny", lengths, seed=seed)
    assert chosen.method == "full"
    assert chosen.seed == seed
    assert chosen.max_tokens >= min(max(lengths), 2048)
    assert 1 <= chosen.epochs <= 60
    assert chosen.save_steps >= 1
    assert len(chosen.why) >= 2
    assert choose("tiny", lengths, seed=seed) == chosen


def test_overrides_replace_what_was_chosen_and_are_said() -> None:
    """A setting that was asked for is in the recipe and among the reasons."""
    chosen = choose("tiny", [20] * 100, overrides={"epochs": 3, "batch_size": 10})
    assert (chosen.epochs, chosen.batch_size) == (3, 10)
    assert any("epochs" in reason for reason in chosen.why)


@pytest.mark.parametrize(
    "overrides",
    [{"epochs": 0}, {"epochs": "many"}, {"batch_size": 0}, {"speed": 9}, {"lora_rank": 8}],
)
def test_a_wrong_override_is_a_usage_error(overrides: dict[str, Any]) -> None:
    """A value or a name that no recipe has is refused in one line that names it."""
    with pytest.raises(UsageError, match=next(iter(overrides))):
        choose("tiny", [20] * 100, overrides=overrides)


def test_a_recipe_fits_the_student(folder: Path) -> None:
    """A small folder is trained in full, adapters on request; tiny knows no adapters."""
    assert choose(str(folder), [50] * 200).method == "full"
    assert choose(str(folder), [50] * 200, method="lora").lora_rank > 0
    assert choose(str(folder), [5000]).max_tokens == 512  # all that the model can read
    with pytest.raises(UsageError):
        choose("tiny", [50], method="lora")
    with pytest.raises(UsageError, match="no training rows"):
        choose("tiny", [])


# -- tiny students -----------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.text(min_size=1), st.text())
def test_a_constant_system_message_costs_a_tiny_student_nothing(system: str, other: str) -> None:
    """The system message known by heart renders to nothing, any other is read word for word."""
    from understudy.train import tiny

    prompt = (Message("system", system), Message("user", "hi"))
    assert tiny.known_by_heart([prompt, prompt]) in (system, "")
    bare = render(system, [{"role": "user", "content": "hi"}])
    known = render(
        system, [{"role": "system", "content": system}, {"role": "user", "content": "hi"}]
    )
    told = render(system, [{"role": "system", "content": other}, {"role": "user", "content": "hi"}])
    assert known == bare
    assert (told == bare) == (other == system)
    assert other in told or other == system


def render(known: str, messages: list[dict[str, str]]) -> str:
    """The tiny template, as any Jinja renders it."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    from understudy.train.tiny import chat_template

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    text = environment.from_string(chat_template(known))
    return text.render(messages=messages, add_generation_prompt=True)


@pytest.fixture(scope="module")
def tiny_tokenizer(dataset: Path) -> Any:
    from understudy.train.rows import read_rows
    from understudy.train.tiny import build_tokenizer

    rows = read_rows(dataset / "train.jsonl")
    return build_tokenizer([row.prompt for row in rows], [row.answer for row in rows])


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_tiny_tokenizer_writes_every_text(tiny_tokenizer: Any, text: str) -> None:
    """Any text survives the way into tokens and back, and digits are never merged."""
    ids = tiny_tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
    assert tiny_tokenizer.decode(ids) == text
    assert all(
        sum(letter.isdigit() for letter in token) <= 1
        for token in tiny_tokenizer.convert_ids_to_tokens(ids)
    )


@given(st.integers(0, 2**31), st.floats(0, 1))
def test_recut_prompts_say_the_same(tiny_tokenizer: Any, seed: int, share: float) -> None:
    """Cut in other pieces, a prompt still decodes to itself, and the answer is untouched."""
    from understudy.train.recut import recut
    from understudy.train.rows import NOT_LEARNT, Row, encode_rows

    row = Row(0, (Message("user", "the number 12 backwards"),), "21")
    encoded = encode_rows(tiny_tokenizer, [row], max_tokens=99)
    many = recut(tiny_tokenizer, encoded, recipe(seed=seed, recut_share=share, epochs=3))
    assert many.variants == len(many.tokens) == 3
    for tokens, labels in zip(many.tokens, many.labels, strict=True):
        assert tiny_tokenizer.decode(tokens) == tiny_tokenizer.decode(encoded.tokens[0])
        learnt = [label for label in labels if label != NOT_LEARNT]
        assert learnt == [label for label in encoded.labels[0] if label != NOT_LEARNT]


def test_control_tokens_in_a_message_stay_text(tiny_tokenizer: Any, folder: Path) -> None:
    """A user who spells a control token says those letters; the model never sees the token."""
    from understudy.models.rendering import encode_prompts

    for tokenizer in (tiny_tokenizer, tokenizer_of(folder)):
        control = tokenizer.all_special_tokens
        asked = f"a {' '.join(control)}{control[-1][:3]}{control[0]} <s> b"
        (plain,) = encode_prompts(tokenizer, [[Message("user", "hi")]])
        (evil,) = encode_prompts(tokenizer, [[Message("user", asked)]])
        specials = set(tokenizer.all_special_ids)
        assert [i for i in evil if i in specials] == [i for i in plain if i in specials]
        assert asked in tokenizer.decode(evil)


def test_rows_are_the_tokens_that_plain_transformers_renders(folder: Path) -> None:
    """Prompt and answer together are the chat template's own tokens, up to the end token."""
    from understudy.models.rendering import encode_examples, encode_prompts

    tokenizer = tokenizer_of(folder)
    prompt = (Message("system", SYSTEM), Message("user", " number 12\n"))
    ((head, tail),) = encode_examples(tokenizer, [prompt], ["21"])
    turns = [{"role": role, "content": content} for role, content in prompt]
    whole = [*turns, {"role": "assistant", "content": "21"}]
    plain = tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"]
    assert [head] == encode_prompts(tokenizer, [prompt]) == [plain]
    everything = tokenizer.apply_chat_template(whole)["input_ids"]
    assert [*head, *tail] == everything[: len(head) + len(tail)]
    assert tail[-1] == tokenizer.eos_token_id
    assert len(everything) > len(head) + len(tail)  # the template ends a turn with a newline


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for m in messages %}{{ m['content'] }}:{% endfor %}", "21:<|im_end|>"),
        (CHATML.replace("|>assistant\\n", "|>assistant\\n<no>"), "21<|im_end|>"),
    ],
)
def test_odd_templates_still_teach_to_end(folder: Path, template: str, said: str) -> None:
    """A template that never ends a turn gets an end; one that leads an answer in is followed."""
    from understudy.models.rendering import encode_examples

    tokenizer = tokenizer_of(folder)
    tokenizer.chat_template = template
    ((_, tail),) = encode_examples(tokenizer, [(Message("user", "number 12"),)], ["21"])
    assert tokenizer.decode(tail) == said


# -- rows --------------------------------------------------------------------------------------


def test_the_loss_falls_on_the_answer_alone(dataset: Path, tmp_path: Path) -> None:
    """The first loss that TRL reports is the cross-entropy of the first batch's answer tokens."""
    import torch

    from understudy.models.huggingface import load_model
    from understudy.train.job import reading_order
    from understudy.train.rows import NOT_LEARNT, encode_rows, read_rows

    settings = recipe(epochs=0.2, recut_share=0)
    heard = train_here(tmp_path / "run", dataset, settings)
    base = tmp_path / "run" / "base"
    encoded = encode_rows(tokenizer_of(base), read_rows(dataset / "train.jsonl"), max_tokens=256)
    model, total, count = load_model(base), 0.0, 0
    for row in reading_order(encoded.lengths, settings)[: settings.batch_size]:
        tokens = torch.tensor([encoded.tokens[row]])
        with torch.no_grad():
            log_probs = model(tokens).logits.log_softmax(-1)[0]
        for at, label in enumerate(encoded.labels[row]):
            if label != NOT_LEARNT:
                total -= float(log_probs[at - 1, label])
                count += 1
    assert heard.losses[1] == pytest.approx(total / count, abs=1e-4)


def test_nothing_to_learn_is_an_error(dataset: Path, tmp_path: Path) -> None:
    """If no answer fits into max_tokens the training does not begin."""
    with pytest.raises(UsageError, match="nothing to learn"):
        train_here(tmp_path / "run", dataset, recipe(max_tokens=4))
    assert not (tmp_path / "run" / "model").exists()


def test_long_rows_are_cut_and_counted(tiny_tokenizer: Any) -> None:
    """A row whose answer does not fit whole is cut, one whose prompt fills the room is left out."""
    from understudy.train.rows import Row, encode_rows

    rows = [Row(n, (Message("user", "1" * n),), "2" * 20) for n in (1, 10, 90)]
    encoded = encode_rows(tiny_tokenizer, rows, max_tokens=25)
    assert (encoded.cut, encoded.dropped) == (1, 1)
    assert max(encoded.lengths) == 25
    assert encoded.answer_lengths == [21, 13]


@pytest.mark.parametrize("line", ["{", "[1]", '{"id": 1, "prompt": [], "completion": []}', "null"])
def test_a_broken_row_is_named(tmp_path: Path, line: str) -> None:
    """The error names the file and the line."""
    from understudy.train.rows import read_rows

    folder = write_dataset(tmp_path / "data", numbers(0, 2))
    with (folder / "train.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ProjectError, match="line 3"):
        read_rows(folder / "train.jsonl")


@given(
    st.lists(st.integers(1, 200), min_size=1, max_size=80),
    st.integers(1, 20),
    st.integers(1, 6),
    st.integers(1, 3),
)
def test_the_order_reads_every_row_once_a_pass(
    lengths: list[int], batch: int, epochs: int, variants: int
) -> None:
    """Whole batches, the same at each start, and no row is read twice more often than another."""
    from understudy.train.job import reading_order

    settings = recipe(batch_size=batch, epochs=epochs)
    order = reading_order(lengths * variants, settings, variants=variants)
    assert order == reading_order(lengths * variants, settings, variants=variants)
    assert len(order) % batch == 0
    rows = [row % len(lengths) for row in order]
    times = [rows.count(row) for row in range(len(lengths))]
    assert max(times) - min(times) <= 1


# -- training ----------------------------------------------------------------------------------


def test_a_resumed_training_is_the_training_that_was_never_interrupted(
    dataset: Path, tmp_path: Path
) -> None:
    """Stopped twice and started again, every step's loss and the weights are the same."""
    settings = recipe(epochs=3)
    whole = train_here(tmp_path / "whole", dataset, settings)
    assert len(whole.losses) == 18
    parts = [train_here(tmp_path / "parts", dataset, settings, at=at) for at in (5, 11, 0)]
    assert [part.of("train.resumed")[0]["step"] for part in parts[1:]] == [6, 12]
    losses = {step: loss for part in parts for step, loss in part.losses.items()}
    assert losses == pytest.approx(whole.losses, abs=1e-5)
    assert parts[-1].of("train.done")[0]["loss"] == pytest.approx(
        whole.of("train.done")[0]["loss"], abs=1e-5
    )
    ends = [tmp_path / name / "model" / "model.safetensors" for name in ("whole", "parts")]
    assert ends[0].read_bytes() == ends[1].read_bytes()


def test_a_save_that_fails_costs_nothing(dataset: Path, tmp_path: Path) -> None:
    """If the trained model cannot be written there is none; the next start has only to write it."""
    in_the_way = tmp_path / "run" / ".model.new"
    in_the_way.parent.mkdir()
    in_the_way.write_text("a file where a folder has to be")
    with pytest.raises(OSError, match="exists"):
        train_here(tmp_path / "run", dataset, recipe())
    assert not (tmp_path / "run" / "model").exists()
    in_the_way.unlink()
    again = train_here(tmp_path / "run", dataset, recipe())
    assert again.losses == {}
    whole = train_here(tmp_path / "whole", dataset, recipe())
    assert again.of("train.done")[0]["loss"] == whole.of("train.done")[0]["loss"]
    ends = [tmp_path / name / "model" / "model.safetensors" for name in ("run", "whole")]
    assert ends[0].read_bytes() == ends[1].read_bytes()


def test_adapters_are_resumed_too(dataset: Path, folder: Path, tmp_path: Path) -> None:
    """LoRA, interrupted: the rest of the curve is the one of a training left alone."""
    settings = recipe(method="lora", lora_rank=4, matrix_learning_rate=0, recut_share=0)
    whole = train_here(tmp_path / "whole", dataset, settings, student=str(folder))
    train_here(tmp_path / "parts", dataset, settings, student=str(folder), at=6)
    rest = train_here(tmp_path / "parts", dataset, settings, student=str(folder))
    assert min(rest.losses) == 8
    expected = {step: loss for step, loss in whole.losses.items() if step >= 8}
    assert rest.losses == pytest.approx(expected, abs=1e-5)


def test_a_finished_training_is_not_repeated(dataset: Path, tmp_path: Path) -> None:
    """Started again with the same inputs it says the same result; with others it trains anew."""
    first = train_here(tmp_path / "run", dataset, recipe(epochs=1))
    again = train_here(tmp_path / "run", dataset, recipe(epochs=1))
    assert again.events == [("train.done", first.of("train.done")[0])]
    other = train_here(tmp_path / "run", dataset, recipe(epochs=1, seed=1))
    assert len(other.losses) == len(first.losses)
    assert other.losses != first.losses


@pytest.mark.parametrize("harm", ["flip", "unmarked"])  # test_train_faults.py: any damage
def test_a_damaged_checkpoint_is_put_aside(dataset: Path, tmp_path: Path, harm: str) -> None:
    """The newest checkpoint that is whole is resumed, and what was wrong with the other is said."""
    train_here(tmp_path / "run", dataset, recipe(epochs=3), at=9)
    newest = tmp_path / "run" / "checkpoint-10"
    victim = newest / "optimizer.pt"
    content = bytearray(victim.read_bytes())
    if harm == "flip":
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
    else:
        (newest / "DONE.json").unlink()
    heard = train_here(tmp_path / "run", dataset, recipe(epochs=3))
    resumed = heard.of("train.resumed")[0]
    assert resumed["step"] == 8
    assert "checkpoint-10" in resumed["ignored"][0]
    assert heard.of("train.done")


def test_a_checkpoint_of_another_recipe_is_not_resumed(dataset: Path, tmp_path: Path) -> None:
    """What was trained with other settings does not slip into this training."""
    train_here(tmp_path / "run", dataset, recipe(epochs=3), at=5)
    heard = train_here(tmp_path / "run", dataset, recipe(epochs=3, learning_rate=1e-3))
    assert heard.of("train.resumed")[0]["step"] == 0
    assert min(heard.losses) == 1


def test_rotation_never_deletes_the_last_good_checkpoint(tmp_path: Path) -> None:
    """Only sealed checkpoints are counted on; the newest ones stay."""
    from understudy.train import checkpoint

    for step in (10, 9, 100):
        made = tmp_path / f"checkpoint-{step}"
        made.mkdir()
        (made / "weights").write_bytes(b"x" * step)
        checkpoint.seal(made, inputs="same")
    checkpoint.rotate(tmp_path, keep=2)
    assert not (tmp_path / "checkpoint-9").exists()
    assert checkpoint.newest(tmp_path, inputs="same").step == 100
    (tmp_path / "checkpoint-100" / "weights").write_bytes(b"x")
    assert checkpoint.newest(tmp_path, inputs="same").step == 10
    assert checkpoint.newest(tmp_path, inputs="other").step == 0


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_real_folder_is_trained(dataset: Path, folder: Path, tmp_path: Path, method: str) -> None:
    """Full training and adapters both move the weights, and leave a folder plain code opens."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    settings = recipe(
        method=method,
        lora_rank=4 if method == "lora" else 0,
        learning_rate=1e-2,
        matrix_learning_rate=0,
        recut_share=0,
        epochs=4,
    )
    heard = train_here(tmp_path / "run", dataset, settings, student=str(folder))
    metrics = heard.of("train.done")[0]
    assert metrics["loss"] < heard.losses[1] - 0.2
    assert (metrics["trained_parameters"] < metrics["parameters"]) == (method == "lora")
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").exists() == (
        method == "lora"
    )
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    base = AutoModelForCausalLM.from_pretrained(folder)
    assert type(model) is type(base)
    moved = [
        name
        for name, weight in model.named_parameters()
        if not torch.equal(weight, base.get_parameter(name))
    ]
    assert any("q_proj" in name for name in moved)
    assert AutoTokenizer.from_pretrained(tmp_path / "run" / "model").chat_template
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    files = [path.suffix for path in (tmp_path / "run" / "model").iterdir()]
    assert set(files) <= {".safetensors", ".json", ".jinja"}


# -- folders that are refused ------------------------------------------------------------------


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


REFUSED = {
    "no model folder": shutil.rmtree,
    "no config.json": lambda made: (made / "config.json").unlink(),
    "not JSON": lambda made: (made / "config.json").write_text("{"),
    "run code of its own": lambda made: rewrite(
        made / "config.json", auto_map={"AutoModelForCausalLM": "evil.Model"}
    ),
    r"run code of its own \(trust": lambda made: rewrite(
        made / "tokenizer_config.json", init={"trust_remote_code": True}
    ),
    r"run code of its own \(_attn": lambda made: rewrite(
        made / "config.json", _attn_implementation_internal="somebody/kernel"
    ),
    "not a JSON object": lambda made: (made / "generation_config.json").write_text("[]"),
    "only pickled weights": lambda made: (made / "model.safetensors").rename(made / "model.bin"),
    "no .*safetensors": lambda made: (made / "model.safetensors").unlink(),
    "no tokenizer": lambda made: (made / "tokenizer.json").unlink(),
    "no chat template": lambda made: (made / "chat_template.jinja").unlink(),
    "cannot be read": lambda made: (made / "model.safetensors").write_bytes(b"\x08" * 99),
    "adapter": lambda made: (made / "config.json").rename(made / "adapter_config.json"),
}


@pytest.mark.parametrize("reason", list(REFUSED))
def test_a_folder_that_cannot_be_trusted_or_read_is_refused(
    dataset: Path, folder: Path, tmp_path: Path, reason: str
) -> None:
    """Each reason is one clear line, and no code of the folder runs."""
    made = tmp_path / "student"
    shutil.copytree(folder, made)
    (made / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    REFUSED[reason](made)
    with pytest.raises(SetupError, match=reason) as caught:
        train_here(tmp_path / "run", dataset, recipe(matrix_learning_rate=0), student=str(made))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


# -- the optimizer -----------------------------------------------------------------------------


def test_the_optimizer_goes_on_from_its_saved_state() -> None:
    """Saved and loaded in the middle, Muon and AdamW take the same steps."""
    import torch

    from understudy.train.optimizer import MuonAdamW

    def step(optimizer: Any, weights: list[Any], number: int) -> None:
        for at, weight in enumerate(weights):
            generator = torch.Generator().manual_seed(number * 10 + at)
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()

    def make() -> tuple[Any, list[Any]]:
        weights = [torch.ones(4, 6), torch.ones(8, 3), torch.ones(5)]
        return MuonAdamW(weights[:2], weights[2:], matrix_lr=0.1, lr=0.1, decay=0.5), weights

    optimizer, weights = make()
    step(optimizer, weights, 1)
    other, copied = make()
    for weight, source in zip(copied, weights, strict=True):
        weight.copy_(source)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for number in (2, 3):
        step(optimizer, weights, number)
        step(other, copied, number)
    assert all(torch.equal(one, other) for one, other in zip(weights, copied, strict=True))


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 999))
def test_muon_updates_are_nearly_orthogonal(rows: int, columns: int, seed: int) -> None:
    """Whatever the gradient, the update's large singular values come close to one."""
    import torch

    from understudy.train.optimizer import orthogonal

    torch.manual_seed(seed)
    values = torch.linalg.svdvals(orthogonal(torch.randn(2, rows, columns)))
    assert values.max() < 1.3
    assert values[:, 0].min() > 0.6


# -- the process -------------------------------------------------------------------------------


def run_in(folder: Path, **settings: Any) -> Run:
    return Run(1, 1, "tiny", folder, recipe(**settings))


def test_a_training_in_its_own_process(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets no secrets, says how it goes, can be cancelled, goes on, and ends with a model."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-77")
    monkeypatch.setenv("HF_TRUST_REMOTE_CODE", "1")
    run = run_in(tmp_path / "run", epochs=6)
    training = train.start(run, dataset)
    environment = Path(f"/proc/{training.process.pid}/environ").read_bytes()
    kinds = []
    for event in train.follow(training):
        kinds.append(event.kind)
        if event.kind == "train.step" and event.data["step"] == 6:
            train.cancel(training)
    assert b"canary" not in environment
    assert b"TRUST_REMOTE" not in environment
    assert kinds[-1] == "train.interrupted"
    assert training.process.returncode == 143
    assert not (run.folder / "model").exists()

    with (run.folder / "events.jsonl").open("a") as file:
        file.write('{"kind": "train.step", "da')  # as a kill in the middle of a line leaves it
    forks(monkeypatch)
    events = list(train.follow(train.start(run, dataset)))
    done = events[-1]
    assert done.kind == "train.done", done
    resumed = next(event for event in events if event.kind == "train.resumed")
    steps = [event for event in events if event.kind == "train.step"]
    assert 6 <= resumed.data["step"] == steps[0].data["step"] - 1
    assert steps[-1].data["step"] == steps[-1].data["steps"] == done.data["steps"] == 36
    assert done.data["loss"] < steps[0].data["loss"]
    assert done.data["validation_loss"] > 0
    assert done.data["answer_tokens_per_s"] < done.data["tokens_per_s"]
    assert done.data["peak_memory_mb"] > 50
    assert sorted(path.name for path in run.folder.iterdir() if path.is_dir()) == ["base", "model"]


def test_a_training_dies_with_its_parent(dataset: Path, tmp_path: Path) -> None:
    """Parent killed with SIGKILL: the trainer saves a checkpoint and ends by itself."""
    run = run_in(tmp_path / "run", epochs=400)
    code = (
        "import sys; sys.path.insert(0, sys.argv[3])\n"
        "from pathlib import Path\nfrom understudy import train\nfrom test_train import run_in\n"
        "t = train.start(run_in(Path(sys.argv[1]), epochs=400), Path(sys.argv[2]))\n"
        "print(t.process.pid, flush=True)\n"
        "for e in train.follow(t):\n  print(e.kind, flush=True)\n"
    )
    here = str(Path(__file__).parent)
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(run.folder), str(dataset), here],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    trainer = int(parent.stdout.readline())
    assert any("train.step" in line for line in iter(parent.stdout.readline, ""))
    parent.kill()
    parent.wait()
    with subprocess.Popen(["tail", f"--pid={trainer}", "-f", "/dev/null"]) as waiting:
        assert waiting.wait(30) == 0
    parent.stdout.close()
    last = (run.folder / "events.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["kind"] == "train.interrupted"
    assert list(run.folder.glob("checkpoint-*/DONE.json"))


def test_a_recipe_that_diverges_ends_in_a_clean_failure(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A learning rate of a million: exit code 1, one clear line, and no model."""
    forks(monkeypatch)
    run = run_in(tmp_path / "run", learning_rate=1e6, matrix_learning_rate=1e6, epochs=4)
    training = train.start(run, dataset)
    last = list(train.follow(training))[-1]
    assert last.kind == "train.failed"
    assert "diverged" in last.data["message"]
    assert last.data["exit_code"] == training.process.returncode == 1
    assert not (run.folder / "model").exists()


def test_a_loss_that_is_no_number_ends_the_training(
    dataset: Path, folder: Path, tmp_path: Path
) -> None:
    """Weights with a NaN in them: nothing is trained further, nothing is saved."""
    import torch
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "student"
    shutil.copytree(folder, broken)
    weights = load_file(broken / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] = torch.nan
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnderstudyError, match="diverged at step 1"):
        train_here(tmp_path / "run", dataset, recipe(recut_share=0), student=str(broken))
    assert not (tmp_path / "run" / "model").exists()


def test_two_trainers_cannot_train_one_run(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one holds the run's lock, another is told that it is busy."""
    from understudy.train.local import lock

    monkeypatch.setattr(train, "_BUSY_WAIT_S", 0)
    run = run_in(tmp_path / "run")
    run.folder.mkdir()
    with lock(run.folder), pytest.raises(ProjectBusy, match="Another process"):
        train.start(run, dataset)


@pytest.mark.parametrize("code", [0, 3, -signal.SIGKILL])
def test_a_line_that_is_still_being_written_is_never_yielded(tmp_path: Path, code: int) -> None:
    """A trainer that dies in the middle of a line: whole lines count, and its death is said."""
    whole, torn = '{"kind": "train.step", "data": {"step": 1}}\n', '{"kind": "train.done", "da'
    end = f"os.kill(os.getpid(), {-code})" if code < 0 else f"sys.exit({code})"
    said = f"import os, sys; open(sys.argv[1], 'a').write({whole + torn!r}); {end}"
    run = run_in(tmp_path)
    events = tmp_path / "events.jsonl"
    events.write_text("earlier\n")
    process = subprocess.Popen([sys.executable, "-c", said, str(events)])
    told = list(train.follow(train.Training(run, process, offset=len("earlier\n"))))
    assert [event.kind for event in told] == ["train.step", "train.failed"]
    assert told[-1].data["exit_code"] == max(code, 1)


def test_the_event_file_is_mended_after_a_kill(tmp_path: Path) -> None:
    """What a killed trainer left of a line does not spoil the next one's first line."""
    from understudy.train.progress import EventLog

    path = tmp_path / "events.jsonl"
    path.write_text('{"kind": "a", "data": {}}\n{"kind": "b", "da')
    EventLog(path).say("c", loss=float("nan"), text="\u2028é")
    kinds = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
    assert [line["kind"] for line in kinds] == ["a", "c"]
    assert kinds[1]["data"] == {"loss": None, "text": "\u2028é"}
