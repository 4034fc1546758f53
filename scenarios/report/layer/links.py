"""How full each link was: utilisation over the whole layer, port by port and NIC by NIC."""

from __future__ import annotations

from collections.abc import Sequence

from ....sim.layer.result import Answer, LinkUse
from ..shell.page import Html, axis, decimal_bytes, figure, label, layout, safe, section, table
from ..shell.words import bound_colour, bound_words, key

DRAWN_LINKS = 256  # beyond, neighbours share a bar
SECONDS_PER_S = 1e5  # a capacity below this counts seconds of work, not bytes: no link is as slow as 100 kB/s


def links(answer: Answer) -> Html:
    """Utilisation bars and the table by kind, of the scenario's own protocol."""
    layer = answer.layers[0]
    kinds: dict[str, list[LinkUse]] = {}
    for use in layer.links:
        kinds.setdefault(use.kind, []).append(use)
    if not kinds:
        return section("links", "Link utilisation", "", "<p class=note>This run used no links.</p>")
    bars = "".join(
        f"<div>{_bars(kind, uses, f'links-{i}')}</div>" for i, (kind, uses) in enumerate(kinds.items()) if len(uses) > 1
    )
    lead = (
        "Bars: share of capacity over the whole layer. Marks: the highest share at any instant; high over a low bar is a burst."
    )
    return section("links", f"Link utilisation: {layer.protocol}", lead, f"{_by_kind(kinds)}<div class=grid>{bars}</div>")


def _by_kind(kinds: dict[str, list[LinkUse]]) -> Html:
    rows: list[list[object]] = []
    for kind, uses in kinds.items():
        busiest = max(uses, key=lambda u: u.utilisation)
        mean = sum(u.utilisation for u in uses) / len(uses)
        name = Html(f"{key(bound_colour(kind))}{safe(kind)}")
        moved, capacity = _amounts(kind, sum(u.moved for u in uses), uses[0].capacity_per_s)
        shares = [f"{100 * v:.1f} %" for v in (mean, busiest.utilisation, max(u.peak for u in uses))]
        rows.append([name, bound_words(kind), len(uses), capacity, moved, *shares, busiest.name])
    return table(
        ("kind", "what it is", "links", "capacity each", "moved", "mean use", "busiest", "peak", "busiest link"),
        rows,
        (0, 1, 8),
    )


def _amounts(kind: str, moved: float, capacity_per_s: float) -> tuple[str, str]:
    """Amount moved and capacity in the kind's own unit: messages, seconds of SM work, or bytes."""
    if kind == "nic_msg":
        return f"{moved:,.0f} messages", f"{capacity_per_s / 1e6:,.1f} M/s"
    if capacity_per_s < SECONDS_PER_S:
        return f"{moved * 1e6:,.1f} us of work", f"{capacity_per_s:,.3g} s of work/s"
    return decimal_bytes(moved), f"{capacity_per_s / 1e9:,.1f} GB/s"


def _bars(kind: str, uses: Sequence[LinkUse], name: str) -> Html:
    ordered = sorted(uses, key=lambda u: (u.index, u.name))
    step = -(-len(ordered) // DRAWN_LINKS)
    groups = [ordered[i : i + step] for i in range(0, len(ordered), step)]
    x = [g[0].index for g in groups] if len({g[0].index for g in groups}) == len(groups) else list(range(len(groups)))
    hover = [label(g[0].name) + (f" and {len(g) - 1} more" if len(g) > 1 else "") for g in groups]
    mean = [round(100 * sum(u.utilisation for u in g) / len(g), 2) for g in groups]
    peak = [round(100 * max(u.peak for u in g), 2) for g in groups]
    bars: dict[str, object] = {
        "type": "bar",
        "x": x,
        "y": mean,
        "customdata": list(zip(hover, peak, strict=True)),
        "marker": {"color": bound_colour(kind), "line": {"width": 0}},
        "hovertemplate": "%{customdata[0]}<br>%{y:.1f} % over the layer<br>%{customdata[1]:.1f} % at its peak<extra></extra>",
    }
    marks: dict[str, object] = {
        "type": "scatter",
        "mode": "markers",
        "x": x,
        "y": peak,
        "marker": {"symbol": "line-ew", "size": 7 if len(x) <= 40 else 3, "line": {"color": "var(--ink)", "width": 1.4}},
        "hoverinfo": "skip",
    }
    xaxis = axis(
        {"nvlink": "GPU", "nic": "NIC", "fabric": "uplink"}.get(kind.split("_")[0], "index"),
        showgrid=False,
        ticks="",
        dtick=1 if len(x) <= 8 else None,
    )
    drawn = layout(
        xaxis, axis("of capacity, %", range=[0, 104], dtick=25), bargap=0.25, margin={"l": 48, "r": 6, "t": 8, "b": 40}
    )
    says = f"Utilisation of {len(uses)} {kind} links, mean {sum(mean) / len(mean):.0f} %"
    return Html(f"<h4>{key(bound_colour(kind))}{safe(kind)}</h4>{figure(name, [bars, marks], drawn, 210, says)}")
