"""The funnel as one page that needs nothing else: no script, no font, no image from anywhere.

Its content security policy forbids all of those, and every text is escaped, so that what a teacher
wrote cannot run, load or hide anything. Printable; readable on a phone; light or dark as the reader
has it.
"""

from __future__ import annotations

import os
from html import escape
from pathlib import Path

from understudy.errors import DiskError, UsageError
from understudy.generate.coverage import OTHER, Coverage, thin
from understudy.project.funnel import Funnel
from understudy.project.funnel_words import MOST_SHOWN, beside, how_many, summary, to_do
from understudy.project.losses import Loss, Sample, Step

_BEGIN = "<!doctype html>"

_STYLE = """\
:root { color-scheme: light dark; --ink: #1c2530; --dim: #5b6673; --paper: #fff; --line: #d8dee5;
  --bar: #2f6fb0; --good: #2e7d4f; --lost: #b3541e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --dim: #9aa5b1; --paper: #14181d;
  --line: #333c46; --bar: #5b9bd8; --good: #58b27c; --lost: #e08f57; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 56rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; margin: .5rem 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.dim, .sample { color: var(--dim); }
.step { margin: 1.2rem 0 .3rem; }
.name { display: flex; flex-wrap: wrap; gap: 0 .8rem; align-items: baseline; }
.name b { font-variant-numeric: tabular-nums; }
.track { height: .9rem; background: var(--line); border-radius: .2rem; }
.part { height: 100%; background: var(--bar); border-radius: .2rem; min-width: 1px; }
.good .part { background: var(--good); }
details { margin: .2rem 0 .2rem 1rem; } summary { cursor: pointer; }
summary b { color: var(--lost); font-weight: 600; }
.sample { margin: .2rem 0 .2rem 1rem; padding-left: .6rem; border-left: 2px solid var(--line);
  font-size: .9rem; white-space: pre-wrap; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .15rem .4rem; border-bottom: 1px solid var(--line); }
.n { text-align: right; font-variant-numeric: tabular-nums; } .thin td { color: var(--lost); }
@media print { body { max-width: none; padding: 0; font-size: 11pt; }
  .track, .part { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""


def write_page(path: Path, funnel: Funnel) -> int:
    """Write the page whole or not at all; its size in bytes.

    Raises UsageError if ``path`` is a link, a folder or a file that is no such page; DiskError.
    """
    _check(path)
    body = page(funnel).encode()
    half = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with half.open("xb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
    except OSError as error:
        half.unlink(missing_ok=True)
        raise DiskError(
            f"{path} cannot be written: {error.strerror or error}",
            "Check the folder, its permissions and the disk",
        ) from None
    return len(body)


def _check(path: Path) -> None:
    if path.is_symlink():
        raise UsageError(f"{path} is a link", "Name the file itself")
    if path.is_dir():
        raise UsageError(f"{path} is a folder", f"Name a file in it: {path / 'funnel.html'}")
    if not path.parent.is_dir():
        raise UsageError(f"no folder {path.parent}", "Make it first, or name another")
    if path.exists() and not _is_page(path):
        raise UsageError(f"{path} is there and is no page", "Name another file; it is kept")


def _is_page(path: Path) -> bool:
    """True for a file that may be replaced: an earlier report, or nothing."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    return not start or start.startswith(_BEGIN.encode())


def page(funnel: Funnel) -> str:
    """The page as text; it holds no character that UTF-8 cannot carry."""
    widest = max((step.count for step in funnel.steps if step.unit != "calls"), default=0)
    steps = "".join(
        _step(step, step.count if step.unit == "calls" else widest) for step in funnel.steps
    )
    lines = "".join(f"<li>{text(line)}</li>\n" for line in summary(funnel))
    covered = "" if funnel.coverage is None else _coverage(funnel.coverage)
    return (
        f'{_BEGIN}\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>From asked to accepted</title>\n<style>\n{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>From asked to accepted</h1>\n<p>{text(funnel.description)}</p>\n"
        f"{steps}<h2>What it cost, and what it covers</h2>\n<ul>\n{lines}</ul>\n"
        f"{covered}</body>\n</html>\n"
    )


def text(value: str) -> str:
    """Any text as HTML that shows it and does nothing: escaped, invisible characters replaced.

    Control characters and the marks that turn the direction of writing are not printable.
    """
    shown = "".join(
        character if character in "\n\t" or character.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for character in value
    )
    return escape(shown, quote=True)


def _step(step: Step, whole: int) -> str:
    width = 100 * step.count / whole if whole else 0
    share = "" if step.unit == "calls" else f"<span>{width:.0f} %</span>"
    kind = "step good" if step.name == "accepted" else "step"
    shown = "".join(_loss(step, loss) for loss in step.losses[:MOST_SHOWN])
    if rarer := sum(loss.count for loss in step.losses[MOST_SHOWN:]):
        shown += f'<p class="dim">{rarer:,} for rarer reasons</p>\n'
    return (
        f'<section class="{kind}">\n<div class="name"><span>{text(step.name)}</span>'
        f'<b>{step.count:,}</b>{share}<span class="dim">{text(beside(step))}</span></div>\n'
        f'<div class="track"><div class="part" style="width:{width:.2f}%"></div></div>\n'
        f"{shown}</section>\n"
    )


def _loss(step: Step, loss: Loss) -> str:
    advice = f". {text(to_do(loss))}" if loss.advice else ""
    samples = "".join(_sample(sample) for sample in loss.samples)
    return (
        f"<details><summary><b>&minus;{text(how_many(step, loss))}</b>{advice}</summary>\n"
        f"{samples}</details>\n"
    )


def _sample(sample: Sample) -> str:
    other = f"\n&rarr; {text(sample.other)}" if sample.other else ""
    twin = "" if sample.twin is None else f"\nexample {sample.twin}"
    return f'<div class="sample">{text(sample.input)}{other}{twin}</div>\n'


def _coverage(coverage: Coverage) -> str:
    lean = thin(coverage)
    rows = "".join(
        f"<tr{' class=thin' if row in lean else ''}><td>{text(row.attribute)}</td>"
        f"<td>{text(row.value if row.value != OTHER else '(none of this plan)')}</td>"
        + "".join(
            f'<td class="n">{number:,}</td>'
            for number in (row.wanted, row.made, row.rejected, row.accepted)
        )
        + "</tr>\n"
        for row in coverage.values
    )
    names = "".join(f'<th class="n">{n}</th>' for n in ("wanted", "made", "rejected", "accepted"))
    return (
        "<h2>The plan, value by value</h2>\n<details open><summary>Coverage</summary>\n<table>\n"
        f"<tr><th>attribute</th><th>value</th>{names}</tr>\n{rows}</table>\n</details>\n"
    )
