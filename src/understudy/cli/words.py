"""Events in words: one line for each step done, one bar for each step under way; safe text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from understudy.money import duration, usd
from understudy.run import Event

FEWEST_TEST_ITEMS = 20
TOLD_ABOVE = 0.3
"""Share of repeats and near repeats among a hundred inputs above which that is told."""

_SHOWN = 60
"""Most characters of a text within a line."""


class Bar(NamedTuple):
    """How far a step is."""

    label: str
    done: int
    total: int
    beside: str


def line(event: Event) -> str:
    """The line to print for an event; empty if it is only progress."""
    say = _LINES.get(event.kind)
    return say(event.data) if say else ""


def bar(event: Event) -> Bar | None:
    """How far the step is that the event tells of, if it tells that."""
    say = _BARS.get(event.kind)
    return say(event.data) if say else None


def counted(reasons: dict[str, int]) -> str:
    """``12 duplicate, 3 refusal``, the commonest first."""
    ordered = sorted(reasons.items(), key=lambda item: -item[1])
    return ", ".join(f"{number:,} {reason}" for reason, number in ordered)


def _clean(data: dict[str, Any]) -> str:
    apart = data["looked_at"] - data["accepted"]
    why = f", {apart:,} set apart ({counted(data['reasons'])})" if apart else ""
    return f"clean     {data['accepted']:,} of {data['looked_at']:,} accepted{why}"


def _frozen(data: dict[str, Any]) -> str:
    counts, older = data["counts"], data["of_older_specs"]
    text = f"freeze    dataset {data['dataset']}: {_counts(counts)}"
    text += f"; {older:,} of older specs left out" if older else ""
    few = counts.get("test", 0) < FEWEST_TEST_ITEMS
    return f"{text}; fewer than {FEWEST_TEST_ITEMS} test items tell little" if few else text


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {split}" for split, number in counts.items())


def _a_minute(data: dict[str, Any]) -> str:
    """``3,000 requests and 90,000 tokens a minute``, as far as it is known."""
    rates = {"requests": data["requests_per_minute"], "tokens": data.get("tokens_per_minute")}
    return " and ".join(f"{n:,.0f} {of}" for of, n in rates.items() if n) + " a minute"


def _cut(data: dict[str, Any]) -> str:
    waiting = f", after {duration(data['wait_s'])}" if data.get("wait_s") else ""
    if not data["requests_per_minute"]:
        return f"rates     the teacher asks for fewer calls{waiting}"
    return f"rates     the teacher asks for fewer calls: {_a_minute(data)} from now on{waiting}"


def _quirk(data: dict[str, Any]) -> str:
    """What was learned of a teacher, and by which words; the event's own may say both."""
    why = data["why"].removesuffix(f" ({data['teacher']} {data['learned']})")
    return f"teacher   {data['teacher']} {data['learned']}, since it says: {why}"


def _hundred(data: dict[str, Any]) -> str:
    """Told when much repeats; of many such only some."""
    near = data["near"] or 0  # none where only repeats were looked for
    number, wasted = data["number"], data["repeats"] + near
    if wasted <= TOLD_ABOVE * data["size"] or not (number <= 3 or number % 10 == 0):
        return ""
    return (
        f"generate  of the {data['size']} inputs of batch {number}, {data['repeats']} came before "
        f"and {near} nearly"
    )


def _quoted(data: dict[str, Any]) -> str:
    left, beside = data.get("left_micro"), ""
    if left is not None and left < data["high_micro"]:
        beside = f"; the budget leaves {usd(left)}"
    return f"pilot     quote for the rest: {data['text']}{beside}"


def _purged(data: dict[str, Any]) -> str:
    text = f"purge     {data['examples']:,} examples by {data['teacher']} erased"
    if data["datasets"]:
        numbers = ", ".join(map(str, data["datasets"]))
        text += f"; so are the files of dataset {numbers}: freeze and train anew"
    return text


def _evaluation(data: dict[str, Any]) -> str:
    """What the student is worth by now, and what it answers to a few rows."""
    if "trial" in data or "part" in data:  # told once, when it has ended
        return ""
    metric = data.get("metric") or "right"
    text = (
        f"train     step {data['step']:,} of {data['steps']:,}: {metric} {data['score']:.0%} of "
        f"{data['rows']:,} validation rows, loss {data['loss']:.3f}"
    )
    return "\n".join([text, *(_sample(sample) for sample in data.get("samples", ()))])


def _sample(data: dict[str, Any]) -> str:
    """``right``, or what was expected in place of what was answered."""
    asked, answer, expected = (_short(data[name]) for name in ("input", "answer", "expected"))
    if data["right"]:
        return f"          right: {asked} -> {answer}"
    return f"          wrong: {asked} -> {answer or '(nothing)'}, expected {expected}"


def _short(text: str) -> str:
    """The beginning of a text, on one line."""
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN else f"{flat[: _SHOWN - 1]}\N{HORIZONTAL ELLIPSIS}"


