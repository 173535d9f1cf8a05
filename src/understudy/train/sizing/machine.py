"""What this machine has for a training: memory, disk, processors, GPUs, and every limit on them.

Read from the system's own files and from nvidia-smi; torch is not imported. Limits count as what
they are: a container's share (cgroup v1 and v2) and ``ulimit`` bound a trainer as much as the
memory that is built in. Formats: https://docs.kernel.org/admin-guide/cgroup-v2.html (memory.max,
memory.current, cpu.max), cgroup-v1/memory.html, and proc(5) for meminfo and cpuinfo.
"""

from __future__ import annotations

import math
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

ADDRESSES_UNUSED = 1_800_000_000
"""Bytes of address space that a trainer reserves and never fills: libraries, stacks, arenas.
``ulimit -v`` counts them. Measured with torch on two processors: peak VmSize less peak RSS."""
DATA_UNUSED = 1_000_000_000
"""Those of them that can be written to, which is what ``ulimit -d`` counts: VmData less RSS."""
_UNLIMITED = 1 << 60
_SMI = ("index", "uuid", "name", "memory.total", "memory.free", "compute_cap")
_SMI_TIMEOUT_S = 10.0
_VECTORS = (("avx512f", "avx512"), ("avx2", "avx2"), ("asimd", "neon"))
_FAST_BF16 = ({"amx_bf16"}, {"avx512_bf16", "AuthenticAMD"})
"""What a processor has, one of these sets, that multiplies bfloat16 faster than float32.
Measured on one core, torch 2.13, GFLOP/s: AMD with avx512_bf16 476 against 110, Intel with it but
without matrix units 69 against 136."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA GPU that a training may use."""

    name: str
    memory_bytes: int
    free_bytes: int
    capability: tuple[int, int]
    """CUDA compute capability, for example (8, 0) for an A100."""

    @property
    def bf16(self) -> bool:
        """True if it computes in bfloat16: Ampere (8.0) and later."""
        return self.capability >= (8, 0)


@dataclass(frozen=True, slots=True)
class Machine:
    """What a training may use here; every limit is already taken off."""

    memory_bytes: int
    """RAM, or the lowest limit on it."""
    free_bytes: int
    """RAM that a new process can fill without anybody being pushed out."""
    disk_bytes: int
    """Room on the disk of the folder that was asked about."""
    cores: int
    bf16: bool = False
    """True if the processor multiplies bfloat16 matrices faster than float32 ones."""
    vectors: str = ""
    """Widest vectors that it computes with: ``avx512``, ``avx2``, ``neon``, or nothing known."""
    gpus: tuple[Gpu, ...] = ()
    limit: str = ""
    """What bounds the RAM if it is not the machine: ``cgroup``, ``ulimit -v`` or ``ulimit -d``."""

    @property
    def gpu(self) -> Gpu | None:
        """The GPU that one process trains on; None: the processor trains."""
        return self.gpus[0] if self.gpus else None

    @property
    def training_bytes(self) -> int:
        """Free memory of what trains: of the GPU if there is one, else RAM."""
        return self.gpu.free_bytes if self.gpu else self.free_bytes

    @property
    def trains_in_bf16(self) -> bool:
        """True if what trains computes in bfloat16."""
        return self.gpu.bf16 if self.gpu else self.bf16


def look(
    folder: Path, *, root: Path = Path("/"), environ: Mapping[str, str] = os.environ
) -> Machine:
    """See what a trainer that writes to ``folder`` would have. Never raises for what it cannot see.

    ``folder`` need not exist yet. ``root`` is where /proc and /sys are found.
    """
    total, free = _ram(root)
    bounds = [("", total, free), *_cgroup_memory(root), *_ulimits()]
    limit, _, _ = min(bounds, key=lambda bound: bound[1])
    flags = _cpu(root)
    return Machine(
        memory_bytes=min(bound[1] for bound in bounds),
        free_bytes=max(0, min(bound[2] for bound in bounds)),
        disk_bytes=_free_disk(folder),
        cores=_cores(root),
        bf16=any(enough <= flags for enough in _FAST_BF16),
        vectors=next((name for flag, name in _VECTORS if flag in flags), ""),
        gpus=_gpus(environ),
        limit=limit,
    )


def oom_kills(root: Path = Path("/")) -> int:
    """Processes that the kernel has killed for want of memory, as far as this one can see."""
    counts = _numbers(root / "proc/vmstat").get("oom_kill", 0)
    for folder, _ in _cgroups(root, "memory"):
        for name in ("memory.events", "memory.oom_control"):  # v2, v1
            counts += _numbers(folder / name).get("oom_kill", 0)
    return counts


# -- memory ------------------------------------------------------------------------------------


def _ram(root: Path) -> tuple[int, int]:
    """Bytes of RAM, and how many of them are free or can be freed without swapping."""
    lines = _numbers(root / "proc/meminfo")  # "MemTotal:  24683820 kB"
    if "MemTotal:" in lines:
        total = lines["MemTotal:"] * 1024
        return total, lines.get("MemAvailable:", lines.get("MemFree:", 0)) * 1024
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return total, _free_on_macos() or total // 2


def _free_on_macos() -> int:
    """Bytes that vm_stat calls free, inactive or speculative; 0 where there is no vm_stat."""
    said = _output(["vm_stat"]) if sys.platform == "darwin" else ""
    pages = sum(
        int(line.rpartition(":")[2].strip(" ."))
        for line in said.splitlines()
        if line.startswith(("Pages free", "Pages inactive", "Pages speculative"))
    )
    return pages * os.sysconf("SC_PAGE_SIZE")


