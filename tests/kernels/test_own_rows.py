"""What a row of ours is said to move, by the simulator's stages, is what the kernels say of themselves."""

import pytest

from epicycle.kernels.exchange.ht_combine import combine_bytes, reduce_bytes
from epicycle.kernels.exchange.ht_dispatch import dispatch_bytes, expand_bytes
from epicycle.kernels.exchange.layout import layout_bytes
from epicycle.kernels.exchange.ll_dispatch import message_bytes
from epicycle.kernels.experts.expert_ffn import MoeShape
from epicycle.kernels.experts.quantise import quantise_bytes
from epicycle.kernels.layers.high_throughput import formats
from epicycle.sim.ep.protocols.epicycle import HT, LL
from epicycle.validate.tables.own.launches import MeanShape, moved_bytes


@pytest.mark.parametrize("fp8", [False, True], ids=["bf16", "fp8"])
@pytest.mark.parametrize("tokens", [1, 128, 4096])
def test_bytes_of_every_launch(tokens: int, fp8: bool) -> None:
    ranks, experts, top_k, hidden = 8, 64, 8, 7168
    payload = hidden * (1 + 4 / 128) if fp8 else 2.0 * hidden
    shape = MeanShape(float(tokens), hidden, top_k, experts, ranks, ranks, payload)
    row, sums = formats(MoeShape(ranks, experts, top_k, hidden, 128, tokens, fp8))
    copies, pairs = tokens * float(shape.ranks_reached), tokens * top_k
    message = sum(message_bytes(hidden, fp8).values())
    want = {
        (HT, "layout"): layout_bytes(tokens, top_k, ranks, experts) - 4 * (ranks + experts),
        (HT, "dispatch"): dispatch_bytes(row, tokens, 0) + copies * row.bytes,
        (HT, "expand"): expand_bytes(row, 0, pairs) + copies * (row.bytes + 4 * top_k),
        (HT, "reduce"): reduce_bytes(sums, 0, pairs) + copies * (sums.bytes + 8 * top_k),
        (HT, "combine"): combine_bytes(sums, tokens, 0) + copies * sums.bytes,
        (LL, "dispatch_send"): tokens * 2 * hidden + pairs * message,
        (LL, "dispatch_receive"): 2 * pairs * message,
        (LL, "combine_send"): 4 * pairs * hidden,
        (LL, "combine_receive"): 2 * hidden * (pairs + tokens),
    }
    for (protocol, op), size in want.items():
        assert moved_bytes(protocol, op, shape) == pytest.approx(size, rel=1e-9), (protocol, op)
    assert moved_bytes(HT, "cast", shape) == (quantise_bytes(tokens, hidden) if fp8 else 0.0)
