"""What tells the libraries apart, as a table: the stages of each, what carries its messages, and which rows are its own."""

from __future__ import annotations

from collections import Counter

from ...hwmodels.calibration import calibrated_systems, library_entries, load_calibration
from ...hwmodels.catalog import load_cluster
from ...hwmodels.errors import BadInput
from .machine import machine_of
from .protocol import Context, Protocol, all_protocols, describe
from .shape import Shape

#: Where stages are looked up: the first system whose constants a protocol has.
_SYSTEMS = ("h100_sxm", "gb200", "mi355x")
_HEAD = ("protocol", "stages inside a domain", "stages across domains", "carried across by", "its own rows")


def exchange_table() -> str:
    """The table in Markdown."""
    rows = [[f"`{name}`", *_row(record)] for name, record in all_protocols().items()]
    lines = (_HEAD, ("---",) * len(_HEAD), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(record: Protocol) -> list[str]:
    near, far = _stages(record, 8.0), "" if record.one_domain else _stages(record, 16.0)
    across = "as inside" if far == near else far or "none: one domain"
    carries = ", ".join(record.transports) or ("NVLink alone" if record.one_domain else "the NIC as its datasheet says")
    return [near, across, carries, own_rows(record)]


def _stages(record: Protocol, ranks: float) -> str:
    """Names of all stages of a call, in order."""
    shape = Shape(128.0, 7168.0, 8.0, 256.0, ranks, 8.0, 7168.0 * (1.0 + 1.0 / 32.0))
    scope = record.scope(one_domain=ranks <= 8.0)
    for system in _SYSTEMS:
        machine = machine_of(load_cluster(load_calibration(system).cluster))
        try:
            stages = [
                s for op in record.ops for s in describe(record.name, op, scope, system, shape, machine, Context()).stages
            ]
        except BadInput:
            continue
        names = list(dict.fromkeys(stage.name for stage in stages))
        if record.fused is not None:
            names.insert(len(record.before), record.fused(system).stage(shape, 0.0).name)
        return " > ".join(names)
    return "nobody measured it"


def own_rows(record: Protocol) -> str:
    """How many rows of which tables its own kernels' constants were fitted to."""
    found: Counter[str] = Counter()
    for system in calibrated_systems():
        for entry in (*load_calibration(system).entries, *library_entries(system)):
            if entry.protocol == record.name:
                found[entry.fit.table] += entry.fit.rows
    said = ", ".join(f"{rows} of {table}" for table, rows in found.items())
    lends = "" if said or record.lend is None else " (lent constants, wider interval)"
    return said or f"none: unmeasured{lends}"
