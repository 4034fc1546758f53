"""Every deployment of a search on one cluster, with its numbers: a table that a plan ranks, and asks again when nothing meets.

A *deployment* is an engine, one or two kinds of workers (widths, protocol, overlap, batch, chunk), and how many of each. Every
one counted as considered has its own time per token, time to first token, throughput and cost, or does not fit in memory.
Workers that another one beats in every respect are not put together into disaggregated deployments, and are not counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from ...hwmodels.backends import load_backend
from ...hwmodels.catalog import load_cluster
from ...hwmodels.errors import BadInput
from ...hwmodels.prices import load_prices, overrides_for
from ...hwmodels.specs import Cluster
from ...sim.ep.protocols import DEFAULT
from ...sim.inputs.serving import Serving, Worker
from ...sim.inputs.serving_question import ServingQuestion
from ...sim.serving.steady import Setting
from ...sim.step.worker import precision_of
from ..answer.cost import cost_of
from ..answer.operating_point import setting_of
from ..answer.sureness import Time
from ..ask.search import Search
from .certain import certain
from .pools import Deployments, Rows, aggregated_pools, disaggregated_pools, joined, worth_pairing
from .widths import Floats
from .workers import Workers, aggregated_workers, at_limits, at_rate, decode_workers, prefill_workers


@dataclass(frozen=True, slots=True)
class Table:
    """All deployments on ``question``'s cluster. ``prefill`` and ``decode`` hold the workers that ``rows`` speak of.

    ``rows`` have times as medians and are held against the limits at the confidence asked for (``share``: the worst of got /
    wanted, at most 1 where all are met). ``usd_per_hour``: the whole bill, nan where ``unpriced`` says why; ``considered``:
    rows, and deployments that are ruled out; ``nearest``: if nothing fits, what the closest worker needs, ``short_bytes`` what
    it lacks.
    """

    question: ServingQuestion
    search: Search
    setting: Setting
    prefill: Workers
    decode: Workers
    rows: Deployments
    share: Floats
    usd_per_hour: Floats
    unpriced: str
    considered: int
    ruled_out: Counter[str]
    nearest: str
    short_bytes: float

    @property
    def usd_per_mtok_output(self) -> Floats:
        """Dollars per million generated tokens, the prompts' share of the bill included."""
        per_hour = 3600.0 * self.rows.requests_per_s * self.question.workload.mean_output
        return self.usd_per_hour / per_hour * 1e6

    @property
    def gpu_hours_per_mtok_output(self) -> Floats:
        """Hours of one GPU for a million generated tokens: what stands for dollars where there is no price."""
        return self.rows.gpus / (3600.0 * self.rows.requests_per_s * self.question.workload.mean_output) * 1e6

    def burden(self, priced: bool) -> Floats:
        """What a deployment is ranked by: dollars, or GPU hours, for a million generated tokens."""
        return self.usd_per_mtok_output if priced else self.gpu_hours_per_mtok_output

    def misses(self) -> Floats:
        """How far each row is from the limits: ``share``, rounding aside."""
        return np.where(np.abs(self.share - 1.0) < 1e-9, 1.0, self.share)

    def serving(self, row: int) -> Serving:
        """The deployment of ``row``, as a scenario says it."""
        r = self.rows
        d, p = int(r.decode[row]), int(r.prefill[row])
        alone = p < 0
        decode = self._worker(self.decode, d, r.decode_count[row], r.slots[row], alone)
        return Serving(
            backend=self.decode.kinds[self.decode.kind[d]].backend,
            mode="aggregated" if alone else "disaggregated",
            decode=decode,
            prefill=None if alone else self._worker(self.prefill, p, r.prefill_count[row], 0.0, True),
            weights=self.search.weights,
            experts=self.search.experts,
            kv=self.search.kv,
            payload=self.search.payload,
            mtp=self.search.mtp,
            acceptance=self.search.acceptance,
            memory_share=self.search.memory_share,
        )

    def _worker(self, workers: Workers, row: int, count: float, slots: float, prompts: bool) -> Worker:
        kind = workers.kinds[workers.kind[row]]
        more = {"chunk_tokens": int(workers.chunk_tokens[row])} if prompts else {}
        batch = int(slots)
        if batch and self.search.is_held("batches"):  # the file's own, of which these rows decode a part
            batch = max(self.search.batches)
        return Worker(
            tp=int(workers.tp[row]),
            dp=int(workers.dp[row]),
            pp=int(workers.pp[row]),
            ep=int(workers.ep[row]),
            count=int(count),
            protocol=kind.protocol or DEFAULT,
            comm_sms=self.search.comm_sms,
            redundant_experts=int(workers.redundant[row]),
            placement=self.search.placement,
            overlap=kind.overlap,
            batch=batch or None,
            **more,
        )


