"""This project's own kernels (`kernels/`), launch for launch: high throughput, low latency, and two hops between nodes.

Every launch is an op with the constants of `own_kernels.OwnMove`, fitted on one GPU whose virtual ranks share it: its
launch, its chain of waits, its share of HBM. There every link is the card's HBM. On a node rows cross NVLink and between nodes
the rails, at shares of the links' rates that no row of one GPU can tell: they are borrowed from the measured kernels of the
same kind, and answers say so, until a node has run.

Sizes are those of `kernels/exchange/row.py` and are held against running kernels byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from ....hwmodels.calibration import Entry, Scope, constants_of, find_entry
from ....hwmodels.errors import Uncalibrated
from ...precision import Dtype
from ..buffer import Buffer, Demand
from ..compute.own_experts import OwnExperts
from ..compute.own_kernels import OwnMove, OwnProduct
from ..protocol import Context, Loan, Op, Protocol
from ..shape import Num, Path, Rows, Shape
from ..stage import End, Join, Load, Machine, Move, Stage
from . import high_throughput, low_latency

HT, LL, TWO_HOP = "epicycle-high-throughput", "epicycle-low-latency", "epicycle-two-hop"
#: Kernels inside a rank, which all three use.
KERNELS = "epicycle-kernels"
#: Whose link efficiencies stand in until our own kernels have run on a node: the same traffic by DeepEP's kernels.
LENT_LINKS = {HT: ("high-throughput", "dispatch"), LL: ("low-latency", "dispatch"), TWO_HOP: ("high-throughput", "dispatch")}
#: Programs of a low-latency launch that share an (expert, source) pair, as measured on 2026-11-27.
SPLITS = 4.0
#: Whose constants stand in on GPUs without rows: rates are relative to datasheets.
TIMED_ON = "h200_sxm"
_LINE_BYTES = 128
_INTS = 4.0
_LINKS = ("nvlink_efficiency", "nic_efficiency")


def lend(protocol: str, system: str, op: str, scope: Scope) -> Loan:
    """The constants fitted on one GPU, with link efficiencies of this scope: our own rows', else the lender's."""
    entry, source = find_own(system, HT if protocol == TWO_HOP and op in _SHARED else protocol, op)
    constants, lender = constants_of(entry, OwnMove), ""
    try:
        linked, _ = find_entry(system, protocol, op, scope)
    except ValueError:
        linked, _ = find_entry(system, *LENT_LINKS[protocol], scope)
        lender = LENT_LINKS[protocol][0]
    shares = {
        name: float(linked.constants[name]) for name in ("nvlink_efficiency", "nic_efficiency") if name in linked.constants
    }
    return Loan(replace(constants, **shares), _named(entry, protocol), source, lender)


def find_own(system: str, protocol: str, op: str) -> tuple[Entry, str]:
    """A kernel's own entry on ``system``, its relatives' or else that of the GPU these kernels were first timed on.

    Raises Uncalibrated.
    """
    try:
        return find_entry(system, protocol, op, "kernel")
    except Uncalibrated:
        return find_entry(TIMED_ON, protocol, op, "kernel")


def own_experts(system: str, weights: Dtype) -> OwnExperts | None:
    """The expert kernels of ``weights`` on ``system``; None for a precision in which nobody timed them.

    Raises Uncalibrated.
    """
    if weights not in ("bf16", "fp8"):
        return None
    product, swiglu = (find_own(system, KERNELS, f"{name}.{weights}") for name in ("product", "swiglu"))
    return OwnExperts(constants_of(product[0], OwnProduct), constants_of(swiglu[0], OwnMove), product, swiglu)


def _named(entry: Entry, protocol: str) -> Entry:
    return entry if entry.protocol == protocol else entry.model_copy(update={"protocol": protocol})


def _stage(
    name: str,
    op: str,
    waits: Join,
    moves: tuple[Move, ...],
    k: OwnMove,
    context: Context,
    posts: bool = False,
    further_rows: Num = 0.0,
) -> Stage:
    chain = k.waits(context.cold, further_rows)
    return Stage(f"{op}.{name}", op, waits, moves, (("launch", k.launch),), floor_s=chain, sharpness=k.sharpness, posts=posts)


def _hbm(size: Num, machine: Machine, k: OwnMove, end: End = End.HOME) -> Load:
    return Load("hbm", size / (machine.hbm_bytes_per_s * k.hbm_efficiency), end)


def _tokens(size: Num, machine: Machine, k: OwnMove) -> Move:
    """Local bytes of each of the rank's own tokens."""
    return Move(Rows.TOKEN, Path.SELF, 0.0, (_hbm(size, machine, k),))


