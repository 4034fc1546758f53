"""MORI-EP, on the full meshes of AMD's Infinity Fabric (xGMI): every pair of GPUs has a link of its own.

v1 inside a node: a warp a token loads it once and stores it to every distinct peer; combine reads the rows back over the mesh.
Across nodes (InterNodeV1) five launches: a copy into a staging slot; RDMA puts of 64-token chunks to the same-index GPU of
every node with xGMI stores beside them; a barrier of the nodes; the way back with sums in every node; the final sum. v2 inside
a node reserves a slot by a remote fetch-add for every (token, rank), publishes counts behind a grid barrier, gathers in fp32.

Inside a node the law is v1's own published curve; across nodes NIC and rails are lent by DeepEP's normal kernels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ....hwmodels.calibration import Scope, constants_of, find_entry
from ..buffer import Buffer, Demand
from ..limit import made_for
from ..protocol import Context, Loan, Op, Protocol
from ..shape import Num, Path, Rows, Shape
from ..stage import Join, Load, Machine, Move, Stage
from . import high_throughput

DISPATCH, COMBINE = "dispatch", "combine"
V1, V2 = "mori-ep", "mori-ep-v2"
CHUNK_TOKENS = 64.0
#: Launches of a call across nodes beyond the one of a node: staging, sync, node barrier, final sum.
MORE_LAUNCHES = 4.0
#: assumed: seconds of a short launch on a stream, as everywhere.
LAUNCH_S = 4e-6
#: assumed: share of the HBM rate that the staging copy and the sums reach; as a streaming copy does.
COPY_HBM_EFFICIENCY = 0.85
#: What 64 blocks that poll one system-scope line add (MORI's notes on v2: 9 us with 64 blocks, 69 us with 256).
POLL_S = 9e-6


@dataclass(frozen=True, slots=True)
class MeshConstants:
    """v1's law inside a node. ``launch``: kernel, counts and completion; ``nvlink_efficiency``: of all links of a GPU."""

    launch: float
    nvlink_efficiency: float
    sharpness: float


@dataclass(frozen=True, slots=True)
class MoriConstants:
    """``base``: inside a node; ``nic_efficiency``: across nodes (0: there is one)."""

    base: MeshConstants
    nic_efficiency: float


def row_bytes(shape: Shape, op: str) -> Num:
    """Bytes of a row: values and scales, ids and weights (8 bytes for each of k) and its source; back: bf16 values."""
    return 2.0 * shape.hidden if op == COMBINE else shape.payload_bytes + 8.0 * shape.top_k + 4.0


def _call(op: str, version: str, shape: Shape, machine: Machine, k: Any, context: Context) -> tuple[Stage, ...]:
    far = bool(np.any(np.asarray(shape.nodes) > 1.0))
    polls = (("polling of a shared line", POLL_S),) if version == V2 else ()
    launch = (("launch, counts and completion", k.base.launch), *polls)
    if not far:
        return (_mesh(op, shape, k, launch, version),)
    return _nodes(op, shape, machine, k, launch)


def _mesh(op: str, shape: Shape, k: MoriConstants, launch: tuple[tuple[str, Num], ...], version: str) -> Stage:
    size, back = row_bytes(shape, op), op == COMBINE
    link = Load("nvlink", size, efficiency=k.base.nvlink_efficiency)
    moves = (Move(Rows.RANK, Path.SELF, size, (), back), Move(Rows.RANK, Path.NVLINK, size, (link,), back))
    name = ("gather" if back else "slots") if version == V2 else ("pull" if back else "stores")
    return Stage(f"{op}.{name}", op, Join.ALL, moves, launch, sharpness=k.base.sharpness)


