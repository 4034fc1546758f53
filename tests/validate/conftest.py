"""The measurement tables, where a checkout has them beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

TABLES = Path(__file__).resolve().parents[3] / "shared" / "measurements"


@pytest.fixture(scope="session")
def tables() -> Path:
    if not (TABLES / "ep_comm.csv").is_file():
        pytest.skip(f"no measurement tables at {TABLES}")
    return TABLES
