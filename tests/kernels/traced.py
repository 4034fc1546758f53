"""Whole layers in one process with the bytes of every phase recorded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from layers import ALL, Inputs, make

from epicycle.kernels.exchange.symmetric import in_process
from epicycle.kernels.exchange.tracing import Trace
from epicycle.kernels.experts.expert_ffn import MoeShape

WANTED = {
    "high_throughput": ("notify_post", "dispatch", "combine"),
    "low_latency": ("send", "give_back"),
    "two_hop": ("notify_post", "put", "forward", "give_back"),
}
# What moves nothing between ranks and need not run for later phases to move their bytes.
IDLE = {"compute", "expand", "cast"}


def trace_phases(
    protocol: str, shape: MoeShape, inputs: Inputs, ready: Callable[[Any], None] | None = None
) -> tuple[list, dict[str, Trace]]:
    """(layers, phase -> trace) of the phases that move bytes between ranks; ``ready`` is called on each layer first."""
    heaps = in_process(ALL[protocol][1](shape), shape.ranks)
    layers = [make(protocol, shape, heap, inputs, programs=1) for heap in heaps]
    for rank, layer in enumerate(layers):
        if ready is not None:
            ready(layer)
        layer.load(inputs.x[rank], inputs.topk[rank], inputs.weight[rank])
    traces = {}
    for phase in layers[0].PHASES:
        if phase in IDLE:
            continue
        trace = Trace(heaps)
        for rank, layer in enumerate(layers):
            with trace.on_behalf_of(rank) if phase in WANTED[protocol] else nullcontext():
                getattr(layer, phase)()
        traces[phase] = trace
        if phase == WANTED[protocol][-1]:
            break
    return layers, traces
