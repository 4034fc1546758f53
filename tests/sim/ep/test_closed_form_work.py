"""A sweep's point costs few elementwise operations: counted, so that no machine's speed enters."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "closed_form_speed.py"
#: case -> most (passes over the table, of them powers, exponentials and logarithms): a tenth above those counted. A pass takes
#: about 1 ns a point and a dear one 10, so that 1,000,000 points a second are 1,000 ns.
MOST = {
    "low latency, EP8": (320, 38),
    "low latency, EP32": (320, 38),
    "high throughput, EP8": (640, 73),
    "high throughput, EP32": (870, 99),
    "high throughput, EP32, group-limited": (740, 99),
    "elastic, EP32": (570, 38),
    "one-sided, EP16": (185, 22),
    "two-sided, EP16": (185, 22),
    "all-gather, EP16": (121, 20),
    "padded all-to-all, EP16": (150, 25),
}

spec = spec_from_file_location("closed_form_speed", BENCHMARK)
speed = module_from_spec(spec)
spec.loader.exec_module(speed)


@pytest.mark.parametrize("case", speed.CASES)
def test_a_layer_point_costs_few_passes(case, counted):
    calls = []
    for points in (100, 1000):
        with counted.counting() as work:
            speed.layer(case, points, lambda values, work=work: counted.Counted(values, work))()
        passes, dear = MOST[case]
        assert work.passes(points) <= passes and work.dear(points) <= dear
        assert work.dear(points) > 1, "nothing was counted"
        calls.append(work.calls)
    assert calls[0] == calls[1], "more points are more elements of the same calls"


def test_scipy_is_not_needed_to_sweep():
    """It takes a third of a second to import; the closed form does without."""
    import subprocess
    import sys

    code = "import sys, epicycle.sim.ep.protocols; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
