"""What several rooms' tests share."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

# A loaded machine is not a failing test: hypothesis looks for wrong answers here, never for slow ones.
settings.register_profile("epicycle", deadline=None)
settings.load_profile("epicycle")


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """``gpu`` tests are skipped where no CUDA device is, without importing torch for anyone else."""
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
    """Files that are not even collected are named at the end like any other skip."""
    if not (importlib.util.find_spec("torch") and importlib.util.find_spec("triton")):
        terminalreporter.write_line("SKIPPED tests/kernels: needs torch and Triton (make test installs both)")
