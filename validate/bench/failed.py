"""How a bench ends whose kernels were wrong: everything else measured and kept, and one line on what failed."""

from __future__ import annotations

from typing import Any


class BenchFailed(RuntimeError):  # noqa: N818 - what the command prints, not a fault of the program
    """At least one case failed its check; the others were measured and kept."""


def finished(rows: list[dict[str, Any]], failures: list[str], seen: int | None = None) -> list[dict[str, Any]]:
    """``rows``. Raises BenchFailed if there are failures. ``seen``: cases tried, where that is known."""
    if failures:
        of = f" of {seen}" if seen is not None else ""
        raise BenchFailed(f"{len(failures)}{of} cases failed their check: " + "; ".join(failures))
    return rows
