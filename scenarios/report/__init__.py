"""Self-contained HTML reports (Plotly inlined): of one simulated layer, of a plan, a sweep, a comparison, an explanation."""

from .deployment.compare import render_comparison, write_comparison_report
from .deployment.explain import render_explanation, write_explanation_report
from .deployment.plan import render_plan, write_plan_report
from .deployment.sweep import render_sweep, write_sweep_report
from .layer.exchanges_page import render_exchanges, write_exchanges_report
from .layer.layer_page import render, write_report

__all__ = [
    "render",
    "render_comparison",
    "render_exchanges",
    "render_explanation",
    "render_plan",
    "render_sweep",
    "write_comparison_report",
    "write_exchanges_report",
    "write_explanation_report",
    "write_plan_report",
    "write_report",
    "write_sweep_report",
]
