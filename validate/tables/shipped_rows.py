"""The measured rows that ship with the package, by name: `epicycle validate h200-2026-11-27.ep_comm.csv` works anywhere."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def shipped_or_own(path: Path) -> Path:
    """``path``, or the file of `validate/measured` of that bare name if there is no such file here."""
    if path.exists() or path.parent != Path():
        return path
    shipped = Path(str(files("epicycle.validate").joinpath("measured"))) / path.name
    return shipped if shipped.is_file() else path
