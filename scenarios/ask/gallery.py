"""The scenarios that ship with epicycle, by name."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from ...hwmodels.errors import UnknownName


def gallery_names() -> tuple[str, ...]:
    """Names of the shipped scenarios, sorted."""
    return tuple(sorted(p.name.removesuffix(".yaml") for p in _folder().iterdir() if p.name.endswith(".yaml")))


def gallery_path(name: str) -> Path:
    """The file of the shipped scenario ``name``. Raises UnknownName with the nearest one."""
    if name not in gallery_names():
        raise UnknownName("scenario", name, gallery_names(), "epicycle catalog scenarios")
    return _folder() / f"{name}.yaml"


def _folder() -> Path:
    return Path(str(files("epicycle.scenarios") / "gallery"))
