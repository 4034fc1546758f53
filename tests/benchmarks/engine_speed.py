"""How fast the simulator is, and how it stands to its targets: ``python tests/benchmarks/engine_speed.py``.

First whole layers through ``sim.layer.layer.simulate`` (draw, flows, events, critical path, spans, links), the median of
several runs in CPU seconds after numba has compiled; beside them the textbook model, a SimPy process a message, of the same
EP16 layer. Then the fluid network alone: a dispatch and a combine, back to back, of 128 tokens to 8 uniformly drawn experts.
"""

from __future__ import annotations

import argparse
import math
import resource
import statistics
import time
from collections.abc import Iterator

import numpy as np
import simpy
from numpy.typing import NDArray

from epicycle.scenarios.ask.scenario import load_scenario
from epicycle.sim.engine import Simulator
from epicycle.sim.fabric.fairshare import routes
from epicycle.sim.fabric.flows import FlowBatch
from epicycle.sim.fabric.network import FlowNetwork, Tolerance
from epicycle.sim.fabric.resources import Resources
from epicycle.sim.layer.layer import simulate
from epicycle.sim.layer.result import LayerResult

Ints = NDArray[np.int64]
Phase = tuple[Ints, Ints, Ints, int]  # source, destination and messages of every pair that exchanges any; bytes of a message

GPUS_PER_NODE, TOKENS, TOP_K, MESSAGE_BYTES = 8, 128, 8, 7408
NVLINK, NIC, MESSAGES_PER_S, COPY = 450e9, 50e9, 150e6, 200e9

PREFILL = ("deployment.ep=8", "deployment.protocol=high-throughput", "traffic.tokens_per_rank=4096")
#: name -> (changes to deepseek-v3-decode-ep32, CPU seconds it may take). EP8 on H200: 32 experts a GPU fill an H100's memory.
LAYERS = {
    "EP8 high throughput, 4,096 tokens": (("cluster=h200-cx7", "cluster.nodes=1", *PREFILL), 0.3),
    "EP16 low latency, 128 tokens": (("cluster.nodes=2", "deployment.ep=16"), None),
    "EP64 low latency, 128 tokens": (("cluster.nodes=8", "deployment.ep=64"), 1.0),
    "EP256 low latency, 128 tokens": (("cluster.nodes=32", "deployment.ep=256"), 2.0),
    "EP1024 low latency, 128 tokens": (("cluster.nodes=128", "deployment.ep=1024", "deployment.redundant_experts=768"), 20.0),
}
MOST_GIB, MOST_GROWTH, LEAST_FASTER = 2e9 / 2**30, 1.15, 20.0


def layer(changes: tuple[str, ...], seed: int, runs: int) -> tuple[LayerResult, float, float]:
    """(result, median CPU seconds, median wall seconds) of one protocol's whole layer."""
    question = load_scenario("deepseek-v3-decode-ep32", ["deployment.compare=[]", *changes, f"seed={seed}"]).resolve()
    cpu, wall = [], []
    for _ in range(runs):
        began, began_wall = time.process_time(), time.perf_counter()
        found = simulate(question).layers[0]
        cpu.append(time.process_time() - began)
        wall.append(time.perf_counter() - began_wall)
    return found, statistics.median(cpu), statistics.median(wall)


def flows_of(result: LayerResult) -> int:
    """Flows of a one-hop protocol: one for every pair of ranks and stage that exchange anything."""
    return sum(int(np.count_nonzero(matrix.rows)) for matrix in result.traffic)


