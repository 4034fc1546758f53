"""Tokens a second of a pool of one kind: any model, GPU, width and batch, in the closed form of whole deployments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from pydantic import Field

from ....hwmodels.backends import load_backend
from ....hwmodels.catalog import load_cluster
from ....hwmodels.errors import BadInput
from ....hwmodels.units import Duration
from ....sim.ep.popularity import left_on_ranks, power_law
from ....sim.inputs.deployment import Protocol
from ....sim.inputs.serving import Backend, Workload
from ....sim.precision import Dtype
from ....sim.serving.deployment import largest_batch
from ....sim.serving.steady import Setting, Speculation, decode_worker, prefill_worker
from ....sim.step.memory import worker_memory
from ....sim.step.part import Num
from ....sim.step.worker import Arrangement, Precision, Skew
from ..calculator import Calculator, ClusterName, Figure, ModelChoice, model_of


class Throughput(Calculator):
    """One worker of ``ep`` ranks that only decodes, or only reads prompts, in steady state.

    ``batch``: sequences a GPU decodes; or ``tpot``: as many as keep it; without either what memory holds, at most
    ``most_sequences``. ``tokens``: of a prompt step on a GPU. ``rank_imbalance``: (max - mean) / mean rows of the ranks; or
    ``popularity``, the exponent of the experts' power law, of which placement by load (``balanced``) leaves little.
    """

    kind: Literal["throughput"] = "throughput"
    model: ModelChoice
    cluster: ClusterName
    nodes: int = Field(ge=1)
    backend: Backend = "sglang"
    phase: Literal["decode", "prefill"] = "decode"
    ep: int = Field(ge=1)
    protocol: Protocol
    weights: Dtype = "fp8"
    experts: Dtype = "fp8"
    kv: Dtype = "bf16"
    payload: Dtype = "fp8"
    redundant: int = Field(default=0, ge=0)
    overlap: bool = False
    input_tokens: int = Field(ge=1)
    output_tokens: int = Field(ge=1)
    cached_input: float = Field(default=0.0, ge=0, lt=1)
    batch: float | None = Field(default=None, gt=0)
    tpot: Duration | None = None
    most_sequences: int = Field(default=768, ge=1)
    tokens: int = Field(default=16_384, ge=1)
    drafts: int = Field(default=0, ge=0)
    acceptance: float = Field(default=0.0, ge=0, le=1)
    rank_imbalance: float = Field(default=0.0, ge=0)
    popularity: float = Field(default=0.0, ge=0)
    balanced: bool = True

    def figures(self) -> Iterator[Figure]:
        cluster = load_cluster(self.cluster, self.nodes)
        precision = Precision(self.weights, self.experts, self.kv, self.payload)
        shape = Arrangement(1.0, float(self.ep), 1.0, float(self.ep), self.protocol, 24.0, float(self.redundant), self.overlap)
        load = Workload(input_tokens=self.input_tokens, output_tokens=self.output_tokens, cached_input=self.cached_input)
        drafts = Speculation(self.drafts, self.acceptance)
        model = model_of(self.model)
        uneven = self._imbalance(model.experts)
        skew = Skew(rank_imbalance=uneven)
        setting = Setting(model, cluster, precision, load_backend(self.backend), load, drafts, skew)
        if self.phase == "prefill":
            if self.batch is not None or self.tpot is not None:
                raise BadInput("batch and tpot are of decoding: a prefill step has tokens")
            rates = prefill_worker(setting, shape, float(self.tokens))
            assert rates.prefill is not None
            rate = float(rates.requests_per_s) * load.mean_input / self.ep
            seconds, batch = float(rates.prefill.seconds), 0.0
        else:
            batch = self._batch(setting, shape)
            seconds = float(np.asarray(decode_worker(setting, shape, batch).tpot_s))
            rate = batch / seconds
        yield Figure("tokens_per_s_gpu", "tokens per second and GPU", "tokens/s", rate)
        yield Figure("tokens_per_s_node", "tokens per second and node", "tokens/s", rate * cluster.node.gpus)
        yield Figure("step", "time per output token" if batch else "time of a step", "s", seconds)
        yield Figure("batch", "sequences that a GPU decodes", "", batch)
        yield Figure("imbalance", "(max - mean) / mean rows of the ranks, chance not counted", "", uneven)

    def _imbalance(self, experts: int) -> float:
        if not self.popularity:
            if not self.balanced:
                raise BadInput("balanced: false says how popular experts are placed: give their popularity")
            return self.rank_imbalance
        if self.rank_imbalance:
            raise BadInput("popularity and rank_imbalance both say how unequal ranks are: give one of them")
        return left_on_ranks(power_law(experts, self.popularity), experts + self.redundant, self.ep, self.balanced)

    def _batch(self, setting: Setting, shape: Arrangement) -> float:
        if self.batch is not None and self.tpot is not None:
            raise BadInput("batch and tpot both say how many sequences: give one of them")
        if self.batch is not None:
            return self.batch
        most = np.asarray(float(self.most_sequences))
        if self.tpot is not None:
            wanted = self.tpot

            def keeps(batch: Num) -> np.ndarray:
                return np.asarray(decode_worker(setting, shape, batch).tpot_s) <= wanted

            return float(largest_batch(keeps, most))
        context = setting.workload.mean_input + setting.workload.mean_output
        memory = worker_memory(
            setting.model, shape, setting.precision, setting.cluster, tokens_per_step=float(most), context=context
        )
        return min(float(most), float(np.asarray(memory.sequences)))


KINDS = (Throughput,)
