"""Serving and rollouts in time: long-tailed trajectories behind a barrier and without one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from pydantic import Field

from ....hwmodels.backends import load_backend
from ....hwmodels.catalog import load_cluster
from ....hwmodels.errors import BadInput
from ....hwmodels.units import Duration
from ....sim.inputs.serving import Backend, Workload
from ....sim.serving.rollouts import Lengths, free_running, with_barrier
from ....sim.serving.steady import Setting, decode_worker
from ....sim.step.worker import Arrangement, Precision
from ..calculator import Calculator, ClusterName, Figure, ModelChoice, model_of

#: Flop a weight and token of one training step: forward and backward (6), and the forward passes of the old policy and of the
#: reference (2 each).
_TRAIN_FLOP = 10.0


class Rollouts(Calculator):
    """Reinforcement learning on ``gpus``: a ``batch`` of trajectories of ``median`` tokens, ``p99_over_median``, cut at ``most``.

    Workers of ``tp`` GPUs decode up to ``slots`` sequences each. ``training_mfu``: of the GPUs' peak. ``sync``: what new weights
    take where all wait for them. ``in_flight``: trajectories under way without a barrier (default: as many as a batch).
    """

    kind: Literal["rollouts"] = "rollouts"
    model: ModelChoice
    cluster: ClusterName
    gpus: int = Field(ge=2)
    tp: int = Field(default=1, ge=1)
    backend: Backend = "vllm"
    batch: int = Field(ge=1)
    prompt: int = Field(ge=1)
    median: float = Field(gt=0)
    p99_over_median: float = Field(ge=1)
    most: float = Field(gt=0)
    slots: int = Field(default=256, ge=1)
    in_flight: int | None = Field(default=None, ge=1)
    training_mfu: float = Field(default=0.4, gt=0, le=1)
    sync: Duration = 0.0
    seed: int = 0

    def figures(self) -> Iterator[Figure]:
        if self.gpus % self.tp or self.gpus // self.tp < 2:
            raise BadInput(f"{self.gpus} GPUs do not make two or more workers of {self.tp}")
        model, workers = model_of(self.model), self.gpus // self.tp
        cluster = load_cluster(self.cluster, max(1, -(-self.tp // load_cluster(self.cluster).node.gpus)))
        lengths = Lengths(self.median, self.p99_over_median, self.most).draw(self.batch, np.random.default_rng(self.seed))
        mean = float(lengths.mean())
        load = Workload(input_tokens=self.prompt, output_tokens=max(1, round(mean)))
        setting = Setting(
            model, cluster, Precision("bf16", "bf16", "bf16", "bf16"), load_backend(self.backend), load
        )
        table = np.asarray(
            decode_worker(setting, Arrangement(float(self.tp), 1.0, 1.0, 1.0), np.arange(1.0, self.slots + 1.0)).tpot_s
        )
        flop = _TRAIN_FLOP * model.active_params * self.batch * (self.prompt + mean)
        train = flop / (self.gpus * cluster.node.gpu.tensor_flops("bf16") * self.training_mfu)

        def step(sequences: int) -> float:
            return float(table[sequences - 1])

        stopped = with_barrier(lengths, workers, self.slots, step)
        whole = stopped.seconds + train + self.sync
        free = free_running(mean, self.batch, self.in_flight or self.batch, workers, self.slots, step, train)
        yield Figure("faster", "batches without a barrier over those with one", "", free.batches_per_s * whole)
        yield Figure("generation", "share of an iteration that is decoding, with the barrier", "", stopped.seconds / whole)
        yield Figure("waiting", "share of decoding in which a worker waits for the last, with the barrier", "", stopped.waiting)
        yield Figure("iteration", "time of an iteration, with the barrier", "s", whole)
        yield Figure("training", "time of training on all GPUs", "s", train)
        yield Figure("trainer_share", "share of the GPUs that trains, without a barrier", "", free.trainer_share)
        yield Figure("mean", "mean tokens of a trajectory", "tokens", mean)


KINDS = (Rollouts,)
