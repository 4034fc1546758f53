"""Serving in time, step by step: batching policies, a host between steps; rollouts behind a barrier and without one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Literal

import numpy as np
from pydantic import Field

from ....hwmodels.backends import load_backend
from ....hwmodels.catalog import load_cluster
from ....hwmodels.errors import BadInput
from ....hwmodels.units import Bytes, BytesPerSecond, Duration
from ....sim.inputs.serving import Backend, Workload
from ....sim.serving.kv_tiers import Requests, Tier, busy_seconds, first_come_waits
from ....sim.serving.rollouts import Lengths, free_running, with_barrier
from ....sim.serving.steady import Setting, decode_worker, prefill_worker
from ....sim.serving.step_loop import HostDelay, Looped, Policy, StepSeconds, Trace, looped
from ....sim.step.worker import Arrangement, Precision
from ..calculator import Calculator, ClusterName, Figure, ModelChoice, model_of

#: Flop a weight and token of one training step: forward and backward (6), and the forward passes of the old policy and of the
#: reference (2 each).
_TRAIN_FLOP = 10.0


class Rollouts(Calculator):
    """Reinforcement learning on ``gpus``, ``batch`` trajectories of ``median`` tokens, ``p99_over_median``, at most ``most``.

    Workers of ``tp`` GPUs decode up to ``slots`` sequences each. ``training_mfu``: of the GPUs' peak. ``sync``: what new
    weights take where all wait for them. ``in_flight``: trajectories under way without a barrier (default: as many as a batch).
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
        setting = Setting(model, cluster, Precision("bf16", "bf16", "bf16", "bf16"), load_backend(self.backend), load)
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


class _OneEngine(Calculator):
    """An engine instance of ``tp`` GPUs and requests that come to it; a step is that of the closed form of deployments."""

    model: ModelChoice
    cluster: ClusterName
    tp: int = Field(default=1, ge=1)
    backend: Backend = "vllm"
    slots: int = Field(default=256, ge=1)
    chunk: int = Field(default=8192, ge=1)
    requests: int = Field(default=2000, ge=1, le=100_000)
    input_tokens: int = Field(ge=1)
    output_tokens: int = Field(ge=1)
    spread: float = Field(default=0.0, ge=0)
    rate: float | None = Field(default=None, gt=0)
    seed: int = 0

    def _trace(self, rate: float | None) -> Trace:
        often = float("inf") if rate is None else rate
        drawn = np.random.default_rng(self.seed)
        return Trace.drawn(self.requests, often, self.input_tokens, self.output_tokens, self.spread, drawn)

    def _step(self) -> StepSeconds:
        model, cluster = model_of(self.model), load_cluster(self.cluster, 1)
        load = Workload(input_tokens=self.input_tokens, output_tokens=self.output_tokens)
        setting = Setting(model, cluster, Precision("bf16", "bf16", "bf16", "bf16"), load_backend(self.backend), load)
        shape = Arrangement(float(self.tp), 1.0, 1.0, 1.0)
        decode = np.asarray(decode_worker(setting, shape, np.arange(1.0, self.slots + 1.0)).tpot_s)
        full = prefill_worker(setting, shape, float(self.chunk)).prefill
        assert full is not None
        token = float(np.asarray(full.seconds)) / self.chunk

        def seconds(tokens: int, sequences: int) -> float:
            # Beside others a prompt's tokens read no weights again; alone they take at least the step of one sequence.
            alone = max(token * tokens, float(decode[0])) if tokens else 0.0
            return float(decode[sequences - 1]) + token * tokens if sequences else alone

        return seconds


class Batching(_OneEngine):
    """The same requests under static, continuous and chunked batching. ``rate`` a second, or all at once."""

    kind: Literal["batching"] = "batching"
    prompt_chunk: int = Field(default=512, ge=1)

    def figures(self) -> Iterator[Figure]:
        trace, step = self._trace(self.rate), self._step()
        play = partial(looped, trace, slots=self.slots, step=step)
        policies: dict[Policy, int] = {"static": self.chunk, "continuous": self.chunk, "chunked": self.prompt_chunk}
        runs = {policy: play(policy, chunk=chunk) for policy, chunk in policies.items()}
        yield Figure(
            "faster",
            "tokens a second, continuous over static",
            "",
            runs["continuous"].tokens_per_s / runs["static"].tokens_per_s,
        )
        for policy, run in runs.items():
            yield Figure(f"{policy}_rate", f"output tokens a second, {policy}", "tokens/s", run.tokens_per_s)
            yield Figure(f"{policy}_ttft_p99", f"99th percentile of the time to first token, {policy}", "s", _p99(run.ttft))
            yield Figure(f"{policy}_tpot_p99", f"99th percentile of the time per output token, {policy}", "s", _p99(run.tpot))


