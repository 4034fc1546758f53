"""The critical path names ranks that were really at work, and the resource that really held them."""

import numpy as np
import pytest

from epicycle.sim.layer.timeline import bound_of, critical_path, op_times

SKEWED = [*[8] * 5, 400, *[8] * 10]  # rank 5 is what everybody waits for
CASES = {
    "ht": {"protocol": "high-throughput", "ep": 16, "tokens": SKEWED},
    "elastic": {"protocol": "elastic", "ep": 16, "tokens": SKEWED},
    "ll": {"protocol": "low-latency", "ep": 16, "tokens": SKEWED},
    "ll-calls": {"protocol": "low-latency", "ep": 16, "tokens": SKEWED, "deployment__max_tokens": 128},
    "ll-even": {"protocol": "low-latency", "ep": 32, "tokens": 128},
    "all-gather": {"protocol": "all-gather", "ep": 16},
}


@pytest.mark.parametrize("name", CASES)
def test_the_rank_of_a_segment_was_at_work_all_through_it(ask, play, name):
    """Its stage had begun there, and neither its own part nor its flows had all ended before the segment does."""
    played = play(ask(**CASES[name]))
    for segment in critical_path(played.traces, played.topology):
        busy = False
        for trace in (t for t in played.traces if t.step.stage.name == segment.stage):
            transfer = trace.transfers.get(segment.rank)
            landed = int(transfer.landed_ps.max()) if transfer is not None else 0
            until = max(int(trace.done[segment.rank]), landed)
            busy |= int(trace.begin[segment.rank]) <= segment.start_ps and segment.end_ps <= until
        assert busy, segment


@pytest.mark.parametrize("name", ["ht", "elastic", "ll", "ll-calls"])
def test_the_rank_with_the_tokens_is_to_blame(ask, play, name):
    """Fifty times everybody else's tokens on rank 5: its dispatch is what the path goes through.

    The rank of its rail, which gets as many bytes from it and forwards them, may be done a moment later.
    """
    played = play(ask(**CASES[name]))
    dispatch = [s for s in critical_path(played.traces, played.topology) if s.stage in ("dispatch.stream", "dispatch.send")]
    moving = {s.rank for s in dispatch if " " not in s.bound}
    assert moving == {5} or (name == "elastic" and moving == {13})


def test_the_bound_is_that_of_the_last_flow(ask, play):
    """A rank with one slow way: its NVLink messages end early, its NIC's last, and the NIC is what is named."""
    played = play(ask(ep=16, protocol="low-latency", tokens=256, cluster__node__nic__bandwidth='"5 GB/s"'))
    send = played.traces[0]
    kinds = set()
    for transfer in send.transfers.values():
        resource = transfer.bottleneck[np.argmin(transfer.finish_ps)]
        kinds.add(played.topology.resources.kind(int(resource)) if resource >= 0 else "none")
    for rank in range(16):
        assert bound_of(send, rank, played.topology) in ("nic_tx", "nic_rx"), kinds


def test_ops_cover_their_stages(ask, play):
    played = play(ask(**CASES["ht"]))
    for op in op_times(played.traces):
        mine = [t for t in played.traces if t.step.stage.op == op.op]
        assert op.start_ps == min(t.begin.min() for t in mine) and op.end_ps == max(t.end().max() for t in mine)
        assert (op.rank_ps <= op.duration_ps).all() and (op.rank_ps >= 0).all()
