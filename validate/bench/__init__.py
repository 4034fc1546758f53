"""Measure our kernels on a device: correct first, then timed, each row with where it came from."""

from __future__ import annotations

from .failed import BenchFailed
from .run import MODES, Asked, run_bench

__all__ = ["MODES", "Asked", "BenchFailed", "run_bench"]
