"""What several rooms' tests share."""

from __future__ import annotations

import hashlib
import importlib.util
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

#: Long suites whole (`make test-long`), or the share that their marker gives.
LONG = os.environ.get("EPICYCLE_LONG", "0") not in ("", "0")

# A loaded machine is not a failing test: hypothesis looks for wrong answers here, never for slow ones.
settings.register_profile("epicycle", deadline=None, max_examples=1000 if LONG else 100)
settings.load_profile("epicycle")


@pytest.fixture(autouse=True)
def _own_store(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> None:
    """Every test keeps its studies in a store of its own, and prints as wide as it says: what another left would be no test."""
    folder = tmp_path_factory.getbasetemp() / "stores"
    monkeypatch.delenv("COLUMNS", raising=False)  # workers of a parallel run have the width of somebody's terminal
    monkeypatch.setenv("EPICYCLE_STORE", str(folder / hashlib.sha256(request.node.nodeid.encode()).hexdigest() / "s.sqlite"))


@dataclass(frozen=True)
class Run:
    """One run of the command: exit status, stdout and stderr."""

    status: int
    out: str
    err: str


@pytest.fixture
def epicycle(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Run]:
    """Run the ``epicycle`` command in this process, from an empty folder (``tmp_path``)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Run:
        from epicycle.cli import main

        monkeypatch.setattr(sys, "argv", ["epicycle", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        status = stopped.value.code
        return Run(status if isinstance(status, int) else 0, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def counted() -> ModuleType:
    """counted.py: arrays that count what is done to them, for tests that say how much work a formula is."""
    spec = importlib.util.spec_from_file_location("counted", Path(__file__).with_name("counted.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def long() -> bool:
    """Whether long suites run whole: for a test that draws its own cases (``range(500 if long else 25)``)."""
    return LONG


def share_of(items: list[pytest.Item]) -> list[pytest.Item]:
    """The cases of ``long`` suites that are left out of a short run: which, follows from their names alone."""
    suites: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("long"):
            suites.setdefault(item.nodeid.split("[")[0], []).append(item)
    left = []
    for cases in suites.values():
        marker = cases[0].get_closest_marker("long")
        kept = max(1, math.ceil(len(cases) * (marker.kwargs.get("share", 0.1) if marker else 1.0)))
        left += sorted(cases, key=lambda case: hashlib.sha256(case.nodeid.encode()).digest())[kept:]
    return left


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A short run takes a share of the ``long`` suites. ``gpu`` tests are skipped where no CUDA device is."""
    if not LONG and not any("[" in argument for argument in config.args):
        left = share_of(items)
        config.hook.pytest_deselected(items=left)
        out = set(left)
        items[:] = [item for item in items if item not in out]
    _skip_without_device(items)


def _skip_without_device(items: list[pytest.Item]) -> None:
    """Without importing torch for anyone else."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    try:
        import torch

        available = torch.cuda.is_available()
    except ImportError:
        available = False
    if not available:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What is not even collected is named at the end like any other skip."""
    if not LONG:
        terminalreporter.write_line("long suites ran the share that is always the same: make test-long runs them whole")
    if not (importlib.util.find_spec("torch") and importlib.util.find_spec("triton")):
        terminalreporter.write_line("SKIPPED tests/kernels: needs torch and Triton (make test installs both)")
