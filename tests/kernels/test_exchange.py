"""The kernels between ranks, each against its reference: counts, rows, messages, sums."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from layers import PROTOCOLS, draw, make

from epicycle.kernels.exchange.ht_combine import combine_reference
from epicycle.kernels.exchange.layout import layout_experts_reference, layout_groups_reference
from epicycle.kernels.exchange.ll_combine import ll_combine_reference
from epicycle.kernels.exchange.notify import notify_reference
from epicycle.kernels.exchange.symmetric import Plan, in_process, shared
from epicycle.kernels.experts.expert_ffn import MoeShape
from epicycle.kernels.experts.permute import unpermute_reference
from epicycle.kernels.experts.quantise import quantise_reference

TOKENS = [5, 0, 9]


def _layers(protocol: str, fp8: bool):
    shape = MoeShape(3, experts=6, top_k=3, hidden=256, inter=128, capacity=9, fp8=fp8)
    inputs = draw(shape, TOKENS, seed=11)
    inputs.topk[0][2, 1] = -1
    layers = [make(protocol, shape, heap, inputs) for heap in in_process(PROTOCOLS[protocol][1](shape), 3)]
    for rank, layer in enumerate(layers):
        layer.load(inputs.x[rank], inputs.topk[rank], inputs.weight[rank])
    return shape, inputs, layers


def _play(layers: list, *phases: str) -> None:
    for phase in phases:
        for layer in layers:
            getattr(layer, phase)()


@pytest.mark.parametrize("fp8", [False, True], ids=["bf16", "fp8"])
def test_high_throughput_step_by_step(fp8: bool) -> None:
    shape, inputs, layers = _layers("high_throughput", fp8)
    _play(layers, "layout", "notify_post", "notify_wait")
    for rank, layer in enumerate(layers):
        want = notify_reference(inputs.topk, rank, shape.local_experts, layer.arrivals.align)
        for name, table in want.items():
            assert torch.equal(getattr(layer.arrivals, name), table), name
        start, tiles = want["start"].tolist(), layer.arrivals.tile_expert.tolist()
        for tile, expert in enumerate(tiles):
            row = tile * layer.arrivals.align
            assert expert == next((e for e in range(shape.local_experts) if start[e] <= row < start[e + 1]), -1)

    for layer in layers:
        layer.expert_x.view(torch.uint8).fill_(0x7F)  # NaN in both types
        layer.position.fill_(-7)
    _play(layers, "cast", "dispatch", "expand")
    for rank, layer in enumerate(layers):
        for source, (x, topk) in enumerate(zip(inputs.x, inputs.topk, strict=True)):
            payload, scale = quantise_reference(x) if fp8 else (x, None)
            slot = layout_groups_reference(topk, 3, shape.local_experts).slot[:, rank]
            place = layout_experts_reference(topk, shape.experts).place
            for t in range(x.shape[0]):
                if slot[t] < 0:
                    continue
                at = source * shape.capacity + int(slot[t])
                origin = layer.row.constants()["ORIGIN_AT"]
                assert int(layer.heap.view("row")[source, slot[t], origin]) == t
                for k in range(shape.top_k):
                    local = int(topk[t, k]) - rank * shape.local_experts
                    if not (topk[t, k] >= 0 and 0 <= local < shape.local_experts):
                        assert layer.position[at, k] == -1
                        continue
                    row = int(layer.arrivals.base[source, local] + place[t, k])
                    assert layer.position[at, k] == row
                    assert torch.equal(layer.expert_x[row].view(torch.uint8), payload[t].view(torch.uint8))
                    assert scale is None or torch.equal(layer.expert_scale[:, row], scale[t])

    for layer in layers:
        layer.ffn.y.copy_(torch.randn(layer.ffn.y.shape, generator=torch.Generator().manual_seed(layer.heap.rank)))
        layer._out.fill_(float("nan"))
    _play(layers, "reduce", "combine")
    for rank, layer in enumerate(layers):
        partials = []
        for p in layers:
            heap = p.heap
            position = p.position.view(3, shape.capacity, -1)[rank].clone()
            position[p.arrivals.rows[rank] :] = -1
            first = p.row.constants()["WEIGHT_AT"]
            weight = heap.view("row").view(torch.float32)[rank, :, first : first + shape.top_k]
            partials.append(unpermute_reference(p.ffn.y, position, weight))
        assert torch.equal(layer.out, combine_reference(torch.stack(partials), layer.groups.slot))
        assert torch.equal(layer.out_weight, torch.where(inputs.topk[rank] >= 0, inputs.weight[rank], 0))


@pytest.mark.parametrize("fp8", [False, True], ids=["bf16", "fp8"])
def test_low_latency_step_by_step(fp8: bool) -> None:
    shape, inputs, layers = _layers("low_latency", fp8)
    _play(layers, "send", "receive")
    for rank, layer in enumerate(layers):
        assert int(layer.used.abs().sum()) == 0
        for local in range(shape.local_experts):
            expert, row = rank * shape.local_experts + local, 0
            for source, (x, topk) in enumerate(zip(inputs.x, inputs.topk, strict=True)):
                payload, scale = quantise_reference(x) if fp8 else (x, None)
                assert int(layer.packed.first[local, source]) == row
                sent = {int(t): int(k) for t, k in (topk == expert).nonzero()}
                for _ in range(len(sent)):
                    t, k, from_rank, _slot = layer.packed.header[local, row].tolist()
                    assert (sent.pop(t), source) == (k, from_rank)
                    assert torch.equal(layer.packed.x[local, row].view(torch.uint8), payload[t].view(torch.uint8))
                    assert scale is None or torch.equal(layer.packed.scale[:, local, row], scale[t])
                    row += 1
            assert int(layer.packed.count[local]) == row

    for layer in layers:
        layer.ffn.y.copy_(torch.randn(layer.ffn.y.shape, generator=torch.Generator().manual_seed(layer.heap.rank)))
        layer._out.fill_(float("nan"))
        layer.heap.view("return_x").fill_(float("nan"))
    _play(layers, "give_back", "combine")
    for rank, layer in enumerate(layers):
        assert int(layer.counters.abs().sum()) == 0
        returned = torch.zeros(TOKENS[rank], shape.top_k, shape.hidden)
        for p in layers:
            y = p.ffn.y.unflatten(0, (shape.local_experts, -1))
            for local in range(shape.local_experts):
                for row in range(int(p.packed.count[local])):
                    t, k, source, _slot = p.packed.header[local, row].tolist()
                    if source == rank:
                        returned[t, k] = y[local, row].float()
        assert torch.equal(layer.out, ll_combine_reference(returned, inputs.topk[rank], inputs.weight[rank]))


@pytest.mark.parametrize("maker", [in_process, shared])
def test_heaps_are_aligned_zeroed_and_of_one_layout(maker) -> None:
    plan = Plan(a=((3,), torch.int8), b=((2, 5), torch.float32))
    heaps = maker(plan, 3)
    for heap in heaps:
        assert int(heap.table[heap.rank]) == heap.block.data_ptr()
        assert heap.offset("b") % 256 == 0
        assert heap.view("b").shape == (2, 5)
        assert int(heap.block.count_nonzero()) == 0
    with pytest.raises(ValueError, match="already in the plan"):
        plan.add("a", (1,), torch.int8)
    with pytest.raises(ValueError, match="at least 1"):
        plan.add("c", (0,), torch.int8)
