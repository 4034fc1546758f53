"""The Typer commands, and nothing else."""

from __future__ import annotations


def main() -> None:
    """Entry point of ``epicycle``."""
    raise SystemExit("under construction")
