"""What a training needs of a machine, in a sentence and as a table."""

from __future__ import annotations

from collections.abc import Iterator

from understudy.train.sizing.need import GB, Machine, Need, Range


def said(need: Need, machine: Machine) -> str:
    """One line: memory, disk and time, each beside what there is."""
    where = machine.gpu.name if machine.gpu else f"{machine.cores} cores"
    return (
        f"needs about {need.memory_bytes / GB:,.1f} of {machine.training_bytes / GB:,.1f} GB of "
        f"memory and {need.disk_bytes / GB:,.1f} of {machine.disk_bytes / GB:,.1f} GB of disk; "
        f"{_time(need.training_s)} on {where}"
    )


def lines(need: Need, machine: Machine, *, adapters: bool) -> Iterator[tuple[str, str, str]]:
    """Rows of a table: what, how much, and what there is or what it is made of."""
    memory = need.memory
    parts = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "optimizer": memory.optimizer,
        "activations": memory.activations,
        "scores": memory.logits,
        "loading": memory.copies,
        "libraries": memory.runtime,
    }
    made_of = ", ".join(
        f"{name} {size / GB:,.1f}" for name, size in parts.items() if size > GB / 20
    )
    yield "memory", f"{need.memory_bytes / GB:,.1f} GB", made_of
    what = machine.gpu.name if machine.gpu else f"this machine{_bound(machine)}"
    yield "", f"{machine.training_bytes / GB:,.1f} GB", f"free on {what}"
    disk = {
        "download": need.download_bytes,
        "checkpoints": need.checkpoint_bytes,
        "model": need.merged_bytes,
        "GGUF": need.export_bytes,
    }
    made_of = ", ".join(f"{name} {size / GB:,.1f}" for name, size in disk.items() if size > GB / 20)
    yield "disk", f"{need.disk_bytes / GB:,.1f} GB", made_of
    yield "", f"{machine.disk_bytes / GB:,.1f} GB", "free"
    yield "training", _time(need.training_s), "estimated"
    if adapters:
        yield "merging", _time(need.merging_s), "of adapters into the student"
    yield "export", _time(need.export_s), ""


def _bound(machine: Machine) -> str:
    return f" (bounded by {machine.limit})" if machine.limit else ""


def _time(span: Range) -> str:
    low, high = span
    if high < 90:
        return f"{max(low, 1):,.0f} to {max(high, 2):,.0f} s"
    if high < 5_400:
        return f"{max(low / 60, 1):,.0f} to {high / 60:,.0f} min"
    return f"{low / 3600:,.1f} to {high / 3600:,.1f} h"
