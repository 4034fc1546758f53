"""Every kernel against its reference, on the device that is there."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any

import pytest

_SPEC = importlib.util.spec_from_file_location("gpu_cases", Path(__file__).with_name("cases.py"))
assert _SPEC and _SPEC.loader
table = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(table)

KERNELS = Path(__file__).parents[2] / "kernels"


@pytest.mark.gpu
@pytest.mark.parametrize("case", table.CASES)
def test_on_the_device(case: str, gpu: Any) -> None:
    said = gpu.ask(case)
    assert not said["failed"], said["failed"]


@pytest.mark.parametrize("case", table.CASES)
def test_the_same_in_the_interpreter(case: str, interpreted: Any) -> None:
    said = interpreted.ask(case)
    assert not said["failed"], said["failed"]
    assert set(table.CASES[case]) <= set(said["kernels"]), "the table says that the case runs these"


def test_every_case_of_the_bench_has_a_line(interpreted: Any) -> None:
    assert set(interpreted.ask("names")["names"]) == set(table.BENCH)


def test_every_kernel_is_in_some_line() -> None:
    files = {path: ast.parse(path.read_text(encoding="utf-8")) for path in KERNELS.rglob("*.py")}
    launched = {
        f"{path.stem}.{node.name}"
        for path, tree in files.items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and node.name.endswith("_kernel")
        and any("triton.jit" in ast.unparse(mark) for mark in node.decorator_list)
    }
    assert launched == {kernel for kernels in table.CASES.values() for kernel in kernels}
