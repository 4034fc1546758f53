"""Descriptions by hand: one constant switched on at a time, everything else free, and the seconds that must come out."""

from dataclasses import fields, replace

import numpy as np
import pytest

from epicycle.hwmodels.catalog import load_cluster
from epicycle.sim.ep.bound import program_seconds, stage_loads
from epicycle.sim.ep.machine import machine_of
from epicycle.sim.ep.protocols import collectives, high_throughput, low_latency, one_sided, two_sided
from epicycle.sim.ep.shape import Shape

MACHINE = machine_of(load_cluster("h100-cx7"))
ENDLESS = replace(MACHINE, nvlink_bytes_per_s=1e30, nic_bytes_per_s=1e30, nic_messages_per_s=1e30)


def only(record, **given):
    """Constants of a kernel in which nothing but ``given`` takes time."""
    names = [f.name for f in fields(record)]
    ones = {name: 1.0 for name in names if name == "sharpness" or name.endswith("efficiency")}
    return record(**{**dict.fromkeys(names, 0.0), **ones, **{n: 1e30 for n in names if n.endswith("copy")}, **given})


def shape(tokens, ranks=8, domain=8, **more):
    return Shape(float(tokens), 7168.0, 8.0, 256.0, float(ranks), float(domain), 7392.0, **more)


def seconds(stages, s, machine=ENDLESS):
    return float(np.asarray(program_seconds(stages, s, machine)))


@pytest.mark.parametrize(("op", "ranks"), [("dispatch", 8), ("combine", 8), ("dispatch", 32), ("combine", 32)])
def test_a_channel_owns_whole_tokens(op, ranks):
    """24 SMs are 12 channels: 25 and 36 tokens both give the fullest one 3, 37 give it 4; twice the SMs halve that."""
    k = only(high_throughput.Transfer, send_token=1e-6)

    def took(tokens, sms=24.0):
        s = shape(tokens, ranks, comm_sms=sms)
        return seconds(high_throughput.transfer(s, ENDLESS, k, op), s)

    assert [round(took(t) * 1e6, 6) for t in (12, 25, 36, 37)] == [1, 3, 3, 4]
    assert took(96, 24.0) == pytest.approx(2 * took(96, 48.0))


@pytest.mark.parametrize("op", ["dispatch", "combine"])
def test_a_copy_a_rank_on_one_node_and_a_copy_a_node_then_a_rank_across(op):
    """Dealt tokens reach 8 ranks on 4 nodes: so many copies, times the steps of a row, over 12 channels at the sender."""

    def copies(ranks, **k):
        s = shape(1200, ranks, routing="balanced")
        return seconds(high_throughput.transfer(s, ENDLESS, only(high_throughput.Transfer, **k), op), s) / (1200 / 12 * 1e-7)

    sent, across = copies(8, send_row=1e-7), copies(32, send_row=1e-7)
    steps = across / 4
    assert steps == pytest.approx(round(steps)) and 1 <= round(steps) <= 8
    assert sent == pytest.approx(8 * steps)


@pytest.mark.parametrize(("op", "row"), [("dispatch", 7472), ("combine", 14384)])
def test_two_hop_wires(op, row):
    """Off-node node rows over the NIC; every rank's copy but the forwarder's own over NVLink; both at their line rates."""
    s = shape(1200, 32)
    (stage,) = high_throughput.transfer(s, MACHINE, only(high_throughput.Transfer), op)
    loads = {name: float(np.asarray(value)) for name, value in stage_loads(stage, s, MACHINE).items()}
    assert loads["nic"] == pytest.approx(1200 * float(s.distinct(4)) * 3 / 4 * row / 50e9)
    assert loads["nvlink"] == pytest.approx(1200 * float(s.distinct(32)) * 7 / 8 * row / 450e9, rel=1e-6)


def test_counts_go_ahead_of_dispatch_only():
    k = only(high_throughput.Notify, launch=1e-5)
    ahead, behind = (high_throughput.notify(shape(64, 32), MACHINE, k, op)[0] for op in ("dispatch_notify", "combine_notify"))
    assert [float(np.asarray(m.row_bytes)) for m in ahead.moves[:2]] == [4 * (1 + 8 + 64), 4 * 4 * (1 + 8)]
    assert not any(float(np.asarray(m.row_bytes)) for m in behind.moves)


def test_the_head_walk_runs_beside_the_barriers():
    """Twelve channels walk 100 tokens each; four nodes miss one token in three, at the price of a store; the longer counts."""
    s = shape(1200, 32)
    missed = 1 - (1 - np.prod([(192 - i) / (256 - i) for i in range(8)])) ** 4

    def took(tokens_s, barriers_s):
        k = only(high_throughput.Notify, token=tokens_s, launch_per_doubling=barriers_s / 2, sharpness=30.0)
        return seconds(high_throughput.notify(s, MACHINE, k, "combine_notify"), s)

    assert took(1e-6, 0.0) == pytest.approx(100e-6 * (1 + missed))
    assert took(1e-9, 30e-6) == pytest.approx(30e-6)
    assert took(1e-6, 30e-6) == pytest.approx(took(1e-6, 0.0), rel=1e-6)


def test_ranks_drift_apart_up_to_a_limit():
    """0.1 us for a token of a channel, never more than 50 us: half of that after 500 tokens, all but a tenth after 4,500."""
    k = only(high_throughput.Notify, drift=1e-7, drift_most=50e-6)

    def late(op, tokens):
        s = shape(12 * tokens, 32)
        return 1e6 * seconds(high_throughput.notify(s, ENDLESS, k, op), s)

    for op in ("dispatch_notify", "combine_notify"):
        assert [round(late(op, tokens), 3) for tokens in (500, 4500)] == [25.0, 45.0]


