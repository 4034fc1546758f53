"""NCCL EP: DeepEP's low-latency kernels and Hybrid-EP's high-throughput ones on NCCL's device API (GIN, LSA windows).

Low latency: fixed slots and one message per (token, expert), NVLink peers by load and store through window pointers, others by
a GIN put from a staging slot with a signal behind that carries the count. One factor says how much of the wire rate its port
reaches; the rest is lent by DeepEP's low-latency kernels. High throughput: Hybrid-EP's pipelines with 16 CTAs, rows bound for
a node packed with probabilities and scales in a staging slot, up to four of them a put, eight reduced rows a send coming back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ....hwmodels.calibration import Scope, constants_of, find_entry
from ..buffer import Buffer, Demand
from ..limit import made_for, most_top_k
from ..protocol import Context, Loan, Op, Protocol
from ..shape import Rows, Shape
from ..stage import Machine, Stage
from . import hybrid, low_latency

DISPATCH, COMBINE = "dispatch", "combine"
LL, HT = "nccl-ep-low-latency", "nccl-ep"
#: Most experts of a token that the kernels are built for.
MOST_TOP_K = 32
#: Rows that one put of a packed staging slot carries, and reduced rows that are sent at once (nccl_ep, hybrid kernels).
ROWS_A_PUT = {DISPATCH: 4.0, COMBINE: 8.0}


@dataclass(frozen=True, slots=True)
class NcclConstants:
    """``base``: of DeepEP's kernels, which these are a port of; ``wire_efficiency``: the share of their wire rates reached."""

    base: low_latency.LowLatencyConstants
    wire_efficiency: float


@dataclass(frozen=True, slots=True)
class WireConstants:
    """What was fitted to rows of its own."""

    wire_efficiency: float


def _low_latency(op: str, shape: Shape, machine: Machine, k: Any, context: Context) -> tuple[Stage, ...]:
    share = k.wire_efficiency
    reached = replace(k.base, nvlink_efficiency=k.base.nvlink_efficiency * share, nic_efficiency=k.base.nic_efficiency * share)
    return (low_latency.combine if op == COMBINE else low_latency.dispatch)(shape, machine, reached)


def _hybrid(op: str, shape: Shape, machine: Machine, k: Any, context: Context) -> tuple[Stage, ...]:
    return hybrid.call(shape, machine, k, op, hybrid.Packing(1.0, ROWS_A_PUT[op]))


def lend_low_latency(system: str, op: str, scope: Scope) -> Loan:
    """DeepEP's kernels on ``system``; the wire's share as the port's own rows have it. Raises Uncalibrated."""
    entry, source = find_entry(system, "low-latency", op, scope)
    own, _ = find_entry("h100_sxm", LL, DISPATCH, "multi-node")
    share = constants_of(own, WireConstants).wire_efficiency
    return Loan(NcclConstants(constants_of(entry, low_latency.LowLatencyConstants), share), entry, source, "low-latency")


def lend_hybrid(system: str, op: str, scope: Scope) -> Loan:
    """Hybrid-EP's constants. Raises Uncalibrated."""
    entry, source = find_entry(system, "hybrid-ep", op, scope)
    return Loan(constants_of(entry, hybrid.HybridConstants), entry, source, "hybrid-ep")


def buffers(need: Demand) -> Iterator[Buffer]:
    """The low-latency slots, one set for each of two calls in turn, and the staging slots that puts leave from."""
    capacity = np.maximum(need.tokens, low_latency.CAPACITY) if need.max_tokens is None else need.max_tokens
    size = low_latency.slabs(capacity, need.shape.hidden, need.shape.experts)
    yield Buffer("low-latency slots", size, "as DeepEP's layout (sim/ep/protocols/nccl.py)", (("tokens a rank", capacity),))


_TOP_K = most_top_k(MOST_TOP_K, f"NCCL EP's kernels are built for at most {MOST_TOP_K} experts a token")

PROTOCOLS = (
    Protocol(
        name=LL,
        what="one message per token and expert by GIN puts and window stores, a signal behind them",
        holds="slots for `max_tokens`",
        kernels="NCCL EP's low-latency kernels",
        before=(Op(DISPATCH, NcclConstants, partial(_low_latency, DISPATCH)),),
        after=(Op(COMBINE, NcclConstants, partial(_low_latency, COMBINE)),),
        buffers=buffers,
        near="one-node",
        far="multi-node",
        transports=("gin-gda", "gin-proxy", "gin-efa-proxy"),
        rows=Rows.EXPERT,
        capacity=low_latency.CAPACITY,
        layout="masked",
        packed=True,
        overlaps=True,
        prompts_by=HT,
        lend=lend_low_latency,
        limits=(made_for("NVIDIA", "NCCL EP"), _TOP_K),
        caveats=("NCCL EP v0.1 hangs with several handles of a group (NVIDIA/nccl#2303): use v0.2",),
    ),
    Protocol(
        name=HT,
        what="Hybrid-EP's pipelines with packed GIN puts of up to four rows",
        holds="rows for the worst case",
        kernels="NCCL EP's high-throughput kernels",
        before=(Op(DISPATCH, hybrid.HybridConstants, partial(_hybrid, DISPATCH)),),
        after=(Op(COMBINE, hybrid.HybridConstants, partial(_hybrid, COMBINE)),),
        buffers=hybrid.buffers,
        near="nvlink-domain",
        far="multi-node",
        transports=("gin-gda", "gin-proxy", "gin-efa-proxy"),
        rails=True,
        on_comm_sms=True,
        replays=False,
        overlaps=True,
        lend=lend_hybrid,
        limits=(made_for("NVIDIA", "NCCL EP"), _TOP_K, *hybrid.LIMITS[1:]),
        caveats_across=(
            "NCCL EP's high-throughput kernels take 1 + 2 x comm_sms GIN contexts a rank",
            "on x86 nodes NCCL EP over GIN was seen to fault with 16 ranks (CollectiveX)",
        ),
    ),
)
