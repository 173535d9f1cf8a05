"""The README's Python runs as it is printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_ten_lines_of_python_run(tmp_path: Path) -> None:
    """With fewer examples, so that it takes seconds; every line as it stands."""
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", block.replace("2000", "60")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    quote, verdict, answer = done.stdout.splitlines()
    assert "made-up prices" in quote
    assert verdict
    assert answer
