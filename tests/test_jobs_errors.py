"""Every way in which a request about files and jobs is wrong, and what is said of it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fine_tuning import client, colours, conversation, ended, sent, until, written
from serving_project import TOKEN, Home, serving
from understudy import Project

JOBS = "/v1/fine_tuning/jobs"
BOUNDARY = "----a-boundary"


class Said(NamedTuple):
    """An answer."""

    status: int
    body: dict[str, Any]

    @property
    def error(self) -> tuple[int, str | None, str | None]:
        """Status, code and parameter of an error, in OpenAI's shape and in words."""
        error = self.body["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert error["message"]
        assert "Traceback" not in error["message"]
        return self.status, error["code"], error["param"]


class Site(NamedTuple):
    """A server with a file that can be trained on, and one with results."""

    home: Home
    folder: Path
    file: str
    results: str

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Said:
        """One request; a body that is no bytes is sent as JSON."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        connection = http.client.HTTPConnection(self.home.host, timeout=30)
        sends = {"Authorization": f"Bearer {TOKEN}", **headers}
        connection.request(method, path, body, sends)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return Said(answer.status, json.loads(text))

    def create(self, **asked: Any) -> Said:
        return self.ask("POST", JOBS, {"model": "tiny", "training_file": self.file, **asked})

    def upload(self, *parts: bytes, end: bytes = f"--{BOUNDARY}--\r\n".encode()) -> Said:
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        return self.ask("POST", "/v1/files", b"".join(parts) + end, **{"Content-Type": kind})


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    named = "" if filename is None else f'; filename="{filename}"'
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'
    return head.encode() + content + b"\r\n"


PURPOSE = part("purpose", b"fine-tune")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("errors")
    project = Project.new(folder / "p")
    with (folder / "p" / "understudy.toml").open("a") as file:
        file.write('[bases]\n"gpt-4o-mini" = "hf:org/name"\n')
    from understudy.project import uploads

    with uploads.receiving(project) as incoming, project.database.write() as connection:
        incoming.write(b"step\n")
        results = incoming.keep(connection, "step_metrics.csv", "fine-tune-results")
    project.close()
    with serving(folder / "p") as home:
        path = written(folder / "x.jsonl", colours()[:20])
        yield Site(home, folder / "p", sent(client(home), path), results.id)


WRONG = [
    ({"model": None}, "missing_required_parameter", "model"),
    ({"model": 7}, "invalid_value", "model"),
    ({"model": ""}, "invalid_value", "model"),
    ({"model": "gpt-3.5-turbo"}, "model_not_found", "model"),
    ({"model": "/etc"}, "model_not_found", "model"),
    ({"model": "run:1"}, "model_not_found", "model"),
    ({"model": "m" * 513}, "invalid_value", "model"),
    ({"training_file": None}, "missing_required_parameter", "training_file"),
    ({"training_file": ["x"]}, "invalid_value", "training_file"),
    ({"training_file": "file-of-nobody"}, "file_not_found", "training_file"),
    ({"training_file": "../../etc/passwd"}, "file_not_found", "training_file"),
    ({"validation_file": "file-of-nobody"}, "file_not_found", "validation_file"),
    ({"suffix": "s" * 65}, "invalid_value", "suffix"),
    ({"suffix": "a\nb"}, "invalid_value", "suffix"),
    ({"suffix": 7}, "invalid_value", "suffix"),
    ({"seed": -1}, "invalid_value", "seed"),
    ({"seed": 2**31}, "invalid_value", "seed"),
    ({"seed": True}, "invalid_value", "seed"),
    ({"seed": 1.5}, "invalid_value", "seed"),
    ({"metadata": {str(n): "" for n in range(17)}}, "invalid_value", "metadata"),
    ({"metadata": {"k" * 65: ""}}, "invalid_value", "metadata"),
    ({"metadata": {"k": "v" * 513}}, "invalid_value", "metadata"),
    ({"metadata": {"k": 7}}, "invalid_value", "metadata"),
    ({"metadata": "x"}, "invalid_value", "metadata"),
    ({"integrations": [{"type": "wandb"}]}, "unsupported_parameter", "integrations"),
    ({"model": "\ud800"}, "model_not_found", "model"),
    ({"training_file": "\ud800"}, "file_not_found", "training_file"),
    ({"\ud800": 1}, "unknown_parameter", "\ufffd"),
    ({"method": {"type": "dpo"}}, "unsupported_method", "method.type"),
    ({"method": {"type": "reinforcement"}}, "unsupported_method", "method.type"),
    ({"method": {"type": "magic"}}, "invalid_value", "method.type"),
    ({"method": {}}, "invalid_value", "method.type"),
    ({"method": []}, "invalid_value", "method"),
    ({"method": {"type": "supervised", "x": 1}}, "unknown_parameter", "method.x"),
    ({"method": {"type": "supervised", "supervised": 1}}, "invalid_value", "method.supervised"),
    ({"hyperparameters": {"n_epochs": 0}}, "invalid_value", "hyperparameters.n_epochs"),
    ({"hyperparameters": {"n_epochs": 10**400}}, "invalid_value", "hyperparameters.n_epochs"),
    ({"hyperparameters": {"n_epochs": 51}}, "invalid_value", "hyperparameters.n_epochs"),
    ({"hyperparameters": {"n_epochs": 1.5}}, "invalid_value", "hyperparameters.n_epochs"),
    ({"hyperparameters": {"n_epochs": "many"}}, "invalid_value", "hyperparameters.n_epochs"),
    ({"hyperparameters": {"batch_size": 257}}, "invalid_value", "hyperparameters.batch_size"),
    (
        {"hyperparameters": {"learning_rate_multiplier": 0}},
        "invalid_value",
        "hyperparameters.learning_rate_multiplier",
    ),
    ({"hyperparameters": {"beta": 1}}, "unknown_parameter", "hyperparameters.beta"),
    ({"hyperparameters": 3}, "invalid_value", "hyperparameters"),
    (
        {"hyperparameters": {}, "method": {"type": "supervised"}},
        "invalid_value",
        "hyperparameters",
    ),
    ({"stop_early": True}, "unknown_parameter", "stop_early"),
]


@pytest.mark.parametrize(("asked", "code", "param"), WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_job_names_its_parameter(
    site: Site, asked: dict[str, Any], code: str, param: str
) -> None:
    """A 400 with the parameter, and no job."""
    assert site.create(**asked).error == (400, code, param)
    assert site.ask("GET", JOBS).body["data"] == []


def test_what_a_name_would_have_to_be_mapped_to_is_said(site: Site) -> None:
    """The way out stands in the message."""
    message = site.create(model="gpt-3.5-turbo").body["error"]["message"]
    assert '[bases] "gpt-3.5-turbo" = "hf:org/name"' in message


def test_a_file_of_another_purpose_is_no_training_file(site: Site) -> None:
    """Results cannot be trained on."""
    said = site.create(training_file=site.results)
    assert said.error == (400, "invalid_purpose", "training_file")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_object(site: Site, body: bytes) -> None:
    """Whatever is sent."""
    assert site.ask("POST", JOBS, body).error == (400, "bad_json", None)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", f"{JOBS}/ftjob-x{more}") for more in ("", "/events", "/checkpoints")),
        *(("POST", f"{JOBS}/ftjob-x/{verb}") for verb in ("cancel", "pause", "resume")),
        *(("GET", f"/v1/files/file-x{more}") for more in ("", "/content")),
        ("DELETE", "/v1/files/file-x"),
        ("GET", "/v1/files/..%2f..%2funderstudy.toml/content"),
        ("GET", "/v1/files/%00/content"),
    ],
)
def test_what_is_not_there(site: Site, method: str, path: str) -> None:
    """404, in shape."""
    said = site.ask(method, path)
    assert said.error[0] == 404
    assert said.error[1] in ("not_found", "file_not_found", "unknown_url")


@pytest.mark.parametrize("path", [JOBS, "/v1/files"])
@pytest.mark.parametrize(
    ("query", "status", "param"),
    [
        ("limit=0", 400, "limit"),
        ("limit=x", 400, "limit"),
        ("limit=%D9%A3", 400, "limit"),
        ("limit=99999", 400, "limit"),
        ("after=nobody", 404, "after"),
        ("colour=red", 400, "colour"),
    ],
)
def test_a_wrong_page(site: Site, path: str, query: str, status: int, param: str) -> None:
    """Of files and of jobs."""
    said = site.ask("GET", f"{path}?{query}")
    assert (said.error[0], said.error[2]) == (status, param)


def test_other_wrong_queries(site: Site) -> None:
    """Order, metadata, and where a list of events goes on."""
    assert site.ask("GET", "/v1/files?order=up").error == (400, "invalid_value", "order")
    assert site.ask("GET", f"{JOBS}?metadata=x").error == (400, "invalid_value", "metadata")


@pytest.mark.parametrize(
    ("parts", "code", "param"),
    [
        ([PURPOSE], "missing_required_parameter", "file"),
        ([part("file", b"x", "x.jsonl")], "missing_required_parameter", "purpose"),
        ([part("purpose", b"batch"), part("file", b"x", "x")], "invalid_value", "purpose"),
        ([PURPOSE, part("file", b"", "x.jsonl")], "empty_file", "file"),
        ([PURPOSE, part("fail", b"x", "x.jsonl")], "bad_form", None),
        ([PURPOSE, part("file", b"x", "x"), part("file", b"y", "y")], "bad_form", "file"),
        (
            [PURPOSE, part("expires_after[seconds]", b"9"), part("file", b"x", "x")],
            "unsupported_parameter",
            "expires_after[seconds]",
        ),
        ([part("purpose", b"x" * 70_000)], "bad_form", None),
        ([part(f"f{n}", b"") for n in range(40)], "bad_form", None),
        ([b"nonsense"], "bad_form", None),
        ([PURPOSE, part("file", b"x", "n" * 9000)], "bad_form", None),
    ],
    ids=range(11),
)
def test_a_wrong_upload(site: Site, parts: list[bytes], code: str, param: str | None) -> None:
    """A 400, and nothing is kept: neither in the list nor on the disk."""
    before = sorted(path.name for path in (site.folder / "files").iterdir())
    said = site.upload(*parts)
    assert said.error == (400, code, param)
    assert sorted(path.name for path in (site.folder / "files").iterdir()) == before
    assert len(site.ask("GET", "/v1/files").body["data"]) == len(before) == 2


def test_a_form_that_is_cut_off_or_none(site: Site) -> None:
    """Without its last boundary it is not whole; JSON is no form."""
    cut = site.upload(PURPOSE, part("file", b"x", "x.jsonl"), end=b"")
    assert cut.error == (400, "bad_form", None)
    assert site.ask("POST", "/v1/files", {"purpose": "fine-tune"}).error == (400, "no_form", None)


def test_a_file_that_is_too_large_is_told_before_it_is_sent(site: Site) -> None:
    """413 by its length alone, and by what comes if it lies."""
    length = {"Content-Length": str(600 * 1024**2), "Content-Type": "multipart/form-data"}
    assert site.ask("POST", "/v1/files", b"", **length).error[0] == 413


@pytest.mark.parametrize(
    ("sent_as", "kept_as"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\\\..\\\\x.jsonl", "x.jsonl"),
        ("a\tb\x07.jsonl", "ab.jsonl"),
        ("..", "file"),
        ("", "file"),
        ("n" * 3000, "n" * 255),
        ("données 日本.jsonl", "données 日本.jsonl"),
    ],
    ids=["path", "backslashes", "control", "dots", "none", "long", "unicode"],
)
def test_a_files_name_is_only_a_name(site: Site, sent_as: str, kept_as: str) -> None:
    """It is told, never followed: the file lies under its id."""
    said = site.upload(PURPOSE, part("file", b"{}", sent_as))
    assert said.body["filename"] == kept_as, said
    stored = site.folder / "files" / said.body["id"]
    assert stored.read_bytes() == b"{}"
    assert stored.stat().st_mode & 0o777 == 0o600
    assert site.ask("DELETE", f"/v1/files/{said.body['id']}").body["deleted"]
    assert not stored.exists()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (colours()[:9], "at least 10"),
        ([*colours()[:12], {"prompt": "x"}], "line 13: messages is missing"),
        ([*colours()[:12], {"messages": [{"role": "user", "content": "x"}]}], "line 13"),
        ([conversation("x", "y"), *colours()[:12], {"messages": 7}], "line 14"),
    ],
    ids=["few", "other", "no answer", "no list"],
)
def test_a_file_that_cannot_be_trained_on_fails_its_job(
    site: Site, rows: list[dict[str, Any]], said: str, tmp_path: Path
) -> None:
    """With OpenAI's code, the parameter and the line; a validation file likewise."""
    sdk = client(site.home)
    bad = sent(sdk, written(tmp_path / "bad.jsonl", rows))
    job = ended(sdk, sdk.fine_tuning.jobs.create(model="tiny", training_file=bad).id)
    assert (job.status, job.error.code) == ("failed", "invalid_training_file")
    assert job.error.param == "training_file"
    assert said in job.error.message
    assert job.fine_tuned_model is None
    with pytest.raises(Exception, match="cannot be resumed"):
        sdk.fine_tuning.jobs.resume(job.id)


def test_a_job_that_ended_cannot_be_stopped(site: Site, tmp_path: Path) -> None:
    """Cancelled twice it stays cancelled; paused, or cancelled after its end, it is a 400."""
    sdk = client(site.home)
    bad = sent(sdk, written(tmp_path / "bad.jsonl", colours()[:3]))
    failed = ended(sdk, sdk.fine_tuning.jobs.create(model="tiny", training_file=bad).id)
    for verb in ("cancel", "pause", "resume"):
        said = site.ask("POST", f"{JOBS}/{failed.id}/{verb}")
        assert said.error == (400, "job_failed", None)
    said = site.ask("GET", f"{JOBS}/{failed.id}/events?after=x")
    assert said.error == (404, "not_found", "after")
    said = site.ask("GET", f"{JOBS}/{failed.id}/checkpoints?after=x")
    assert said.error == (404, "not_found", "after")


def test_a_student_that_cannot_be_had_fails_its_job(site: Site) -> None:
    """A base of the hub that is not here, without a way to fetch it: the reason is told."""
    sdk = client(site.home)
    job = sdk.fine_tuning.jobs.create(model="gpt-4o-mini", training_file=site.file)
    job = until(sdk, job.id, lambda one: one.status == "failed")
    assert "org/name" in job.error.message
    assert "gpt-4o-mini is hf:org/name here" in str(sdk.fine_tuning.jobs.list_events(job.id).data)


def test_an_idempotency_key_is_for_one_request(site: Site) -> None:
    """Another request with the same key is refused; one without a key is a job of its own."""
    asked = {"model": "gpt-4o-mini", "training_file": site.file}
    first = site.ask("POST", JOBS, asked, **{"Idempotency-Key": "k"})
    again = site.ask("POST", JOBS, asked, **{"Idempotency-Key": "k"})
    assert first.body["id"] == again.body["id"]
    other = site.ask("POST", JOBS, {**asked, "seed": 1}, **{"Idempotency-Key": "k"})
    assert other.error == (400, "idempotency_key_reused", None)
    assert site.ask("POST", JOBS, asked).body["id"] != first.body["id"]
    long = site.ask("POST", JOBS, asked, **{"Idempotency-Key": "k" * 256})
    assert long.error[0] == 400


def test_half_a_character_in_a_name_is_replaced(site: Site) -> None:
    """JSON can carry what UTF-8 cannot; the job is made, and told."""
    body = site.create(metadata={"a\ud800": "b\udfff"}).body
    assert body["metadata"] == {"a\ufffd": "b\ufffd"}
    assert site.ask("GET", f"{JOBS}/{body['id']}").status == 200
    site.ask("POST", f"{JOBS}/{body['id']}/cancel")


def test_bytes_that_somebody_took_away(site: Site) -> None:
    sent_file = site.upload(PURPOSE, part("file", b"x", "x.jsonl")).body["id"]
    (site.folder / "files" / sent_file).unlink()
    assert site.ask("GET", f"/v1/files/{sent_file}/content").error == (404, "file_gone", "id")
    assert site.ask("DELETE", f"/v1/files/{sent_file}").body["deleted"]


def test_an_upload_that_breaks_off_leaves_nothing(site: Site) -> None:
    """The client is gone in the middle: no row, no bytes."""
    before = sorted(path.name for path in (site.folder / "files").iterdir())
    connection = http.client.HTTPConnection(site.home.host, timeout=30)
    connection.putrequest("POST", "/v1/files")
    connection.putheader("Authorization", f"Bearer {TOKEN}")
    connection.putheader("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
    connection.putheader("Content-Length", "1000000")
    connection.endheaders(PURPOSE + part("file", b"x" * 100_000, "half.jsonl"))

    def there() -> list[str]:
        return sorted(path.name for path in (site.folder / "files").iterdir())

    wait_for(lambda: there() != before)
    connection.close()
    wait_for(lambda: there() == before)
    assert [one["filename"] for one in site.ask("GET", "/v1/files").body["data"]].count(
        "half.jsonl"
    ) == 0
    assert "ClientDisconnect" not in told(site.home), "who leaves is no error of the server's"


def told(home: Home) -> str:
    """What the server has written to its standard error since this was asked."""
    assert home.process.stderr is not None
    os.set_blocking(home.process.stderr.fileno(), False)
    try:
        return os.read(home.process.stderr.fileno(), 1_000_000).decode()
    except BlockingIOError:
        return ""


def wait_for(right: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not right():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_a_killed_server_was_receiving_is_swept_away(tmp_path: Path) -> None:
    """SIGKILL in the middle of an upload: the next server deletes what came, and only that."""
    folder = tmp_path / "p"
    Project.new(folder).close()
    with serving(folder) as home:
        kept = sent(client(home), written(tmp_path / "x.jsonl", colours()[:10]))
        connection = http.client.HTTPConnection(home.host, timeout=30)
        connection.putrequest("POST", "/v1/files")
        connection.putheader("Authorization", f"Bearer {TOKEN}")
        connection.putheader("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
        connection.putheader("Content-Length", "1000000")
        connection.endheaders(PURPOSE + part("file", b"x" * 100_000, "half.jsonl"))
        wait_for(lambda: len(list((folder / "files").iterdir())) == 2)
        os.kill(home.process.pid, signal.SIGKILL)
        home.process.wait()
        connection.close()
    assert len(list((folder / "files").iterdir())) == 2
    with serving(folder) as home:
        wait_for(lambda: [path.name for path in (folder / "files").iterdir()] == [kept])
        assert [one.id for one in client(home).files.list()] == [kept]


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs a mount namespace")
def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """507 in OpenAI's shape, nothing kept; a file that fits is taken afterwards."""
    small, script = tmp_path / "small", tmp_path / "go.sh"
    small.mkdir()
    run = f"{sys.executable} -m understudy"
    script.write_text(
        f"mount -t tmpfs -o size=8m none {small} || exit 77\n"
        f"{run} new {small}/p >&2 || exit 77\n"
        f"exec {run} serve -p {small}/p --port 0 --json\n"
    )
    with subprocess.Popen(
        ["unshare", "-rm", "sh", str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "UNDERSTUDY_TOKEN": TOKEN},
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            pytest.skip("no mount namespace on this machine")
        told = json.loads(line)
        site = Site(Home(told["url"], told["token"], process), small, "", "")
        try:
            large = site.upload(PURPOSE, part("file", b"x" * 9_000_000, "large.jsonl"))
            assert large.error == (507, "insufficient_storage", None)
            assert site.ask("GET", "/v1/files").body["data"] == []
            fits = site.upload(PURPOSE, part("file", b"x" * 100_000, "fits.jsonl"))
            assert fits.body["bytes"] == 100_000
        finally:
            process.kill()
