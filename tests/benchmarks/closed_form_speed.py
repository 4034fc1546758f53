"""How many EP-layer operating points a second the closed form evaluates: ``python tests/benchmarks/closed_form_speed.py``.

A point is a dispatch and a combine, described and evaluated, with every field of its `Shape` a numpy array: the tokens, hidden
sizes, top-k, experts and SMs of a sweep. CPU seconds, the best of several runs, calibrations already read. Beside the figure
stands what a point costs in elementwise powers of numpy, timed in the same run. Then the same of the expert block's closed
form and of a table of deployments' cost. The tests count operations instead (`tests/sim/ep/test_closed_form_work.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from epicycle.hwmodels.calibration import Scope, load_calibration
from epicycle.hwmodels.catalog import load_cluster
from epicycle.hwmodels.prices import load_prices
from epicycle.scenarios.answer.cost import break_even, cost_of
from epicycle.sim.ep.bound import program_seconds
from epicycle.sim.ep.compute.expert_time import expert_constants, expert_time
from epicycle.sim.ep.compute.experts import ExpertShape, Kind
from epicycle.sim.ep.machine import machine_of
from epicycle.sim.ep.protocol import Context, describe
from epicycle.sim.ep.shape import Shape

POINTS = 200_000
LEAST_PER_S = 1e6
#: name -> (protocol, system, scope, ranks, domain, routing)
CASES: dict[str, tuple[str, str, Scope, float, float, str]] = {
    "low latency, EP8": ("low-latency", "h100_sxm", "one-node", 8.0, 8.0, "uniform"),
    "low latency, EP32": ("low-latency", "h100_sxm", "multi-node", 32.0, 8.0, "uniform"),
    "high throughput, EP8": ("high-throughput", "h100_sxm", "one-node", 8.0, 8.0, "uniform"),
    "high throughput, EP32": ("high-throughput", "h100_sxm", "multi-node", 32.0, 8.0, "uniform"),
    "high throughput, EP32, group-limited": ("high-throughput", "h100_sxm", "multi-node", 32.0, 8.0, "group-limited"),
    "elastic, EP32": ("elastic", "h100_sxm", "multi-node", 32.0, 8.0, "uniform"),
    "one-sided, EP16": ("one-sided", "gb200", "nvlink-domain", 16.0, 16.0, "balanced"),
    "two-sided, EP16": ("two-sided", "gb200", "nvlink-domain", 16.0, 16.0, "balanced"),
    "all-gather, EP16": ("all-gather", "h100_sxm", "one-node", 16.0, 8.0, "uniform"),
    "padded all-to-all, EP16": ("padded-all-to-all", "h100_sxm", "one-node", 16.0, 8.0, "uniform"),
}


def layer(name: str, points: int = POINTS, array: Callable[[Any], Any] = np.asarray) -> Callable[[], None]:
    """A whole evaluation of one case's table, drawn anew for nobody: what is timed begins with a `Shape`.

    ``array`` makes the arrays of its fields (the test gives arrays that count what is done to them).
    """
    protocol, system, scope, ranks, domain, routing = CASES[name]
    machine = machine_of(load_cluster(load_calibration(system).cluster))
    draw = np.random.default_rng(0)
    tokens, hidden = draw.integers(1, 4096, points).astype(float), draw.choice([2048.0, 4096.0, 7168.0], points)
    top_k, experts = draw.integers(1, 9, points).astype(float), draw.choice([64.0, 128.0, 256.0], points)
    sms, every = draw.choice([8.0, 16.0, 24.0], points), np.ones(points)
    tokens, hidden, top_k, experts, sms, every = map(array, (tokens, hidden, top_k, experts, sms, every))
    payload = hidden * (1.0 + 1.0 / 32.0)

    def evaluate() -> None:
        shape = Shape(
            tokens, hidden, top_k, experts, ranks * every, domain * every, payload, sms,
            routing, ranks / domain * every, min(ranks / domain, 4.0) * every,
        )  # fmt: skip
        for op in ("dispatch", "combine"):
            program_seconds(describe(protocol, op, scope, system, shape, machine, Context()).stages, shape, machine)

    return evaluate


def cpu_seconds(run: Callable[[], object], times: int = 7) -> float:
    """The best of ``times`` runs, after one that counts for nothing."""
    found = []
    for _ in range(times + 1):
        began = time.process_time()
        run()
        found.append(time.process_time() - began)
    return min(found[1:])


def power(points: int = POINTS) -> Callable[[], object]:
    """One elementwise power of a table's size: the unit of the ratio."""
    base = np.random.default_rng(0).random(points) + 0.5
    return lambda: base**3.7


def expert_block(kind: Kind, alpha: float, points: int = POINTS) -> Callable[[], object]:
    """The expert block of DeepSeek-V3 on H100 over a table of token and rank counts."""
    draw = np.random.default_rng(0)
    tokens, ranks = np.exp(draw.uniform(0, np.log(1e6), points)), draw.choice([1.0, 8.0, 32.0, 64.0], points)
    shape, machine = ExpertShape(7168.0, 2048.0, "fp8", "fp8"), machine_of(load_cluster("h100-cx7"))
    k, _, _ = expert_constants("h100_sxm", kind, "fp8")
    return lambda: expert_time(kind, tokens, shape, machine, k, experts=256, top_k=8, ranks=ranks, alpha=alpha)


def prices(points: int = POINTS) -> Callable[[], object]:
    """What a table of deployments costs, and where an API is as cheap."""
    draw, known = np.random.default_rng(1), load_prices()
    gpus, tokens = draw.integers(1, 512, points).astype(float), draw.uniform(10, 1e5, (2, points))
    load = draw.uniform(0.05, 1, points)

    def evaluate() -> None:
        costs = cost_of(gpus, "h100-sxm", 8, *tokens, known, basis="owned", utilisation=load)
        break_even(costs, known.api_of("deepseek-v3"), 0.5)

    return evaluate


def tables() -> dict[str, Callable[[], object]]:
    """Everything timed: name -> one evaluation of a table of ``POINTS``."""
    return {
        **{name: layer(name) for name in CASES},
        "experts, masked": expert_block("masked", 0.0),
        "experts, triton": expert_block("triton", 0.0),
        "experts, contiguous, power law": expert_block("contiguous", 1.0),
        "cost of deployments": prices(),
    }


def main() -> None:
    unit = cpu_seconds(power())
    for name, run in tables().items():
        took = cpu_seconds(run)
        short = "" if POINTS / took >= LEAST_PER_S else f"  short of {LEAST_PER_S:,.0f}"
        print(f"{name:40s} {POINTS / took:12,.0f} points a second, {took / unit:6.1f} powers a point{short}")


if __name__ == "__main__":
    main()