def _cgroup_memory(root: Path) -> list[tuple[str, int, int]]:
    """Name, limit and free bytes of each cgroup around this process that has a limit."""
    found = []
    for folder, version in _cgroups(root, "memory"):
        names = ("memory.max", "memory.high") if version == 2 else ("memory.limit_in_bytes",)
        limit = min(_number(folder / name, _UNLIMITED) for name in names)
        if limit >= _UNLIMITED:
            continue
        usage = "memory.current" if version == 2 else "memory.usage_in_bytes"
        # Pages of files read once go first when memory is wanted: they are as good as free.
        stat = _numbers(folder / "memory.stat")
        cached = stat.get("total_inactive_file", stat.get("inactive_file", 0))
        used = max(0, _number(folder / usage, 0) - cached)
        found.append(("cgroup", limit, limit - used))
    return found


def _ulimits() -> list[tuple[str, int, int]]:
    """Name, limit and free bytes of each ``ulimit``, which a new process has to itself."""
    found = []
    for name, kind, unused in (
        ("ulimit -v", resource.RLIMIT_AS, ADDRESSES_UNUSED),
        ("ulimit -d", resource.RLIMIT_DATA, DATA_UNUSED),
    ):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            found.append((name, soft, soft - unused))
    return found


# -- processors, disk, GPUs --------------------------------------------------------------------


def _cores(root: Path) -> int:
    """Processors that this process may use at once; a container's share is rounded up."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    for folder, version in _cgroups(root, "cpu"):
        if version == 2:  # "200000 100000", or "max 100000"
            quota, _, period = _text(folder / "cpu.max").partition(" ")
        else:
            quota, period = (_text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        if quota.strip().isdecimal() and period.strip().isdecimal() and int(period):
            cores = min(cores, max(1, math.ceil(int(quota) / int(period))))
    return cores


def _cpu(root: Path) -> set[str]:
    """Who made the processor, and the flags of what it can do."""
    found: set[str] = set()
    for line in _text(root / "proc/cpuinfo").partition("\n\n")[0].splitlines():  # of the first core
        name, _, words = line.partition(":")
        if name.strip() in ("vendor_id", "flags", "Features"):  # x86, x86, ARM
            found.update(words.split())
    return found


def _free_disk(folder: Path) -> int:
    existing = next((path for path in (folder, *folder.absolute().parents) if path.exists()), None)
    return shutil.disk_usage(existing).free if existing else 0


def _gpus(environ: Mapping[str, str]) -> tuple[Gpu, ...]:
    """The GPUs that torch would see, in its order; none if the installed torch cannot use them."""
    if not _torch_uses_gpus():
        return ()
    asked = f"--query-gpu={','.join(_SMI)}"
    said = _output(["nvidia-smi", asked, "--format=csv,noheader,nounits"])
    rows = [[cell.strip() for cell in line.split(",")] for line in said.splitlines()]
    rows = [row for row in rows if len(row) == len(_SMI)]
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    chosen = rows if visible is None else _visible(rows, visible)
    return tuple(gpu for gpu in map(_gpu, chosen) if gpu is not None)


def _torch_uses_gpus() -> bool:
    """False if torch is installed in its variant for processors alone."""
    try:
        return not metadata.version("torch").endswith("+cpu")
    except metadata.PackageNotFoundError:
        return True  # none is installed yet: the usual one would


def _visible(rows: list[list[str]], visible: str) -> list[list[str]]:
    """Rows that CUDA_VISIBLE_DEVICES names, up to the first that does not exist, as CUDA does."""
    chosen = []
    for wanted in visible.split(","):
        name = wanted.strip()
        row = next(
            (row for row in rows if name == row[0] or (name and row[1].startswith(name))), None
        )
        if row is None:
            break
        chosen.append(row)
    return chosen


def _gpu(row: list[str]) -> Gpu | None:
    _, _, name, total, free, capability = row
    try:
        major, _, minor = capability.partition(".")
        return Gpu(name, int(total) << 20, int(free) << 20, (int(major), int(minor or 0)))
    except ValueError:  # "[N/A]", as some virtual GPUs say
        return None


# -- files -------------------------------------------------------------------------------------


def _cgroups(root: Path, controller: str) -> list[tuple[Path, int]]:
    """Folders, with their version, of the cgroups around this process: its own and all above."""
    mount = root / "sys/fs/cgroup"
    found: list[tuple[Path, int]] = []
    for line in _text(root / "proc/self/cgroup").splitlines():  # "0::/a/b", "4:cpu,cpuacct:/a/b"
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            top, version = mount, 2
        elif controller in controllers.split(","):
            top, version = mount / controller, 1
        else:
            continue
        inner = Path(path.lstrip("/"))
        found += [(top / part, version) for part in (inner, *inner.parents)]
    return [(folder, version) for folder, version in dict.fromkeys(found) if folder.is_dir()]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(path: Path, otherwise: int) -> int:
    said = _text(path).strip()
    return int(said) if said.isdecimal() else otherwise


def _numbers(path: Path) -> dict[str, int]:
    """Lines of a name and a number."""
    fields = [line.split() for line in _text(path).splitlines()]
    return {line[0]: int(line[1]) for line in fields if len(line) > 1 and line[1].isdecimal()}


def _output(command: list[str]) -> str:
    """What a program of the system prints; empty if it is not there, fails or hangs."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SMI_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""