def _received(rows: Rows, size: Num, machine: Machine, k: OwnMove) -> tuple[Move, ...]:
    """Local bytes of each row at the rank that holds the expert, wherever it came from."""
    return tuple(Move(rows, path, 0.0, (_hbm(size, machine, k, End.EXPERT),)) for path in (Path.SELF, Path.NVLINK, Path.RDMA))


def _sent(rows: Rows, size: Num, machine: Machine, k: OwnMove, back: bool = False) -> tuple[Move, ...]:
    """Rows on their way: one end reads or writes HBM for each, and those for other ranks cross a link."""
    hbm = _hbm(size, machine, k)
    return (
        Move(rows, Path.SELF, size, (hbm,), back),
        Move(rows, Path.NVLINK, size, (hbm, Load("nvlink", size, efficiency=k.nvlink_efficiency)), back),
        Move(rows, Path.RDMA, size, (hbm, Load("nic", size, efficiency=k.nic_efficiency), Load("nic_msg", 1.0)), back),
    )


def _railed(size: Num, machine: Machine, k: OwnMove, back: bool) -> tuple[Move, ...]:
    """Rows over the rails: to the own index on every node, from there to the node's ranks; or back."""
    hbm, forwarded = _hbm(size, machine, k), Load("nvlink", size, forwarded=True, efficiency=k.nvlink_efficiency)
    copies = Load("hbm", size / (machine.hbm_bytes_per_s * k.hbm_efficiency), End.VIA, forwarded=True)
    nic = (Load("nic", size, efficiency=k.nic_efficiency), Load("nic_msg", 1.0))
    return (
        Move(Rows.NODE, Path.OWN, size, (hbm, forwarded, copies), back),
        Move(Rows.NODE, Path.RAIL, size, (hbm, *nic, forwarded, copies), back),
    )


def _partial_bytes(shape: Shape, two_hop: bool) -> Num:
    return high_throughput.combine_row_bytes(shape, two_hop)


def _row_bytes(shape: Shape, two_hop: bool) -> Num:
    return high_throughput.dispatch_row_bytes(shape, two_hop)


def _layout(shape: Shape, machine: Machine, k: OwnMove, context: Context) -> tuple[Stage, ...]:
    size = 16.0 * shape.top_k + _INTS * (shape.ranks + shape.top_k)
    return (_stage("layout", "notify", Join.OWN, (_tokens(size, machine, k),), k, context),)


def _notify_post(shape: Shape, machine: Machine, k: OwnMove, context: Context) -> tuple[Stage, ...]:
    size = _INTS * (1.0 + shape.experts / shape.ranks)
    return (_stage("counts", "notify", Join.OWN, _sent(Rows.PAIR, size, machine, k), k, context, posts=True),)


def _notify_wait(shape: Shape, machine: Machine, k: OwnMove, context: Context) -> tuple[Stage, ...]:
    return (_stage("tables", "notify", Join.INBOUND, (), k, context),)


def _cast(shape: Shape, machine: Machine, k: OwnMove, context: Context) -> tuple[Stage, ...]:
    """bf16 rows travel as they are: no launch."""
    cast = np.asarray(shape.payload_bytes) < 2.0 * np.asarray(shape.hidden)
    if not np.any(cast):
        return ()
    stage = _stage("cast", "dispatch", Join.OWN, (_tokens(2.0 * shape.hidden + shape.payload_bytes, machine, k),), k, context)
    return (stage,)


