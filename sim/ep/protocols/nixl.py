"""NIXL-EP's low-latency kernels: DeepEP's, elastic: ranks come and go, a dead one is masked and neither sent to nor waited for.

The same messages and slots; a doorbell rings for every fourth slot of an expert, the count's atomic flushes the rest; buffers
and loops stride by the highest active rank. Proxied (four channels, CPU threads) or posted by the GPU: the transport.
Nobody has published a time of it: everything is lent by DeepEP's kernels, whose stages these are.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ....hwmodels.calibration import Scope, constants_of, find_entry
from ..buffer import Buffer, Demand
from ..protocol import Context, Loan, Op, Protocol
from ..shape import Rows, Shape
from ..stage import Machine, Stage
from . import low_latency

DISPATCH, COMBINE = "dispatch", "combine"


def lend(system: str, op: str, scope: Scope) -> Loan:
    """DeepEP's low-latency constants. Raises Uncalibrated if nobody measured those."""
    entry, source = find_entry(system, "low-latency", op, scope)
    return Loan(constants_of(entry, low_latency.LowLatencyConstants), entry, source, "low-latency")


def buffers(need: Demand) -> Iterator[Buffer]:
    """DeepEP's slabs, and a mask and a signal a rank: what ``update_memory_buffers`` reserves once for the most ranks."""
    capacity = np.maximum(need.tokens, low_latency.CAPACITY) if need.max_tokens is None else need.max_tokens
    size = low_latency.slabs(capacity, need.shape.hidden, need.shape.experts)
    yield Buffer("low-latency slabs", size, "as DeepEP's layout (sim/ep/protocols/nixl.py)", (("tokens a rank", capacity),))


def _op(op: str, shape: Shape, machine: Machine, k: Any, context: Context) -> tuple[Stage, ...]:
    return (low_latency.combine if op == COMBINE else low_latency.dispatch)(shape, machine, k)


PROTOCOLS = (
    Protocol(
        name="nixl-ep",
        what="as low-latency, doorbells for four messages at once; ranks may leave and join between calls",
        holds="slabs for `max_tokens`",
        kernels="NIXL-EP's low-latency kernels",
        before=(Op(DISPATCH, low_latency.LowLatencyConstants, partial(_op, DISPATCH)),),
        after=(Op(COMBINE, low_latency.LowLatencyConstants, partial(_op, COMBINE)),),
        buffers=buffers,
        near="one-node",
        far="multi-node",
        transports=("ucx-device", "ucx-proxy"),
        rows=Rows.EXPERT,
        capacity=low_latency.CAPACITY,
        layout="masked",
        packed=True,
        overlaps=True,
        prompts_by=low_latency.PROMPTS_BY,
        lend=lend,
        offered=("sglang", "vllm"),
    ),
)
