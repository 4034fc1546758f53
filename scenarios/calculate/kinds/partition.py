"""One GPU shared in space: prompts on some of its SMs and decoding the rest, against chunks in the decode step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ....hwmodels.backends import load_backend
from ....hwmodels.catalog import load_cluster
from ....hwmodels.errors import BadInput
from ....sim.inputs.model import MoeModel
from ....sim.inputs.serving import Backend, Workload
from ....sim.serving.sm_partition import Tiles, best_partition
from ....sim.serving.steady import Setting
from ....sim.step.overlap import CONTENTION
from ....sim.step.worker import Arrangement, Batch, Precision
from ..calculator import Calculator, ClusterName, Figure, ModelChoice, model_of


class Mix(BaseModel):
    """``batch`` sequences decode; as many prompts of ``input_tokens`` come as sequences end, after ``output_tokens``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: int = Field(ge=1)
    input_tokens: int = Field(ge=1)
    output_tokens: int = Field(ge=1)


class SmPartition(Calculator):
    """One GPU under each of ``mixes`` of prompts and decoding sequences, chunked and partitioned.

    Chunked: a step carries both, at most ``chunk`` rows. Partitioned: each runs on its SMs, ``contention`` times slower beside
    the other; ``saturating`` share of the SMs draws the HBM's bandwidth. ``rows``, ``columns``: of the GEMM whose idle share is
    asked for.
    """

    kind: Literal["sm-partition"] = "sm-partition"
    model: ModelChoice
    cluster: ClusterName
    backend: Backend = "sglang"
    mixes: tuple[Mix, ...] = Field(min_length=1)
    chunk: int = Field(default=1024, ge=1)
    contention: float = Field(default=CONTENTION, ge=1)
    saturating: float = Field(default=0.5, gt=0, le=1)
    rows: int = Field(default=1024, ge=1)
    columns: int = Field(default=4096, ge=1)

    def figures(self) -> Iterator[Figure]:
        if model_of(self.model).experts:
            raise BadInput("the tiles of this kind are a dense model's: no experts")
        gains = [self._gain(mix) for mix in self.mixes]
        sms = load_cluster(self.cluster, 1).node.gpu.sms
        yield Figure("faster", "tokens a second, partitioned over chunked, mean of the mixes", "", float(np.mean(gains)))
        yield Figure("most", "the same, of the mix that gains most", "", max(gains))
        yield Figure("least", "the same, of the mix that gains least", "", min(gains))
        idle = Tiles(self.rows, self.columns).idle_share(sms)
        yield Figure("wave_idle", "idle share of the asked GEMM's waves on all SMs", "", idle)

    def _gain(self, mix: Mix) -> float:
        model, cluster = model_of(self.model), load_cluster(self.cluster, 1)
        load = Workload(input_tokens=mix.input_tokens, output_tokens=mix.output_tokens)
        setting = Setting(model, cluster, Precision("bf16", "bf16", "bf16", "bf16"), load_backend(self.backend), load)
        alone, context = Arrangement(1.0, 1.0, 1.0, 1.0), mix.input_tokens + mix.output_tokens / 2.0
        joining = mix.batch * mix.input_tokens / mix.output_tokens  # prompt tokens that come with one decode step

        def seconds(decode: float, prefill: float) -> float:
            chunk = min(float(mix.input_tokens), prefill) if prefill else 1.0
            before = (mix.input_tokens - chunk) / 2.0
            return float(np.asarray(setting.step(alone, Batch(decode, context, prefill, chunk, before)).seconds))

        room = float(self.chunk - mix.batch)
        if room <= 0.0:
            raise BadInput(f"chunks of {self.chunk} rows have no room beside {mix.batch} decoding sequences")
        # Beyond a chunk's room prompts hold decoding up: a token of every sequence comes with as many chunks as they take.
        chunked = seconds(float(mix.batch), min(joining, room)) * max(1.0, joining / room)
        whole = max(float(mix.input_tokens), room)
        prompts = seconds(0.0, whole) * joining / whole
        gemms, inner = _gemms(model, int(whole))
        decode, sms = seconds(float(mix.batch), 0.0), cluster.node.gpu.sms
        return chunked / best_partition(sms, self.saturating, self.contention, decode, prompts, gemms, inner)[1]


def _gemms(model: MoeModel, rows: int) -> tuple[tuple[Tiles, ...], tuple[int, ...]]:
    """Of one layer on ``rows`` prompt rows: output projection, gate and up, down; and their reduced lengths."""
    wide, hidden = model.dense_intermediate, model.hidden
    return (Tiles(rows, hidden), Tiles(rows, 2 * wide), Tiles(rows, hidden)), (hidden, hidden, wide)


KINDS = (SmPartition,)
