"""The gallery as JSON: one record for every published figure."""

from __future__ import annotations

from dataclasses import asdict
from math import isfinite
from typing import Any

from ..published.row import Gallery, Row
from .envelope import envelope_json
from .json_text import rounded


def gallery_json(found: Gallery) -> str:
    """``rows``, and of every scenario its system, section and prose."""
    systems = [
        {"scenario": e.scenario, "system": e.system, "section": e.section, "prose": e.prose, "rows": len(e.rows)}
        for e in found.entries
    ]
    return envelope_json("gallery", {"systems": systems, "rows": [_record(row) for row in found.rows]})


def _record(row: Row) -> dict[str, Any]:
    return {key: _plain(value) for key, value in asdict(row).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return rounded(value) if isfinite(value) else None
    return value
