"""What a protocol does, stage by stage, in words; and which measured rows are its own: for the catalogue.

Stages are described as any exchange is, for one of 128 tokens a rank: what moves, over what, and which resources it loads.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...hwmodels.calibration import Entry, calibrated_systems, library_entries, load_shipped
from ...hwmodels.catalog import load_cluster, load_transport
from ...hwmodels.errors import BadInput
from ...sim.ep.machine import machine_of
from ...sim.ep.protocol import Context, Protocol, describe
from ...sim.ep.shape import Path, Shape
from ...sim.ep.stage import Join, Move, Stage
from ...sim.ep.transport import over

#: The table whose rows laws of few rows and transports are from.
LAWS_TABLE = "published_ep_2.csv"
#: Where a protocol is shown: what it needs one domain for, on the widest; what AMD wrote, on AMD's; all else on DeepEP's own.
_PLACES = ("h100-cx7", "gb200-nvl72", "mi355x-pollara", "b200-cx7")
_WORDS = {
    Path.SELF: "on the rank",
    Path.NVLINK: "over NVLink",
    Path.RDMA: "over the NIC",
    Path.RAIL: "over the rail, then NVLink",
    Path.OWN: "through the own node's forwarder",
}
_RESOURCES = {
    "nvlink": "NVLink", "nic": "NIC", "nic_msg": "messages", "sm_send": "SMs sending", "sm_receive": "SMs receiving",
    "sm_forward": "SMs forwarding", "sm_copy": "SMs copying", "hbm": "HBM", "tensor": "tensor cores", "host": "host",
    "queue_pair": "queue pairs",
}  # fmt: skip


_WAITS = {Join.OWN: "", Join.INBOUND: "after all that was sent to it: ", Join.ALL: "after a barrier: "}


def stages_of(protocol: Protocol) -> Iterator[tuple[str, str]]:
    """(stage, what it does) in order, on the first of a few clusters that knows the protocol's constants."""
    for place in _PLACES:
        cluster = load_cluster(place)
        domain = float(cluster.nvlink_domain_gpus)
        ranks = min(domain, 16.0) if protocol.one_domain else max(32.0, domain)
        shape = Shape(128.0, 7168.0, 8.0, 4.0 * ranks, ranks, min(domain, ranks), 7392.0)
        scope, ops = protocol.scope(ranks <= domain), (*protocol.before, *protocol.after)
        try:
            mine = (scope, cluster.calibration, shape, machine_of(over(cluster, protocol.name)), Context())
            stages = [stage for op in ops for stage in describe(protocol.name, op.name, *mine).stages]
        except BadInput:
            continue
        for stage in stages:
            yield stage.name, _said(stage)
        return


def _said(stage: Stage) -> str:
    """Rows that travel, path by path; work on rows that are there, once for all paths they came by."""
    travel = [_moved(move, f" {_WORDS[move.path]}, {_size(move):,.0f} B") for move in stage.moves if _size(move)]
    there = [_moved(move, "") for move in stage.moves if not _size(move) and move.loads]
    far = any(move.path in (Path.RDMA, Path.RAIL) and _size(move) for move in stage.moves)
    trips = f"; {stage.crossings} trips over the network" if far and stage.crossings > 1 else ""
    return f"{_WAITS[stage.waits]}{'; '.join(dict.fromkeys((*there, *travel))) or 'waits alone'}{trips}"


def _size(move: Move) -> float:
    return float(np.max(np.asarray(move.row_bytes)))


def _moved(move: Move, where: str) -> str:
    loads = ", ".join(dict.fromkeys(_RESOURCES[load.resource] for load in move.loads))
    return move.rows.value + where + (f" ({loads})" if loads else "")


def own_rows(protocol: Protocol) -> str:
    """How many measured rows its constants and its transports' come from, by table; "unmeasured" where there are none."""
    found: dict[str, set[object]] = {}
    for system in calibrated_systems():
        for entry in (*load_shipped(system).entries, *library_entries(system)):
            if entry.protocol == protocol.name:
                found.setdefault(entry.fit.table, set()).update(_rows(system, entry))
                for table, lines in entry.fit.beside.items():
                    found.setdefault(table, set()).update(lines)
    named = sum(len(load_transport(name).lines) for name in protocol.transports)
    own = "; ".join(f"{len(rows)} of {table}" for table, rows in sorted(found.items()))
    return (own or "unmeasured: its constants are lent") + (f"; its transports' {named} of {LAWS_TABLE}" if named else "")


def _rows(system: str, entry: Entry) -> Iterator[object]:
    if entry.fit.lines:
        yield from entry.fit.lines
    else:
        yield from ((system, entry.op, entry.scope, n) for n in range(entry.fit.rows))
