"""Self-contained HTML reports (Plotly inlined) of simulation results."""

from .page import render, write_report

__all__ = ["render", "write_report"]
