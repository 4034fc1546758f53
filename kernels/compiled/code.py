"""Machine code of one kernel variant, made without a device: registers, spills, shared memory, instruction mix."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..exchange.nvshmem import device_library
from .builds import Build

TARGETS = {
    "sm_90": ("cuda", 90, 32),
    "sm_100": ("cuda", 100, 32),
    "gfx942": ("hip", "gfx942", 64),
    "gfx950": ("hip", "gfx950", 64),
}
TENSOR_CORE = re.compile(r"\b(QGMMA|HGMMA|UTC[A-Z]*MMA|v_(?:s?mfma)\w*)")
WIDE_STORE = re.compile(r"STG\.E\.(?:\w+\.)*(?:128|256)|\b(?:global|flat|buffer)_store_dwordx4")
TMA_LOAD = re.compile(r"\bUTMALDG")
NARROW_STORE = re.compile(r"STG\.E|\b(?:global|flat|buffer)_store_")


@dataclass(frozen=True)
class Compiled:
    """What the code of one variant needs. ``instructions``: all; ``wide_stores``: 16 bytes or more each."""

    name: str
    registers: int
    spill_bytes: int
    shared_bytes: int
    warps: int
    stages: int
    instructions: int
    tensor_core: int
    wide_stores: int
    stores: int
    tma_loads: int
    tile: tuple[int, int, int] | None = None

    def faults(self, build: Build) -> list[str]:
        """What is wrong with the code, in words; empty if nothing."""
        found = []
        # NVSHMEM's own code keeps a few bytes on the stack; that is not ours to mend.
        if self.spill_bytes and not build.externs:
            found.append(f"{self.name} spills {self.spill_bytes} bytes")
        if build.remote_stores and not self.wide_stores:
            found.append(f"{self.name} has no 16-byte store")
        if build.tensor_core and not self.tensor_core:
            found.append(f"{self.name} has no tensor-core instruction")
        if build.tma and not self.tma_loads:
            found.append(f"{self.name} has no TMA load")
        return found


def supported(build: Build, target: str) -> str | None:
    """None if ``build`` can be compiled for ``target``, else the reason it cannot."""
    if build.fp8 and target == "gfx942":
        return "gfx942 has no OCP float8 e4m3"
    if build.tma and not target.startswith("sm_"):
        return "TMA is NVIDIA's"
    if build.externs and not target.startswith("sm_"):
        return "NVSHMEM is NVIDIA's"
    if build.externs and device_library() is None:
        return "nvidia-nvshmem-cu13 is not installed"
    return None


def compile_build(build: Build, target: str) -> Compiled:
    """Compile one variant. Raises whatever the compiler raises."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    attributes = {(i,): [["tt.divisibility", 16]] for i in build.divisible()}
    source = ASTSource(build.kernel, build.signature(), constexprs=dict(build.constants), attrs=attributes)
    options: dict[str, Any] = {"num_warps": build.warps, "num_stages": build.stages}
    if build.externs:
        options["extern_libs"] = {"libnvshmem_device": str(device_library())}
    code = triton.compile(source, target=GPUTarget(*TARGETS[target]), options=options)
    read = _read_nvidia if target.startswith("sm_") else _read_amd
    registers, spill, text = read(code, target)
    return Compiled(
        build.name,
        registers,
        spill,
        code.metadata.shared,
        code.metadata.num_warps,
        build.stages,
        _count_instructions(text, target),
        len(TENSOR_CORE.findall(text)),
        len(WIDE_STORE.findall(text)),
        len(NARROW_STORE.findall(text)),
        len(TMA_LOAD.findall(text)),
        (build.tile.m, build.tile.n, build.tile.k) if build.tile else None,
    )


def _read_nvidia(code: Any, target: str) -> tuple[int, int, str]:
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(code.asm["cubin"])
        usage = subprocess.run([tool, "-res-usage", cubin], capture_output=True, text=True, check=True)
        sass = subprocess.run([tool, "-sass", cubin], capture_output=True, text=True, check=True).stdout
    # With externs the cubin holds several functions: the kernel is the one named like it.
    lines = (usage.stdout + usage.stderr).splitlines()
    name = code.metadata.name
    at = next(i for i, line in enumerate(lines) if re.search(rf"Function {name}\b", line))
    found = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", lines[at + 1]))
    part = re.split(r"Function : ", sass)
    own = next((p for p in part[1:] if p.startswith(name)), sass)
    # Stack without local-memory traffic is frame of called functions, not spilling.
    spilled = len(re.findall(r"\bSTL\b|\bSTL\.", own)) and int(found.get("STACK", 0)) + int(found.get("LOCAL", 0))
    return int(found["REG"]), spilled, own


def _read_amd(code: Any, target: str) -> tuple[int, int, str]:
    text = code.asm["amdgcn"]

    def value(key: str) -> int:
        return int(re.search(rf"\.{key}:\s+(\d+)", text)[1])  # type: ignore[index]

    # Scalar registers spill into lanes of vector registers, not into memory: only vector spills count.
    return value("vgpr_count"), 4 * value("vgpr_spill_count"), text


def _count_instructions(text: str, target: str) -> int:
    if target.startswith("sm_"):
        return len(re.findall(r"^\s+/\*[0-9a-f]{4,}\*/", text, re.M))
    return len(re.findall(r"^\t(?:v_|s_|ds_|global_|flat_|buffer_|scratch_)\w+", text, re.M))
