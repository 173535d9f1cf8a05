"""The model card: what the student is for, how good it is, how to run it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from understudy.example import Message
from understudy.models.rendering import fold_system
from understudy.models.students import duties, preset
from understudy.report import Report

_RUN = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer, model = AutoTokenizer.from_pretrained("."), AutoModelForCausalLM.from_pretrained(".")
messages = {messages}
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
)
output = model.generate(**inputs, max_new_tokens={max_tokens}, do_sample=False)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
"""
_FILES = """
`manifest.json` lists every file with its SHA-256. `parity.json` records the check that this folder
answered held-out prompts to the letter as the trained model did."""


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a reader of the exported folder should know."""

    title: str
    description: str
    system_message: str
    """Must be sent with every call: the student was trained under it."""
    teacher: str
    """Model name of the teacher; empty if all examples are people's own."""
    student: str
    """What was trained: ``tiny``, ``hf:org/name@commit``, or the folder it began from."""
    counts: Mapping[str, int]
    """Examples of each split."""
    report: Report | None = None
    terms: tuple[str, ...] = ()
    """What the terms of those who wrote the answers say of training on them."""


def card(
    facts: CardFacts, *, architecture: str, parameters: int, max_tokens: int, folds: bool = False
) -> str:
    """Write README.md. ``folds``: the system message goes into the first user turn."""
    began = "scratch (tiny)" if facts.student == "tiny" else facts.student.rsplit("/", 1)[-1]
    if facts.student.startswith("hf:"):
        began = facts.student.removeprefix("hf:")
    told = "in front of the first user turn" if folds else "with every call"
    sections = (
        _front_matter(facts.student),
        f"# {_one_line(facts.title)}\n\n{facts.description.strip()}\n",
        "## What it is\n",
        f"- {parameters:,} parameters, {architecture}, trained from {_one_line(began)}",
        f"- Answers written by: {_one_line(facts.teacher)}" if facts.teacher else "",
        *(f"- Terms of its makers on training: {_one_line(one)}" for one in facts.terms),
        *(f"- {_one_line(duty)}" for duty in duties(facts.student)),
        f"- Examples: {_counts(facts.counts)}\n",
        f"## System message\n\nSend it {told}.\n\n{_fenced(facts.system_message)}\n"
        if facts.system_message
        else "",
        _scores(facts.report) if facts.report else "",
        "## How to run it\n\nIn this folder, with transformers 5 or newer:\n",
        _fenced(_code(facts.system_message, max_tokens, folds=folds), "python"),
        _FILES,
    )
    return "\n".join(section for section in sections if section) + "\n"


def _front_matter(student: str) -> str:
    """What the hub reads of a card: among others what the model was made from."""
    lines = ["library_name: transformers", "pipeline_tag: text-generation", "tags: [understudy]"]
    if student.startswith("hf:"):
        lines.append(f"base_model: {student.removeprefix('hf:').partition('@')[0]}")
    if (known := preset(student)) is not None and known.licence.tag != "other":
        lines.append(f"license: {known.licence.tag}")
    return "\n".join(["---", *lines, "---\n"])


def _code(system_message: str, max_tokens: int, *, folds: bool) -> str:
    """Lines that run: the system message as a Python literal."""
    system = Message("system", system_message)
    asked = (*([system] if system_message else []), Message("user", "Your input"))
    turns = [turn._asdict() for turn in (fold_system(asked) if folds else asked)]
    literal = json.dumps(turns, ensure_ascii=True)
    return _RUN.format(messages=literal, max_tokens=max_tokens).strip()


def _scores(report: Report) -> str:
    lines = [
        f"## Scores\n\n{_one_line(report.verdict)}\n",
        f"{report.metric} on {report.items} held-out items, with 95 % intervals:\n",
        "| system | model | score | interval |",
        "|---|---|---|---|",
    ]
    for system, score in report.systems.items():
        answered = score.missing < score.items  # no answer is no score, and not zero
        figure = f"{score.score:.3f}" if answered else "no answer"
        interval = f"{score.low:.3f} to {score.high:.3f}" if answered else ""
        lines.append(f"| {system} | {_one_line(score.model)} | {figure} | {interval} |")
    return "\n".join(lines) + "\n"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} for {split}" for split, count in counts.items())


def _fenced(text: str, language: str = "text") -> str:
    """A code block whose fence is longer than any run of backticks in ``text``."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"


def _one_line(text: str) -> str:
    """Text for a heading or a table cell."""
    return " ".join(text.split()).replace("|", "\\|")
