"""The house as docs/architecture.md draws it: one direction, no circle, no crowded room, and every file says what it is."""

from __future__ import annotations

import ast
import importlib.util
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

MOST_BESIDE = 16


@pytest.fixture(scope="module")
def house() -> ModuleType:
    spec = importlib.util.spec_from_file_location("import_graph", Path(__file__).with_name("import_graph.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_is_current(house: ModuleType) -> None:
    page = house.PAGE.read_text(encoding="utf-8")
    assert house.drawn(page) == page, "draw it anew: python tests/house/import_graph.py"


def test_rooms_import_in_one_direction(house: ModuleType) -> None:
    assert set(house.order(house.arrows())) >= {"cli.py", "scenarios/ask", "sim/step", "hwmodels"}


def test_no_two_modules_import_each_other(house: ModuleType) -> None:
    graph = {m.as_posix(): {i.as_posix() for i in house.imported(m)} - {m.as_posix()} for m in house.modules()}
    TopologicalSorter(graph).prepare()  # raises CycleError naming the modules


def test_no_room_is_crowded(house: ModuleType) -> None:
    beside = Counter(m.parent.as_posix() for m in house.modules() if m.name != "__init__.py")
    crowded = {room: files for room, files in beside.items() if files > MOST_BESIDE}
    assert not crowded, f"more than {MOST_BESIDE} files beside each other: build floors"


def test_every_module_says_what_it_is(house: ModuleType) -> None:
    silent = [
        m.as_posix() for m in house.modules() if not ast.get_docstring(ast.parse((house.ROOT / m).read_text(encoding="utf-8")))
    ]
    assert not silent
