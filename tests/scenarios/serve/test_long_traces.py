"""A trace of any length is read line by line: memory does not grow with it, and a bad line is found by its number."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.sim.serving.requests.arrivals.trace_file import trace_chunks

#: Lines of the long suite, and of every run.
MANY, SOME = 10_000_000, 60_000


def written(path: Path, lines: int, last: str = "") -> Path:
    with path.open("w", encoding="utf-8") as file:
        file.write("arrival_s,input_tokens,output_tokens\n")
        for start in range(0, lines, 10_000):
            file.writelines(f"{i / 1000},{100 + i % 900},{1 + i % 50}\n" for i in range(start, min(start + 10_000, lines)))
        file.write(last)
    return path


def peak_mb(path: Path) -> tuple[int, float]:
    """Requests of the trace, and the most memory that reading it took."""
    tracemalloc.start()
    count = sum(chunk.arrivals.size for chunk in trace_chunks(path))
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return count, peak


def test_memory_does_not_grow_with_a_trace(tmp_path: Path) -> None:
    short, longer = (peak_mb(written(tmp_path / f"{n}.csv", n)) for n in (SOME // 3, SOME))
    assert (short[0], longer[0]) == (SOME // 3, SOME)
    assert longer[1] < 1.2 * short[1] < 20.0


def test_ten_million_lines_in_constant_memory(tmp_path: Path, long: bool) -> None:
    """Ten million in the long suite (their last line is bad, and named), 100,000 else."""
    import resource

    lines = MANY if long else 100_000
    path = written(tmp_path / "trace.csv", lines, "1,1,1\n")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadInput, match=f":{lines + 2}: arrives at 1.000000 s, before the line above it"):
        for _ in trace_chunks(path):
            pass
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mb < 100.0
