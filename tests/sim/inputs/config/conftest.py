"""Config files written for a test, and the published shapes (`published.py`) that several tests read."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from epicycle.sim.inputs.model import MoeModel, load_model


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"config_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


PUBLISHED = _load("published").PUBLISHED


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``published``: every published shape, by its name."""
    if "published" in metafunc.fixturenames:
        metafunc.parametrize("published", PUBLISHED.values(), ids=PUBLISHED.keys())


@pytest.fixture(scope="session")
def shapes() -> dict[str, Any]:
    """All of `published.py`."""
    found: dict[str, Any] = PUBLISHED
    return found


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write an object as a config file of a folder of its own and give its path; ``beside``: further files of that folder."""

    def write(config: object, name: str = "config.json", **beside: object) -> Path:
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        for file, content in {name: config, **{key.replace("__", "."): value for key, value in beside.items()}}.items():
            (folder / file).write_text(content if isinstance(content, str) else json.dumps(content))
        return folder / name

    return write


@pytest.fixture
def read(write: Callable[..., Path]) -> Callable[..., MoeModel]:
    """The model of an object written as a config file."""

    def read(config: dict[str, Any], **beside: object) -> MoeModel:
        return load_model(write(config, "params.json" if "dim" in config else "config.json", **beside))

    return read
