"""The page of a comparison: two deployments side by side, what moved, and the mechanism that moved it."""

from __future__ import annotations

from pathlib import Path

from plotly.offline import get_plotlyjs

from ...answer.evaluation import Comparison, Evaluation, Metric
from ...weigh.headline import comparison_headline
from ..shell import page
from ..shell.inputs import inputs
from ..shell.memory import item_colours, memory_bar
from ..shell.opening import opening
from ..shell.page import Html, section, table
from ..shell.quantity import between, change, said
from .bill import bills
from .metrics import SHOWN_FACTS, fact, facts, interval, leading
from .two_steps import compositions, contributions, walk

CONTENTS = (
    ("answer", "Answer"),
    ("difference", "Difference"),
    ("walk", "Changes"),
    ("metrics", "Side by side"),
    ("steps", "Steps"),
    ("memory", "Memory"),
    ("cost", "Cost"),
    ("inputs", "Inputs"),
)


_SAME = 5e-4  # a relative change that prints as none is neither better nor worse


def render_comparison(comparison: Comparison, command: str) -> str:
    """The page of ``comparison`` as HTML. ``command`` is what reproduces it."""
    a, b = comparison.a, comparison.b
    told = (comparison.sentence, f"A: {_deployment(a)}", f"B: {_deployment(b)}")
    notes = [*told, *dict.fromkeys((*a.notes, *b.notes))]
    parts = {
        "answer": opening(f"A: {a.name} · B: {b.name}", "", comparison_headline(comparison), _facts(a, b), notes),
        "difference": contributions(comparison),
        "walk": walk(comparison),
        "metrics": side_by_side(a, b),
        "steps": compositions(comparison),
        "memory": _memory(a, b),
        "cost": bills([a, b], [f"A: {a.name}", f"B: {b.name}"]),
        "inputs": _inputs(a, b, command),
    }
    contents = [(name, words) for name, words in CONTENTS if parts[name]]
    title = f"{a.name} and {b.name} · compared · epicycle"
    return page.document(title, contents, "\n".join(parts[n] for n, _ in contents), get_plotlyjs())


def write_comparison_report(comparison: Comparison, path: Path, command: str) -> None:
    """Write the page of ``comparison`` to ``path``. Raises OSError if it cannot be written."""
    page.write(render_comparison(comparison, command), path)


def side_by_side(a: Evaluation, b: Evaluation) -> Html:
    """Every metric of either: both values, the change, whether it is for the better, and both 90 % intervals."""
    first, second = ({m.key: m for m in e.metrics} for e in (a, b))
    rows = []
    for key in dict.fromkeys([*first, *second]):
        x, y = first.get(key), second.get(key)
        known = x or y
        assert known is not None
        values = [said(m.value, m.unit, key) if m else "–" for m in (x, y)]
        sure = [interval(m).removeprefix("90 %: ") or "–" if m else "–" for m in (x, y)]
        moved = change(x.value, y.value) if x and y else "–"
        rows.append((known.words, *values, moved, _verdict(x, y), *sure))
    head = ("metric", "A", "B", "change", "for B", "A, 90 % interval", "B, 90 % interval")
    lead = "Both intervals share their causes: a difference can be surer than either number."
    return section("metrics", "Side by side", lead, table(head, rows, (0, 4)))


def _verdict(x: Metric | None, y: Metric | None) -> Html | str:
    if x is None or y is None or not x.better or abs(y.value - x.value) < _SAME * abs(x.value) or x.value == y.value:
        return ""
    good = (y.value > x.value) == (x.better == "high")
    return "better" if good else Html("<span class=warn>worse</span>")


def _facts(a: Evaluation, b: Evaluation) -> Html:
    first, second = ({m.key: m for m in e.metrics} for e in (a, b))
    items = []
    for key in leading(k for k in first if k in second)[:SHOWN_FACTS]:
        x, y = first[key], second[key]
        small = between(x.value, y.value, x.unit, key)
        items.append(fact(x.words, change(x.value, y.value), small))
    return facts(items)


def _deployment(e: Evaluation) -> str:
    workers = "; ".join(p.arrangement for p in e.pools)
    return f"{e.model} on {e.gpus:,} GPUs of {e.cluster}: {workers}"


def _memory(a: Evaluation, b: Evaluation) -> Html:
    colours = item_colours(i for e in (a, b) for p in e.pools for i in p.memory)
    body = "".join(
        memory_bar(f"{side}, {pool.role} worker", pool.memory, pool.hbm_bytes, colours, "left")
        for side, e in (("A", a), ("B", b))
        for pool in e.pools
        if pool.memory
    )
    return section("memory", "Memory of one GPU", "Against each GPU's whole HBM.", body) if body else Html("")


def _inputs(a: Evaluation, b: Evaluation, command: str) -> Html:
    """The inputs that differ, then all of B's with their sources."""
    first, second = ({(r.section, r.name): r for r in e.inputs} for e in (a, b))
    rows = []
    for key in dict.fromkeys([*first, *second]):
        x, y = first.get(key), second.get(key)
        if x is None or y is None or x.value != y.value:
            rows.append((f"{key[0]}: {key[1]}", x.value if x else "–", y.value if y else "–", (y or x).source))  # type: ignore[union-attr]
    differing = (
        table(("input", "A", "B", "source"), rows, (0, 1, 2, 3)) if rows else Html("<p class=note>All inputs are the same.</p>")
    )
    whole = inputs(b, command)
    return (
        Html(f'<section id="differing"><h2>Inputs that differ</h2>{differing}</section>{whole}')
        if a.inputs or b.inputs
        else whole
    )
