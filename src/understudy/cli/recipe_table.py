"""`train`: settings as flags, and `train --explain` as tables."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, get_args

from rich.console import Group, RenderableType
from rich.table import Table

from understudy.cli.words import printable
from understudy.errors import UsageError
from understudy.project import hosted_plan
from understudy.project.hosted_plan import HostedPlan
from understudy.run import Method
from understudy.train.recipe import explain
from understudy.train.sizing.words import lines

if TYPE_CHECKING:
    from understudy.project.preparing import Prepared

AUTO = "auto"


def overrides(
    method: str,
    changes: Sequence[str],
    epochs: float | None,
    learning_rate: float | None,
    base_share: float | None,
) -> dict[str, Any]:
    """Settings of the recipe that were asked for. Raises UsageError for a wrong flag."""
    methods = (AUTO, *get_args(Method))
    if method not in methods:
        raise UsageError(f"no method {method!r}", f"There are: {', '.join(methods)}")
    named = {"epochs": epochs, "learning_rate": learning_rate, "base_share": base_share}
    asked: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise UsageError(f"--set {change!r} is not NAME=VALUE", "For example --set lora_rank=8")
        try:
            asked[name.strip()] = json.loads(value)
        except ValueError:
            asked[name.strip()] = value
    if method != AUTO:
        asked["method"] = method
    return asked


def explained(prepared: Prepared | HostedPlan) -> RenderableType:
    """The recipe with its reasons, then memory, disk and time; or a host's rows and price."""
    if isinstance(prepared, HostedPlan):
        return _of_host(prepared)
    recipe = _table("setting", "value", "why")
    for reason in explain(prepared.recipe):
        recipe.add_row(reason.setting, reason.value, reason.reason)
    parts: list[RenderableType] = [
        f"{printable(prepared.student)} on dataset {prepared.frozen.id}: "
        f"{prepared.frozen.counts.get('train', 0):,} training rows"
        + (f", {prepared.counted}" if prepared.counted else ""),
        recipe,
    ]
    if prepared.need is not None:
        needs = _table("needs", "", "")
        for line in lines(
            prepared.need, prepared.machine, adapters=prepared.recipe.method != "full"
        ):
            needs.add_row(*line)
        parts.append(needs)
    parts += [f"It does not fit: {lack}." for lack in prepared.lacking]
    if prepared.advice:
        parts.append(prepared.advice)
    return Group(*parts)


def _of_host(planned: HostedPlan) -> RenderableType:
    recipe = _table("setting", "value", "why")
    for line in planned.recipe.why:
        name, value, why = re.fullmatch(r"(\S+) (\S*): (.*)", line).groups()  # type: ignore[union-attr]
        recipe.add_row(name, value, why)
    about = _table("", "")
    for pair in hosted_plan.explained(planned):
        about.add_row(*map(printable, pair))
    return Group(f"{printable(planned.student)} on dataset {planned.frozen.id}", recipe, about)


def explained_json(prepared: Prepared | HostedPlan) -> dict[str, Any]:
    """The same for programs; sizes in bytes, times in seconds."""
    if isinstance(prepared, HostedPlan):
        return hosted_plan.as_json(prepared)
    need = prepared.need
    return {
        "dataset": prepared.frozen.id,
        "student": prepared.student,
        "recipe": prepared.recipe.model_dump(exclude={"why"}),
        "why": [reason._asdict() for reason in explain(prepared.recipe)],
        "fits": not prepared.lacking,
        "lacking": prepared.lacking,
        "advice": prepared.advice,
        "need": need and {**asdict(need), "memory_bytes": need.memory_bytes},
        "machine": asdict(prepared.machine),
    }


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
