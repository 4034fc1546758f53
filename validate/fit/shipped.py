"""The calibrations that ship with the package, made again from the tables: ``python -m epicycle.validate.fit.shipped``.

Same tables, same bytes out. ``--check`` says which files would change and writes nothing. A system that no table speaks of has
a file without entries, written by hand: its cluster, and whose constants it borrows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from ...hwmodels.calibration import Calibration, Entry, find_entry
from ...hwmodels.catalog import load_cluster
from ...hwmodels.specs import Gpu
from ...sim.ep.machine import machine_of
from ..tables.kernel_tables import KINDS, read_groups
from ..tables.own.rows import read_own
from .beside import rows_beside
from .calibrate import calibrate, to_yaml
from .collectives import fit_collectives
from .experts import fit_experts
from .laws import fit_kernel
from .own.constants import OwnFit, fit_own
from .own.constants import calibration_of as calibration_of_own

#: Where the tables lie beside a checkout.
MEASUREMENTS = Path("../shared/measurements")


@dataclass(frozen=True, slots=True)
class System:
    """A shipped system that the EP tables have rows of. ``compute``: the tables of single kernels are of it, too."""

    name: str
    cluster: str
    relative: str
    why: str
    compute: bool = False


SYSTEMS = (
    System("h100_sxm", "h100-cx7", "gb200", "the only system with those kernels measured (one-sided NVLink)", True),
    System(
        "b200_sxm", "b200-cx7", "h100_sxm",
        "the nearest GPU with those kernels measured: the same ConnectX-7 network, SM, tensor and HBM rates by its own "
        "datasheet",
    ),
    System(
        "gb200", "gb200-nvl72", "b200_sxm",
        "the nearest GPUs with those kernels measured; SM, tensor and HBM rates by its own datasheet",
    ),
)  # fmt: skip


OWN = System("h200_sxm", "h200-cx7", "h100_sxm", "the same GPU with faster memory; the same NVLink and NIC")
#: Rows of our own kernels that ship with the package.
OWN_TABLES = ("h200-2026-11-27.ep_comm.csv", "h200-2026-11-27.grouped_gemm.csv")


def shipped(tables: Path) -> Iterator[tuple[str, str]]:
    """(system, text of its calibration file) for every measured system, fitted to the tables in the folder ``tables``."""
    for system in SYSTEMS:
        yield system.name, to_yaml(calibration_of(system, tables))
    yield OWN.name, to_yaml(own_calibration())


def own_calibration() -> Calibration:
    """The calibration of the system that our own kernels were timed on, from the rows of `validate/measured`."""
    return calibration_of_own(own_fit(), ", ".join(OWN_TABLES), OWN.name, OWN.cluster, OWN.relative, OWN.why)


def own_fit(aside: frozenset[int] = frozenset()) -> OwnFit:
    """The fit of our own kernels' rows but those of ``aside`` tokens."""
    folder = Path(str(files("epicycle.validate").joinpath("measured")))
    gpus: dict[str, Gpu] = {}
    rows = [row for table in OWN_TABLES for row in read_own(folder / table, gpus) if row.parts]
    return fit_own(rows, gpus[OWN.name], np.array([row.tokens not in aside for row in rows]))


def calibration_of(system: System, tables: Path) -> Calibration:
    """One system's calibration. Raises BadInput or OSError if a table is missing or malformed."""
    table = tables / "ep_comm.csv"
    beside = rows_beside(tables, system.name)
    found = calibrate(table, system.name, system.cluster, relative=system.relative, why=system.why, beside=beside).calibration
    return found.model_copy(update={"entries": (*found.entries, *_compute(system, tables))})


def _compute(system: System, tables: Path) -> list[Entry]:
    cluster = load_cluster(system.cluster)
    machine = machine_of(cluster)
    entries: list[Entry] = []
    near = None if system.compute else lambda op: _relative(system, "expert-compute", op)
    entries += fit_experts(tables / "grouped_gemm.csv", system.name, machine, near)
    if system.compute:
        entries += fit_collectives(tables / "collectives.csv", system.name, machine)
    for kind, table in zip(KINDS, ("gemm.csv", "collectives.csv", "mla_attention.csv"), strict=True):
        groups = [g for g in read_groups(tables / table, kind) if g.system == system.name]
        for group in groups:
            # A few rows lean on the relative's constants; a table of its own stands alone.
            relative = None if system.compute or kind.protocol == "mla" else _relative(system, kind.protocol, group.op)
            entries.append(fit_kernel(group, cluster.node.gpu, table, relative))
    return entries


def _relative(system: System, protocol: str, op: str) -> Entry:
    return find_entry(system.relative, protocol, op, "one-node")[0]


def rewrite(folder: str, table: str, documents: Callable[[Path], Iterable[tuple[str, str]]], arguments: list[str]) -> int:
    """Rewrite (or, with ``--check``, compare) the files of a folder of shipped constants; the number of files that differ.

    ``documents`` gives names and texts from ``table``, or from the place that ``arguments`` name instead.
    """
    check = "--check" in arguments
    places = [Path(a) for a in arguments if a != "--check"] or [MEASUREMENTS / table]
    differing = 0
    for name, text in documents(places[0]):
        path = Path(str(files("epicycle.hwmodels").joinpath("data", folder))) / f"{name}.yaml"
        same = path.is_file() and path.read_text(encoding="utf-8") == text
        differing += not same
        print(f"{path.name}: {'as it was' if same else 'differs' if check else 'written'}")
        if not same and not check:
            path.write_text(text, encoding="utf-8")
    return differing if check else 0


def main(arguments: list[str]) -> int:
    """Make the calibrations of all systems again, or compare them (``--check``)."""
    return rewrite("calibrated", "", shipped, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
