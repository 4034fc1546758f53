"""node and cluster modes: one process per GPU under torchrun, real waiting between ranks.

Each protocol's layer is checked against a dense float64 layer, then its phases are timed: every iteration starts behind an
all-reduce that lines the ranks up, each phase lies between two events, and an iteration's time is that of the slowest rank.
No graph: every iteration is a new epoch. Launches are queued behind a short wait so that the host stays ahead.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatch
from typing import Any

import torch
import torch.distributed as dist

from ...hwmodels.errors import BadInput
from ...kernels.exchange.symmetric import across_nodes, on_node
from ...kernels.experts.expert_ffn import ExpertWeights, MoeShape, dense_moe
from ...kernels.experts.grouped_gemm import dequantise, dequantise_weight
from ...kernels.experts.quantise import quantise_reference, quantise_weight
from ...kernels.experts.tiles import Table
from ...kernels.experts.tma_gemm import has_tma
from ...kernels.layers.high_throughput import HighThroughput, high_throughput_plan
from ...kernels.layers.low_latency import LowLatency, low_latency_plan
from ...kernels.layers.two_hop import TwoHop, two_hop_plan
from ..tables.vocabulary import MODE_SCOPES
from . import clocks, device
from .bench_page import Page
from .cases.answers import HT, LL
from .cases.case import PROGRAMS_PER_SM, Setup
from .cases.single_rank import Point
from .check import CheckError
from .failed import finished
from .plan import Progress, minutes
from .rows import Rows
from .timing import summarise
from .watchdog import Watchdog

#: phases whose times are added up into one row of the column ``op``
ROWS: dict[str, dict[str, tuple[str, ...]]] = {
    HT: {
        "notify": ("layout", "notify_post", "notify_wait"),
        "dispatch": ("dispatch", "expand"),
        "combine": ("reduce", "combine"),
    },
    LL: {"dispatch": ("send", "receive"), "combine": ("give_back", "combine")},
    "two-hop": {
        "notify": ("layout", "notify_post", "notify_wait"),
        "dispatch": ("put", "slots", "forward", "expand"),
        "combine": ("reduce", "give_back", "combine"),
    },
}
ITERATIONS = 30
#: Tokens a rank up to which low latency is built.
MOST_LOW_LATENCY = 256


@dataclass(frozen=True)
class Work:
    """One layer to build, check and time. ``labels``: op -> the columns of its row."""

    point: Point
    protocol: str
    fp8: bool
    labels: dict[str, dict[str, Any]]
    #: What `plan.case_seconds` reckons with: the float64 layer that every rank is checked against.
    bytes: int = 0
    repeat: int = 1

    @property
    def name(self) -> str:
        return name_of(self.protocol, self.fp8)

    @property
    def flops(self) -> int:
        return 6 * self.point.tokens * self.point.top_k * self.point.hidden * self.point.inter


@dataclass(frozen=True)
class Ranks:
    """This rank, their number and how many share a node; ``same``: what rank 0 has of it, on every rank."""

    rank: int
    ranks: int
    per_node: int
    same: Callable[[Any], Any]


def run_under_torchrun(asked: Any, points: Sequence[Point], say: Callable[[str], None]) -> list[dict[str, Any]]:
    """``asked``: as `run.Asked`. Raises BadInput outside torchrun; ends the process (exit code 3) if a rank dies or hangs."""
    if "LOCAL_RANK" not in os.environ:
        raise BadInput(
            f"mode {asked.mode} runs under torchrun: torchrun --nproc-per-node=8 -m epicycle bench --mode {asked.mode}"
        )
    local, limit_s = int(os.environ["LOCAL_RANK"]), asked.step_limit_s
    torch.cuda.set_device(local)
    dist.init_process_group("nccl", device_id=torch.device("cuda", local), timeout=timedelta(seconds=limit_s * 2))
    rank, ranks = dist.get_rank(), dist.get_world_size()

    def same(value: Any) -> Any:
        shared = [value]
        dist.broadcast_object_list(shared, src=0)
        return shared[0]

    watch = Watchdog(dist.distributed_c10d._get_default_store(), rank, ranks, limit_s).start()
    table = Table.shipped() if asked.tiles is None else Table.shipped().with_file(asked.tiles)
    loads = "tma" if has_tma(torch.device("cuda", local)) else "pointer"
    setup = Setup("cuda", PROGRAMS_PER_SM * device.multiprocessors(), loads, table=table)
    per_node = int(os.environ.get("LOCAL_WORLD_SIZE", ranks))
    rows, failures = measure(
        asked, points, Ranks(rank, ranks, per_node, same), setup, watch.step, say if rank == 0 else _silent
    )
    watch.step("finishing")
    dist.barrier()
    watch.stop()
    dist.destroy_process_group()
    return finished(rows, failures)


def measure(
    asked: Any, points: Sequence[Point], us: Ranks, setup: Setup, step: Callable[[str], None], say: Callable[[str], None]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows, and what failed its check. ``step`` hears what a rank is about to do; rank 0 writes, and ends it for all when
    ``asked.limit_s`` is over."""
    facts = device.provenance()
    system = device.system_of(facts["gpu"], asked.system)
    # Every rank reads what is there, so that all leave out the same cases; only rank 0 writes.
    known = Rows(asked.out, asked.resume, facts) if us.rank == 0 else None
    rows, page = known or Rows(None), Page(asked.html if us.rank == 0 else None, known or Rows(None))
    rows.rows = us.same(rows.rows)
    left = work(asked, points, system, us.ranks, us.per_node, rows)
    progress, failures, start = Progress(left), [], time.monotonic()
    say(f"{us.ranks} x {facts['gpu']} as {system}: {progress.first()}")
    for number, one in enumerate(left):
        if us.same(asked.limit_s is not None and time.monotonic() - start > asked.limit_s):
            say(f"{minutes(asked.limit_s)} are over: {len(left) - number} layers are left for --resume")
            break
        what = f"{one.name}, {one.point.tokens} tokens"
        step(f"building {what}")
        layer, expected = _build(asked.mode, one.protocol, one.point, us.ranks, us.per_node, one.fp8, setup)
        step(f"checking {what}")
        try:
            error = _check(layer, expected, one.fp8)
        except CheckError as failure:  # of some rank, and known to all
            failures.append(f"{what}: {failure}")
            say(f"FAILED {failures[-1]}")
            progress.next()
            continue
        step(f"timing {what}")
        for op, samples in _time(layer, one.protocol).items():
            timing = summarise(samples)
            times = {"latency_us": timing.median_us, "latency_low_us": timing.low_us, "latency_high_us": timing.high_us}
            row = (
                one.labels[op]
                | times
                | clocks.read(int(os.environ.get("LOCAL_RANK", 0)))
                | {"runs": timing.runs, "error": error}
            )
            rows.add("ep_comm", {**row, "case": f"{one.name}_{op}", **facts})
            say(f"{one.name + '_' + op:32} {timing.median_us:10.1f} us ({timing.low_us:.1f}-{timing.high_us:.1f})")
        page.grow()
        say(f"[{progress.next()}]")
    page.write()
    return rows.rows, failures