@pytest.mark.parametrize(("experts", "ctas"), [(8, 8), (64, 64), (132, 132), (133, 67), (256, 128), (288, 96)])
def test_a_low_latency_grid_follows_the_experts(experts, ctas):
    assert float(np.asarray(low_latency.grid(float(experts), 132))) == ctas


def test_the_busiest_block_casts_the_most_tokens():
    """128 blocks for 256 experts: one token each up to 128, two from 129; eight experts leave eight blocks to do it all."""
    k = only(low_latency.LowLatencyConstants, token=1e-6)

    def took(tokens, experts=256.0):
        s = replace(shape(tokens), experts=experts)
        return round(seconds(low_latency.dispatch(s, ENDLESS, k), s) * 1e6, 6)

    assert [took(t) for t in (1, 128, 129, 256, 257)] == [1, 1, 2, 2, 3]
    assert took(128, experts=8.0) == 16


def test_low_latency_pays_for_the_nic_once_it_needs_one():
    k = only(low_latency.LowLatencyConstants, internode=3e-6, internode_per_doubling=1e-6)
    for describe in (low_latency.dispatch, low_latency.combine):
        took = [seconds(describe(shape(16, ranks), ENDLESS, k), shape(16, ranks)) for ranks in (8, 16, 64)]
        assert np.array(took) * 1e6 == pytest.approx([0, 4, 6], abs=0.1)  # the messages themselves take a little


def test_low_latency_wires():
    """Every message on its own: of 32 ranks' shares, 24 over the NIC, 7 over NVLink and one nowhere."""
    s = shape(2048, 32)
    send = low_latency.dispatch(s, MACHINE, only(low_latency.LowLatencyConstants))[0]
    balanced = replace(s, routing="balanced")
    loads = {name: float(np.asarray(value)) for name, value in stage_loads(send, balanced, MACHINE).items()}
    assert loads["nic"] == pytest.approx(2048 * 8 * 24 / 32 * 7408 / 50e9)
    assert loads["nvlink"] == pytest.approx(2048 * 8 * 7 / 32 * 7408 / 450e9)
    # a message a row, and a count for each of the 192 experts elsewhere
    assert loads["nic_msg"] == pytest.approx((2048 * 8 + 256) * 24 / 32 / MACHINE.nic_messages_per_s)


@pytest.mark.parametrize(("op", "row"), [("dispatch", 7392 + 64), ("combine", 14336)])
def test_one_sided_by_hand(op, row):
    """Balanced: 8 copies a token; one counter a peer serves its share of the rows; 15 of 16 copies leave the GPU."""
    s = shape(1600, 16, 16, routing="balanced")
    peer, copy = (only(one_sided.SlotConstants, **k) for k in ({"peer_row": 1e-7}, {"row": 1e-7}))
    assert seconds(one_sided.transfer(s, ENDLESS, peer, op, gpus_per_node=4.0), s) == pytest.approx(1600 * 8 / 16 * 1e-7)
    assert seconds(one_sided.transfer(s, ENDLESS, copy, op, gpus_per_node=4.0), s) == pytest.approx(1600 * 8 * 1e-7)
    wire = seconds(one_sided.transfer(s, MACHINE, only(one_sided.SlotConstants), op, gpus_per_node=4.0), s, MACHINE)
    assert wire == pytest.approx(1600 * 8 * 15 / 16 * row / 450e9)


def test_a_ring_copies_its_own_rows():
    """One ring a peer: of 8 copies to 8 ranks each ring has one a token, whose bytes and separate fields it moves alone."""
    s = shape(1600, 8, 8, routing="balanced")
    copy, field = (only(one_sided.SlotConstants, **k) for k in ({"peer_copy": 100.0}, {"peer_field": 1e-8}))

    def took(k, fields=1.0):
        stages = one_sided.transfer(s, ENDLESS, k, "dispatch", gpus_per_node=4.0, fields=fields)
        return seconds(stages, s)

    assert took(copy) == pytest.approx(1600 * (7392 + 64) / (100 * MACHINE.clock_hz))
    assert [took(field, fields) for fields in (1.0, 3.0)] == pytest.approx([0.0, 1600 * 2e-8], abs=1e-12)


def test_preparation_by_hand():
    """Counts of 16 ranks in turn, a walk over 1,600 tokens, and lists of which each peer's holds every other token."""
    s = shape(1600, 16, 16, routing="balanced")
    k = only(one_sided.SlotConstants, launch=1e-5, launch_per_rank=1e-7, token=2e-9, peer_row=1e-9)
    assert seconds(two_sided.prepare(s, k), s) == pytest.approx(1e-5 + 1.6e-6 + 1600 * (2e-9 + 0.5e-9))


def test_collectives_by_hand():
    """Rails and NVLink together; free of everything but the wires, and padded slots rounded up to whole rows."""
    s, k = shape(100, 32), only(collectives.CollectiveConstants)
    (gather,) = collectives.all_gather(s, MACHINE, k, "dispatch")
    loads = {name: float(np.asarray(value)) for name, value in stage_loads(gather, s, MACHINE).items()}
    assert loads["nic"] == pytest.approx(3 * 100 * 7392 / 50e9)
    assert loads["nvlink"] == pytest.approx(7 * 4 * 100 * 7392 / 450e9)
    (padded,) = collectives.padded_all_to_all(s, MACHINE, k, "combine", 1.25)
    loads = {name: float(np.asarray(value)) for name, value in stage_loads(padded, s, MACHINE).items()}
    assert loads["nic"] == pytest.approx(24 * 32 * 14336 / 50e9)
    assert loads["nvlink"] == pytest.approx(7 * 32 * 14336 / 450e9)
