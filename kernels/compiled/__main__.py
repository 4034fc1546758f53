"""Compile every variant for every target and write ``hwmodels/data/kernels/<target>.yaml``, which the GPU model reads.

``python -m epicycle.kernels.compiled``. Must run without TRITON_INTERPRET.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from pathlib import Path
from typing import Any

from .builds import builds
from .code import TARGETS, Compiled, compile_build, supported


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
    entry |= {"tensor_core": c.tensor_core, "tma_loads": c.tma_loads, "wide_stores": c.wide_stores, "stores": c.stores}
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
                f"{c.instructions} instructions, {c.tensor_core} tensor-core, {c.tma_loads} TMA, "
                f"{c.wide_stores}/{c.stores} wide stores"
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
