"""What a start does not pay for: each of these takes a tenth of a second or more to import."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"numba", "scipy", "scipy.special", "scipy.linalg", "plotly", "networkx", "pandas", "torch", "triton", "simpy", "rich"}

COMPILED = """
import numpy as np
from epicycle.sim.fabric.fairshare import csr_routes
csr_routes(np.array([0, 1]), np.array([0]), np.array([1.0]))
"""


def loaded(code: str) -> set[str]:
    """The modules that a fresh process has after running ``code``."""
    print_all = "import sys; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{print_all}"], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("code", "beside"),
    [
        ("import epicycle.cli", {"numpy", "pydantic", "yaml"}),
        ("import epicycle.hwmodels.catalog", {"numpy"}),
        ("import epicycle.sim.inputs.question", {"numpy"}),
        ("import epicycle.sim.inputs.config.keys", {"numpy"}),
        ("import epicycle.scenarios.ask.scenario", {"numpy"}),
        ("import epicycle.sim.ep.protocol, epicycle.sim.ep.bound", set()),
    ],
)
def test_imports_are_light(code: str, beside: set[str]) -> None:
    assert not loaded(code) & (HEAVY | beside)


def test_help_needs_nothing_heavy() -> None:
    code = "import sys; sys.argv = ['epicycle', '--help']\nfrom epicycle.cli import main\ntry: main()\nexcept SystemExit: pass"
    assert not loaded(code) & (HEAVY - {"rich"} | {"numpy", "pydantic", "yaml"})


def test_the_event_engine_loads_numba_without_scipy() -> None:
    modules = loaded(COMPILED)
    assert "numba.np.arraymath" in modules
    assert not {"scipy", "scipy.linalg", "networkx", "plotly", "pandas"} & modules


def test_scipy_is_there_for_whoever_asks_later() -> None:
    code = COMPILED + "import numba, scipy.linalg\nprint(numba.njit(lambda a: np.linalg.inv(a))(np.eye(2)).sum())"
    assert "scipy.linalg.cython_blas" in loaded(code)


@pytest.mark.parametrize("benchmark", sorted(Path(__file__).parent.glob("benchmarks/*.py")), ids=lambda path: path.stem)
def test_a_benchmark_starts(benchmark: Path) -> None:
    """Nothing else imports some of them, and what they import moves."""
    runpy.run_path(str(benchmark), run_name="not main")
