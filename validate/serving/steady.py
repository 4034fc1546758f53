"""Measured deployments predicted in steady state: rows grouped by what no array can hold, one call for each group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.backends import Backend, backend_names, load_backend
from ...hwmodels.calibration import load_calibration
from ...hwmodels.catalog import load_cluster
from ...hwmodels.errors import BadInput
from ...hwmodels.units import format_bytes
from ...sim.inputs.deployment import Protocol
from ...sim.inputs.model import load_model
from ...sim.inputs.serving import Balance
from ...sim.inputs.stored import Stored, named, plain
from ...sim.precision import Dtype
from ...sim.serving.deployment import PoolShape, aggregated, disaggregated
from ...sim.serving.prompts import Scheduling
from ...sim.serving.queue import Burst
from ...sim.serving.steady import Setting, Speculation
from ...sim.step.memory import worker_memory
from ...sim.step.step import Step
from ...sim.step.worker import Arrangement, Precision, Skew
from .rows import ServingRow, Widths

Floats = NDArray[np.float64]

#: Share of the memory that weights and activations leave which TensorRT-LLM gives to the KV cache (free_gpu_memory_fraction,
#: its default); assumed for SGLang too. vLLM fills 0.9 of all (gpu_memory_utilization, its default).
KV_SHARE = 0.9
#: Requests that each of the suite's clients sends (its scripts: ``--num-prompts`` ten times the concurrency).
ROUNDS = 10.0
#: Sequences of an attention group that an engine's decoding buffers are sized for at most.
MOST_SEQUENCES = 512.0


@dataclass(frozen=True, slots=True)
class Requests:
    """Mean lengths [row]."""

    mean_input: Floats
    mean_output: Floats
    cached_input: float = 0.0


@dataclass(frozen=True, slots=True)
class Predicted:
    """Seconds [row] in the order of the rows; ``batch``: sequences that decode together in an attention group; ``bound``: what
    a decode step needs longest; ``roof_s``: what it reads at the HBM's full rate; ``failed``: row -> why it could not be
    predicted (its numbers are NaN).
    """

    tpot_s: Floats
    ttft_s: Floats
    batch: Floats
    bound: NDArray[np.str_]
    roof_s: Floats
    failed: Mapping[int, str] = field(default_factory=dict)


def predict_serving(
    rows: Sequence[ServingRow],
    backends: Mapping[str, Backend] | None = None,
    progress: Callable[[int, int], None] | None = None,
    rounds: float = ROUNDS,
    held: bool = True,
) -> Predicted:
    """Every row's TPOT and TTFT. ``backends``: engines instead of the shipped ones; ``rounds``: requests of each client;
    ``held``: attention groups of an engine that balances them hold prompts back."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for at, row in enumerate(rows):
        wide = (row.decode.dp > 1, row.prefill is not None and row.prefill.dp > 1, row.prefill is None)
        kind = (row.model, row.system, row.backend, row.weights, row.experts, row.kv)
        groups.setdefault((*kind, *wide, row.drafts, row.spread > 0), []).append(at)
    tpot, ttft, batch, roof = (np.full(len(rows), np.nan) for _ in range(4))
    bound = np.full(len(rows), "", "U8")
    failed: dict[int, str] = {}
    for done, members in enumerate(groups.values()):
        mine = [rows[at] for at in members]
        name = backend_of(mine[0].backend)
        too_large: dict[int, str] = {}
        try:
            found = _group(mine, backends[name] if backends else load_backend(name), too_large, rounds, held)
        except BadInput as error:
            failed |= dict.fromkeys(members, str(error))
            continue
        tpot[members], ttft[members], batch[members], roof[members], bound[members] = found
        for at, why in too_large.items():
            failed[members[at]] = why
            tpot[members[at]] = ttft[members[at]] = np.nan
        if progress is not None:
            progress(done + 1, len(groups))
    return Predicted(tpot, ttft, batch, bound, roof, failed)


def backend_of(name: str) -> str:
    """The engine whose constants stand for ``name``: its own, or those of the one it is built on, else vLLM's."""
    if name in backend_names():
        return name
    return next((engine for engine in backend_names() if engine in name.replace("-", "").replace("tensorrt", "trt")), "vllm")


@dataclass(frozen=True, slots=True)
class Deployed:
    """Rows of one group as the engines ran them. ``tokens``: of KV cache that an attention group has room for, of decode and of
    prefill workers [row]."""

    setting: Setting
    decode: PoolShape
    prefill: PoolShape | None
    concurrency: Floats
    tokens: tuple[Floats, Floats]


