"""The comparison with plain torch as a page that grows with the rows: our time beside torch's, the share of the ceiling."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

EVERY_S = 15.0  # a page holds the plotting library: rewriting it for every row would take longer than the rows


class Page:
    """``path`` (None: nowhere), written once with what ``rows`` holds, then again as they come."""

    def __init__(self, path: Path | None, rows: Any) -> None:
        """Raises OSError if ``path`` cannot be written."""
        self.path, self.rows = path, rows
        self.write()

    def grow(self) -> None:
        """Write again if the page is old enough."""
        if self.path is not None and time.monotonic() - self._written > EVERY_S:
            self.write()

    def write(self) -> None:
        self._written = time.monotonic()
        if self.path is not None:
            write_page(self.path, self.rows.rows)


def write_page(path: Path, rows: list[dict[str, Any]]) -> None:
    """``rows`` as `run_bench` returns them. Opens offline."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    rows = [r for r in rows if r.get("case") and r.get("table") in (None, "ep_comm", "grouped_gemm")]
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
        title=f"Kernels against plain torch<br><sub>{made or 'no row yet'}</sub>",
        height=220 + 46 * len(rows),
        template="plotly_white",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(figure.to_html(full_html=True, include_plotlyjs=True))
