"""Kernels on a real device: run where torch sees one, skipped with the reason where not; the same bodies in the interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest


class Child:
    """A `child.py` on ``device``, started when first asked."""

    def __init__(self, device: str) -> None:
        self.device, self.process = device, None

    def ask(self, case: str) -> dict[str, Any]:
        """The child's answer to a case's name; fails if it died of the case."""
        if self.process is None or self.process.poll() is not None:
            command = [sys.executable, str(Path(__file__).with_name("child.py")), self.device]
            environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, bufsize=1
            )
        assert self.process.stdin and self.process.stdout
        print(case, file=self.process.stdin, flush=True)
        said = self.process.stdout.readline()
        assert said, f"the process that checks {case} on {self.device} ended with status {self.process.wait()}"
        return json.loads(said)

    def close(self) -> None:
        if self.process is not None:
            self.process.communicate()


def _child(device: str) -> Iterator[Child]:
    child = Child(device)
    yield child
    child.close()


@pytest.fixture(scope="session")
def gpu() -> Iterator[Child]:
    """Cases on the CUDA device."""
    yield from _child("cuda")


@pytest.fixture(scope="session")
def interpreted() -> Iterator[Child]:
    """The same cases in Triton's interpreter."""
    if not (find_spec("torch") and find_spec("triton")):
        pytest.skip("torch and Triton are not installed")
    yield from _child("cpu")
