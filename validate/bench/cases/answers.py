"""What each phase of a layer must leave behind, and where to find it: computed from the inputs alone, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ....kernels.exchange.ht_combine import combine_reference
from ....kernels.exchange.layout import layout_experts_reference, layout_groups_reference
from ....kernels.exchange.ll_combine import ll_combine_reference
from ....kernels.exchange.notify import notify_reference
from ....kernels.experts.grouped_gemm import dequantise
from ....kernels.experts.quantise import quantise_reference
from .case import Tensors

HT, LL = "high-throughput", "low-latency"


def play(layers: list[Any], phases: tuple[str, ...], check: bool = True) -> None:
    """Each phase on every rank before the next."""
    for phase in phases:
        for layer in layers:
            getattr(layer, phase)()
            if check and phase == "notify_wait":
                layer.check()


def payload_of(layer: Any, fp8: bool) -> torch.Tensor:
    """[tokens, hidden] float64: what travels of a rank's x, after the cast."""
    return dequantise(*quantise_reference(layer.x)) if fp8 else layer.x.double()


def sorted_rows(layers: list[Any], rank: int) -> torch.Tensor:
    """Rows a rank's experts should hold: by local expert, source rank, token."""
    local = layers[0].shape.local_experts
    wanted = []
    for e in range(rank * local, (rank + 1) * local):
        wanted += [payload_of(source, layers[0].shape.fp8)[(source.topk == e).any(1)] for source in layers]
    return torch.cat(wanted)


def answers(protocol: str, phase: str, layers: list[Any]) -> tuple[Tensors, Callable[[], Tensors], Callable[[], Tensors]]:
    """(outputs to poison, expected, what the outputs mean) of one phase."""
    ranks = range(len(layers))
    if protocol == LL and phase == "receive":
        outputs = {f"x{r}": layers[r].packed.x for r in ranks}

        def packed() -> Tensors:
            return {f"x{r}": packed_rows(layers[r]) for r in ranks}

        return outputs, lambda: {f"x{r}": sorted_rows(layers, r) for r in ranks}, packed
    if phase == "send":
        outputs = {f"x{r}": layers[r].heap.view("message_x") for r in ranks}

        def received() -> Tensors:
            # Slots are handed out in any order: what was sent is compared as the receiver sorts it.
            play(layers, ("receive",), check=False)
            return {f"x{r}": packed_rows(layers[r]) for r in ranks}

        return outputs, lambda: {f"x{r}": sorted_rows(layers, r) for r in ranks}, received
    if phase == "give_back":
        outputs = {f"back{r}": layers[r].heap.view("return_x") for r in ranks}

        def returned() -> Tensors:
            return {f"back{r}": layers[r].heap.view("return_x")[: layers[r].x.shape[0]] for r in ranks}

        return outputs, lambda: {f"back{r}": _returned(layers, r) for r in ranks}, returned
    if phase in ("layout", "notify_post", "notify_wait"):
        return _tables(phase, layers)
    if phase == "combine":
        outputs = {f"out{r}": layers[r].out for r in ranks}

        def combined() -> Tensors:
            return {f"out{r}": _combined(layers, r, protocol) for r in ranks}

        return outputs, combined, lambda: outputs
    if phase == "dispatch":
        outputs = {f"row{r}": layers[r].heap.view("row") for r in ranks}
        return outputs, lambda: {f"row{r}": _slots_wanted(layers, r) for r in ranks}, lambda: _slots(layers)
    if phase == "expand":
        outputs = {f"x{r}": layers[r].expert_x for r in ranks}
        return outputs, lambda: {f"x{r}": sorted_rows(layers, r) for r in ranks}, lambda: _expert_rows(layers)
    outputs = {f"partial{r}": layers[r].heap.view("partial") for r in ranks}
    return outputs, lambda: _partials_wanted(layers), lambda: _partials(layers)


def packed_rows(layer: Any) -> torch.Tensor:
    rows = []
    for e, n in enumerate(layer.packed.count.tolist()):
        header = layer.packed.header[e, :n].long()
        order = torch.argsort(header[:, 2] * (1 << 32) + header[:, 0])
        scale = layer.packed.scale[:, e, :n].T[order] if layer.packed.scale is not None else None
        rows.append(dequantise(layer.packed.x[e, :n].double()[order], scale))
    return torch.cat(rows)


def _combined(layers: list[Any], rank: int, protocol: str) -> torch.Tensor:
    me = layers[rank]
    if protocol == LL:
        return ll_combine_reference(me.heap.view("return_x")[: me.x.shape[0]], me.topk, me.weight)
    partials = torch.stack([p.sums.values(p.heap.view("partial")[rank]) for p in layers])
    return combine_reference(partials, me.groups.slot)