def work(asked: Any, points: Sequence[Point], system: str, ranks: int, per_node: int, rows: Rows) -> list[Work]:
    """The layers that ``asked`` names and ``rows`` lacks. Raises BadInput if it names none."""
    found = []
    for point in points:
        for protocol in (HT, LL) if asked.mode == "node" else ("two-hop",):
            if protocol == LL and point.tokens > MOST_LOW_LATENCY:
                continue
            for fp8 in (False, True):
                if not asked.kernels or any(fnmatch(name_of(protocol, fp8), pattern) for pattern in asked.kernels):
                    labels = {op: _row(asked, system, protocol, op, point, ranks, per_node, fp8) for op in ROWS[protocol]}
                    found.append(Work(point, protocol, fp8, labels))
    if not found:
        raise BadInput(f"no case matches {list(asked.kernels)}: mode {asked.mode} has {', '.join(_names(asked.mode))}")
    return [w for w in found if not all(rows.has({**row, "case": f"{w.name}_{op}"}) for op, row in w.labels.items())]


def name_of(protocol: str, fp8: bool) -> str:
    return f"{protocol}_{'fp8' if fp8 else 'bf16'}"


def _names(mode: str) -> list[str]:
    return [name_of(protocol, fp8) for protocol in ((HT, LL) if mode == "node" else ("two-hop",)) for fp8 in (False, True)]


def _silent(_: str) -> None:
    """Ranks other than the first say nothing."""


