"""Run by tests/test_jobs_sdk.py under each generation of the SDK: ``sdk_of_jobs.py URL TOKEN DIR``.

Every answer is checked three ways: the SDK's own type takes it strictly, nothing in it is lost on
the way through the SDK, and it says what it should.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import openai
from openai import OpenAI

from fine_tuning import TRAINED, colours, written


def strict(response: Any) -> Any:
    """The parsed answer, after it was held against its type and its own text."""
    parsed, said = response.parse(), json.loads(response.text)
    type(parsed).model_validate_json(response.text, strict=True)
    assert parsed.to_dict(mode="json") == said, (parsed.to_dict(), said)
    return parsed


def page(response: Any) -> list[Any]:
    """The items of a page, each checked."""
    said = json.loads(response.text)
    parsed = response.parse()
    assert parsed.to_dict(mode="json") == said
    for item, raw in zip(parsed.data, said["data"], strict=True):
        type(item).model_validate_json(json.dumps(raw), strict=True)
        assert item.to_dict(mode="json") == raw
    return list(parsed.data)


def main(url: str, token: str, folder: Path) -> None:
    sdk = OpenAI(base_url=url, api_key=token, max_retries=0)
    files, jobs = sdk.files.with_raw_response, sdk.fine_tuning.jobs.with_raw_response
    rows = colours()
    train, check = (
        written(folder / "train.jsonl", rows[:40]),
        written(folder / "v.jsonl", rows[90:]),
    )

    # files
    with train.open("rb") as file, check.open("rb") as other:
        first = strict(files.create(file=file, purpose="fine-tune"))
        second = strict(files.create(file=("../../v.jsonl", other), purpose="fine-tune"))
    assert (first.filename, first.bytes, first.status) == (
        "train.jsonl",
        train.stat().st_size,
        "processed",
    )
    assert second.filename == "v.jsonl"
    assert strict(files.retrieve(first.id)).id == first.id
    assert [one.id for one in page(files.list(limit=1))] == [second.id]
    assert [one.id for one in sdk.files.list(order="asc", purpose="fine-tune", limit=1)][-2:] == [
        first.id,
        second.id,
    ]
    assert sdk.files.list(purpose="batch").data == []
    assert sdk.files.content(first.id).read() == train.read_bytes()

    # a job
    made = strict(
        jobs.create(
            model="gpt-3.5-turbo",
            training_file=first.id,
            validation_file=second.id,
            suffix="my colours",
            seed=7,
            metadata={"who": "tests"},
            method={"type": "supervised", "supervised": {"hyperparameters": TRAINED}},
            extra_headers={"Idempotency-Key": openai.__version__},
        )
    )
    again = sdk.fine_tuning.jobs.create(
        model="gpt-3.5-turbo",
        training_file=first.id,
        validation_file=second.id,
        suffix="my colours",
        seed=7,
        metadata={"who": "tests"},
        hyperparameters=TRAINED,
        extra_headers={"Idempotency-Key": openai.__version__},
    )
    assert again.id == made.id
    assert made.status == "validating_files"
    assert (made.seed, made.metadata) == (7, {"who": "tests"})
    job = made
    seen = {made.status}
    while job.status not in ("succeeded", "failed", "cancelled"):
        job = strict(jobs.retrieve(made.id))
        seen.add(job.status)
    assert "running" in seen, seen
    assert job.status == "succeeded", job
    assert job.fine_tuned_model == f"ft:gpt-3.5-turbo:understudy:my-colours:{made.id[6:14]}"
    assert job.method.supervised.hyperparameters.n_epochs == 2
    assert job.hyperparameters.batch_size == 4
    assert job.trained_tokens > 40 * 2 * 10
    assert job.finished_at >= job.created_at
    assert job.estimated_finish is None
    assert job.error is None
    assert job.id in [one.id for one in page(jobs.list())]
    assert [one.id for one in sdk.fine_tuning.jobs.list(metadata={"who": "tests"}, limit=1)].count(
        job.id
    ) == 1
    assert sdk.fine_tuning.jobs.list(metadata={"who": "nobody"}).data == []

    # what happened: every page, and the same in one
    told = page(jobs.list_events(made.id, limit=100))
    assert [one.id for one in sdk.fine_tuning.jobs.list_events(made.id, limit=7)] == [
        one.id for one in told
    ]
    told = told[::-1]
    assert "gpt-3.5-turbo is tiny here" in told[0].message
    measured = [one for one in told if one.type == "metrics" and "train_loss" in one.data]
    assert [one.data["step"] for one in measured] == list(range(1, 21))
    assert measured[9].message.startswith("Step 10/20: training loss=")
    assert {one.level for one in told} <= {"info", "warn"}, told
    kept = page(sdk.fine_tuning.jobs.checkpoints.with_raw_response.list(made.id))
    assert [one.step_number for one in kept] == [20]
    assert kept[0].fine_tuned_model_checkpoint == job.fine_tuned_model
    assert kept[0].metrics.train_loss == measured[-1].data["train_loss"]

    # what was measured, as a file
    results = strict(files.retrieve(job.result_files[0]))
    assert results.purpose == "fine-tune-results"
    lines = sdk.files.content(results.id).text.splitlines()
    assert lines[0].startswith("step,train_loss,")
    assert len(lines) == 21
    assert lines[-1].split(",")[1] == str(measured[-1].data["train_loss"])

    assert job.fine_tuned_model in [one.id for one in sdk.models.list()]
    assert strict(files.delete(second.id)).deleted
    assert second.id not in [one.id for one in sdk.files.list()]
    print("done", openai.__version__)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
