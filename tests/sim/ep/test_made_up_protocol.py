"""A protocol is one file: `made_up_protocol.py`, laid beside the others, is simulated, planned, held in memory and listed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from epicycle.sim.ep.protocol import find_protocol, protocol_table

ROOT = Path(__file__).parents[3]
HOME = """
import shutil, sys
from pathlib import Path
from epicycle.sim.ep import protocols
place = Path(sys.argv[1])
shutil.copy({here!r}, place)
protocols.__path__.append(str(place))  # as if the file lay in sim/ep/protocols
"""


def run(code: str, place: Path) -> str:
    """What ``code`` prints in a process of its own, where the made-up protocol's file lies with the others."""
    home = HOME.format(here=str(Path(__file__).with_name("made_up_protocol.py")))
    done = subprocess.run([sys.executable, "-c", home + code, str(place)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_simulated_with_its_own_buffers(tmp_path: Path) -> None:
    code = """
from epicycle.cli import main
change = ["--set", "deployment.protocol=carrier-pigeon"]
sys.argv = ["epicycle", "simulate", "deepseek-v3-decode-ep32", *change, "--json", f"{place}/x.json"]
main()
"""
    run(code, tmp_path)
    (layer, *_) = json.loads((tmp_path / "x.json").read_text())["layers"]
    assert layer["protocol"] == "carrier-pigeon"
    assert {item["name"]: item["bytes"] for item in layer["memory"]["items"]}["pigeon loft"] == 128_000


def test_it_is_planned_with_and_listed(tmp_path: Path) -> None:
    code = """
from epicycle.cli import main
import contextlib, io
def said(*args):
    sys.argv = ["epicycle", *args]
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main()
    return out.getvalue()
said("plan", "plan-deepseek-v3-h200", "--set", "search.protocols=[carrier-pigeon]", "--json", f"{place}/plan.json")
print("carrier-pigeon" in said("catalog", "protocols"))
from epicycle.sim.ep.protocol import protocol_table
print(protocol_table())
from epicycle.scenarios.plan.workers import _tried_with
from epicycle.scenarios.ask.search import Search
print(_tried_with("sglang", Search()))
"""
    told = run(code, tmp_path).splitlines()
    assert told[0] == "True"
    assert "| `carrier-pigeon` | a bird a row | nobody's | anywhere | contiguous | a loft |" in told
    assert "carrier-pigeon" in told[-1]
    assert '"carrier-pigeon"' in (tmp_path / "plan.json").read_text()


def test_an_unknown_one_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'low-latency'"):
        find_protocol("low-latencies")


def test_the_documentation_has_the_table_of_protocols() -> None:
    assert protocol_table() in (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8")
