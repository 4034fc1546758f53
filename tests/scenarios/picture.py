"""The README's picture, drawn from an answer: `python tests/scenarios/picture.py` draws docs/plan.svg anew.

Left the deployments of a plan, right where a step of its best one goes. Nothing but text and shapes, light and dark.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

PATH = Path(__file__).parents[2] / "docs" / "plan.svg"
PLAN = "plan-deepseek-v3-h200"
WIDTH, HEIGHT = 900, 330
LEFT, RIGHT, TOP, BOTTOM = 62, 500, 40, 282
BARS, BAR_LEFT = 700, 560
GROUPS = {
    "attention": "a",
    "feed-forward": "f",
    "experts": "x",
    "communication": "c",
    "head": "h",
    "host": "o",
}
STYLE = """
text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1c2126; }
.m { fill: #5f6870; } .t { font-weight: 600; }
.r { stroke: #e1dfd8; } .e { fill: none; stroke: #8b939a; stroke-width: 1.5; } .p { fill: #7fa9c6; } .q { fill: #2b6a99; }
.b { fill: #d9822b; stroke: #1c2126; } .l { stroke: #a8321f; stroke-dasharray: 3 3; } .lt { fill: #a8321f; }
.a { fill: #2b6a99; } .f { fill: #7fb0d6; } .x { fill: #7d9f70; } .c { fill: #963c10; }
.h { fill: #6f4d84; } .o { fill: #8a949b; }
@media (prefers-color-scheme: dark) {
text { fill: #e6e4de; } .m { fill: #9ba4ab; } .r { stroke: #30363c; } .lt { fill: #e8836f; }
.l { stroke: #e8836f; } .q { fill: #5b9fd0; } .p { fill: #3c6f94; } .b { stroke: #e6e4de; } }
"""


def picture() -> str:
    """The picture as SVG."""
    import epicycle

    plan = epicycle.plan(PLAN).to_dict()
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"',
        f' aria-label="{escape(_says(plan))}">',
        f"<style>{STYLE}</style>",
        *_front(plan),
        *_step(plan["best"]["pools"]),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _says(plan: dict[str, Any]) -> str:
    return f"{len(plan['candidates'])} deployments of {plan['name']}: speed of a user against throughput of a GPU"


def _front(plan: dict[str, Any]) -> list[str]:
    found = [c for c in plan["candidates"] if c["values"].get("tpot")]
    xs = [1 / c["values"]["tpot"] for c in found]
    ys = [c["values"]["output_tokens_per_s_gpu"] for c in found]
    most_x, most_y = _round_up(max(xs)), _round_up(max(ys))

    def at(x: float, y: float) -> tuple[float, float]:
        return LEFT + (RIGHT - LEFT) * x / most_x, BOTTOM - (BOTTOM - TOP) * y / most_y

    made = [f'<text class="t" x="{LEFT}" y="18">{len(found)} deployments of DeepSeek-V3 on up to 64 H200</text>']
    for i in range(5):
        x, y = at(most_x * i / 4, most_y * i / 4)
        made.append(f'<line class="r" x1="{LEFT}" y1="{y:.1f}" x2="{RIGHT}" y2="{y:.1f}"/>')
        made.append(f'<text class="m" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{most_y * i / 4:,.0f}</text>')
        made.append(f'<text class="m" x="{x:.1f}" y="{BOTTOM + 16}" text-anchor="middle">{most_x * i / 4:,.0f}</text>')
    made.append(f'<text class="m" x="{LEFT}" y="{TOP - 6}">output tokens/s a GPU</text>')
    made.append(
        f'<text class="m" x="{RIGHT}" y="{BOTTOM + 34}" text-anchor="end">output tokens/s that a user sees (1 / TPOT)</text>'
    )
    limit = next(each["wanted"] for each in plan["limits"] if each["key"] == "tpot")
    x, _ = at(1 / limit, 0)
    made.append(f'<line class="l" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{BOTTOM}"/>')
    made.append(f'<text class="lt" x="{x + 4:.1f}" y="{TOP + 13}">limit: {limit * 1e3:.0f} ms a token</text>')
    edge = sorted((at(x, y) for x, y, c in zip(xs, ys, found, strict=True) if c["on_front"]), key=lambda p: p[0])
    made.append(f'<polyline class="e" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in edge)}"/>')
    for x, y, c in zip(xs, ys, found, strict=True):
        px, py = at(x, y)
        made.append(
            f'<circle class="{"q" if c["on_front"] else "p"}" cx="{px:.1f}" cy="{py:.1f}" r="{5 if c["on_front"] else 3.5}"/>'
        )
    best = plan["best"]["metrics"]
    px, py = at(1 / best["tpot"]["value"], best["output_tokens_per_s_gpu"]["value"])
    made.append(f'<circle class="b" cx="{px:.1f}" cy="{py:.1f}" r="7"/>')
    price = f"the cheapest: ${best['usd_per_mtok_output']['value']:.2f} a million tokens"
    made.append(f'<text x="{px + 11:.1f}" y="{py - 6:.1f}">{price}</text>')
    return made


def _step(pools: list[dict[str, Any]]) -> list[str]:
    step = next(pool["steps"][0] for pool in pools if pool["role"] != "prefill")
    shown = [p for p in step["parts"] if p["exposed_s"] > 0.004 * step["seconds"]]
    row = (BOTTOM - TOP) / len(shown)
    scale = (WIDTH - 16 - BARS) / step["seconds"]
    made = [f'<text class="t" x="{BAR_LEFT}" y="18">Its decode step: {1e3 * step["seconds"]:.1f} ms</text>']
    at = 0.0
    for i, part in enumerate(shown):
        y = TOP + i * row
        made.append(f'<text x="{BARS - 8}" y="{y + row / 2 + 4:.1f}" text-anchor="end">{escape(part["name"])}</text>')
        group = GROUPS.get(part["group"], "o")
        width = max(1.0, part["exposed_s"] * scale)
        made.append(
            f'<rect class="{group}" x="{BARS + at * scale:.1f}" y="{y + 2:.1f}" width="{width:.1f}" height="{row - 4:.1f}"/>'
        )
        at += part["exposed_s"]
    says = "time, each part where the one before it ends"
    made.append(f'<text class="m" x="{WIDTH - 16}" y="{BOTTOM + 34}" text-anchor="end">{says}</text>')
    return made


def _round_up(value: float) -> float:
    size = 10 ** (len(str(int(value))) - 1)
    return next(n for n in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if n * size >= value) * size


if __name__ == "__main__":
    PATH.write_text(picture(), encoding="utf-8")
    print(PATH)
