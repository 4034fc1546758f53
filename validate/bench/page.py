"""The comparison with plain torch as one page: time of each case, ours beside torch's, and the share of the ceiling."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_page(path: Path, rows: list[dict[str, Any]]) -> None:
    """``rows`` as `run_bench` returns them. Opens offline."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    rows = [r for r in rows if r.get("case")]
    names = [f"{r['case']} · {r.get('tokens_per_rank') or r.get('tokens')} tokens" for r in rows]
    figure = make_subplots(rows=1, cols=2, column_widths=[0.62, 0.38], shared_yaxes=True, horizontal_spacing=0.03)
    figure.add_bar(y=names, x=[r["latency_us"] for r in rows], orientation="h", name="epicycle", row=1, col=1)
    figure.add_bar(y=names, x=[r.get("torch_us") for r in rows], orientation="h", name="plain torch", row=1, col=1)
    share = [100 * r["share_of_ceiling"] if "share_of_ceiling" in r else None for r in rows]
    figure.add_trace(go.Bar(y=names, x=share, orientation="h", name="share of the measured ceiling"), row=1, col=2)
    figure.update_xaxes(type="log", title_text="microseconds", row=1, col=1)
    figure.update_xaxes(range=[0, 110], title_text="% of the copy or matmul ceiling", row=1, col=2)
    figure.update_yaxes(autorange="reversed")
    facts = rows[0] if rows else {}
    made = " · ".join(str(facts.get(k, "")) for k in ("gpu", "driver", "torch", "triton", "commit", "date"))
    figure.update_layout(
        title=f"Kernels against plain torch<br><sub>{made}</sub>", height=220 + 46 * len(rows), template="plotly_white"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(figure.to_html(full_html=True, include_plotlyjs=True))
