"""docs/faults.md: every case has one row, and every test that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "faults.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if re.match(r"\| T\d", line)
]
CASES = [*range(1, 47), 63, 64, 65, 66, 71, 79, 80, 81, 84, 85, 86, 87, *range(54, 61)]  # as there


def test_every_case_has_one_row() -> None:
    """In order, each with four cells."""
    assert [row[0] for row in ROWS] == [f"T{case:02}" for case in CASES]
    assert {len(row) for row in ROWS} == {4}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_says_whether_it_holds_and_how_it_was_tried(row: list[str]) -> None:
    """Nothing is said to hold without a test that exists; what does not hold says why."""
    _, what, holds, how = row
    assert what
    verdict, _, why = re.split(r"([:,])", holds, maxsplit=1) if holds != "yes" else ("yes", "", "-")
    assert verdict in ("yes", "in part", "no", "not ours")
    assert why.strip()
    named = re.findall(r"`([\w.]+)::(\w+)`", how)
    assert named or verdict == "not ours"
    for file, test in named:
        source = (ROOT / "tests" / file).read_text()
        assert re.search(rf"^def {test}\(", source, re.MULTILINE), f"{file}::{test}"


def test_the_promises_are_those_of_the_readme() -> None:
    """Word for word, each and in order."""
    readme = (ROOT / "README.md").read_text()
    table = readme.partition("| promise | test |")[2].partition("\n\n")[0]
    promises = [line.split("|")[1].strip() for line in table.splitlines()[2:]]
    assert len(promises) >= 6
    bold = [
        " ".join(one.split())
        for one in re.findall(r"^- \*\*(.+?)\*\*", PAGE, re.MULTILINE | re.DOTALL)
    ]
    assert [one.rstrip(".,") for one in bold] == promises