def _slots(layers: list[Any]) -> Tensors:
    """Payload of every received row, by rank, source and slot."""
    found = {}
    for r, layer in enumerate(layers):
        row, counts = layer.heap.view("row"), layer.arrivals.rows.tolist()
        real = torch.cat([row[s, :n] for s, n in enumerate(counts)])
        values = real[:, : layer.row.payload_words].contiguous().view(layer.payload().dtype)
        scale = real[:, layer.row.payload_words :][:, : layer.row.scales].contiguous().view(torch.float32)
        found[f"row{r}"] = dequantise(values.double(), scale if layer.row.scales else None)
    return found


def _slots_wanted(layers: list[Any], rank: int) -> torch.Tensor:
    local = layers[0].shape.local_experts
    return torch.cat([payload_of(s, s.shape.fp8)[(s.topk // local == rank).any(1)] for s in layers])


def _expert_rows(layers: list[Any]) -> Tensors:
    found = {}
    for r, layer in enumerate(layers):
        start, count = layer.arrivals.start.tolist(), layer.arrivals.count.tolist()
        real = torch.cat([torch.arange(start[e], start[e] + n) for e, n in enumerate(count)]).to(layer.expert_x.device)
        scale = layer.expert_scale[:, real].T if layer.expert_scale is not None else None
        found[f"x{r}"] = dequantise(layer.expert_x[real].double(), scale)
    return found


def _partials(layers: list[Any]) -> Tensors:
    return {
        f"partial{r}": torch.cat([p.sums.values(p.heap.view("partial")[s, :n]) for s, n in enumerate(p.arrivals.rows.tolist())])
        for r, p in enumerate(layers)
    }


def _partials_wanted(layers: list[Any]) -> Tensors:
    found = {}
    local = layers[0].shape.local_experts
    for r, p in enumerate(layers):
        parts = []
        for s, source in enumerate(layers):
            here = (source.topk // local == r) & (source.topk >= 0)
            sent = here.any(1)
            e = (source.topk - r * local).clamp(0, local - 1)[sent]
            rows = (p.arrivals.base[s][e] + source.experts.place[sent]).clamp(0, p.ffn.y.shape[0] - 1).long()
            share = torch.where(here, source.weight, 0)[sent]
            total = torch.zeros(int(sent.sum()), p.ffn.y.shape[1], dtype=torch.float64, device=p.ffn.y.device)
            for k in range(rows.shape[1]):
                total += share[:, k, None].double() * p.ffn.y[rows[:, k]].double().nan_to_num() * here[sent][:, k, None]
            parts.append(total)
        found[f"partial{r}"] = torch.cat(parts)
    return found


def _returned(layers: list[Any], rank: int) -> torch.Tensor:
    """[tokens, top_k, hidden] rows that come back to ``rank``."""
    me, local = layers[rank], layers[0].shape.local_experts
    back = torch.zeros(*me.topk.shape, me.shape.hidden, dtype=torch.float64, device=me.x.device)
    for p in layers:
        y = p.ffn.y.unflatten(0, (local, -1))
        for e, n in enumerate(p.packed.count.tolist()):
            header = p.packed.header[e, :n].long()
            mine = header[:, 2] == rank
            back[header[mine, 0], header[mine, 1]] = y[e, :n][mine].double()
    return back


def _tables(phase: str, layers: list[Any]) -> tuple[Tensors, Callable[[], Tensors], Callable[[], Tensors]]:
    """Of the phases that only count: integers, compared exactly."""
    ranks, local = range(len(layers)), layers[0].shape.local_experts
    if phase == "layout":
        outputs: Tensors = {}
        for r, layer in enumerate(layers):
            outputs |= {f"sent{r}": layer.groups.counts, f"slot{r}": layer.groups.slot}
            outputs |= {f"count{r}": layer.experts.counts, f"place{r}": layer.experts.place}

        def laid_out() -> Tensors:
            found: Tensors = {}
            for r, layer in enumerate(layers):
                groups = layout_groups_reference(layer.topk, len(layers), local)
                experts = layout_experts_reference(layer.topk, layer.shape.experts)
                found |= {f"sent{r}": groups.counts, f"slot{r}": groups.slot}
                found |= {f"count{r}": experts.counts, f"place{r}": experts.place}
            return found

        return outputs, laid_out, lambda: outputs
    topks = [layer.topk.cpu() for layer in layers]

    def notified() -> Tensors:
        found: Tensors = {}
        for r in ranks:
            want = notify_reference(topks, r, local, layers[r].arrivals.align)
            found |= {f"{name}{r}": table for name, table in want.items()}
        return found

    def arrived() -> Tensors:
        return {f"{n}{r}": getattr(layers[r].arrivals, n) for r in ranks for n in ("rows", "base", "count", "start")}

    if phase == "notify_wait":
        return arrived(), notified, arrived
    outputs = {f"counts{r}": layers[r].heap.view("counts") for r in ranks}

    def read() -> Tensors:
        play(layers, ("notify_wait",), check=False)
        return arrived()

    return outputs, notified, read