class HostDelays(_OneEngine):
    """A host that takes ``host`` on average between steps (log-normal, ``sigma``), times ``contention``; against none."""

    kind: Literal["host-delays"] = "host-delays"
    host: Duration
    sigma: float = Field(default=0.0, ge=0)
    contention: float = Field(default=1.0, ge=1)

    def figures(self) -> Iterator[Figure]:
        step, delay = self._step(), HostDelay(self.host * self.contention, self.sigma)

        def run(rate: float | None, host: HostDelay) -> Looped:
            return looped(self._trace(rate), "continuous", self.slots, step, chunk=self.chunk, host=host, seed=self.seed + 1)

        slow, quick = run(self.rate, delay), run(self.rate, HostDelay())
        full, free = run(None, delay), run(None, HostDelay())
        yield Figure(
            "ttft_p99",
            "99th percentile of the time to first token, with the host over without",
            "",
            _ratio(slow.ttft, quick.ttft),
        )
        yield Figure(
            "tpot_p99", "99th percentile of the time per output token, with over without", "", _ratio(slow.tpot, quick.tpot)
        )
        yield Figure(
            "throughput", "output tokens a second at full load, without over with", "", free.tokens_per_s / full.tokens_per_s
        )
        yield Figure("ttft", "99th percentile of the time to first token, with the host", "s", _p99(slow.ttft))
        yield Figure("full_rate", "requests a second at full load, with the host", "1/s", self.requests / full.seconds)


class KvTiers(Calculator):
    """KV of prompts to another server: over a ``nic`` with a software path, or through a ``shared`` memory that keeps them.

    ``hits``: share of prompts in the cache of either; ``nic_software`` seconds of every MB beside the line, of which the shared
    memory has ``shared_software``. ``token``: seconds a prompt token is computed for. ``read``: the decoding side reads the
    shared memory as well, which adds to a request's time and keeps no prompt waiting.
    """

    kind: Literal["kv-tiers"] = "kv-tiers"
    rate: float = Field(gt=0)
    requests: int = Field(default=20_000, ge=100, le=1_000_000)
    prompts: tuple[int, ...] = Field(min_length=1)
    hits: float = Field(ge=0, lt=1)
    token: Duration
    token_bytes: Bytes
    nic: BytesPerSecond
    nic_latency: Duration = 0.0
    nic_software: Duration = 0.0
    shared: BytesPerSecond
    shared_latency: Duration = 0.0
    shared_software: Duration = 0.0
    seed: int = 0

    def figures(self) -> Iterator[Figure]:
        drawn = Requests.drawn(self.requests, self.rate, self.prompts, self.hits, np.random.default_rng(self.seed))
        over = Tier(self.nic, self.nic_latency, self.nic_software / 1e6, False)
        through = Tier(self.shared, self.shared_latency, self.shared_software / 1e6, True)
        read = through.seconds(drawn.tokens * self.token_bytes)
        ttft, busy = [], []
        for tier, after in ((over, 0.0 * read), (through, read)):
            mine = busy_seconds(drawn, tier, self.token, self.token_bytes)
            ttft.append(first_come_waits(drawn.arrival, mine) + mine + after)
            busy.append(float(mine.mean()))
        yield Figure("ttft", "mean time to first token, NIC over shared memory", "", float(ttft[0].mean() / ttft[1].mean()))
        yield Figure("ttft_p99", "99th percentile of it, NIC over shared memory", "", _ratio(ttft[0], ttft[1]))
        yield Figure("throughput", "requests a second at full load, shared memory over NIC", "", busy[0] / busy[1])
        yield Figure("link", "line rate of the shared memory over the NIC's", "", self.shared / self.nic)
        size = max(self.prompts) * self.token_bytes
        yield Figure("nic_line", "the longest prompt's KV over the NIC, line rate alone", "s", size / self.nic)
        yield Figure("shared_line", "the same over the shared memory's link", "s", size / self.shared)
        yield Figure("load", "load of the prompts' side over the NIC", "", self.rate * busy[0])


def _p99(values: np.ndarray) -> float:
    return float(np.percentile(values, 99.0))


def _ratio(one: np.ndarray, other: np.ndarray) -> float:
    return _p99(one) / _p99(other)


KINDS = (Rollouts, Batching, HostDelays, KvTiers)