def _dispatch(two_hop: bool, shape: Shape, machine: Machine, k: OwnMove, context: Context) -> tuple[Stage, ...]:
    size = _row_bytes(shape, two_hop)
    moves = _railed(size, machine, k, False) if two_hop else _sent(Rows.RANK, size, machine, k)
    return (_stage("rows", "dispatch", Join.OWN, (_tokens(size, machine, k), *moves), k, context, posts=True),)


def _expand(two_hop: bool, shape: Shape, machine: Machine, k: OwnMove, context: Context) -> tuple[Stage, ...]:
    row = _row_bytes(shape, two_hop) + _INTS * shape.top_k
    moves = (*_received(Rows.RANK, row, machine, k), *_received(Rows.EXPERT, shape.payload_bytes, machine, k))
    return (_stage("expand", "dispatch", Join.INBOUND, moves, k, context),)


def _reduce(two_hop: bool, shape: Shape, machine: Machine, k: OwnMove, context: Context) -> tuple[Stage, ...]:
    partial_row = _partial_bytes(shape, two_hop) + 2.0 * _INTS * shape.top_k
    moves = (*_received(Rows.EXPERT, 2.0 * shape.hidden, machine, k), *_received(Rows.RANK, partial_row, machine, k))
    return (_stage("partial sums", "combine", Join.OWN, moves, k, context, posts=True),)


def _combine(two_hop: bool, shape: Shape, machine: Machine, k: OwnMove, context: Context) -> tuple[Stage, ...]:
    size, out = _partial_bytes(shape, two_hop), 2.0 * shape.hidden + _INTS * shape.top_k
    moves = _railed(size, machine, k, True) if two_hop else _sent(Rows.RANK, size, machine, k, back=True)
    return (_stage("sums", "combine", Join.ALL, (_tokens(out, machine, k), *moves), k, context),)


def further_rows(shape: Shape) -> Num:
    """Rows that the longest program copies after its first: a launch ends with it.

    SPLITS programs share the rows of an (expert, source) pair, which are drawn (Poisson); the fullest of a rank's pairs counts.
    """
    from scipy.special import pdtr  # slow to import, and only our own kernels ask

    mean, pairs = np.broadcast_arrays(shape.tokens * shape.top_k / shape.experts, np.asarray(shape.experts, float))
    most = int(np.max((mean + 8.0 * np.sqrt(mean) + 8.0) / SPLITS)) + 1
    longest = np.zeros(mean.shape)
    for j in range(most):
        longest = longest - np.expm1(pairs * np.log(np.maximum(pdtr(j * SPLITS, mean), 1e-300)))
    return np.maximum(longest - 1.0, 0.0)


def _send(shape: Shape, machine: Machine, k: OwnMove, context: Context) -> tuple[Stage, ...]:
    size = low_latency.dispatch_message_bytes(shape)
    moves = (_tokens(2.0 * shape.hidden, machine, k), *_sent(Rows.EXPERT, size, machine, k))
    return (_stage("send", "dispatch", Join.OWN, moves, k, context, posts=True),)


def _receive(shape: Shape, machine: Machine, k: OwnMove, context: Context) -> tuple[Stage, ...]:
    size = 2.0 * low_latency.dispatch_message_bytes(shape)
    moves = _received(Rows.EXPERT, size, machine, k)
    return (_stage("receive", "dispatch", Join.INBOUND, moves, k, context, further_rows=further_rows(shape)),)


def _give_back(shape: Shape, machine: Machine, k: OwnMove, context: Context) -> tuple[Stage, ...]:
    size = low_latency.combine_message_bytes(shape)
    moves = (*_received(Rows.EXPERT, size, machine, k), *_sent(Rows.EXPERT, size, machine, k, back=True))
    return (_stage("send", "combine", Join.OWN, moves, k, context, True, further_rows(shape)),)


def _sum(shape: Shape, machine: Machine, k: OwnMove, context: Context) -> tuple[Stage, ...]:
    size = low_latency.combine_message_bytes(shape)
    moves = (_tokens(size * (1.0 + shape.top_k), machine, k),)
    return (_stage("sum", "combine", Join.INBOUND, moves, k, context),)