def _canaries(data: dict[str, Any]) -> str:
    if data["unfit"]:
        return f"judge     {data['judge']} is not believed: {data['unfit']}"
    passed = (f"{right} of {asked} {kind}" for kind, (right, asked) in data["passed"].items())
    return f"judge     {data['judge']}: {', '.join(passed)} pairs of known verdict ruled rightly"


def _checked(data: dict[str, Any]) -> str:
    return "\n".join(f"check     {sentence}" for sentence in data["sentences"])


def _resumed(data: dict[str, Any]) -> str:
    at = f"from the checkpoint of step {data['step']:,}" if data["step"] else "from the beginning"
    lost = "".join(f"; {reason}: deleted" for reason in data.get("ignored", ()))
    return f"train     goes on {at}{lost}"


def _trial(data: dict[str, Any]) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in data["settings"].items())
    worth = [f"loss {data['loss']:.3f}"] if data.get("loss") is not None else []
    if data.get("score") is not None:
        worth.insert(0, f"score {data['score']:.0%}")
    return (
        f"trial     {data['trial']} of {data['of']}, {data['rung']:.0%} of a training "
        f"({settings or 'as chosen'}): "
        f"{', '.join(worth) or 'it diverged'} in {duration(data['seconds'])}"
    )


def _best(data: dict[str, Any]) -> str:
    damaged = "".join(f"; {reason}" for reason in data["ignored"])
    return f"train     the weights of step {data['step']:,} are kept{damaged}"


_LINES: dict[str, Callable[[dict[str, Any]], str]] = {
    "ledger.unknown": lambda d: (
        f"ledger    {d['calls']:,} calls of a process that died are counted as spent: "
        "their outcome is unknown (--resend-unknown sends them again)"
    ),
    "ledger.stopping": lambda d: (
        f"stopping  waiting for {d['in_flight']:,} replies that are paid for, up to "
        f"{d['wait_s']} s; again to give them up"
    ),
    "ledger.overshoot": lambda d: (
        f"ledger    {d['teacher']} bills more tokens than it was allowed: a call cost "
        f"{usd(d['micro'])} more than its worst case, so the budget may be passed by that much"
    ),
    "ledger.given_up": lambda d: (
        f"ledger    {d['calls']:,} calls were given up; up to {usd(d['micro'])} counts as spent"
    ),
    "rates.limit": lambda d: f"rates     the teacher allows {_a_minute(d)}",
    "rates.cut": _cut,
    "teacher.chosen": lambda d: f"teacher   {d['teacher']} (table of {d['table_checked_on']})",
    "teacher.quirk": _quirk,
    "teacher.other_model": lambda d: (
        f"teacher   {d['asked']} was asked, {d['answered']} answers; the dearer price is booked"
    ),
    "teacher.terms": lambda d: f"terms     {d['teacher']}: {d['terms']}",
    "generate.start": lambda d: (
        f"generate  {d['made']:,} of {d['wanted']:,} are there; by {d['teacher']}, spec {d['spec']}"
    ),
    "purge.done": _purged,
    "describe.start": lambda d: f"describe  {d['teacher']} writes the spec",
    "task.version": lambda d: (
        f"spec {d['version']}    {d['title']} ({d['kind'] or 'no spec yet'}), by {d['author']}"
    ),
    "plan.done": lambda d: f"plan      inputs differ in {', '.join(d['attributes'])}",
    "pilot.quote": _quoted,
    "check.start": lambda d: (
        f"check     {d['items']} items are put to {d['teacher']} twice, for at most {d['worst']}; "
        "what it answered before costs nothing"
    ),
    "check.base": lambda d: f"check     the same are put to {d['student']}, untrained",
    "check.done": _checked,
    "generate.done": lambda d: (
        f"generate  {d['made']:,} made for {usd(d['spent_micro'])} in {duration(d['seconds'])}"
        + (f"; useless: {counted(d['useless'])}" if d.get("useless") else "")
        + (f"; failed: {counted(d['failures'])}" if d["failures"] else "")
        + (f"; {d['agreement']:.0%} of the answers agree" if d.get("agreement") else "")
    ),
    "generate.hundred": _hundred,
    "generate.repetitive": lambda d: f"generate  {d['reason']}",
    "generate.exhausted": lambda d: f"generate  ends early: {d['reason']}",
    "quote.compared": lambda d: f"quote     {d['text']}",
    "batch.price": lambda d: (
        f"batch     answers at ${d['usd_in']} in, ${d['usd_out']} out per million tokens: "
        f"{d['source']}"
    ),
    "batch.sent": lambda d: (
        f"batch     {d['requests']:,} requests are with the provider as {d['provider_id']}; "
        "Ctrl-C stops waiting, the same command goes on with it"
    ),
    "batch.done": lambda d: (
        f"batch     {d['state']}: {d['answers']:,} answers"
        + (f"; failed: {counted(d['failures'])}" if d["failures"] else "")
        + (f"; {d['strangers']:,} lines of other calls" if d["strangers"] else "")
    ),
    "import.done": lambda d: (
        f"import    {d['added']:,} new of {d['rows']:,} rows"
        + (f", {d['bad']:,} bad" * bool(d["bad"]))
    ),
    "clean.done": _clean,
    "freeze.done": _frozen,
    "train.start": lambda d: f"train     run {d['run']}: {d['student']}. {d['why'][1]}",
    "train.resumed": _resumed,
    "train.fits": lambda d: f"train     {d['text']}",
    "train.confirmed": lambda d: f"train     {d['text']}",
    "train.smaller": lambda d: f"train     {d['text']}",
    "train.system_folded": lambda d: f"train     {d['text']}",
    "train.trials": lambda d: f"train     {d['text']}",
    "train.trial": _trial,
    "train.chosen": lambda d: f"train     {d['text']}",
    "train.evaluation": _evaluation,
    "train.best": _best,
    "train.forgetting": lambda d: f"train     {d['text']}",
    "hosted.ends": lambda d: f"host      {d['student']}: {d['text']}",
    "hosted.start": lambda d: f"train     run {d['run']}: {d['price']}",
    "hosted.upload": lambda d: f"host      takes {d['file']}, {d['bytes']:,} bytes",
    "hosted.created": lambda d: (
        f"host      has run {d['run']} as {d['job']}; Ctrl-C stops following it, the same command "
        "goes on"
    ),
    "hosted.state": lambda d: f"host      {d['job']}: {d['told']}",
    "hosted.event": lambda d: "" if d["level"] == "info" else f"host      {d['message']}",
    "hosted.forgot": lambda d: f"host      knows {d['what']} no more: it is sent again",
    "hosted.trouble": lambda d: (
        f"host      cannot be asked ({d['what']}), failures: {d['times']:,}; it is asked again"
    ),
    "hosted.answers": lambda d: f"host      answers again (failures: {d['times']:,})",
    "hosted.booked": lambda d: (
        f"host      {usd(d['micro'])} booked" + (f": {d['note']}" if d["note"] else "")
    ),
    "hosted.deploy": lambda d: f"host      before {d['model']} answers: {d['text']}",
    "run.state": lambda d: f"train     run {d['run']} {d['state']} in {duration(d['seconds'])}",
    "curve.start": lambda d: f"curve     {d['text']}",
    "curve.point": lambda d: (
        f"curve     {d['share']:.0%} ({d['rows']:,} examples, seed {d['seed']}): {d['score']:.1%}"
    ),
    "curve.done": lambda d: f"curve     {d['text']}",
    "answer.start": lambda d: f"answer    {d['model']} on {d['items']:,} {d['side']} items",
    "improve.begun": lambda d: f"improve   {d['text']}",
    "improve.done": lambda d: f"improve   {d['text']}",
    "evaluate.start": lambda d: f"evaluate  {', '.join(d['systems'])} on {d['items']:,} test items",
    "evaluate.done": lambda d: f"report    reports/{d['report']}.json",
    "judge.same": lambda d: (
        f"judge     {d['judge']} is the same model as the {' and the '.join(d['same_as'])}: "
        "it may prefer its own words"
    ),
    "judge.canaries": _canaries,
    "judge.unneeded": lambda d: f"judge     not asked: the answers are {d['kind']}, not free text",
    "export.done": lambda d: f"export    {d['folder']}",
}


