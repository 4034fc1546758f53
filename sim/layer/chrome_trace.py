"""A simulated layer as a Chrome trace: open it in ui.perfetto.dev or chrome://tracing.

Format: "Trace Event Format" (Google, 2016), complete events ("X") and metadata ("M"). A process is a rank, a thread one
of its streams; spans that overlap on a stream get further lanes, since a thread's events must nest. Every layer's
critical path is a process of its own, with arrows from rank to rank where it goes on elsewhere, and counters of the ranks in
each op. The same result gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from .result import Answer, LayerResult, PathSegment, Span

PS_PER_US = 1e6


def write_trace(path: Path, result: LayerResult | Answer) -> None:
    """Write the trace of one layer, or of every layer of an answer, to ``path``."""
    path.write_text(trace_json(result), encoding="utf-8")


def trace_json(result: LayerResult | Answer) -> str:
    """The trace as JSON text, one event a line. Process ids: rank, then the critical path, then the next layer's ranks."""
    layers = (result,) if isinstance(result, LayerResult) else result.layers
    events: list[dict[str, Any]] = []
    first = 0
    each_node = result.gpus_per_node if isinstance(result, Answer) else 0
    for layer in layers:
        ranks = 1 + max((s.rank for s in layer.spans), default=-1)
        title = "" if len(layers) == 1 else f"{layer.protocol} "
        events += _ranks(layer.spans, first, title, each_node)
        events += _critical_path(layer.critical_path, first + ranks, title)
        events += _waits(layer, first)
        events += _counters(layer.spans, first + ranks, title)
        first += ranks + 1
    about = json.dumps(
        {"name": result.name, "seed": result.seed, "epicycle": result.version} if isinstance(result, Answer) else {}
    )
    lines = ",\n".join(json.dumps(e, sort_keys=True, separators=(",", ":")) for e in events)
    return f'{{"displayTimeUnit":"ns","otherData":{about},"traceEvents":[\n{lines}\n]}}\n'


def _waits(layer: LayerResult, first: int) -> Iterator[dict[str, Any]]:
    """An arrow from the end of what the critical path waited for to what then went on on another rank."""
    threads = _threads(layer.spans)
    path = sorted(layer.critical_path, key=lambda s: (s.start_ps, s.end_ps))
    for n, (before, after) in enumerate(pairwise(path)):
        if before.rank == after.rank:
            continue
        for kind, segment, ps in (("s", before, before.end_ps), ("f", after, after.start_ps)):
            thread = threads.get((segment.rank, segment.stage), 0)
            end = {"bp": "e"} if kind == "f" else {}
            place = {"pid": first + segment.rank, "tid": thread, "ts": ps / PS_PER_US}
            yield {"ph": kind, "id": first * 1_000_000 + n, "name": "waits for", "cat": "critical path", **place, **end}


def _threads(spans: Iterable[Span]) -> dict[tuple[int, str], int]:
    """The thread that `_ranks` draws each rank's stage on."""
    found: dict[tuple[int, str], int] = {}
    ordered = sorted(spans, key=lambda s: (s.rank, s.stream, s.start_ps, -s.end_ps, s.name))
    for rank, of_rank in groupby(ordered, key=lambda s: s.rank):
        thread = 0
        for _, of_stream in groupby(of_rank, key=lambda s: s.stream):
            for lane in _lanes(of_stream):
                for s in lane:
                    found.setdefault((rank, s.name), thread)
                thread += 1
    return found


def _counters(spans: Iterable[Span], process: int, title: str) -> Iterator[dict[str, Any]]:
    """How many ranks are in each op, whenever that changes."""
    changes: dict[str, dict[int, int]] = {}
    for op, rank_spans in groupby(sorted(spans, key=lambda s: (s.op, s.rank, s.start_ps)), key=lambda s: s.op):
        for _, of_rank in groupby(rank_spans, key=lambda s: s.rank):
            whole = list(of_rank)
            begin, end = min(s.start_ps for s in whole), max(s.end_ps for s in whole)
            for ps, step in ((begin, 1), (end, -1)):
                at = changes.setdefault(op, {})
                at[ps] = at.get(ps, 0) + step
    for op, at in changes.items():
        count = 0
        for ps in sorted(at):
            count += at[ps]
            name = f"{title}ranks in {op.replace('_', ' ')}"
            yield {"ph": "C", "name": name, "pid": process, "tid": 0, "ts": ps / PS_PER_US, "args": {"ranks": count}}


def _ranks(spans: Iterable[Span], first: int, title: str, each_node: int) -> Iterator[dict[str, Any]]:
    ordered = sorted(spans, key=lambda s: (s.rank, s.stream, s.start_ps, -s.end_ps, s.name))
    for rank, of_rank in groupby(ordered, key=lambda s: s.rank):
        node = f"node {rank // each_node}, " if each_node else ""
        yield from _process(first + rank, f"{title}{node}rank {rank}")
        thread = 0
        for stream, of_stream in groupby(of_rank, key=lambda s: s.stream):
            lanes = _lanes(of_stream)
            for n, lane in enumerate(lanes):
                yield _metadata("thread_name", first + rank, thread, name=stream if n == 0 else f"{stream} ({n + 1})")
                for s in lane:
                    yield _complete(first + rank, thread, s.name, s.op, s.start_ps, s.end_ps, {"bound": s.bound})
                thread += 1


def _lanes(spans: Iterable[Span]) -> list[list[Span]]:
    """Deal spans, by rising start, to as few lanes as keep each free of overlap."""
    lanes: list[list[Span]] = []
    for span in spans:
        lane = next((lane for lane in lanes if lane[-1].end_ps <= span.start_ps), None)
        if lane is None:
            lane = []
            lanes.append(lane)
        lane.append(span)
    return lanes


def _critical_path(path: Iterable[PathSegment], process: int, title: str) -> Iterator[dict[str, Any]]:
    segments = sorted(path, key=lambda s: (s.start_ps, s.end_ps))
    if segments:
        yield from _process(process, f"{title}critical path")
        yield _metadata("thread_name", process, 0, name="waited for")
    for s in segments:
        yield _complete(process, 0, s.stage, s.op, s.start_ps, s.end_ps, {"bound": s.bound, "rank": s.rank})


def _process(process: int, name: str) -> Iterator[dict[str, Any]]:
    yield _metadata("process_name", process, 0, name=name)
    yield _metadata("process_sort_index", process, 0, sort_index=process)


def _metadata(what: str, process: int, thread: int, **args: str | int) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": process, "tid": thread, "args": args}


def _complete(
    process: int, thread: int, name: str, op: str, start_ps: int, end_ps: int, args: dict[str, str | int]
) -> dict[str, Any]:
    times = {"ts": start_ps / PS_PER_US, "dur": (end_ps - start_ps) / PS_PER_US}
    return {"ph": "X", "name": name, "cat": op, "pid": process, "tid": thread, "args": args, **times}
