"""The end of a training at a host: what it cost, what it is worth, and what the user is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from understudy.errors import ProviderRefused, UnderstudyError
from understudy.models.address import Address
from understudy.money import MICRO
from understudy.project.workplace import Workplace
from understudy.run import HostedRun, RunState
from understudy.store import calls, events, hosted, runs
from understudy.store.calls import Ended, Sent
from understudy.store.hosted import Handed
from understudy.train.hosted import Checkpoint, Host, Job, tables


def booked(
    place: Workplace,
    host: Host,
    run: HostedRun,
    job: Job,
    checkpoints: Sequence[Checkpoint],
    seconds: float,
) -> tuple[HostedRun, UnderstudyError | None]:
    """Write the end of a job into the ledger and the run, in one transaction.

    The run as it is now, and the error that tells of it, if it did not succeed.
    """
    with place.database.write() as connection:
        handed = hosted.of(connection, run)
        ended = _cost(job, handed, hosted.held(connection, handed))
        hosted.settle(connection, handed, ended)
        run = replace(run, state=_state(job), metrics=_metrics(connection, run, job, handed, ended))
        if checkpoints:
            run.metrics["checkpoints"] = [one._asdict() for one in checkpoints]
        run.metrics["seconds"] = seconds
        if job.model:
            run.metrics["remote"] = model_name(host.address, job.model)
        runs.set_run(connection, run)
    over = ended.cost_micro - ended.call.reserve_micro
    if over > 0:
        place.say("ledger.overshoot", teacher=run.student, micro=over)
    place.say("hosted.booked", run=run.id, micro=ended.cost_micro, note=ended.note)
    place.say("run.state", run=run.id, state=run.state, seconds=seconds)
    deploy = tables.facts(host.address).deploy
    if run.state == "succeeded" and deploy:
        place.say("hosted.deploy", run=run.id, model=run.remote, text=deploy)
    return run, _error(run, job)


def _state(job: Job) -> RunState:
    if job.state == "succeeded" and not job.model:
        return "failed"
    return job.state if job.state in ("succeeded", "cancelled") else "failed"


def _cost(job: Job, handed: Handed, sent: Sent) -> Ended:
    """What the host bills. Told in full: what is known, what is reckoned, what is not known."""

    def ended(state: str, micro: int, note: str, *, estimated: bool = False) -> Ended:
        tokens = job.trained_tokens
        return Ended(sent, state, micro, note, estimated=estimated, input_tokens=tokens)

    if job.told == "gone":
        return ended("unknown", sent.reserve_micro, "the host knows the job no more")
    if job.trained_tokens:
        return ended("settled", handed.cost_micro(job.trained_tokens), "")
    if job.state == "succeeded":
        note = "the host told no tokens: the most is booked"
        return ended("settled", sent.reserve_micro, note, estimated=True)
    if handed.steps and job.state == "cancelled":
        note = f"cancelled after step {handed.steps:,}; the host told no tokens: the most is booked"
        return ended("settled", sent.reserve_micro, note, estimated=True)
    return ended("failed_unpaid", 0, f"{job.told} before anything was billed")


def _metrics(
    connection: Any, run: HostedRun, job: Job, handed: Handed, ended: Ended
) -> dict[str, Any]:
    """Those of a training here, as far as a host tells them."""
    last = [
        one.data
        for one in events.of_kind(connection, "train.step")
        if one.data.get("run") == run.id and one.data.get("loss") is not None
    ]
    return {
        "steps": handed.steps or None,
        "loss": last[-1]["loss"] if last else None,
        "tokens_per_s": None,
        "answer_tokens_per_s": None,
        "peak_memory_mb": None,
        "job": job.id,
        "trained_tokens": job.trained_tokens,
        "usd": ended.cost_micro / MICRO,
        **({"error": job.error} if job.error else {}),
    }


def model_name(address: Address, model: str) -> str:
    """The name of another model at the same address."""
    if "://" in address.name:
        return f"{address.name.partition('#')[0]}#{model}"
    return f"{address.provider}:{model}"


def _error(run: HostedRun, job: Job) -> UnderstudyError | None:
    if run.state == "succeeded":
        return None
    if job.told == "gone":
        return ProviderRefused(
            f"{run.model}: {job.error or 'the host knows the job no more'}",
            "Its worst case counts as spent; look there, and train anew with the same command",
        )
    if run.state == "cancelled":
        return UnderstudyError(
            f"{run.model} was cancelled at the host", "The same command makes a new job"
        )
    why = job.error or ("it names no model" if job.state == "succeeded" else "it does not say why")
    return UnderstudyError(
        f"{run.model} failed at the host: {why}", "Mend that; the same command makes a new job"
    )


def dropped(place: Workplace, run: HostedRun, state: RunState, why: str) -> HostedRun:
    """Give back what is held for a run of which no job was made at the host."""
    with place.database.write() as connection:
        handed = hosted.of(connection, run)
        hosted.settle(connection, handed, calls.freed(hosted.held(connection, handed), why))
        run = replace(run, state=state, metrics={"error": why})
        runs.set_run(connection, run)
    place.say("run.state", run=run.id, state=run.state, seconds=0)
    return run
