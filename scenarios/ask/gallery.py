"""The scenarios that ship with epicycle, by name."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from ...hwmodels.errors import UnknownName


def gallery_names() -> tuple[str, ...]:
    """Names of the shipped scenarios, sorted."""
    return tuple(sorted(p.name.removesuffix(".yaml") for p in _folder().iterdir() if p.name.endswith(".yaml")))


def published_names() -> tuple[str, ...]:
    """Names of the shipped scenarios that reproduce a published system (`epicycle gallery`), section by section, sorted."""
    return tuple(path.stem for path in _published())


def gallery_path(name: str) -> Path:
    """The file of the shipped scenario ``name``. Raises UnknownName with the nearest one."""
    if name in gallery_names():
        return _folder() / f"{name}.yaml"
    for path in _published():
        if path.stem == name:
            return path
    raise UnknownName("scenario", name, (*gallery_names(), *published_names()), "epicycle catalog scenarios")


def _published() -> list[Path]:
    return sorted((_folder() / "published").rglob("*.yaml"))


def _folder() -> Path:
    return Path(str(files("epicycle.scenarios") / "gallery"))
