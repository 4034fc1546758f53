"""Time on a CUDA device: graph replay between events, over input sets that together exceed the L2 cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Timing:
    """Microseconds of one run: median, and the 10th and 90th percentile over ``runs`` replays."""

    median_us: float
    low_us: float
    high_us: float
    runs: int


def summarise(samples_us: Sequence[float]) -> Timing:
    """Median and spread. Raises ValueError without samples."""
    ordered = sorted(samples_us)
    if not ordered:
        raise ValueError("nothing was timed")
    n = len(ordered)
    return Timing(ordered[n // 2], ordered[n // 10], ordered[min(n - 1, n * 9 // 10)], n)


def graphed(runs: Sequence[Callable[[], object]], warm_up: int = 3, replays: int = 30) -> Timing:
    """Time per run of ``runs`` (one per input set), captured once into a graph and replayed whole."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(warm_up):
            for run in runs:
                run()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for run in runs:
            run()
    graph.replay()
    torch.cuda.synchronize()
    return summarise(_replayed(graph.replay, replays, len(runs)))


def launched(runs: Sequence[Callable[[], object]], warm_up: int = 3, replays: int = 20) -> Timing:
    """As ``graphed`` without a graph, for work that synchronises or allocates (plain torch): queued behind a wait."""
    for _ in range(warm_up):
        for run in runs:
            run()
    torch.cuda.synchronize()

    def once() -> None:
        for run in runs:
            run()

    return summarise(_replayed(once, replays, len(runs)))


def _replayed(replay: Callable[[], object], times: int, runs: int) -> list[float]:
    samples = []
    for _ in range(times):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda._sleep(200_000)  # let the host get ahead, so that gaps between launches stay out of the time
        begin.record()
        replay()
        end.record()
        end.synchronize()
        samples.append(begin.elapsed_time(end) * 1000.0 / runs)
    return samples


def sets_beyond_l2(bytes_per_set: int, l2_bytes: int, most: int = 16) -> int:
    """How many input sets to rotate over so that none is still in L2 when its turn comes again."""
    return max(1, min(most, -(-3 * l2_bytes // max(bytes_per_set, 1))))
