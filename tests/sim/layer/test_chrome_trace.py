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
    assert {"high-throughput rank 0", "low-latency rank 1", "low-latency critical path"} <= names
    assert len({e["pid"] for e in events(answer)}) == 6


def test_same_result_same_bytes_whatever_the_order_of_spans(tmp_path):
    write_trace(tmp_path / "a.json", layer())
    write_trace(tmp_path / "b.json", layer(spans=layer().spans[::-1]))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_layer_without_spans_is_still_a_trace():
    assert [e["name"] for e in events(layer(spans=()))] == ["experts"]
