"""How long a start takes: ``python tests/benchmarks/start_speed.py``.

Wall seconds, the best of several starts, of the command; first a bare Typer program, which is what a start
cannot do without. (`tests/test_packaging.py` counts what is imported.)
"""

from __future__ import annotations

import subprocess
import sys
import time

BARE = "import typer, rich.console, rich.table, rich.panel; typer.main.get_command(typer.Typer(callback=print))"
STARTS: dict[str, list[str]] = {
    "a bare Typer program": ["-c", BARE],
    "epicycle --help": ["-m", "epicycle", "--help"],
    "epicycle catalog": ["-m", "epicycle", "catalog"],
    "epicycle simulate ep-anatomy": ["-m", "epicycle", "simulate", "ep-anatomy"],
    "epicycle plan plan-deepseek-v3-h200": ["-m", "epicycle", "plan", "plan-deepseek-v3-h200"],
}


def seconds(arguments: list[str], times: int = 5) -> float:
    """The best of ``times`` starts."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        found.append(time.perf_counter() - began)
    return min(found)


def main() -> None:
    for name, arguments in STARTS.items():
        print(f"{name:40s} {seconds(arguments):6.2f} s")


if __name__ == "__main__":
    main()
