"""What a measurement was made on, and the two ceilings of that device, measured in the same run."""

from __future__ import annotations

import datetime
import subprocess
from dataclasses import dataclass
from pathlib import Path

import torch

from ...hwmodels.calibration import calibrated_systems
from ...hwmodels.errors import BadInput
from ...hwmodels.known.names import UnknownHardware, system_called
from .timing import graphed


@dataclass(frozen=True)
class Ceilings:
    """``copy``: bytes/s of a large elementwise kernel, reads plus writes; ``matmul``: torch's dense bf16 flop/s."""

    copy_bytes_per_s: float
    copy_us: float
    copy_elements: int
    matmul_flops: float
    matmul_us: float
    side: int


def present() -> bool:
    """Whether there is a device to time on."""
    return bool(torch.cuda.is_available())


def system_of(gpu: str, named: str | None = None) -> str:
    """The catalogue's system of a GPU: ``named`` if given, else by the GPU's own name ("NVIDIA H200" -> "h200_sxm").

    Raises BadInput (one line) for a name the catalogue lacks, or another than that of a GPU which it has.
    """
    known = calibrated_systems()
    if named is not None and named not in known:
        raise BadInput(f"unknown system {named!r}: one of {', '.join(known)}")
    try:
        called = system_called(gpu)
    except UnknownHardware as error:
        if named is not None:
            return named
        raise BadInput(f"{error}; or say which system it is nearest to with --system ({', '.join(known)})") from None
    if named not in (None, called):
        raise BadInput(f"this GPU, {gpu}, is {called}, not {named}: leave --system out")
    return called


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
    """Scale ``copy_bytes`` of float32 by a kernel and multiply ``side``-cubed bf16 matrices of random values.

    A kernel, because a copy captured into a graph becomes a node of the copy engines, which reach two thirds of the memory's
    rate (2.78 of 4.26 TB/s on an H200).
    """
    elements = copy_bytes // 4
    copy, matmul = _scale(elements), _matmul(side)
    return Ceilings(8 * elements / (copy * 1e-6), copy, elements, 2 * side**3 / (matmul * 1e-6), matmul, side)


def _scale(elements: int) -> float:
    source = torch.rand(elements, device="cuda")
    target = torch.empty_like(source)
    return graphed([lambda: torch.mul(source, 1.5, out=target)], replays=15).median_us


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
