"""Devices with a fixed cost a call: products on one of two, pipelines over a link, tiles, deadlines."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ....hwmodels.laws.fixed_cost import Device, idle_share, pipeline_seconds
from ....hwmodels.units import FLOPS, BytesPerSecond, Duration
from ..calculator import Calculator, Figure


class DeviceNumbers(BaseModel):
    """``fixed`` a call, ``flops`` and ``bandwidth`` as sustained, bytes a weight as stored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fixed: Duration
    flops: str
    bandwidth: BytesPerSecond
    bytes_per_weight: float = Field(gt=0)

    def gemm_seconds(self, m: int, n: int, k: int) -> float:
        device = Device(self.fixed, FLOPS.parse(self.flops), self.bandwidth)
        return float(device.gemm_seconds(m, n, k, self.bytes_per_weight))


class TwoDevices(Calculator):
    """One product on two devices: which is faster, and by how much."""

    kind: Literal["two-devices"] = "two-devices"
    m: int = Field(ge=1)
    n: int = Field(ge=1)
    k: int = Field(ge=1)
    one: DeviceNumbers
    other: DeviceNumbers

    def figures(self) -> Iterator[Figure]:
        flops = 2.0 * self.m * self.n * self.k
        first, second = (device.gemm_seconds(self.m, self.n, self.k) for device in (self.one, self.other))
        yield Figure("faster", "time of the other device over the first one's", "", second / first)
        yield Figure("one_rate", "flop/s of the first", "flop/s", flops / first)
        yield Figure("other_rate", "flop/s of the other", "flop/s", flops / second)
        yield Figure("one_time", "time on the first", "s", first)
        yield Figure("other_time", "time on the other", "s", second)


class OffloadPipeline(Calculator):
    """Work in ``pieces`` that runs on a GPU, crosses a link, is finished elsewhere and comes back; against all at home."""

    kind: Literal["offload-pipeline"] = "offload-pipeline"
    stages: tuple[Duration, ...] = Field(min_length=1)
    pieces: int = Field(default=1, ge=1)
    at_home: Duration

    def figures(self) -> Iterator[Figure]:
        whole = pipeline_seconds(self.stages, self.pieces)
        yield Figure("times", "time at home over the pipeline's", "", self.at_home / whole)
        yield Figure("time", "time of the pipeline", "s", whole)
        yield Figure("one_after_another", "the same stages one after another", "s", sum(self.stages))


class TopKOffload(Calculator):
    """Scores of ``batch`` x ``tokens`` x ``tokens`` in fp32: scored on a GPU, selected on a CPU, a threshold a row back.

    The CPU's select reads the scores ``cpu_passes`` times at its memory's ``cpu_bandwidth``; the GPU's own, after which nothing
    has to cross the ``link``, reads them ``gpu_passes`` times at ``gpu_bandwidth``. In ``pieces`` the three stages run beside
    each other.
    """

    kind: Literal["top-k-offload"] = "top-k-offload"
    batch: int = Field(ge=1)
    tokens: int = Field(ge=1)
    score: Duration
    link: BytesPerSecond
    cpu_bandwidth: BytesPerSecond
    cpu_passes: float = Field(default=1.0, gt=0)
    slow_cpu_passes: float = Field(default=1.0, gt=0)
    gpu_bandwidth: BytesPerSecond
    gpu_passes: float = Field(default=1.0, gt=0)
    pieces: int = Field(default=1, ge=1)

    def figures(self) -> Iterator[Figure]:
        size = 4.0 * self.batch * self.tokens**2
        select = size * self.cpu_passes / self.cpu_bandwidth
        stages = (self.score, size / self.link, select, 4.0 * self.batch * self.tokens / self.link)
        away = pipeline_seconds(stages, self.pieces)
        home = self.score + size * self.gpu_passes / self.gpu_bandwidth
        yield Figure("times", "time with the GPU's own selection over the pipeline's", "", home / away)
        yield Figure("select", "the CPU's other selection over this one", "", self.slow_cpu_passes / self.cpu_passes)
        yield Figure("size", "bytes of scores", "B", size)
        yield Figure("crossing", "time of the scores over the link", "s", stages[1])
        yield Figure("pipeline", "time of the pipeline", "s", away)
        yield Figure("one_after_another", "the same stages one after another", "s", sum(stages))


class TilePipeline(Calculator):
    """Tiles that are loaded and multiplied, ``buffers`` of them in flight: how long the tensor cores wait."""

    kind: Literal["tile-pipeline"] = "tile-pipeline"
    load: Duration
    compute: Duration
    buffers: int = Field(default=1, ge=1)

    def figures(self) -> Iterator[Figure]:
        yield Figure(
            "idle", "share of time in which the tensor cores wait", "", idle_share(self.load, self.compute, self.buffers)
        )


class Deadline(Calculator):
    """``steps`` forward passes for every frame against the time that a frame has."""

    kind: Literal["deadline"] = "deadline"
    forward: Duration
    steps: int = Field(default=1, ge=1)
    beside: Duration = 0.0
    budget: Duration

    def figures(self) -> Iterator[Figure]:
        frame = self.steps * self.forward + self.beside
        yield Figure("over", "time of a frame over its budget", "", frame / self.budget)
        yield Figure("frame", "time of a frame", "s", frame)
        yield Figure(
            "steps_that_fit",
            "passes that fit into the budget",
            "",
            math.floor((self.budget - self.beside) / self.forward + 1e-9),
        )
        yield Figure("gpus", "GPUs that take frames in turn to keep the rate", "", math.ceil(frame / self.budget))


KINDS = (TwoDevices, OffloadPipeline, TopKOffload, TilePipeline, Deadline)
