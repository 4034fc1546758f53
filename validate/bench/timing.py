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
    return summarise(_replayed(captured(runs, warm_up), replays, len(runs)))


def captured(runs: Sequence[Callable[[], object]], warm_up: int = 3) -> Callable[[], None]:
    """Replays a graph of ``runs``, warmed up and replayed once."""
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
    replay: Callable[[], None] = graph.replay
    return replay


def timed(replay: Callable[[], object], runs: int, replays: int = 30) -> Timing:
    """Time per run of a replay of ``runs`` runs."""
    return summarise(_replayed(replay, replays, runs))


def while_busy(replay: Callable[[], object], once_us: float, look: Callable[[], dict[str, object]]) -> dict[str, object]:
    """What ``look`` sees in the middle of some 60 ms of replays of ``once_us`` each."""
    for _ in range(max(2, min(2000, int(60_000 / max(once_us, 1.0))))):
        replay()
    seen = look()
    torch.cuda.synchronize()
    return seen


def alternating(ours: Callable[[], object], theirs: Callable[[], object], runs: int, rounds: int = 10) -> tuple[float, float]:
    """Median microseconds per run of both, turn and turn about: a clock that sinks under load sinks for both."""
    for _ in range(2):
        theirs()
    torch.cuda.synchronize()
    samples: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for replay, into in zip((ours, theirs), samples, strict=True):
            into += _replayed(replay, 1, runs)
    return summarise(samples[0]).median_us, summarise(samples[1]).median_us


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