_COUNTING = (
    Op("layout", OwnMove, _layout, "notify", "kernel"),
    Op("notify_post", OwnMove, _notify_post, "notify", "kernel"),
    Op("notify_wait", OwnMove, _notify_wait, "notify", "kernel"),
    Op("cast", OwnMove, _cast, "dispatch", "kernel"),
)
_SHARED = (*(op.name for op in _COUNTING), "dispatch", "expand", "reduce", "combine")


def slots(need: Demand) -> Iterator[Buffer]:
    """Fixed slots for every token of every source, dispatched and partial rows alike (kernels/exchange/ht_dispatch.py)."""
    shape = need.shape
    two_hop = need.domains > 1.0
    rows = need.tokens * shape.ranks
    row = np.where(two_hop, _row_bytes(shape, True), _row_bytes(shape, False))
    partial_row = np.where(two_hop, _partial_bytes(shape, True), _partial_bytes(shape, False))
    lines = np.ceil(row / _LINE_BYTES) + np.ceil(partial_row / _LINE_BYTES)
    yield Buffer("row slots", rows * lines * _LINE_BYTES, "kernels/exchange/ht_dispatch.py", (("slots", rows),))


def messages(need: Demand) -> Iterator[Buffer]:
    """A slot per (local expert, source, token), and one per (token, k) for what returns (kernels/exchange/ll_dispatch.py)."""
    shape = need.shape
    capacity = need.tokens if need.max_tokens is None else np.asarray(float(need.max_tokens))
    arrived = shape.experts * capacity * low_latency.dispatch_message_bytes(shape)
    size = arrived + capacity * shape.top_k * 2.0 * shape.hidden
    yield Buffer("message slots", size, "kernels/exchange/ll_dispatch.py", (("tokens a rank", capacity),))


_SAID = ("epicycle's own kernels were timed on one GPU whose virtual ranks share it; no row of theirs crossed a link yet",)


def _counted(name: str, two_hop: bool, what: str, layer: str) -> Protocol:
    """A protocol that counts first, then moves one row per token and rank; between nodes over the rails if ``two_hop``."""

    def op(launch: str, describe: Callable[..., tuple[Stage, ...]], table: str) -> Op:
        return Op(launch, OwnMove, partial(describe, two_hop), table, "kernel")

    return Protocol(
        name=name,
        what=what,
        holds="a slot for every token of every source",
        kernels=f"epicycle's own (kernels/layers/{layer}.py)",
        tables=(name,),
        before=(*_COUNTING, op("dispatch", _dispatch, ""), op("expand", _expand, "dispatch")),
        after=(op("reduce", _reduce, "combine"), op("combine", _combine, "")),
        buffers=slots,
        near="one-node",
        far="multi-node" if two_hop else "one-node",
        one_domain=not two_hop,
        rails=two_hop,
        counts=True,
        lend=partial(lend, name),
        own_experts=own_experts,
        caveats=_SAID,
    )


PROTOCOLS = (
    _counted(
        HT,
        False,
        "counts first, then one row per token and rank into fixed slots; partial sums are pulled back",
        "high_throughput",
    ),
    Protocol(
        name=LL,
        what="one message per token and expert into slots, no counts beforehand",
        holds="slots for `max_tokens`",
        kernels="epicycle's own (kernels/layers/low_latency.py)",
        tables=(LL,),
        before=(
            Op("dispatch_send", OwnMove, _send, "dispatch", "kernel"),
            Op("dispatch_receive", OwnMove, _receive, "dispatch", "kernel"),
        ),
        after=(
            Op("combine_send", OwnMove, _give_back, "combine", "kernel"),
            Op("combine_receive", OwnMove, _sum, "combine", "kernel"),
        ),
        buffers=messages,
        near="one-node",
        far="one-node",
        one_domain=True,
        rows=Rows.EXPERT,
        capacity=128,
        layout="masked",
        packed=True,
        prompts_by=HT,
        lend=partial(lend, LL),
        own_experts=own_experts,
        caveats=_SAID,
    ),
    _counted(TWO_HOP, True, "as epicycle-high-throughput; between nodes over the rails, once per node", "two_hop"),
)
