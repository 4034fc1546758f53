"""What a measurement was made on, and the two ceilings of that device, measured in the same run."""

from __future__ import annotations

import datetime
import subprocess
from dataclasses import dataclass
from pathlib import Path

import torch

from .timing import graphed


@dataclass(frozen=True)
class Ceilings:
    """``copy``: bytes/s of a large device-to-device copy, reads plus writes; ``matmul``: torch's dense bf16 flop/s."""

    copy_bytes_per_s: float
    matmul_flops: float


def provenance() -> dict[str, str]:
    """GPU, driver, torch, Triton, commit and date. "cpu" where there is no device."""
    import triton

    gpu, driver = "cpu", ""
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_name()
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = _first_line(query)
    here = Path(__file__).resolve().parent
    return {
        "gpu": gpu,
        "driver": driver,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "commit": _first_line(["git", "-C", str(here), "rev-parse", "--short=12", "HEAD"]),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }


def l2_bytes() -> int:
    return int(torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size)


def multiprocessors() -> int:
    return int(torch.cuda.get_device_properties(torch.cuda.current_device()).multi_processor_count)


def measure_ceilings(copy_bytes: int = 4 << 30, side: int = 8192) -> Ceilings:
    """Copy ``copy_bytes`` and multiply ``side``-cubed bf16 matrices of random values."""
    copy, matmul = _copy(copy_bytes), _matmul(side)
    return Ceilings(2 * copy_bytes / (copy * 1e-6), 2 * side**3 / (matmul * 1e-6))


def _copy(size: int) -> float:
    source = torch.empty(size // 4, dtype=torch.int32, device="cuda").random_()
    target = torch.empty_like(source)
    return graphed([lambda: target.copy_(source)], replays=15).median_us


def _matmul(side: int) -> float:
    a, b = (torch.randn(side, side, device="cuda").bfloat16() for _ in range(2))
    out = torch.empty_like(a)
    return graphed([lambda: torch.mm(a, b, out=out)] * 2, replays=15).median_us


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return ""
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else ""
