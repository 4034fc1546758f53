"""No test reads a clock to judge: a loaded machine is not a failing test. Tests count, tests/benchmarks time."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
CLOCKS = {"perf_counter", "process_time", "monotonic", "thread_time", "time", "clock_gettime", "times"}
MODULES = {"time", "timeit", "os"}
#: file -> why it may look at a clock: to give up waiting, never to say that something was too slow.
WAITS = {"scenarios/conftest.py": "a browser that does not answer within two minutes is gone"}


def clocks_read(code: str) -> list[str]:
    """What ``code`` reads of clocks, and the deadlines that it gives to hypothesis."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in MODULES:
            found += [f"{node.value.id}.{node.attr}"] * (node.attr.removesuffix("_ns") in CLOCKS)
        elif isinstance(node, ast.Attribute) and node.attr in ("ru_utime", "ru_stime"):
            found.append(node.attr)
        elif isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow") and "datetime" in ast.unparse(node.value):
            found.append(ast.unparse(node))
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            found += [f"{node.module}.{a.name}" for a in node.names if a.name.removesuffix("_ns") in CLOCKS | {"timeit", "*"}]
        elif isinstance(node, ast.Import):
            found += [f"import {a.name}" for a in node.names if a.name == "timeit" or (a.asname and a.name == "time")]
        elif isinstance(node, ast.keyword) and node.arg == "deadline" and ast.unparse(node.value) != "None":
            found.append(f"deadline={ast.unparse(node.value)}")
    return found


def test_no_test_reads_a_clock() -> None:
    files = [path for path in TESTS.rglob("*.py") if "benchmarks" not in path.relative_to(TESTS).parts]
    read = {path.relative_to(TESTS).as_posix(): clocks_read(path.read_text(encoding="utf-8")) for path in files}
    found = {name: clocks for name, clocks in read.items() if clocks}
    assert set(found) <= set(WAITS), f"count instead, or time it in tests/benchmarks: {found}"
    assert set(WAITS) <= set(found), "no longer waits: strike it from the list"


@pytest.mark.parametrize(
    "code",
    [
        "import time\nassert time.perf_counter() < 1",
        "from time import monotonic_ns",
        "import time as clock",
        "import timeit",
        "import os\nos.times()",
        "resource.getrusage(resource.RUSAGE_SELF).ru_utime",
        "import datetime\ndatetime.datetime.now()",
        "from hypothesis import settings\nsettings(deadline=200)",
    ],
)
def test_a_clock_is_seen(code: str) -> None:
    assert clocks_read(code)


def test_sleeping_is_not_judging() -> None:
    assert clocks_read("import time\ntime.sleep(1)\nsettings(deadline=None)\nclock.timeout(1)") == []