def phases_of(result: LayerResult) -> list[Phase]:
    """Dispatch and combine of a low-latency layer, message by message, without what stays on a rank."""
    found = []
    for op in ("dispatch", "combine"):
        mine = [matrix for matrix in result.traffic if matrix.op == op and matrix.medium != "local"]
        messages, size = sum(m.rows for m in mine), max(int(m.bytes.max()) // int(m.rows.max()) for m in mine)
        src, dst = np.nonzero(messages)
        found.append((src, dst, messages[src, dst], size))
    return found


def per_message(ranks: int, phases: list[Phase]) -> tuple[int, float, float]:
    """(messages, CPU seconds, simulated seconds) of the textbook model: a process per message, one phase after the other.

    A message holds its source's and its destination's port, first come first served, for bytes / bandwidth.
    """
    began = time.process_time()
    clock = simpy.Environment()
    ports = {(m, way): [simpy.Resource(clock) for _ in range(ranks)] for m in (False, True) for way in "tr"}

    def send(a: int, b: int, seconds: float, local: bool) -> Iterator[simpy.Event]:
        with ports[local, "t"][a].request() as tx:
            yield tx
            with ports[local, "r"][b].request() as rx:
                yield rx
                yield clock.timeout(seconds)

    def play() -> Iterator[simpy.Event]:
        for src, dst, messages, size in phases:
            near = src // GPUS_PER_NODE == dst // GPUS_PER_NODE
            seconds = np.where(near, size / NVLINK, size / NIC)
            pairs = zip(src.tolist(), dst.tolist(), seconds.tolist(), near.tolist(), messages.tolist(), strict=True)
            yield clock.all_of([clock.process(send(*pair)) for *pair, n in pairs for _ in range(n)])

    clock.run(clock.process(play()))
    return sum(int(messages.sum()) for _, _, messages, _ in phases), time.process_time() - began, clock.now


def draw(ranks: int, seed: int) -> list[Phase]:
    """A dispatch and its combine, as the engine alone is given them."""
    rng = Simulator(seed).stream("routing")
    messages = rng.multinomial(TOKENS * TOP_K, np.full(ranks, 1 / ranks), size=ranks)
    np.fill_diagonal(messages, 0)
    src, dst = np.nonzero(messages)
    return [(a, b, messages[src, dst], MESSAGE_BYTES) for a, b in ((src, dst), (dst, src))]


def fluid(ranks: int, seed: int = 0, tolerance: Tolerance | None = None) -> tuple[int, int, float, int]:
    """(flows of both phases, re-timings, CPU seconds, simulated ps) of the fluid network.

    Ranks of one node talk over NVLink, others over their NICs; all copies share the rank's copy engine.
    """
    phases = draw(ranks, seed)
    began = time.process_time()
    table = Resources()
    rates = {"nvlink_tx": NVLINK, "nvlink_rx": NVLINK, "nic_tx": NIC, "nic_rx": NIC, "nic_msg": MESSAGES_PER_S, "copy": COPY}
    ids = {kind: table.add(kind, rate, ranks) for kind, rate in rates.items()}
    simulator = Simulator(seed)
    network = FlowNetwork(simulator, table.capacity, tolerance=tolerance, resource_kind=table.kind_of)

    def batch(src: Ints, dst: Ints, messages: Ints, size: int) -> FlowBatch:
        near = src // GPUS_PER_NODE == dst // GPUS_PER_NODE
        tx = np.where(near, ids["nvlink_tx"][src], ids["nic_tx"][src])
        rx = np.where(near, ids["nvlink_rx"][dst], ids["nic_rx"][dst])
        posted = np.where(near, -1, ids["nic_msg"][src])
        path = routes(np.stack([tx, rx, posted, ids["copy"][src]], axis=1), [1.0, 1.0, 1 / size, 1.0])
        return FlowBatch(messages * size, path, cap=100e9, latency_ps=2_000_000, group=dst, groups=ranks)

    def play() -> Iterator[simpy.Event]:
        for phase in phases:
            yield simulator.clock.all_of(network.start(batch(*phase)).landed)

    simulator.run(simulator.process(play()))
    return sum(phase[0].size for phase in phases), network.retimings, time.process_time() - began, simulator.now_ps


def verdict(value: float, limit: float, most: bool = True) -> str:
    return "met" if (value <= limit if most else value >= limit) else "missed"


def show_layers(seed: int, runs: int) -> None:
    """Time every layer of ``LAYERS``, then say how each target fares."""
    layer(LAYERS["EP16 low latency, 128 tokens"][0], seed, 1)  # compile the loops, or load them from numba's cache
    results = {}
    print(f"{'whole layer':<36} {'flows':>8} {'CPU s':>8} {'wall s':>8} {'simulated us':>13}  target")
    for name, (changes, limit) in LAYERS.items():
        result, cpu, wall = results[name] = layer(changes, seed, runs)
        target = f"<= {limit:g} s CPU: {verdict(cpu, limit)}" if limit else ""
        print(f"{name:<36} {flows_of(result):>8} {cpu:>8.3f} {wall:>8.3f} {result.makespan_ps / 1e6:>13.2f}  {target}")
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {gib:.2f} GiB, target <= {MOST_GIB:.2f} GiB: {verdict(gib, MOST_GIB)}")
    (small, small_s, _), (large, large_s, _) = (results[f"EP{n} low latency, 128 tokens"] for n in (16, 256))
    growth = math.log(large_s / small_s) / math.log(flows_of(large) / flows_of(small))
    print(f"EP16 to EP256: CPU time grows as flows^{growth:.2f}, target <= {MOST_GROWTH}: {verdict(growth, MOST_GROWTH)}")
    timed = [per_message(16, phases_of(small)) for _ in range(min(runs, 3))]
    slow_s = statistics.median(cpu for _, cpu, _ in timed)
    print(f"{'EP16, a SimPy process a message':<36} {timed[0][0]:>8} {slow_s:>8.3f} {'':>8} {timed[0][2] * 1e6:>13.2f}")
    faster = slow_s / small_s
    print(f"the whole layer is {faster:.0f}x faster, target >= {LEAST_FASTER:g}x: {verdict(faster, LEAST_FASTER, most=False)}")


def show_network(ranks: list[int], seed: int) -> None:
    """Time the fluid network alone at every size."""
    fluid(GPUS_PER_NODE, seed)
    spent = {}
    print(f"{'network alone':<36} {'flows':>8} {'CPU s':>8} {'shares':>8} {'simulated us':>13}")
    for n in ranks:
        flows, retimings, spent[n], ps = fluid(n, seed)
        print(f"{f'EP{n}':<36} {flows:>8} {spent[n]:>8.3f} {retimings:>8} {ps / 1e6:>13.2f}")
    first = ranks[0]
    messages, cpu_s, seconds = per_message(first, draw(first, seed))
    print(f"{f'EP{first}, a SimPy process a message':<36} {messages:>8} {cpu_s:>8.3f} {'':>8} {seconds * 1e6:>13.2f}")
    print(f"the network alone is {cpu_s / spent[first]:.0f}x faster")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, nargs="+", default=[16, 64, 256], help="sizes of the network alone")
    parser.add_argument("--runs", type=int, default=5, help="of every layer; the median counts")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    show_layers(asked.seed, asked.runs)
    show_network(asked.ranks, asked.seed)


if __name__ == "__main__":
    main()