def _generating(d: dict[str, Any]) -> Bar:
    failed = f", {d['failed']:,} failed" if d["failed"] else ""
    return Bar("generate", d["made"], d["wanted"], f"{usd(d['spent_micro'])} spent{failed}")


def _training(d: dict[str, Any]) -> Bar:
    """What a step says of itself; what it does not say is left out."""
    parts = {
        "loss": "loss {:.3f}",
        "score": "score {:.0%}",
        "tokens_per_s": "{:,.0f} tokens/s",
        "peak_memory_mb": "{:,.0f} MB",
    }
    beside = [form.format(d[name]) for name, form in parts.items() if d.get(name) is not None]
    if d.get("seconds_left") is not None:
        beside.append(f"{duration(d['seconds_left'])} left")
    label = f"trial {d['trial']}" if "trial" in d else d.get("part", "train")
    return Bar(label, d["step"], d["steps"], ", ".join(beside))


_BARS: dict[str, Callable[[dict[str, Any]], Bar]] = {
    "generate.progress": _generating,
    "batch.progress": lambda d: Bar("batch", d["done"], d["total"], d["state"]),
    "import.progress": lambda d: Bar("import", d["rows"], d["rows"], "rows"),
    "clean.progress": lambda d: Bar("clean", d["looked_at"], d["total"], ""),
    "train.step": _training,
    "judge.progress": lambda d: Bar("judge", d["done"], d["total"], "pairs"),
    "evaluate.progress": lambda d: Bar("evaluate", d["done"], d["total"], ""),
}


def printable(text: str) -> str:
    """Text from strangers without control characters, so that it cannot drive the terminal."""
    return "".join(
        character
        if character in "\n\t" or (character.isprintable() and character not in _BIDI)
        else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


_BIDI = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
