"""Students of the hub: looked at before they are fetched, pinned, kept, refused in one line."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

import hub_server
from forked import forks
from hub_server import Hub, Repo
from students import make_folder
from understudy.errors import DiskError, SetupError, UsageError
from understudy.example import Message
from understudy.export.card import CardFacts, card
from understudy.models import hub as hubs
from understudy.models import hub_download, is_hub_id, local_folder, students
from understudy.models.huggingface import count_parameters, load_model, load_tokenizer
from understudy.models.rendering import encode_prompts

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries that run models

NAME, TOKEN = "hf:lab/tiny", "hf_canary0123456789"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model as people publish it: with a README, pickles, code and a second copy."""
    folder = make_folder(tmp_path_factory.mktemp("made") / "qwen")
    shutil.copy(folder / "model.safetensors", folder / "consolidated.safetensors")
    (folder / "original").mkdir()
    (folder / "original" / "params.json").write_text("{}")
    for name in ("pytorch_model.bin", "modeling_evil.py", "README.md", "model.gguf"):
        (folder / name).write_text("never fetched")
    return folder


@pytest.fixture
def hub(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one good model; the library's cache and token are of this test alone."""
    with hub_server.serve() as hub:
        shutil.copytree(made, tmp_path / "repo")
        hub.repos["lab/tiny"] = Repo(tmp_path / "repo", branches={"old": ""})
        point_at(hub.url, tmp_path / "home", monkeypatch)
        yield hub


def point_at(url: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT and HF_HOME do for a new process."""
    path = "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(home / "stored_tokens"))


NEEDED = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}
NEEDED |= {"chat_template.jinja", "model.safetensors"}


# -- looking and fetching ----------------------------------------------------------------------


def test_looking_fetches_no_weights(hub: Hub, made: Path) -> None:
    """Sizes, licence, commit and config are known, and the tokenizer opens, without a weight."""
    remote = hubs.look(NAME)
    assert "model.safetensors" not in hub.fetched()
    assert remote.files == {name: (made / name).stat().st_size for name in NEEDED}
    assert remote.weight_bytes == (made / "model.safetensors").stat().st_size
    assert remote.name == f"{NAME}@{hub.repos['lab/tiny'].commit}"
    assert (remote.licence, remote.gated, remote.parameters) == ("apache-2.0", False, 1234)
    assert remote.config["model_type"] == "qwen2"
    assert load_tokenizer(remote.folder, weights=False).chat_template
    with pytest.raises(SetupError, match=r"no .*safetensors"):
        load_tokenizer(remote.folder)
    assert hubs.cached(remote.name) is None


def test_only_what_is_needed_is_fetched_and_never_twice(hub: Hub, made: Path) -> None:
    """No pickle, code, GGUF or second copy; the folder opens; again, nobody is asked."""
    told: list[dict[str, Any]] = []
    folder = hubs.fetch(NAME, say=lambda kind, **data: told.append({"kind": kind, **data}))
    assert {path.name for path in folder.iterdir()} == hub.fetched() == NEEDED
    assert count_parameters(folder) == count_parameters(made) > 0
    assert load_model(folder).config.model_type == "qwen2"
    assert (
        told[-1]["done"]
        == told[-1]["total"]
        == hubs.look(NAME).weight_bytes
        + sum((made / name).stat().st_size for name in NEEDED - {"model.safetensors"})
    )
    pinned = f"{NAME}@{folder.name}"
    hub.asked.clear()
    assert hubs.fetch(pinned) == folder
    assert hub.asked == []


def test_a_name_is_pinned_while_the_branch_moves_on(hub: Hub) -> None:
    """The old commit stays what it was; the branch then means another."""
    first = hubs.fetch(NAME)
    (hub.repos["lab/tiny"].folder / "generation_config.json").write_text('{"do_sample": true}')
    second = hubs.fetch(NAME)
    assert first != second
    assert hubs.fetch(f"{NAME}@{first.name}") == first
    assert "do_sample" not in (first / "generation_config.json").read_text()
    assert (first / "model.safetensors").samefile(second / "model.safetensors")


def test_a_renamed_model_is_found_by_its_old_name(hub: Hub) -> None:
    """The hub leads an old name to the new one; here it stays the name that was given."""
    hub.repos["lab/tiny"].renamed = "lab/small"
    folder = hubs.fetch(NAME)
    assert hubs.fetch(NAME, offline=True) == folder
    assert hubs.look(NAME).name == f"{NAME}@{folder.name}"


@pytest.mark.parametrize("how", ["offline", "unreachable", "failing"])
def test_without_the_hub_the_cache_serves(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Offline, cut off, or with a hub that fails: what is whole in the cache is used."""
    folder, files = hubs.fetch(NAME), hubs.look(NAME).files
    hub.failing = True
    if how == "unreachable":
        point_at("http://127.0.0.1:9", tmp_path / "home", monkeypatch)
    hub.asked.clear()
    assert hubs.fetch(NAME, offline=how == "offline") == folder
    assert hubs.look(NAME, offline=how == "offline").files == files
    assert bool(hub.asked) == (how == "failing")
    with pytest.raises(SetupError, match=r"offline|cannot be reached|fails") as caught:
        hubs.fetch("hf:lab/other", offline=how == "offline")
    assert "\n" not in str(caught.value)


def test_a_download_that_breaks_off_goes_on(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cut connection is taken up where it broke."""
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    hub.cut["model.safetensors"] = 1
    folder = hubs.fetch(NAME)
    assert [asked.range for asked in hub.asked if asked.range] != []
    assert load_model(folder).config.model_type == "qwen2"


def test_after_a_failure_whole_files_are_kept(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights did not come: one line; the next time they alone are fetched."""
    hubs.look(NAME)
    library = hub_download.huggingface_hub
    whole = library.snapshot_download

    def broken(*_: Any, **__: Any) -> None:
        raise OSError("Consistency check failed: file should be of size 9 but has size 4 (m)")

    monkeypatch.setattr(library, "snapshot_download", broken)
    hub.asked.clear()
    with pytest.raises(SetupError, match="broke off: Consistency"):
        hubs.fetch(NAME)
    monkeypatch.setattr(library, "snapshot_download", whole)
    hub.asked.clear()
    hubs.fetch(NAME)
    assert hub.fetched() == {"model.safetensors"}


def test_a_full_disk_is_told_before_anything_is_fetched(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figures are in the line, and no weight was asked for."""
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(hub_download.shutil, "disk_usage", lambda _: usage._replace(free=10**8))
    with pytest.raises(DiskError, match=r"has 0\.1 GB free, fetching hf:lab/tiny needs 0\.2 GB"):
        hubs.fetch(NAME)
    assert "model.safetensors" not in hub.fetched()


def test_a_stop_is_heard_while_fetching(hub: Hub) -> None:
    """Ctrl-C ends the fetching where it is; the same command then goes on."""

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hubs.fetch(NAME, say=interrupted)
    assert load_model(hubs.fetch(NAME)).config.model_type == "qwen2"


# -- what is refused ---------------------------------------------------------------------------


def config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def drop(folder: Path, *patterns: str) -> None:
    for pattern in patterns:
        for path in folder.glob(pattern):
            path.unlink()


REFUSED: dict[str, Callable[[Path], Any]] = {
    "only pickled weights": lambda made: drop(made, "*.safetensors", "*.gguf"),
    "GGUF files only": lambda made: drop(made, "*.safetensors", "*.bin"),
    "is an adapter": lambda made: (made / "config.json").rename(made / "adapter_config.json"),
    "no config.json": lambda made: drop(made, "*.safetensors", "*.bin", "*.gguf"),
    "has no tokenizer": lambda made: drop(made, "tokenizer.json"),
    "no chat template": lambda made: drop(made, "chat_template.jinja"),
    "no causal language model": lambda made: config(made, architectures=["BertForMaskedLM"]),
    "T5.* no causal": lambda made: config(
        made, is_encoder_decoder=True, architectures=["T5ForConditionalGeneration"]
    ),
    "run code of its own": lambda made: config(
        made, model_type="new", auto_map={"AutoModelForCausalLM": "modeling_evil.Model"}
    ),
    "lacks model-1-of-2": lambda made: (made / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "model-1-of-2.safetensors"}}'
    ),
    "names files outside": lambda made: (made / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "../../../model.safetensors"}}'
    ),
}


@pytest.mark.parametrize("reason", list(REFUSED))
def test_a_repository_that_cannot_be_a_student_is_refused_early(hub: Hub, reason: str) -> None:
    """Each reason is one line with what to do, and no weight was fetched."""
    REFUSED[reason](hub.repos["lab/tiny"].folder)
    with pytest.raises(SetupError, match=reason) as caught:
        hubs.fetch(NAME)
    assert "\n" not in str(caught.value)
    assert caught.value.fix
    assert not {name for name in hub.fetched() if name.endswith(("safetensors", "bin", "py"))}


def test_a_tokenizer_that_is_sentencepiece_alone_is_told(made: Path, tmp_path: Path) -> None:
    """Without tokenizer.json and the packages that read the other kind: one line that helps."""
    folder = tmp_path / "old"
    shutil.copytree(made, folder)
    drop(folder, "tokenizer.json", "modeling_evil.py")
    (folder / "tokenizer.model").write_bytes(b"\x0a\x00")
    with pytest.raises(SetupError, match="SentencePiece model alone") as caught:
        load_tokenizer(folder)
    assert "tokenizer.json" in caught.value.fix
    assert "\n" not in str(caught.value)


def test_the_classic_without_a_template_gets_the_published_format(
    made: Path, tmp_path: Path
) -> None:
    """Llama 2 is older than chat templates: in the cache, its row lends the published format."""
    folder = tmp_path / "models--NousResearch--Llama-2-7b-chat-hf" / "snapshots" / "1"
    shutil.copytree(made, folder)
    drop(folder, "chat_template.jinja")
    tokenizer = load_tokenizer(folder)
    tokenizer.bos_token = "<|endoftext|>"  # every Llama has one
    (ids,) = encode_prompts(tokenizer, [(Message("system", "S."), Message("user", " Hi "))])
    assert tokenizer.decode(ids).endswith("[INST] <<SYS>>\nS.\n<</SYS>>\n\nHi [/INST]")
    other = tmp_path / "models--lab--other" / "snapshots" / "1"
    shutil.copytree(folder, other)
    with pytest.raises(SetupError, match="no chat template"):
        load_tokenizer(other)


def test_code_that_nobody_needs_any_more_is_left_where_it_is(hub: Hub) -> None:
    """A config of a known architecture may name code: it is not fetched, and not handed on."""
    named = {"AutoModelForCausalLM": "modeling_evil.Model"}
    config(hub.repos["lab/tiny"].folder, auto_map=named)
    folder = hubs.fetch(NAME)
    assert not list(folder.glob("*.py"))
    assert not hasattr(load_model(folder).config, "auto_map")


def test_an_unknown_name_brings_the_likeliest(hub: Hub) -> None:
    """Misspelt, private or retired: one line that proposes names of the table."""
    with pytest.raises(SetupError, match=r"no model Qwen/Qwen3-0\.6") as caught:
        hubs.look("hf:Qwen/Qwen3-0.6")
    assert "hf:Qwen/Qwen3-0.6B" in caught.value.fix
    with pytest.raises(SetupError, match="no revision 'v9'"):
        hubs.look(f"{NAME}@v9")
    with pytest.raises(UsageError, match="no model"):
        hubs.look("hf:a/b/c")
    assert hubs.look(f"{NAME}@old").commit == hub.repos["lab/tiny"].commit


def test_a_gated_model_says_what_to_do(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a token, with one that was not accepted, with a wrong one; then it is fetched."""
    repo = hub.repos["lab/tiny"]
    repo.gated, repo.accepted = True, (TOKEN,)
    with pytest.raises(SetupError, match="is gated") as caught:
        hubs.fetch(NAME)
    assert f"Accept the licence at {hub.url}/lab/tiny, then set HF_TOKEN" in caught.value.fix
    monkeypatch.setenv("HF_TOKEN", "hf_somebody")
    with pytest.raises(SetupError, match="no access yet") as caught:
        hubs.fetch(NAME)
    assert f"{hub.url}/lab/tiny" in caught.value.fix
    hub.bad_tokens = ("hf_somebody",)
    with pytest.raises(SetupError, match="refused the token"):
        hubs.fetch(NAME)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert hubs.look(NAME).gated
    assert (hubs.fetch(NAME) / "model.safetensors").is_file()


def test_the_environment_of_the_library_holds_and_the_token_stays_out_of_files(
    hub: Hub, tmp_path: Path
) -> None:
    """HF_ENDPOINT, HF_HOME and a stored token are used by a new process; nothing else is sent."""
    hub.repos["lab/tiny"].gated, hub.repos["lab/tiny"].accepted = True, (TOKEN,)
    home = tmp_path / "elsewhere"
    home.mkdir()
    (home / "token").write_text(TOKEN)  # what `hf auth login` leaves
    code = f"from understudy.models.hub import fetch; print(fetch({NAME!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "PATH": "", "HOME": str(tmp_path)},
    )
    assert Path(done.stdout.strip()).is_relative_to(home / "hub")
    assert done.stderr == ""
    assert {asked.token for asked in hub.asked} == {TOKEN}
    assert all("torch" not in asked.agent for asked in hub.asked)
    assert not [asked for asked in hub.asked if "harness" in asked.path]
    held = [
        path for path in home.rglob("*") if path.is_file() and TOKEN in path.read_text("latin1")
    ]
    assert held == [home / "token"]


# -- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "of_the_hub"),
    [
        ("hf:org/name", True),
        ("hf:org/name@main", True),
        ("hf:gpt2", True),
        ("hf:/folder", False),
        ("hf:./a/b", False),
        ("hf:../b", False),
        ("hf:~/b", False),
        ("org/name", False),
        ("tiny", False),
    ],
)
def test_what_is_a_name_of_the_hub(name: str, of_the_hub: bool) -> None:
    """A hub name has its ``hf:``; a folder is written with a slash, a dot or a tilde."""
    assert is_hub_id(name) == of_the_hub


def test_a_folder_that_is_not_there_proposes_what_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``org/name`` is taken for a hub name that lacks its ``hf:``, unless it is a folder."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SetupError, match=r"no model folder at Qwen/Qwen3-0\.6B") as caught:
        local_folder("Qwen/Qwen3-0.6B")
    assert caught.value.fix.endswith("hf:Qwen/Qwen3-0.6B")
    with pytest.raises(SetupError, match=re.escape("hf:Qwen/Qwen3-1.7B")):
        local_folder("qwen3-1.7b")
    (tmp_path / "Qwen" / "Qwen3-0.6B").mkdir(parents=True)
    assert local_folder("Qwen/Qwen3-0.6B") == Path("Qwen/Qwen3-0.6B")


def test_the_table_is_sound() -> None:
    """Every row is found by its name, dated, with a licence; the suggestion is open and small."""
    for row in students.STUDENTS:
        assert students.preset(f"hf:{row.id}@main") is row
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", row.checked_on)
        assert row.licence.url.startswith("https://")
        assert row.context >= 2048
        assert is_hub_id(f"hf:{row.id}")
        assert students.duties(f"hf:{row.id}@main")
    assert not students.suggested().gated
    assert students.suggested().parameters < 2
    assert students.preset("hf:nobody/nothing") is None
    assert students.duties("tiny") == ()


@pytest.mark.parametrize(
    ("student", "told"),
    [
        ("hf:meta-llama/Llama-3.2-1B-Instruct@1", ["Built with Llama", "base_model: meta-llama"]),
        ("hf:google/gemma-3-1b-it@1", ["Gemma Terms of Use", "license: gemma"]),
        ("hf:NousResearch/Llama-2-7b-chat-hf@1", ["LLAMA 2 Community License", "license: llama2"]),
        ("hf:somebody/Llama-3-8B-chat@1", ["not verified here", "Built with Llama"]),
        ("hf:Qwen/Qwen3-0.6B@abc", ["Apache 2.0", "trained from Qwen/Qwen3-0.6B@abc"]),
    ],
)
def test_the_card_says_what_the_students_licence_asks(student: str, told: list[str]) -> None:
    """Licence, naming duty and base model of the student are in what is passed on."""
    facts = CardFacts("T", "D", "Say no.", "", student, {"train": 1})
    text = card(facts, architecture="A", parameters=1, max_tokens=8)
    assert [part for part in told if part not in text] == []


def test_a_card_for_a_template_without_system_asks_as_it_was_taught() -> None:
    """Where the system message is folded in, the card's code does so too."""
    facts = CardFacts("T", "D", "Say no.", "", "tiny", {"train": 1})
    text = card(facts, architecture="A", parameters=1, max_tokens=8, folds=True)
    assert '"role": "system"' not in text
    assert r"Say no.\n\nYour input" in text


# -- a project ---------------------------------------------------------------------------------


def test_a_project_trains_a_student_of_the_hub(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run names the commit, the trainer gets the folder, and no file or event the token."""
    from understudy import Project

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.repos["lab/tiny"].gated, hub.repos["lab/tiny"].accepted = True, (TOKEN,)
    rows = "".join(f"number {n},{str(n)[::-1]}\n" for n in range(100, 160))
    (tmp_path / "rows.csv").write_text("prompt,response\n" + rows)
    project = Project.new(tmp_path / "p", "Numbers backwards", {"student": NAME})
    project.import_examples(tmp_path / "rows.csv")
    project.clean()
    project.freeze()
    forks(monkeypatch)
    run = project.train(epochs=1, batch_size=16)
    commit = hub.repos["lab/tiny"].commit
    assert run.student == f"{NAME}@{commit}"
    base = Path(json.loads((run.folder / "run.json").read_text())["base"])
    assert base.name == commit
    config(hub.repos["lab/tiny"].folder, max_position_embeddings=256)  # the branch moves on
    assert project.train(epochs=1, batch_size=16) == run
    assert project.predict("number 123") is not None
    for path in (tmp_path / "p").rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path
    project.close()
