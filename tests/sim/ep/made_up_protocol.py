"""A protocol that nobody has: every rank tells every other one that it said nothing. One file, and it is everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from epicycle.hwmodels.calibration import Scope, find_entry
from epicycle.sim.ep.buffer import Buffer, Demand
from epicycle.sim.ep.protocol import Context, Loan, Op, Protocol
from epicycle.sim.ep.shape import Path, Rows, Shape
from epicycle.sim.ep.stage import Join, Load, Machine, Move, Stage

NAME = "carrier-pigeon"


@dataclass(frozen=True, slots=True)
class PigeonConstants:
    launch: float


def dispatch(shape: Shape, machine: Machine, k: Any, context: Context) -> tuple[Stage, ...]:
    return _flight("dispatch", shape.payload_bytes, False, k)


def combine(shape: Shape, machine: Machine, k: Any, context: Context) -> tuple[Stage, ...]:
    return _flight("combine", 2.0 * shape.hidden, True, k)


def _flight(op: str, size: Any, back: bool, k: Any) -> tuple[Stage, ...]:
    near = Move(Rows.EXPERT, Path.NVLINK, size, (Load("nvlink", size),), back)
    far = Move(Rows.EXPERT, Path.RDMA, size, (Load("nic", size),), back)
    return (Stage(f"{op}.flight", op, Join.ALL, (near, far), (("take-off", k.launch),)),)


def lend(system: str, op: str, scope: Scope) -> Loan:
    entry, source = find_entry(system, "low-latency", op, scope)
    return Loan(PigeonConstants(7e-6), entry, source, "low-latency")


def buffers(need: Demand) -> Iterator[Buffer]:
    yield Buffer("pigeon loft", 1000.0 * need.tokens, "a thousand bytes a token", (("tokens a rank", need.tokens),))


PROTOCOLS = (
    Protocol(
        name=NAME,
        what="a bird a row",
        holds="a loft",
        kernels="nobody's",
        before=(Op("dispatch", PigeonConstants, dispatch),),
        after=(Op("combine", PigeonConstants, combine),),
        buffers=buffers,
        near="one-node",
        far="multi-node",
        rows=Rows.EXPERT,
        engines=("sglang",),
        lend=lend,
    ),
)