def deployed(
    rows: list[ServingRow], backend: Backend, too_large: dict[int, str], rounds: float = ROUNDS, held: bool = True
) -> Deployed:
    """``rows``, of one model, system and kind; ``too_large`` is told which rows' weights exceed their GPUs."""
    first = rows[0]
    model, cluster = load_model(first.model), load_cluster(load_calibration(first.system).cluster)
    payload: Dtype = "bf16" if first.experts == "bf16" else "fp8"
    precision = Precision(first.weights, first.experts, first.kv, payload, _stored(first))
    scale = np.array([1.0 - row.spread / 2.0 for row in rows])
    requests = Requests(np.array([row.isl for row in rows]) * scale, np.array([row.osl for row in rows]) * scale)
    concurrency = np.array([row.concurrency for row in rows], float)
    speculation = Speculation(first.drafts, backend.acceptance)
    chunk, poll, wait, fill = (
        np.array([getattr(row.script, f) for row in rows]) for f in ("chunk_tokens", "poll_steps", "wait_steps", "wait_fill")
    )
    skew = Skew(spread=backend.expert_spread)  # the suite's scripts balance no experts
    together, scheduling = first.spread == 0.0, Scheduling(poll, wait, fill)
    setting = Setting(
        model, cluster, precision, backend, requests, speculation, skew,
        together=together, scheduling=scheduling, burst=Burst(rounds, first.spread),
        pace=np.array([backend.pace(row.version, row.family) for row in rows]), holds_back=held,
    )  # fmt: skip
    exchange = protocol_of(first.backend, cluster.nvlink_domain_gpus)
    # TensorRT-LLM admits a request only when its whole output has room (GUARANTEED_NO_EVICT, the default of its scheduler); the
    # others take pages as they go, so that sequences hold half their outputs on average.
    grown = 1.0 if first.backend == "trtllm" else 0.5
    context = requests.mean_input + grown * requests.mean_output

    def pool(widths: list[Widths], prompt_tokens: Floats | float) -> PoolShape:
        tp, dp, pp, ep = (np.array([getattr(w, f) for w in widths], float) for f in ("tp", "dp", "pp", "ep"))
        shape = Arrangement(tp, dp, pp, ep, exchange, balance=balance_of(first.backend))
        count = np.array([w.count for w in widths], float)
        # An engine's buffers are sized for its batch limit, set near what the run needs.
        rows_at_once = np.clip(concurrency / (shape.dp * count), 1.0, MOST_SEQUENCES) * (1.0 + first.drafts)
        memory = worker_memory(
            model, shape, precision, cluster,
            tokens_per_step=rows_at_once, prompt_tokens=prompt_tokens, context=context, mtp=first.drafts,
        )  # fmt: skip
        # What an engine sets aside is assumed; weights that alone exceed a GPU are not.
        needed = np.broadcast_to(np.asarray(memory.weight_bytes, float), len(rows))
        for at in np.flatnonzero(needed > memory.hbm_bytes):
            need, there = (format_bytes(float(x), binary=True) for x in (needed[at], memory.hbm_bytes))
            too_large[int(at)] = f"{first.model} does not fit: {need} of weights on a GPU of {there}"
        room = memory.kv_bytes if first.backend == "vllm" else KV_SHARE * (memory.hbm_bytes - memory.used_bytes)
        slots = np.clip(np.asarray(room / memory.sequence_bytes, float), 1.0, 2048.0)
        return PoolShape(shape, count, slots, chunk)

    decode = pool([row.decode for row in rows], chunk if first.prefill is None else 0.0)
    tokens = decode.slots * context
    listed = np.array([row.slots or row.script.slots / row.decode.dp or np.inf for row in rows], float)
    decode = replace(decode, slots=np.minimum(decode.slots, listed))
    prefill = None if first.prefill is None else pool([row.prefill or row.decode for row in rows], chunk)
    return Deployed(setting, decode, prefill, concurrency, (tokens, tokens if prefill is None else prefill.slots * context))


def _group(
    rows: list[ServingRow], backend: Backend, too_large: dict[int, str], rounds: float, held: bool
) -> tuple[Floats, Floats, Floats, Floats, NDArray[np.str_]]:
    """TPOT, TTFT, batch, least time and bound [row]."""
    cluster = load_cluster(load_calibration(rows[0].system).cluster)
    asked = deployed(rows, backend, too_large, rounds, held)
    setting, decode, prefill, concurrency = asked.setting, asked.decode, asked.prefill, asked.concurrency
    if prefill is None:
        found = aggregated(setting, decode, concurrency=concurrency)
        served, pool_of = found.decode, decode
    else:
        found = disaggregated(setting, prefill, decode, concurrency=concurrency)
        assert found.prefill is not None
        served, pool_of = found.prefill, prefill
    # Clients start at once: their first prompts queue up behind each other.
    first_token = found.ttft_s + setting.burst.first_wait(
        served.prompt_s, concurrency / (pool_of.arrangement.dp * pool_of.count)
    )
    size = len(rows)
    step = found.decode.decode
    roof = step.hbm_bytes / cluster.node.gpu.hbm_bandwidth if step is not None else 0.0
    columns = (found.tpot_s, first_token, found.batch, roof)
    tpot, ttft, batch, least = (np.broadcast_to(np.asarray(x, float), size) for x in columns)
    return tpot, ttft, batch, least, _bound(step, size)


def _stored(row: ServingRow) -> Stored | None:
    """The suite's fp8 checkpoints of Llama have one scale a tensor (nvidia/Llama-3.x-*-FP8), all others 128 x 128 blocks."""
    if row.weights != "fp8" or not row.model.startswith("llama"):
        return None
    return Stored(**dict.fromkeys(("attention", "dense", "shared", "experts"), named("fp8 channel")), head=plain("bf16"))


def _bound(step: Step | None, size: int) -> NDArray[np.str_]:
    """The resource [row] that a decode step needs longest."""
    loads = step.loads() if step is not None else {"host": 0.0}
    names = np.array(list(loads))
    seconds = np.stack([np.broadcast_to(np.asarray(s, float), size) for s in loads.values()])
    return np.asarray(names[np.argmax(seconds, axis=0)])


def balance_of(backend: str) -> Balance | None:
    """How the suite's runs deal prompts to attention groups: its scripts have TensorRT-LLM wait (``enable_balance: true``)."""
    return "wait" if backend == "trtllm" else None


def protocol_of(backend: str, domain_gpus: int) -> Protocol:
    """The exchange with data-parallel attention: TensorRT-LLM's NVLink one-sided kernels in a large domain, else DeepEP's."""
    return "one-sided" if backend == "trtllm" and domain_gpus > 8 else "low-latency"