def _build(
    mode: str, protocol: str, point: Point, ranks: int, per_node: int, fp8: bool, setup: Setup
) -> tuple[Any, torch.Tensor]:
    """(loaded layer of this rank, its expected output). Routing, inputs and weights follow from seeds every rank knows."""
    rank = dist.get_rank()
    room = 2 * point.tokens * point.top_k + 64 * (point.experts // ranks)
    shape = MoeShape(ranks, point.experts, point.top_k, point.hidden, point.inter, point.tokens, fp8, max_rows=room)
    make = across_nodes if mode == "cluster" else on_node
    each, programs = point.tokens * ranks * point.top_k / point.experts, setup.programs
    tiles = setup.tiles("fp8" if fp8 else "bf16", each, point.hidden, point.inter)
    weights = ExpertWeights.of(*_experts(shape, rank), fp8)
    if protocol == "two-hop":
        layer: Any = TwoHop(shape, make(two_hop_plan(shape, per_node, staged=True)), weights, tiles, programs, per_node)
    elif protocol == HT:
        layer = HighThroughput(shape, make(high_throughput_plan(shape)), weights, tiles, programs)
    else:
        layer = LowLatency(shape, make(low_latency_plan(shape)), weights, tiles, programs)
    g = torch.Generator().manual_seed(1000 + rank)
    x = torch.randn(point.tokens, point.hidden, generator=g).bfloat16().cuda()
    best = torch.rand(point.tokens, point.experts, generator=g).topk(point.top_k)
    topk, weight = best.indices.cuda(), (best.values / best.values.sum(-1, keepdim=True)).cuda()
    layer.inputs = (x, topk, weight)
    expected = torch.zeros(x.shape, dtype=torch.float64, device="cuda")
    for other in range(ranks):  # one rank's experts at a time: all of them would not fit
        gate_up, down = _experts(shape, other)
        if fp8:
            gate_up, down = (dequantise_weight(*quantise_weight(w)).float() for w in (gate_up, down))
        else:
            gate_up, down = gate_up.bfloat16().float(), down.bfloat16().float()
        first = other * shape.local_experts
        here = torch.where((topk >= first) & (topk < first + shape.local_experts), topk - first, -1)
        travels = dequantise(*quantise_reference(x)) if fp8 else x  # the cast is checked by itself
        expected += dense_moe(travels, here, weight, gate_up, down)
    return layer, expected


def _experts(shape: MoeShape, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator(device="cuda").manual_seed(rank)
    gate_up = torch.randn(shape.local_experts, 2 * shape.inter, shape.hidden, device="cuda", generator=g) / shape.hidden**0.5
    return gate_up, torch.randn(shape.local_experts, shape.hidden, shape.inter, device="cuda", generator=g) / shape.inter**0.5


def _check(layer: Any, expected: torch.Tensor, fp8: bool) -> float:
    """Three epochs on poisoned outputs; the largest error of any rank. Raises CheckError."""
    worst = torch.zeros(1, device="cuda")
    for _ in range(3):
        layer.load(*layer.inputs)
        layer.out.view(torch.uint8).fill_(0xFF)
        layer.run()
        error = (layer.out.double() - expected).norm() / expected.norm()
        worst = torch.maximum(worst, torch.nan_to_num(error.float(), nan=1e9).view(1))
    dist.all_reduce(worst, dist.ReduceOp.MAX)
    limit = 0.05 if fp8 else 0.005
    if not worst.item() <= limit:
        raise CheckError(f"relative error {worst.item():.3g} of some rank, allowed {limit}")
    return float(worst.item())


def _time(layer: Any, protocol: str) -> dict[str, list[float]]:
    """Microseconds per iteration by op, of the slowest rank."""
    align = torch.zeros(1, device="cuda")
    samples: dict[str, list[float]] = {op: [] for op in ROWS[protocol]}
    for iteration in range(ITERATIONS + 3):
        layer.load(*layer.inputs)
        torch.cuda._sleep(3_000_000)
        dist.all_reduce(align)
        marks = {}
        for phase in layer.PHASES:
            marks[phase] = (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
            marks[phase][0].record()
            getattr(layer, phase)()
            marks[phase][1].record()
        torch.cuda.synchronize()
        own = [sum(marks[p][0].elapsed_time(marks[p][1]) for p in phases) * 1000 for phases in ROWS[protocol].values()]
        slowest = torch.tensor(own, device="cuda")
        dist.all_reduce(slowest, dist.ReduceOp.MAX)
        if iteration >= 3:
            for op, value in zip(samples, slowest.tolist(), strict=True):
                samples[op].append(value)
    layer.check()
    return samples


def _row(asked: Any, system: str, protocol: str, op: str, point: Point, ranks: int, per_node: int, fp8: bool) -> dict[str, Any]:
    return {
        "mode": asked.mode,
        # All ranks of mode node reach each other over NVLink, be they of several hosts.
        "scope": "nvlink-domain" if asked.mode == "node" and ranks > per_node else MODE_SCOPES[asked.mode],
        "system": system,
        "nodes": ranks // per_node,
        "gpus_per_node": per_node,
        "library": "epicycle-triton",
        "protocol": f"epicycle-{protocol}",
        "op": op,
        "payload_dtype": "fp8" if fp8 else "bfloat16",
        "routing": "uniform",
        "tokens_per_rank": point.tokens,
        "hidden": point.hidden,
        "top_k": point.top_k,
        "experts": point.experts,
    }
