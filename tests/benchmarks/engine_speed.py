"""How fast the fluid network is, next to one SimPy process per message: ``python tests/benchmarks/engine_speed.py``.

The load is a dispatch and a combine, back to back: every rank sends 128 tokens to 8 uniformly drawn experts, 7,408 B a
message. Ranks of one 8-GPU node talk over NVLink, others over their NICs; all copies share the rank's copy engine.
"""

from __future__ import annotations

import argparse
import math
import resource
import time
from collections.abc import Iterator

import numpy as np
import simpy
from numpy.typing import NDArray

from epicycle.sim.engine import Simulator
from epicycle.sim.fairshare import routes
from epicycle.sim.flows import FlowBatch
from epicycle.sim.network import FlowNetwork, Tolerance
from epicycle.sim.resources import Resources

GPUS_PER_NODE, TOKENS, TOP_K, MESSAGE_BYTES = 8, 128, 8, 7408
NVLINK, NIC, MESSAGES_PER_S, COPY = 450e9, 50e9, 150e6, 200e9


def draw(ranks: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Source, destination and messages of every pair of ranks that exchange any, [pair]."""
    rng = Simulator(seed).stream("routing")
    messages = rng.multinomial(TOKENS * TOP_K, np.full(ranks, 1 / ranks), size=ranks)
    np.fill_diagonal(messages, 0)
    src, dst = np.nonzero(messages)
    return src, dst, messages[src, dst]


def fluid(ranks: int, seed: int = 0, tolerance: Tolerance | None = None) -> tuple[int, int, float, int]:
    """(flows of both phases, re-timings, CPU seconds, simulated ps) of the fluid network."""
    src, dst, messages = draw(ranks, seed)
    began = time.process_time()
    table = Resources()
    ids = {
        kind: table.add(kind, capacity, ranks)
        for kind, capacity in [
            ("nvlink_tx", NVLINK),
            ("nvlink_rx", NVLINK),
            ("nic_tx", NIC),
            ("nic_rx", NIC),
            ("nic_msg", MESSAGES_PER_S),
            ("copy", COPY),
        ]
    }
    simulator = Simulator(seed)
    network = FlowNetwork(simulator, table.capacity, tolerance=tolerance, resource_kind=table.kind_of)

    def phase(src: NDArray[np.int64], dst: NDArray[np.int64]) -> FlowBatch:
        near = src // GPUS_PER_NODE == dst // GPUS_PER_NODE
        tx = np.where(near, ids["nvlink_tx"][src], ids["nic_tx"][src])
        rx = np.where(near, ids["nvlink_rx"][dst], ids["nic_rx"][dst])
        posted = np.where(near, -1, ids["nic_msg"][src])
        path = routes(np.stack([tx, rx, posted, ids["copy"][src]], axis=1), [1.0, 1.0, 1 / MESSAGE_BYTES, 1.0])
        return FlowBatch(messages * MESSAGE_BYTES, path, cap=100e9, latency_ps=2_000_000, group=dst, groups=ranks)

    def layer() -> Iterator[simpy.Event]:
        yield simulator.clock.all_of(network.start(phase(src, dst)).landed)
        yield simulator.clock.all_of(network.start(phase(dst, src)).landed)

    simulator.run(simulator.process(layer()))
    return 2 * src.size, network.retimings, time.process_time() - began, simulator.now_ps


def per_message(ranks: int, seed: int = 0) -> tuple[int, float, float]:
    """(messages of both phases, CPU seconds, simulated seconds) of the textbook model: a process per message.

    A message holds its source's and its destination's port, first come first served, for bytes / bandwidth.
    """
    src, dst, messages = draw(ranks, seed)
    near = src // GPUS_PER_NODE == dst // GPUS_PER_NODE
    began = time.process_time()
    clock = simpy.Environment()
    ports = {(m, way): [simpy.Resource(clock) for _ in range(ranks)] for m in (False, True) for way in "tr"}

    def send(a: int, b: int, local: bool) -> Iterator[simpy.Event]:
        with ports[local, "t"][a].request() as tx:
            yield tx
            with ports[local, "r"][b].request() as rx:
                yield rx
                yield clock.timeout(MESSAGE_BYTES / (NVLINK if local else NIC))

    def layer() -> Iterator[simpy.Event]:
        for a, b in ((src, dst), (dst, src)):
            pairs = zip(a.tolist(), b.tolist(), near.tolist(), messages.tolist(), strict=True)
            yield clock.all_of([clock.process(send(s, d, local)) for s, d, local, n in pairs for _ in range(n)])

    clock.run(clock.process(layer()))
    return 2 * int(messages.sum()), time.process_time() - began, clock.now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    fluid(GPUS_PER_NODE, asked.seed)  # compile the loops, or load them from numba's cache
    spent, flows = [], []
    for ranks in asked.ranks:
        n, retimings, cpu_s, ps = fluid(ranks, asked.seed)
        spent.append(cpu_s)
        flows.append(n)
        print(
            f"EP{ranks:<4} fluid        {n:>7} flows {retimings:>5} re-timings {cpu_s:8.3f} s CPU  {ps / 1e6:9.2f} us simulated"
        )
    n, cpu_s, seconds = per_message(asked.ranks[0], asked.seed)
    print(f"EP{asked.ranks[0]:<4} per message  {n:>7} messages {'':>14} {cpu_s:8.3f} s CPU  {seconds * 1e6:9.2f} us simulated")
    print(f"the fluid network is {cpu_s / spent[0]:.0f}x faster than a process per message")
    growth = math.log(spent[-1] / spent[0]) / math.log(flows[-1] / flows[0])
    print(f"CPU time grows as flows^{growth:.2f}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
