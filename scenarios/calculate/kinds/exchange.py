"""An expert-parallel exchange in exact numbers: its bound at line rate, its buffers, the ranks that a token reaches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from pydantic import Field

from ....hwmodels.catalog import load_cluster
from ....hwmodels.units import Bytes, BytesPerSecond
from ....sim.ep.bound import program_seconds
from ....sim.ep.buffer import exact_rows, rectangle
from ....sim.ep.exchange_bound import exchange_bound_tpot_seconds, exchange_seconds
from ....sim.ep.machine import machine_of
from ....sim.ep.protocol import Context, describe, find_protocol
from ....sim.ep.protocols.low_latency import slabs
from ....sim.ep.shape import Shape
from ....sim.inputs.deployment import Protocol
from ....sim.precision import PAYLOAD_BYTES, Dtype
from ..calculator import Calculator, ClusterName, Figure


class ExchangeBound(Calculator):
    """A decode step that does nothing but exchange, at one link's rate."""

    kind: Literal["exchange-bound"] = "exchange-bound"
    tokens: float = Field(gt=0)
    experts: float = Field(gt=0)
    hidden: float = Field(gt=0)
    bandwidth: BytesPerSecond
    layers: int = Field(ge=1)
    micro_batches: int = Field(default=2, ge=1)
    dispatch_bytes: float = Field(default=1.0, gt=0)
    combine_bytes: float = Field(default=2.0, gt=0)

    def figures(self) -> Iterator[Figure]:
        one = float(
            exchange_seconds(self.tokens, self.experts, self.hidden, self.bandwidth, self.dispatch_bytes, self.combine_bytes)
        )
        tpot = float(exchange_bound_tpot_seconds(one, self.layers, self.micro_batches))
        yield Figure("tpot", "time per output token", "s", tpot)
        yield Figure("exchange", "dispatch and combine of one micro-batch and layer", "s", one)
        yield Figure("rate", "tokens per second of one user", "tokens/s", 1.0 / tpot)


class ExchangeBuffers(Calculator):
    """What a rank sets aside for an exchange, and what its tokens fill of it, under uniform routing."""

    kind: Literal["exchange-buffers"] = "exchange-buffers"
    tokens: int = Field(ge=1)
    hidden: int = Field(ge=1)
    experts: int = Field(ge=1)
    top_k: int = Field(ge=1)
    ranks: int = Field(ge=1)
    element_bytes: float = Field(default=2.0, gt=0)
    kv_token: Bytes | None = None

    def figures(self) -> Iterator[Figure]:
        row = self.hidden * self.element_bytes
        shape = Shape(self.tokens, self.hidden, self.top_k, self.experts, self.ranks, self.ranks, row)
        reached = float(shape.ranks_reached)
        exact = float(exact_rows(self.tokens * reached, row))
        worst = float(rectangle(self.tokens, self.ranks, self.experts // self.ranks, row))
        yield Figure("ranks_reached", "distinct destination ranks of a token", "", reached)
        yield Figure("slabs", "buffer of the low-latency layout", "B", float(slabs(self.tokens, self.hidden, self.experts)))
        yield Figure("exact", "receive buffer once counts are known", "B", exact)
        yield Figure("rectangle", "receive buffer for the worst case", "B", worst)
        copies = "rows of all-gather and reduce-scatter over one row a token and expert"
        yield Figure("fixed_over_routed", copies, "", self.ranks / self.top_k)
        yield Figure("fixed_over_sent", "the same over one row a token and rank", "", self.ranks / reached)
        if self.kv_token is not None:
            yield Figure(
                "kv_tokens", "more tokens of KV cache where the rectangle is not needed", "", (worst - exact) / self.kv_token
            )


class ExchangeRate(Calculator):
    """One kernel of a protocol in closed form: its time, and the *logical* bandwidth that benchmarks print of it.

    Logical are the bytes handed over, rows that stay at home included, over the time: a row for every distinct node of a token
    where ``counted`` is rdma, for every distinct rank where it is nvlink. ``beside``: further bytes a row that the benchmark
    counts. ``timed``: of a kernel in two stages the moving of rows alone, or all.
    """

    kind: Literal["exchange-rate"] = "exchange-rate"
    cluster: ClusterName
    protocol: Protocol
    op: Literal["dispatch", "combine"]
    ranks: int = Field(ge=2)
    tokens: int = Field(ge=1)
    hidden: int = Field(ge=1)
    top_k: int = Field(ge=1)
    experts: int = Field(ge=1)
    payload: Dtype = "fp8"
    sms: int = Field(default=24, ge=2)
    groups_kept: int | None = Field(default=None, ge=1)
    counted: Literal["rdma", "nvlink"] = "rdma"
    beside: Bytes = 0.0
    timed: Literal["moving", "all"] = "all"

    def figures(self) -> Iterator[Figure]:
        cluster = load_cluster(self.cluster, max(1, -(-self.ranks // load_cluster(self.cluster).node.gpus)))
        domain = float(min(self.ranks, cluster.nvlink_domain_gpus))
        shape = Shape(
            tokens=float(self.tokens),
            hidden=float(self.hidden),
            top_k=float(self.top_k),
            experts=float(self.experts),
            ranks=float(self.ranks),
            domain=domain,
            payload_bytes=self.hidden * PAYLOAD_BYTES[self.payload],
            comm_sms=float(self.sms),
            routing="uniform" if self.groups_kept is None else "group-limited",
            groups=self.ranks / domain,
            groups_kept=min(self.ranks / domain, float(self.groups_kept or 1)),
        )
        machine, scope = machine_of(cluster), find_protocol(self.protocol).scope(self.ranks <= domain)
        context = Context(gpus_per_node=float(cluster.node.gpus), fields=2.0 if self.payload == "fp4" else 1.0)
        stages = describe(self.protocol, self.op, scope, cluster.calibration, shape, machine, context).stages
        seconds = float(np.asarray(program_seconds(stages[:1] if self.timed == "moving" else stages, shape, machine)))
        reached = float(shape.distinct(shape.nodes if self.counted == "rdma" else shape.ranks))
        row = (2.0 * self.hidden if self.op == "combine" else self.hidden * PAYLOAD_BYTES[self.payload]) + self.beside
        yield Figure("rate", "logical bandwidth of a GPU", "B/s", self.tokens * reached * row / seconds)
        yield Figure("time", "time of the kernel", "s", seconds)
        yield Figure("reached", "receivers of a token that count", "", reached)


KINDS = (ExchangeBound, ExchangeBuffers, ExchangeRate)
