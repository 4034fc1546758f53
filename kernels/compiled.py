"""Machine code of the kernels, made without a device: registers, spills, shared memory, instruction mix.

``python -m epicycle.kernels.compiled`` compiles every variant for every target and writes
``hwmodels/data/kernels/<target>.yaml``, which the GPU model reads. Must run without TRITON_INTERPRET.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .builds import Build, builds
from .nvshmem import device_library

TARGETS = {
    "sm_90": ("cuda", 90, 32),
    "sm_100": ("cuda", 100, 32),
    "gfx942": ("hip", "gfx942", 64),
    "gfx950": ("hip", "gfx950", 64),
}
TENSOR_CORE = re.compile(r"\b(QGMMA|HGMMA|UTC[A-Z]*MMA|v_(?:s?mfma)\w*)")
WIDE_STORE = re.compile(r"STG\.E\.(?:\w+\.)*(?:128|256)|\b(?:global|flat|buffer)_store_dwordx4")
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
        return found


def supported(build: Build, target: str) -> str | None:
    """None if ``build`` can be compiled for ``target``, else the reason it cannot."""
    if build.fp8 and target == "gfx942":
        return "gfx942 has no OCP float8 e4m3"
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


def compile_all(target: str, names: set[str] | None = None) -> tuple[list[Compiled], list[str], dict[str, str]]:
    """(compiled variants, faults, {variant: reason it was left out}) for ``target``."""
    done, faults, skipped = [], [], {}
    for build in builds():
        if names and build.name not in names:
            continue
        reason = supported(build, target)
        if reason:
            skipped[build.name] = reason
            continue
        result = compile_build(build, target)
        done.append(result)
        faults += result.faults(build)
    return done, faults, skipped


def write(target: str, compiled: list[Compiled], skipped: dict[str, str], folder: Path) -> Path:
    """The record of ``target`` as YAML. Counts are bare numbers; shared memory and spills carry their unit."""
    import yaml

    path = folder / f"{target}.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "name": f"kernels-{target}",
        "target": target,
        "source": f"compiled by triton {importlib.metadata.version('triton')} from epicycle.kernels, hidden 7168, top-8",
        "kernels": {c.name: _entry(c) for c in compiled},
        "left_out": skipped,
    }
    path.write_text(
        "# Written by `python -m epicycle.kernels.compiled`; do not edit.\n" + yaml.safe_dump(record, sort_keys=False)
    )
    return path


def _entry(c: Compiled) -> dict[str, Any]:
    entry: dict[str, Any] = {"registers": c.registers, "spills": f"{c.spill_bytes} B", "shared_memory": f"{c.shared_bytes} B"}
    entry |= {"warps": c.warps, "stages": c.stages, "instructions": c.instructions}
    entry |= {"tensor_core": c.tensor_core, "wide_stores": c.wide_stores, "stores": c.stores}
    return entry | ({"tile": list(c.tile)} if c.tile else {})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", nargs="+", default=["sm_90", "sm_100", "gfx950"], choices=TARGETS)
    parser.add_argument("--kernels", nargs="+", default=None, help="only these variants (nothing is written)")
    parser.add_argument("--write", type=Path, default=None, help="folder for the records (default: print only)")
    arguments = parser.parse_args()
    bad = []
    for target in arguments.targets:
        done, faults, skipped = compile_all(target, set(arguments.kernels or ()) or None)
        for c in done:
            print(
                f"{target} {c.name}: {c.registers} registers, {c.spill_bytes} B spilled, {c.shared_bytes} B shared, "
                f"{c.instructions} instructions, {c.tensor_core} tensor-core, {c.wide_stores}/{c.stores} wide stores"
            )
        for name, reason in skipped.items():
            print(f"{target} {name}: left out, {reason}")
        bad += [f"{target}: {fault}" for fault in faults]
        if arguments.write and not arguments.kernels:
            write(target, done, skipped, arguments.write)
    print("\n".join(bad) or "no faults")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