def _nodes(op: str, shape: Shape, machine: Machine, k: MoriConstants, launch: tuple[tuple[str, Num], ...]) -> tuple[Stage, ...]:
    size, back = row_bytes(shape, op), op == COMBINE
    copy_s = 2.0 * size / (machine.hbm_bytes_per_s * COPY_HBM_EFFICIENCY)
    link = Load("nvlink", size, forwarded=True, efficiency=k.base.nvlink_efficiency)
    puts = np.minimum(shape.tokens, CHUNK_TOKENS)
    wire = (Load("nic", size, efficiency=k.nic_efficiency), Load("nic_msg", 1.0 / puts))
    moves = (
        Move(Rows.NODE, Path.OWN, size, (link,), back),
        Move(Rows.NODE, Path.RAIL, size, (*wire, link), back),
    )
    staged = Stage(f"{op}.stage", op, Join.OWN, (Move(Rows.TOKEN, Path.SELF, 0.0, (Load("hbm", copy_s),)),))
    more = (*launch, ("four more launches", MORE_LAUNCHES * LAUNCH_S))
    rails = Stage(f"{op}.rails", op, Join.ALL, moves, more, sharpness=k.base.sharpness, crossings=2)
    sums = Stage(f"{op}.barrier", op, Join.ALL, (), (("barrier of the nodes", 2.0 * machine.wire_latency_s),), crossings=0)
    return staged, rails, sums


def lend(version: str, system: str, op: str, scope: Scope) -> Loan:
    """v1's own law inside a node (dispatch's, for both ops), and DeepEP's NIC efficiency across. Raises Uncalibrated."""
    own, source = find_entry("mi355x", V1, DISPATCH, "one-node")
    base = constants_of(own, MeshConstants)
    if scope == "multi-node":
        entry, lent = find_entry(system, "high-throughput", op, scope)
        reached = constants_of(entry, high_throughput.Transfer).nic_efficiency
        return Loan(MoriConstants(base, reached), entry, lent, "high-throughput")
    return Loan(MoriConstants(base, 0.0), own, source, f"{V1} dispatch")


def buffers(need: Demand) -> Iterator[Buffer]:
    """Symmetric slots for the worst case: a row for every token of every rank, dispatched and returned."""
    rows = need.tokens * need.shape.ranks
    size = np.ceil(rows * (row_bytes(need.shape, DISPATCH) + row_bytes(need.shape, COMBINE)))
    yield Buffer("symmetric slots", size, "worst case, every token of every rank, both ways", (("rows", rows),))


_MESH = (
    "a pair of GPUs has one link of the mesh: rows to a popular rank cannot borrow the others', which is not counted here",
)
_MAKER = (made_for("AMD", "MORI-EP"),)

PROTOCOLS = (
    Protocol(
        name=V1,
        what="one copy per token and rank over the xGMI mesh; between nodes puts of 64 tokens over the rails",
        holds="slots for the worst case",
        kernels="MORI-EP v1 (intranode, InterNodeV1)",
        before=(Op(DISPATCH, MoriConstants, partial(_call, DISPATCH, V1)),),
        after=(Op(COMBINE, MoriConstants, partial(_call, COMBINE, V1)),),
        buffers=buffers,
        near="one-node",
        far="multi-node",
        transports=("ibgda",),
        rails=True,
        lend=partial(lend, V1),
        caveats=_MESH,
        caveats_across=("MORI's InterNodeV1 combine before pull request 546 could be silently wrong (ROCm/mori#475)",),
        limits=_MAKER,
        offered=("sglang", "vllm"),
    ),
    Protocol(
        name=V2,
        what="a remote fetch-add reserves a slot for every token and rank, rows are posted there and gathered back",
        holds="slots for the worst case",
        kernels="MORI-EP v2 (intranode)",
        before=(Op(DISPATCH, MoriConstants, partial(_call, DISPATCH, V2)),),
        after=(Op(COMBINE, MoriConstants, partial(_call, COMBINE, V2)),),
        buffers=buffers,
        near="one-node",
        far="one-node",
        one_domain=True,
        lend=partial(lend, V2),
        caveats=_MESH,
        limits=_MAKER,
    ),
)