def table_of(question: ServingQuestion, search: Search) -> Table:
    """Every deployment of ``search`` on the question's cluster. Raises BadInput if the cluster cannot be as large as asked."""
    cluster = sized(question.cluster, search)
    budget = search.gpus or cluster.gpus
    question = replace(question, cluster=cluster, serving=None)
    setting, workload = setting_for(question, search), question.workload
    if search.mtp and not question.model.mtp_layers:
        raise BadInput(f"search.mtp ({search.mtp}) needs MTP layers, {question.model.name} has none: use search.mtp=0")
    ruled_out: Counter[str] = Counter()
    routing = workload.routing
    prefill = decode = None
    parts: list[Deployments] = []
    nearest, short = "", 0.0
    if "disaggregated" in search.modes:
        of = prefill_workers(setting, routing, search, budget)
        to = decode_workers(setting, routing, search, budget)
        decoding = _loaded(question, to.workers, ("tpot",))
        prefill = of.workers.take(worth_pairing(of.workers, decode=False))
        decode = decoding.take(worth_pairing(decoding, decode=True))
        parts.append(disaggregated_pools(setting, workload, prefill, decode, budget, search))
        ruled_out += of.ruled_out + to.ruled_out
        lacking = next((found for found in (to, of) if not len(found.workers)), None)
        nearest, short = (lacking.nearest, lacking.short_bytes) if lacking is not None else ("", 0.0)
    if "aggregated" in search.modes:
        law = None if workload.rate is None else setting.arrivals
        both = aggregated_workers(setting, routing, search, budget, law, workload.concurrency)
        doing = _loaded(question, both.workers, ("tpot", "ttft"))
        alone, too_few = aggregated_pools(workload, doing, budget, search)
        if too_few:
            ruled_out[f"carry less than {workload.rate:g} requests/s on all of {budget} GPUs"] += too_few
        parts.append(_shifted(alone, decode))
        decode = doing if decode is None else _appended(decode, doing)
        ruled_out += both.ruled_out
        if not len(both.workers):
            nearest, short = nearest or both.nearest, short or both.short_bytes
    assert decode is not None
    prefill = prefill if prefill is not None else decode.take(np.zeros(0, np.int64))
    rows, share = _shown(question, joined(parts), prefill, decode)
    return Table(
        question,
        search,
        setting,
        prefill,
        decode,
        rows,
        share,
        *_bill(question, rows),
        len(rows) + sum(ruled_out.values()),
        ruled_out,
        nearest,
        short,
    )


def _loaded(question: ServingQuestion, workers: Workers, keys: tuple[Time, ...]) -> Workers:
    """The workers at their load: of an arrival rate, of a closed loop with their batch full, or the largest within limits."""
    load = question.workload
    if load.rate is not None:
        return at_rate(workers, load.rate)
    if load.concurrency is not None or not len(workers):
        return workers
    times: dict[Time, Floats] = {key: getattr(workers, f"{key}_s") for key in keys}
    found = certain(question, workers, np.arange(len(workers)), workers.tp * workers.dp, times, np.ones(len(workers), bool))
    return at_limits(workers, found.share)


