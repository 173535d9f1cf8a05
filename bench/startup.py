"""From `understudy train` to the first optimizer step, against the bare import of what it needs.

    .venv/bin/python bench/startup.py [ROUNDS]

Both are wall-clock seconds of a fresh process with warm file caches, taken in turn; medians. The
bare import is torch and trl's SFTTrainer, as in the simplest script that trains. The training is
that of the practice project: the tiny student, 200 rows of dates.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BARE = "import torch\nfrom trl import SFTConfig, SFTTrainer\nfrom datasets import Dataset"
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
UNDERSTUDY = [sys.executable, "-m", "understudy"]


def bare() -> float:
    """Seconds of the imports alone."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", BARE], check=True, env=ENVIRONMENT, capture_output=True)
    return time.monotonic() - began


def first_step(project: Path) -> dict[str, float]:
    """Seconds until each kind of event is first said; the training is stopped behind a step."""
    known = set((project / "runs").glob("*/events.jsonl"))
    began, seen = time.monotonic(), dict[str, float]()
    command = [*UNDERSTUDY, "train", "-p", str(project), "--again", "--yes"]
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while "train.step" not in seen and process.poll() is None:
            for path in set((project / "runs").glob("*/events.jsonl")) - known:
                seen.setdefault("process", time.monotonic() - began)
                for line in path.read_text().splitlines():
                    seen.setdefault(json.loads(line)["kind"], time.monotonic() - began)
            time.sleep(0.005)
        process.terminate()
    return seen


def make(folder: Path) -> Path:
    """A project with a frozen dataset, made by the offline practice."""
    project = folder / "project"
    command = [*UNDERSTUDY, "demo", "--task", "dates", "--examples", "200", "-p", str(project)]
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None and not list((project / "runs").glob("*/events.jsonl")):
            time.sleep(0.2)
        process.terminate()
    return project


def main(rounds: int) -> None:
    """Take turns and print medians."""
    with tempfile.TemporaryDirectory() as folder:
        project = make(Path(folder))
        bare(), first_step(project)  # warms the file caches
        imports, starts = [], []
        for _ in range(rounds):
            imports.append(bare())
            starts.append(first_step(project))
    middle = statistics.median(imports)
    whole = statistics.median(start["train.step"] for start in starts)
    for kind in starts[0]:
        print(f"{kind:<16}{statistics.median(start[kind] for start in starts):7.2f} s")
    print(f"{'bare import':<16}{middle:7.2f} s ({min(imports):.2f}-{max(imports):.2f})")
    print(f"first step after {whole / middle:.2f} times the bare import (aim: 1.3)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
