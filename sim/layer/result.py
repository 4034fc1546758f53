"""What one simulated layer leaves behind: times, spans, what bounded them, traffic, load and memory.

Everything here is plain data (numpy arrays and frozen records) so that reports, traces and JSON read it without
knowing how it was made. Times are integer picoseconds from the layer's start.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.interval import UNKNOWN, Interval, combined
from ..ep.buffer import MemoryItem


@dataclass(frozen=True, slots=True)
class Span:
    """One piece of work on one stream of one rank. ``bound`` names the resource that set its length."""

    rank: int
    stream: str  # "communication", "compute" or "nic"
    name: str  # stage name, e.g. "dispatch.send"
    op: str  # "notify", "dispatch", "compute", "combine_notify", "combine"
    start_ps: int
    end_ps: int
    bound: str


@dataclass(frozen=True, slots=True)
class PathSegment:
    """A stretch of the critical path: the rank and stage the end of the layer was waiting for, and what bounded it."""

    start_ps: int
    end_ps: int
    rank: int
    stage: str
    op: str
    bound: str


@dataclass(frozen=True, slots=True)
class LinkUse:
    """One shared resource over the whole layer: ``moved / (capacity_per_s * makespan)`` is ``utilisation``."""

    name: str  # "nvlink_tx[3]", "nic_rx[12]", "spine_up[0]"
    kind: str  # "nvlink_tx", "nvlink_rx", "nic_tx", "nic_rx", "nic_msg", "fabric", "copy", ...
    index: int  # rank, node or fabric link number
    moved: float  # bytes (messages for nic_msg, seconds of work for copy)
    capacity_per_s: float
    utilisation: float
    peak: float  # highest instantaneous share of the capacity, 0..1


@dataclass(frozen=True, slots=True)
class OpTime:
    """Duration of one op: from the first rank's start to the last rank's end, and per rank."""

    op: str
    start_ps: int
    end_ps: int
    rank_ps: NDArray[np.int64]  # [rank] own duration

    @property
    def duration_ps(self) -> int:
        return self.end_ps - self.start_ps


@dataclass(frozen=True, slots=True)
class TrafficMatrix:
    """Payload bytes by [source rank, destination rank] of one stage over one medium, each hop of a path on its own."""

    stage: str
    op: str
    medium: str  # "nvlink", "rdma" or "local"
    bytes: NDArray[np.int64]  # [src_rank, dst_rank]
    rows: NDArray[np.int64]  # [src_rank, dst_rank] token copies (or messages)


@dataclass(frozen=True, slots=True)
class InputRow:
    """One input the answer rests on: what it is, its value as text, and where it came from."""

    section: str  # "model", "cluster", "gpu", "nic", "calibration", "traffic", "deployment"
    name: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class LayerResult:
    """One protocol's layer, played event by event."""

    protocol: str
    makespan_ps: int
    ops: tuple[OpTime, ...]
    spans: tuple[Span, ...]
    critical_path: tuple[PathSegment, ...]
    links: tuple[LinkUse, ...]
    traffic: tuple[TrafficMatrix, ...]
    expert_load: NDArray[np.int64]  # [expert] (token, expert) pairs
    rank_load: NDArray[np.int64]  # [rank] (token, expert) pairs computed there
    memory: tuple[MemoryItem, ...]
    hbm_bytes: int  # capacity per rank
    closed_form_us: dict[str, float] = field(default_factory=dict)  # op -> closed-form prediction
    exchange: dict[str, NDArray[np.int64]] = field(default_factory=dict)  # named count tables of the count exchange
    notes: tuple[str, ...] = ()
    intervals: dict[str, Interval] = field(default_factory=dict)  # op -> factors on its time

    @property
    def interval(self) -> Interval:
        """How sure the makespan is: the ops of the critical path together (`hwmodels.interval.combined`)."""
        timed = [(us, self.intervals.get(op.op, UNKNOWN)) for op in self.ops if (us := self.op_us(op.op)) > 0.0]
        return combined(timed) if timed else UNKNOWN

    def op_us(self, op: str) -> float:
        """Time of ``op`` on the critical path, microseconds; the ops add up to the makespan. 0.0 if the protocol has none.

        `OpTime.duration_ps` is longer where ranks begin an op at different times.
        """
        return sum(s.end_ps - s.start_ps for s in self.critical_path if s.op == op) / 1e6

    def bound_us(self) -> dict[str, float]:
        """Critical-path time by bound resource, microseconds, longest first."""
        total: dict[str, float] = {}
        for s in self.critical_path:
            total[s.bound] = total.get(s.bound, 0.0) + (s.end_ps - s.start_ps) / 1e6
        return dict(sorted(total.items(), key=lambda kv: -kv[1]))


@dataclass(frozen=True, slots=True)
class Answer:
    """What ``epicycle simulate`` returns: the asked protocol first, then the ones it is compared with."""

    name: str
    description: str
    sentence: str  # the answer in one sentence, plain text
    layers: tuple[LayerResult, ...]  # layers[0] is the scenario's own protocol
    ranks: int
    gpus_per_node: int
    inputs: tuple[InputRow, ...]
    seed: int
    version: str
