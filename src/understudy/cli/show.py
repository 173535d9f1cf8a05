"""Results as people want to read them: small tables, plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from understudy.cli.words import counted, printable
from understudy.money import MICRO, duration, usd
from understudy.settings import Configured, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType

    from understudy.project import Project
    from understudy.project.doctor import Check
    from understudy.project.flow import Finished
    from understudy.project.results import Generated
    from understudy.run import AnyRun
    from understudy.task import Plan, Task


def sheet(*columns: str, right: Sequence[str] = ()) -> Table:
    """An empty table; ``right`` names the columns of numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        side: Literal["left", "right"] = "right" if column in right else "left"
        table.add_column(column, justify=side, overflow="fold", no_wrap=column in right)
    return table


def listed(rows: Iterable[tuple[str, object]]) -> Table:
    """Names and values; pairs without a value are left out."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in rows:
        if value:
            table.add_row(name, _cell(value))
    return table


def _cell(value: object) -> Text:
    return Text(printable(str(value)))


def spec_text(task: Task) -> RenderableType:
    """The spec, for reading."""
    spec = task.spec
    if spec is None:
        return "No spec yet: no teacher is there to write it; own examples will show what is meant."
    return listed(
        [
            (f"spec {task.version}", spec.title),
            ("by", task.author),
            ("in", spec.input),
            ("out", spec.output),
            ("kind", spec.kind),
            ("labels", ", ".join(spec.labels)),
            ("fields", ", ".join(f"{field.name}: {field.type}" for field in spec.fields)),
            ("pattern", spec.pattern),
            ("language", spec.language),
            *(("rule", rule) for rule in spec.rules),
            ("out of scope", spec.out_of_scope),
            *(("assumption", text) for text in spec.assumptions),
            *(("question", text) for text in spec.questions),
            ("system", spec.system_message),
        ]
    )


def assumed(task: Task) -> RenderableType:
    """What the teacher took for granted, before it is asked about."""
    spec = task.spec
    if spec is None:
        return ""
    return listed(
        [
            ("in", spec.input),
            ("out", spec.output),
            *(("rule", rule) for rule in spec.rules),
            *(("assumed", text) for text in spec.assumptions),
        ]
    )


def plan_table(plan: Plan) -> RenderableType:
    """Attributes with their values and shares."""
    table = sheet("Attribute", "Values")
    for attribute in plan.attributes:
        total = sum(option.weight for option in attribute.values)
        shares = (f"{one.value} {one.weight / total:.0%}" for one in attribute.values)
        table.add_row(_cell(attribute.name), _cell(", ".join(shares)))
    for pair in plan.impossible:
        first, second = (
            f"{pair.attribute} {pair.value}",
            f"{pair.other_attribute} {pair.other_value}",
        )
        table.add_row("never", _cell(f"{first} with {second}"))
    return table


def generated(result: Generated, *, told: bool) -> str:
    """One line. ``told`` is True if lines before it have said why others were set apart."""
    if not result.made and result.total >= result.asked:
        return f"All {result.asked:,} are there already; nothing was made"
    why = f"; {counted(result.reasons)}" if result.reasons and not told else ""
    return (
        f"{result.made:,} made, {result.accepted:,} accepted, {result.calls:,} calls, "
        f"{usd(result.spent_micro)} in {duration(result.seconds)}{why}"
    )


def trained(run: AnyRun, here: str) -> str:
    """One line; ``here`` names the project for the next command."""
    if run.state == "running":
        return f"{run.model}: its host was asked; whoever follows it tells how it ended"
    if run.state in ("paused", "cancelled"):
        return f"{run.model} {run.state}: {run.student}"
    loss = run.metrics.get("loss")
    told = f", loss {loss:.3f}" if loss is not None else ""
    return f"{run.model} {run.state}: {run.student}{told}. Next: understudy evaluate{here}"


def finished(project: Project, done: Finished, seconds: float) -> RenderableType:
    """The end of ``run`` and ``demo``: samples, table, verdict, where things lie, what is next."""
    from understudy.cli.report_table import report_table
    from understudy.project.here import here

    folder = project.folder
    samples = sheet("Input", "Student", "Reference", "")
    for sample in project.samples(done.report, 5):
        mark = "right" if sample.right else "wrong"
        samples.add_row(
            _cell(_short(sample.input)), _cell(sample.answer), _cell(sample.reference), mark
        )
    lines = [
        f"project   {folder}   (examples, ledger, runs: `understudy status{here(folder)}`)",
        _model(done),
        f'next      understudy predict{here(folder)} "INPUT"',
        f"took      {duration(seconds)}",
    ]
    return Group("", samples, "", report_table(done.report), "", *map(_cell, lines))


def _model(done: Finished) -> str:
    if done.exported is None:
        return f"model     {done.run.metrics.get('remote')}   (its host keeps it)"
    return f"model     {done.exported.path}   (answers equal on {done.exported.parity} prompts)"


def _short(text: str, width: int = 60) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= width else f"{flat[: width - 1]}…"


def status_text(body: dict[str, Any]) -> RenderableType:
    """Where the project stands."""
    states = ", ".join(f"{number:,} {state}" for state, number in body["examples"].items())
    rows: list[tuple[str, object]] = [
        ("project", body["project"]),
        ("task", body["description"] or "not described yet"),
        ("examples", states or "none"),
        ("set apart", counted(body["reasons"])),
        ("generating", _how_far(body["generating"])),
        ("money", _money(body)),
        ("in use", f"by process {body['in_use_by']}" if body["in_use_by"] else ""),
    ]
    for one in body["batches"]:
        told = f"{one['requests']:,} requests, {one['state']}, since {one['at']}"
        rows.append((f"batch {one['batch']}", told))
    for one in body["datasets"]:
        splits = (
            f"{one[name]:,} {name}" for name in ("train", "validation", "test") if name in one
        )
        rows.append((f"dataset {one['dataset']}", ", ".join(splits)))
    for one in body["jobs"]:
        run = f" (run:{one['run']})" if one["run"] else ""
        rows.append((one["job"], f"{one['model']}, here {one['student']}: {one['state']}{run}"))
    for one in body["runs"]:
        told = f"{one['student']} on dataset {one['dataset']}: {one['state']}"
        rows.append((one["model"], told))
    found = body["check"]
    told = found and (found["warning"] or found["sentences"][0])
    return listed([*rows, ("check", told), ("verdict", body["verdict"]), ("next", body["next"])])


def _how_far(wish: dict[str, int] | None) -> str:
    return f"{wish['made']:,} of {wish['wanted']:,}" if wish else ""


def _money(body: dict[str, Any]) -> str:
    """``spent $0.12, budget $5.00``."""
    budget = body["budget_usd"]
    limit = "no budget" if budget is None else f"budget {usd(round(budget * MICRO))}"
    return f"spent {usd(round(body['spent_usd'] * MICRO))}, {limit}"


def ledger_table(body: dict[str, Any], width: int) -> RenderableType:
    """Calls by purpose, and the sum. In fewer than ``width`` columns, if need be without tokens."""
    table = _calls(body["lines"], tokens=True)
    if Console(width=1000).measure(table).maximum > width:
        table = _calls(body["lines"], tokens=False)
    made_up = any(row["model"].startswith("practice:") for row in body["lines"])
    calls = f"{body['calls']:,} call" + "s" * (body["calls"] != 1)
    total = f"{calls}, {_money(body)}"
    note = " (practice prices are made up)" if made_up else ""
    unknown = (
        f"; {body['unknown']:,} with unknown outcome count as spent" if body["unknown"] else ""
    )
    return Group(table, "", total + note + unknown)


def _calls(lines: Sequence[dict[str, Any]], *, tokens: bool) -> Table:
    numbers = ("calls", *(("tokens in", "tokens out") if tokens else ()), "$")
    table = sheet("purpose", "model", "state", *numbers, right=numbers)
    for row in lines:
        both = (f"{row['input_tokens']:,}", f"{row['output_tokens']:,}") if tokens else ()
        cost = usd(round(row["usd"] * MICRO))
        first = (row["purpose"], _cell(row["model"]), row["state"])
        table.add_row(*first, f"{row['calls']:,}", *both, cost)
    return table


def checks_table(checks: Sequence[Check]) -> RenderableType:
    """What the doctor found."""
    table = sheet("", "Check", "Found", "What to do")
    for check in checks:
        mark = {True: "ok", False: "BAD", None: "-"}[check.ok]
        table.add_row(mark, check.name, _cell(check.found), _cell("" if check.ok else check.fix))
    return table


def settings_table(configured: Configured) -> RenderableType:
    """Every setting."""
    table = sheet("Setting", "Value", "From", "Meaning")
    for name, value in configured.settings.model_dump().items():
        meaning = Settings.model_fields[name].description or ""
        shown = "" if value is None else value
        table.add_row(name, _cell(shown), configured.origin[name], meaning)
    return table