def _shown(question: ServingQuestion, rows: Deployments, prefill: Workers, decode: Workers) -> tuple[Deployments, Floats]:
    """The deployments with their times as medians, and the rates that follow; and [row] the worst of got / wanted."""
    if not len(rows):
        return rows, np.zeros(0)
    widest = (decode.tp * decode.dp)[rows.decode]
    if len(prefill):
        widest = np.where(rows.prefill >= 0, np.maximum(widest, (prefill.tp * prefill.dp)[rows.prefill]), widest)
    times: dict[Time, Floats] = {"tpot": rows.tpot_s, "ttft": rows.ttft_s}
    found = certain(question, decode, rows.decode, widest, times, rows.prefill < 0)
    given = question.workload.rate is not None
    per_s = rows.requests_per_s if given else rows.requests_per_s / found.slower
    tpot, ttft = found.shown_s["tpot"], found.shown_s["ttft"]
    return replace(rows, tpot_s=tpot, ttft_s=ttft, requests_per_s=per_s), found.share


def sized(cluster: Cluster, search: Search) -> Cluster:
    """The cluster with as many nodes as the search's GPUs need."""
    if search.gpus is None:
        return cluster
    nodes = -(-search.gpus // cluster.node.gpus)
    if nodes > cluster.max_nodes:
        raise BadInput(
            f"search.gpus ({search.gpus}) needs {nodes} nodes, {cluster.name} has at most {cluster.max_nodes}: "
            f"use {cluster.max_nodes * cluster.node.gpus} or less"
        )
    return cluster.model_copy(update={"nodes": nodes})


def on_cluster(question: ServingQuestion, name: str) -> ServingQuestion:
    """The question on as many GPUs of another cluster, by its catalogue name or its file."""
    there = load_cluster(name)
    nodes = min(there.max_nodes, -(-question.cluster.gpus // there.node.gpus))
    mine = overrides_for(question.prices_overrides, there.node.gpu)
    cluster = there.model_copy(update={"nodes": nodes})
    return replace(question, cluster=cluster, serving=None, prices_overrides=mine)


def setting_for(question: ServingQuestion, search: Search) -> Setting:
    """What all deployments of the search share; each has an engine of its own beside it."""
    serving = Serving(
        weights=search.weights,
        experts=search.experts,
        kv=search.kv,
        payload=search.payload,
        mtp=search.mtp,
        acceptance=search.acceptance,
    )
    precision = precision_of(question.model, serving)
    return setting_of(question, serving, load_backend(search.backends[0]), precision)


def _bill(question: ServingQuestion, rows: Deployments) -> tuple[Floats, str]:
    """Dollars an hour [row], and why there are none where the GPUs have no price."""
    if not len(rows):
        return np.zeros(0), ""
    node, workload = question.cluster.node, question.workload
    cost = cost_of(
        rows.gpus,
        node.gpu,
        node.gpus,
        rows.requests_per_s * workload.mean_input,
        rows.requests_per_s * workload.mean_output,
        load_prices(question.prices_overrides, node.gpu),
        basis=question.bill.basis,
        fixed_usd_per_hour=question.bill.fixed_per_hour,
    )
    return np.asarray(cost.usd_per_hour, float), cost.unpriced


def _appended(first: Workers, then: Workers) -> Workers:
    """Both tables, one below the other."""
    columns = {
        name: np.concatenate([getattr(first, name), getattr(then, name)])
        for name in Workers.__slots__
        if name not in ("kinds", "kind")
    }
    return Workers((*first.kinds, *then.kinds), np.concatenate([first.kind, then.kind + len(first.kinds)]), **columns)


def _shifted(rows: Deployments, before: Workers | None) -> Deployments:
    """The rows with their workers counted from behind ``before``."""
    return rows if before is None else replace(rows, decode=rows.decode + len(before))


__all__ = ["Rows", "Table", "on_cluster", "setting_for", "sized", "table_of"]
