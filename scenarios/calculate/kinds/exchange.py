"""An expert-parallel exchange in exact numbers: its bound at line rate, its buffers, the ranks that a token reaches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from ....hwmodels.units import Bytes, BytesPerSecond
from ....sim.ep.buffer import exact_rows, rectangle
from ....sim.ep.exchange_bound import exchange_bound_tpot_seconds, exchange_seconds
from ....sim.ep.protocols.low_latency import slabs
from ....sim.ep.shape import Shape
from ..calculator import Calculator, Figure


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


KINDS = (ExchangeBound, ExchangeBuffers)
