"""The exact memory figures of the EP kernels, from DeepEP's published layouts."""

import numpy as np
import pytest

from epicycle.sim.ep.buffer import Demand, exact_rows, rectangle
from epicycle.sim.ep.protocol import find_protocol
from epicycle.sim.ep.protocols import elastic, one_sided
from epicycle.sim.ep.protocols.high_throughput import dispatch_row_bytes, nvlink_rings, rdma_rings
from epicycle.sim.ep.protocols.low_latency import slabs
from epicycle.sim.ep.shape import Path, Rows, Shape
from epicycle.sim.inputs.model import load_model
from epicycle.sim.layer.holdings import RUNTIME_BYTES

GIB = 2**30


@pytest.mark.parametrize(
    ("tokens", "experts", "gib"),
    [(128, 256, "1.78"), (128, 288, "2.00"), (4096, 288, "64.0")],
    ids=["V3", "replicas", "prefill"],
)
def test_low_latency_slabs(tokens, experts, gib):
    digits = len(gib.partition(".")[2])
    assert f"{slabs(tokens, 7168, experts) / GIB:.{digits}f}" == gib


def test_low_latency_slabs_byte_for_byte():
    """Two halves, each a send and a receive side of the larger message, plus one int a source of every expert's counter."""
    message, returned = 16 + 2 * 7168, 4 * 56 + 2 * 7168
    slab = 256 * 128
    assert returned > message
    assert slabs(128, 7168, 256) == 2 * (slab * returned + slab * returned) + 2 * 4 * 256
    assert slabs(128, 7168, 250) - slabs(128, 7168, 249) == 4 * 128 * returned


def test_a_token_of_capacity_costs_every_expert_a_slot():
    one = slabs(129, 7168, 256) - slabs(128, 7168, 256)
    assert one == 4 * 256 * (4 * 56 + 2 * 7168)


def prefill() -> Shape:
    """DeepSeek-V3, EP32, 4,096 tokens a GPU, bf16 rows."""
    return Shape(4096.0, 7168.0, 8.0, 256.0, 32.0, 8.0, payload_bytes=2.0 * 7168)


