"""A trace has every span once, in microseconds, on its rank and stream, and always the same bytes."""

import json
from itertools import pairwise

import numpy as np

from epicycle.sim.layer.chrome_trace import trace_json, write_trace
from epicycle.sim.layer.result import Answer, LayerResult, PathSegment, Span


def layer(protocol="high-throughput", spans=None):
    if spans is None:
        spans = (
            Span(1, "compute", "experts", "compute", 1_500_000, 4_000_000, "tensor"),
            Span(0, "communication", "dispatch.send", "dispatch", 0, 1_500_000, "nic_tx"),
        )
    path = (PathSegment(0, 4_000_000, 1, "experts", "compute", "tensor"),)
    none = np.zeros(0, np.int64)
    return LayerResult(protocol, 4_000_000, (), spans, path, (), (), none, none, (), 0)


def events(result, phase="X"):
    return [e for e in json.loads(trace_json(result))["traceEvents"] if e["ph"] == phase]


def test_spans_are_complete_events_in_microseconds():
    send = next(e for e in events(layer()) if e["name"] == "dispatch.send")
    assert (send["pid"], send["ts"], send["dur"], send["cat"]) == (0, 0.0, 1.5, "dispatch")
    assert send["args"] == {"bound": "nic_tx"}


def test_processes_and_threads_are_named():
    names = {(e["name"], e["pid"]): e["args"].get("name") for e in events(layer(), "M")}
    assert names[("process_name", 0)] == "rank 0"
    assert names[("thread_name", 1)] == "compute"
    assert names[("process_name", 2)] == "critical path"


def test_overlapping_spans_get_lanes_of_their_own():
    spans = tuple(Span(0, "nic", f"s{i}", "dispatch", i * 10, i * 10 + 15, "nic_tx") for i in range(4))
    by_lane = {}
    for e in events(layer(spans=spans)):
        if e["pid"] == 0:
            by_lane.setdefault(e["tid"], []).append((e["ts"], e["ts"] + e["dur"]))
    assert len(by_lane) == 2
    for lane in by_lane.values():
        assert all(a[1] <= b[0] for a, b in pairwise(lane))


def test_layers_of_an_answer_do_not_mix():
    answer = Answer("a", "", "", (layer(), layer("low-latency")), 2, 8, (), 0, "0")
    names = {e["args"]["name"] for e in events(answer, "M") if e["name"] == "process_name"}
    assert {"high-throughput node 0, rank 0", "low-latency node 0, rank 1", "low-latency critical path"} <= names
    assert len({e["pid"] for e in events(answer)}) == 6


def test_arrows_follow_the_critical_path_from_rank_to_rank_and_counters_count():
    path = (
        PathSegment(0, 1_500_000, 0, "dispatch.send", "dispatch", "nic_tx"),
        PathSegment(1_500_000, 4_000_000, 1, "experts", "compute", "tensor"),
    )
    spans = layer().spans
    none = np.zeros(0, np.int64)
    played = LayerResult("p", 4_000_000, (), spans, path, (), (), none, none, (), 0)
    [start], [end] = events(played, "s"), events(played, "f")
    assert (start["pid"], start["ts"], end["pid"], end["ts"]) == (0, 1.5, 1, 1.5)
    assert start["id"] == end["id"]
    counted = [(e["name"], e["ts"], e["args"]["ranks"]) for e in events(played, "C")]
    assert ("ranks in dispatch", 0.0, 1) in counted
    assert ("ranks in dispatch", 1.5, 0) in counted
    answer = Answer("a", "", "", (played,), 2, 1, (), 7, "0")
    assert json.loads(trace_json(answer))["otherData"] == {"name": "a", "seed": 7, "epicycle": "0"}
    names = {e["args"]["name"] for e in events(answer, "M") if e["name"] == "process_name"}
    assert {"node 0, rank 0", "node 1, rank 1"} <= names


def test_same_result_same_bytes_whatever_the_order_of_spans(tmp_path):
    write_trace(tmp_path / "a.json", layer())
    write_trace(tmp_path / "b.json", layer(spans=layer().spans[::-1]))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_layer_without_spans_is_still_a_trace():
    assert [e["name"] for e in events(layer(spans=()))] == ["experts"]
