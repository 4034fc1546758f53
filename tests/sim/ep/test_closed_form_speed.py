"""A sweep's point costs few elementwise operations: in powers of numpy, so that no machine's speed enters."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "closed_form_speed.py"
POINTS = 20_000
#: A power takes 15 to 25 ns, so that 1,000,000 points a second are 40 to 65 powers: half of that again for a noisy run.
MOST_POWERS = 90.0

spec = spec_from_file_location("closed_form_speed", BENCHMARK)
speed = module_from_spec(spec)
spec.loader.exec_module(speed)


@pytest.mark.parametrize("case", speed.CASES)
def test_a_layer_point_costs_few_powers(case):
    powers = speed.cpu_seconds(speed.layer(case, POINTS)) / speed.cpu_seconds(speed.power(POINTS))
    assert powers <= MOST_POWERS


def test_scipy_is_not_needed_to_sweep():
    """It takes a third of a second to import; the closed form does without."""
    import subprocess
    import sys

    code = "import sys, epicycle.sim.ep.protocol; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