def test_exact_against_rectangle():
    """0.43 GB against 15.0 GB: room for 207,300 (of the rounded sizes) to 207,800 more tokens of latent-attention cache."""
    received = prefill().expected_rows(Rows.RANK, Path.SELF) * 32
    exact = exact_rows(round(received), 2 * 7168)
    worst = rectangle(4096, 32, 256 // 32, 2 * 7168)
    kv = load_model("deepseek-v3").kv_bytes_per_token("bf16")
    assert round(exact / 1e9, 2) == 0.43
    assert round(worst / 1e9, 1) == 15.0
    assert kv == 70_272
    assert round((15.0e9 - 0.43e9) / kv, -2) == 207_300
    assert round((worst - exact) / kv, -2) == 207_800


def test_the_rectangle_is_every_token_at_every_local_expert():
    assert rectangle(4096, 32, 8, 14336) == 8 * 32 * 4096 * 14336


def test_drawn_prefill_needs_what_is_expected(drawn):
    """The busiest rank's receive buffer of a drawn batch: 0.43 GB too, within the draw's spread."""
    found = drawn("uniform", 256, 8, [4096] * 32)
    busiest = found.rank_rows.sum(axis=0).max()
    assert busiest * 2 * 7168 / 1e9 == pytest.approx(0.43, abs=0.01)


def test_nvlink_rings_by_hand():
    """10 channels on 8 ranks of one node, hidden 7168: 288 tokens of row, index, and 128 ids, weights and scales a ring."""
    token = 7168 * 2 + 8 + 128 * 8 + 128 * 4 + 128 * 4
    assert nvlink_rings(10, 8, 1, 7168) == 10 * 8 * (5 * 4 + 288 * token)
    assert rdma_rings(10, 1, 7168) == 0
    assert rdma_rings(10, 4, 7168) == 2 * 10 * 4 * (18 * 4 + 128 * (token + 16))


def test_fp8_rings_are_as_large_as_bf16s():
    """The combine way is bf16, so a ring's element is at least two bytes wide."""
    assert nvlink_rings(12, 8, 2, 7168, 1) == nvlink_rings(12, 8, 2, 7168, 2) < nvlink_rings(12, 8, 2, 7168, 4)


def test_elastic_slots_by_hand():
    """In one domain 8 x M dispatched rows or 8 (or top-k, if fewer) x M returned ones; never smaller for more of anything."""
    unit = 2 * 2**20
    size = elastic.slots(4096, 8, 1, 8, 7520.0, 14368.0)
    assert size == -(-8 * 4096 * 14368 // unit) * unit
    assert elastic.slots(4096, 8, 1, 2, 7520.0, 14368.0) == -(-8 * 4096 * 7520 // unit) * unit, "top-2: dispatch is larger"
    across = elastic.slots(4096, 8, 4, 2, 7520.0, 14368.0)
    assert across == -(-(8 * 4 * 4096 + 4096 + 4 * 5120) * 7520 // unit) * unit
    more = [elastic.slots(*change, 7520.0, 14368.0) for change in ((4097, 8, 4, 8), (4096, 9, 4, 8), (4096, 8, 5, 8))]
    assert min(more) >= elastic.slots(4096, 8, 4, 8, 7520.0, 14368.0)


def test_one_sided_slots_grow_with_the_group_not_the_routing():
    shape = Shape(256.0, 7168.0, 8.0, 256.0, 16.0, 16.0, payload_bytes=7392.0)
    size = one_sided.slots(256, 16, float(np.asarray(dispatch_row_bytes(shape, False))), 2.0 * 7168)
    assert size == 256 * 16 * (7392 + 4 + 96 + 14336)


#: Peak memory of a GPU in the libraries' own benchmarks on B200, MiB: 4,096 tokens a rank, bf16, EP16 and EP32 (awslabs).
PEAKS = {"elastic": (39_657, 44_315), "high-throughput": (17_047, 23_793), "uccl": (13_697, 20_735)}


@pytest.mark.parametrize("protocol", sorted(PEAKS))
def test_buffers_and_runtime_lie_below_measured_peaks(protocol: str) -> None:
    """A benchmark's peak holds its own tensors and checks as well: what is counted here is the smaller part, and grows with
    the ranks as the peaks do."""
    counted = []
    for ranks, peak in zip((16.0, 32.0), PEAKS[protocol], strict=True):
        shape = Shape(4096.0, 7168.0, 8.0, 256.0, ranks, 8.0, payload_bytes=2.0 * 7168)
        received = float(np.asarray(shape.busiest(shape.tokens * shape.ranks_reached)))
        need = Demand(shape, 4096.0, 256.0 / ranks, received, replayed=False)
        mib = sum(float(np.asarray(buffer.bytes)) for buffer in find_protocol(protocol).buffers(need)) / 2**20
        assert mib + RUNTIME_BYTES / 2**20 < peak
        counted.append(mib)
    assert counted[0] < counted[1]


def test_the_order_of_the_generations_memory_is_the_measured_one() -> None:
    """V2's slots hold the worst case, V1's rings do not: it takes more at both widths, as was measured."""
    for ranks in (16.0, 32.0):
        shape = Shape(4096.0, 7168.0, 8.0, 256.0, ranks, 8.0, payload_bytes=2.0 * 7168)
        received = float(np.asarray(shape.busiest(shape.tokens * shape.ranks_reached)))
        need = Demand(shape, 4096.0, 256.0 / ranks, received, replayed=False)
        size = {p: sum(float(np.asarray(b.bytes)) for b in find_protocol(p).buffers(need)) for p in PEAKS}
        assert size["elastic"] > size["high-throughput"] >= size["uccl"]
