"""How fast a machine multiplies matrices, without trying: by the kind of processor or GPU.

A guess before anything is installed or started; once a student has been trained here, its tokens
a second say more. GPUs: dense bfloat16 (float16 before Ampere) from NVIDIA's data sheets.
Processors: float32 per core, measured with torch 2.13 on two cores of a Sapphire Rapids machine:
47 to 68 billion operations a second each with AVX-512; the others scaled by their vector width.
"""

from __future__ import annotations

from understudy.train.sizing.machine import Machine

TERA = 1e12
_GPUS = (  # the first name that is part of nvidia-smi's
    ("B200", 2250.0), ("GH200", 989.0), ("H200", 989.0), ("H100 NVL", 835.0), ("H100 PCIe", 756.0),
    ("H100", 989.0), ("H800", 989.0), ("H20", 148.0), ("A100", 312.0), ("A800", 312.0),
    ("L40S", 362.0), ("L40", 181.0), ("L4", 121.0), ("A40", 150.0), ("A30", 165.0), ("A10G", 70.0),
    ("A10", 125.0), ("A6000", 155.0), ("6000 Ada", 364.0), ("5090", 210.0), ("5080", 113.0),
    ("4090", 165.0), ("4080", 97.0), ("4070", 58.0), ("4060", 30.0), ("3090", 71.0), ("3080", 60.0),
    ("3070", 40.0), ("3060", 25.0), ("V100", 125.0), ("T4", 65.0), ("2080", 43.0), ("2070", 30.0),
)  # fmt: skip
_OLD_GPU, _NEW_GPU = 10.0, 60.0
_PER_CORE = {"avx512": 0.055, "avx2": 0.03, "neon": 0.02, "": 0.008}


def matmul_rate(machine: Machine) -> float:
    """Floating-point operations a second in large matrix products, on what trains here."""
    if machine.gpu is None:
        return machine.cores * _PER_CORE[machine.vectors] * TERA
    for name, rate in _GPUS:
        if name in machine.gpu.name:
            return rate * TERA
    return (_NEW_GPU if machine.gpu.bf16 else _OLD_GPU) * TERA
