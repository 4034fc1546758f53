"""How fast studies are: `make bench-study`. Two processes against one on the same plans, and layers in closed form.

Each figure is the median of five runs but for the plans, of which one run has many; a first one apart has compiled and read
everything. The last lines say each target met or missed.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from epicycle.scenarios.say.layer_table_files import write_table
from epicycle.scenarios.study.layer_table import layer_table
from epicycle.scenarios.study.store import Store
from epicycle.scenarios.study.sweep import sweep
from epicycle.scenarios.study.workers import Workers, here, processes

PLAN, LAYER = "plan-deepseek-v3-h200", "deepseek-v3-decode-ep32"
LEAST_FASTER, MOST_SECONDS, MOST_GROWTH = 1.6, 10.0, 1.2
RUNS = 5


def plans(count: int, workers: Workers) -> float:
    """Seconds that ``count`` different plans take."""
    times = ",".join(f"{20 + 0.1 * i:.1f} ms" for i in range(count))
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "s.sqlite") as store:
        start = time.perf_counter()
        sweep(PLAN, [f"slo.tpot={times}"], ["search.worker_gpus=32"], store=store, workers=workers)
        return time.perf_counter() - start


def layers(tokens: int) -> float:
    """Seconds that a table of ``10 x tokens`` layers takes, written as CSV."""
    over = [f"traffic.tokens_per_rank=1..{tokens}", "deployment.comm_sms=12,14,16,18,20,22,24,26,28,30"]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        write_table(layer_table(LAYER, over, ["deployment.protocol=high-throughput"]), Path(folder) / "t.csv", None)
        return time.perf_counter() - start


def memory_mib(tokens: int) -> float:
    """The most memory that a process making such a table has held, MiB."""
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {here!r}); import study_speed as s; s.layers({tokens}); print(s.held())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def held() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def verdict(met: bool) -> str:
    return "met" if met else "missed"


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    plans(2, here)  # compiles and reads
    one, two = plans(count, processes(1)), plans(count, processes(2))
    layers(100)
    seconds = statistics.median(layers(1_000) for _ in range(RUNS))
    small, large = memory_mib(100), memory_mib(10_000)
    print(f"{count} plans: {one:.1f} s on one core, {two:.1f} s on two")
    print(f"two cores are {one / two:.2f}x one, target >= {LEAST_FASTER}x: {verdict(one / two >= LEAST_FASTER)}")
    print(f"10,000 layers in closed form {seconds:.2f} s, target <= {MOST_SECONDS:g} s: {verdict(seconds <= MOST_SECONDS)}")
    flat = large <= MOST_GROWTH * small
    print(f"memory of 1,000 layers {small:.0f} MiB, of 100,000 {large:.0f} MiB, target <= {MOST_GROWTH}x: {verdict(flat)}")


if __name__ == "__main__":
    main()
