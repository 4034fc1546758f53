"""A simulated layer as a Chrome trace: open it in ui.perfetto.dev or chrome://tracing.

Format: "Trace Event Format" (Google, 2016), complete events ("X") and metadata ("M"). A process is a rank, a thread one
of its streams; spans that overlap on a stream get further lanes, since a thread's events must nest. Every layer's
critical path is a process of its own. The same result gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import groupby
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
    for layer in layers:
        ranks = 1 + max((s.rank for s in layer.spans), default=-1)
        title = "" if len(layers) == 1 else f"{layer.protocol} "
        events += _ranks(layer.spans, first, title)
        events += _critical_path(layer.critical_path, first + ranks, title)
        first += ranks + 1
    lines = ",\n".join(json.dumps(e, sort_keys=True, separators=(",", ":")) for e in events)
    return f'{{"displayTimeUnit":"ns","traceEvents":[\n{lines}\n]}}\n'


def _ranks(spans: Iterable[Span], first: int, title: str) -> Iterator[dict[str, Any]]:
    ordered = sorted(spans, key=lambda s: (s.rank, s.stream, s.start_ps, -s.end_ps, s.name))
    for rank, of_rank in groupby(ordered, key=lambda s: s.rank):
        yield from _process(first + rank, f"{title}rank {rank}")
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
