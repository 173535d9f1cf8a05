"""The frame of every page: one file that needs nothing else, no script, font or image.

Its content security policy forbids all of those, and every text is escaped, so that what a teacher
wrote cannot run, load or hide anything. Printable; readable on a phone; light or dark as the reader
has it.
"""

from __future__ import annotations

import os
from html import escape
from pathlib import Path

from understudy.errors import DiskError, UsageError

BEGIN = "<!doctype html>"

_STYLE = """\
:root { color-scheme: light dark; --ink: #1c2530; --dim: #5b6673; --paper: #fff; --line: #d8dee5;
  --bar: #2f6fb0; --good: #2e7d4f; --lost: #b3541e; --tint: #f1f5f9; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --dim: #9aa5b1; --paper: #14181d;
  --line: #333c46; --bar: #5b9bd8; --good: #58b27c; --lost: #e08f57; --tint: #1d242b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 56rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; margin: .5rem 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .15rem .4rem; border-bottom: 1px solid var(--line); }
.n { text-align: right; font-variant-numeric: tabular-nums; }
@media print { body { max-width: none; padding: 0; font-size: 11pt; } }
"""


def framed(title: str, body: str, style: str = "") -> str:
    """The page as text around ``body``, which is HTML already; ``style`` is its own CSS."""
    return (
        f'{BEGIN}\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{text(title)}</title>\n<style>\n{_STYLE}{style}</style>\n</head>\n<body>\n"
        f"{body}</body>\n</html>\n"
    )


def text(value: str) -> str:
    """Any text as HTML that shows it and does nothing: escaped, invisible characters replaced."""
    return escape(visible(value), quote=True)


def visible(value: str) -> str:
    """The text with control characters and marks that turn the direction of writing replaced."""
    return "".join(
        character if character in "\n\t" or character.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for character in value
    )


def write(path: Path, body: str, begin: str = BEGIN) -> int:
    """Write a page whole or not at all; its size in bytes.

    An earlier page, which begins with ``begin``, is replaced. Raises UsageError if ``path`` is a
    link, a folder or a file that is no such page; DiskError.
    """
    _check(path, begin)
    content = body.encode()
    half = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with half.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        half.replace(path)
    except OSError as error:
        half.unlink(missing_ok=True)
        raise DiskError(
            f"{path} cannot be written: {error.strerror or error}",
            "Check the folder, its permissions and the disk",
        ) from None
    return len(content)


def _check(path: Path, begin: str) -> None:
    if path.is_symlink():
        raise UsageError(f"{path} is a link", "Name the file itself")
    if path.is_dir():
        raise UsageError(f"{path} is a folder", f"Name a file in it: {path / 'page.html'}")
    if not path.parent.is_dir():
        raise UsageError(f"no folder {path.parent}", "Make it first, or name another")
    if path.exists() and not _is_page(path, begin):
        raise UsageError(f"{path} is there and is no page", "Name another file; it is kept")


def _is_page(path: Path, begin: str) -> bool:
    """True for a file that may be replaced: an earlier page, or nothing."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    return not start or start.startswith(begin.lower().encode())
