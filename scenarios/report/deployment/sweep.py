"""The page of a sweep: every metric over the axes, what the step is made of at each point, and what was refused."""

from __future__ import annotations

from pathlib import Path

from plotly.offline import get_plotlyjs

from ...answer.evaluation import Evaluation, StepTime, Sweep, SweepPoint
from ..shell import page
from ..shell.inputs import inputs
from ..shell.opening import opening
from ..shell.page import Html, more, safe, section, table
from ..shell.quantity import between, said
from .metrics import fact, facts, short_words
from .parts import group_legend
from .swept import charts, short_axes, shown_metrics
from .two_steps import composition

SHOWN_STEPS = 40  # points whose step is drawn

CONTENTS = (
    ("answer", "Answer"),
    ("metrics", "Metrics"),
    ("steps", "Steps"),
    ("points", "Points"),
    ("refused", "Refused"),
    ("inputs", "Inputs"),
)


def render_sweep(sweep: Sweep, command: str) -> str:
    """The page of ``sweep`` as HTML. ``command`` is what reproduces it."""
    parts = {
        "answer": opening(sweep.name, sweep.description, sweep.sentence, _facts(sweep), sweep.notes),
        "metrics": charts(sweep),
        "steps": _steps(sweep),
        "points": _points(sweep),
        "refused": _refused(sweep),
        "inputs": _inputs(sweep, command),
    }
    contents = [(name, words) for name, words in CONTENTS if parts[name]]
    return page.document(f"{sweep.name} · sweep · epicycle", contents, "\n".join(parts[n] for n, _ in contents), get_plotlyjs())


def write_sweep_report(sweep: Sweep, path: Path, command: str) -> None:
    """Write the page of ``sweep`` to ``path``. Raises OSError if it cannot be written."""
    page.write(render_sweep(sweep, command), path)


def answered(sweep: Sweep) -> list[tuple[SweepPoint, Evaluation]]:
    """The points that have an answer."""
    return [(p, p.evaluation) for p in sweep.points if p.evaluation is not None]


def _facts(sweep: Sweep) -> Html:
    """How much was swept, and the range of the headline metrics with where each is best."""
    found = answered(sweep)
    refused = len(sweep.points) - len(found)
    names = short_axes(sweep)
    items = [fact("points", f"{len(sweep.points):,}", f"{refused:,} refused" if refused else "all answered")]
    for key, metric in shown_metrics([e for _, e in found])[:7]:
        have = [(p, e.metric(key)) for p, e in found if any(m.key == key for m in e.metrics)]
        values = [m.value for _, m in have]
        if not metric.better:
            items.append(fact(metric.words, between(min(values), max(values), metric.unit, key), "from least to most"))
            continue
        choose = max if metric.better == "high" else min
        best, top = choose(have, key=lambda pm: pm[1].value)
        worst = max(values) if choose is min else min(values)
        where = best.values[0] if len(names) == 1 else ", ".join(f"{n} {v}" for n, v in zip(names, best.values, strict=True))
        small = f"best, at {where}; worst {said(worst, metric.unit, key)}"
        items.append(fact(metric.words, said(top.value, metric.unit, key), small))
    return facts(items)


def _main_step(evaluation: Evaluation) -> StepTime | None:
    """The step that sets the time per token: decode, else mixed, else the first there is."""
    steps = [s for p in evaluation.pools for s in p.steps]
    order = {"decode": 0, "mixed": 1, "prefill": 2}
    return min(steps, key=lambda s: order.get(s.phase, 3)) if steps else None


def _steps(sweep: Sweep) -> Html:
    found = [(", ".join(p.values), s) for p, e in answered(sweep) if (s := _main_step(e)) is not None]
    if not found:
        return Html("")
    shown = found[:SHOWN_STEPS]
    note = f"<p class=note>The first {SHOWN_STEPS} of {len(found)} points.</p>" if len(found) > len(shown) else ""
    phases = {s.phase for _, s in shown}
    what = f"the {phases.pop()} step" if len(phases) == 1 else "the step"
    lead = f"Exposed time of {what} at each point, by group of kernels in the order they run. Changes are against the first."
    body = f"{group_legend([s for _, s in shown])}{composition(shown)}{note}"
    return section("steps", f"What {what} is made of, by {' and '.join(sweep.axes)}", lead, body)


def _points(sweep: Sweep) -> Html:
    found = answered(sweep)
    if not found:
        return Html("")
    metrics = shown_metrics([e for _, e in found])
    rows: list[list[object]] = []
    for p, e in found:
        have = {m.key: m for m in e.metrics}
        rows.append([*p.values, *(said(have[k].value, have[k].unit, k) if k in have else "–" for k, _ in metrics)])
    listing = table((*short_axes(sweep), *(short_words(k, m.words) for k, m in metrics)), rows, range(len(sweep.axes)))
    open_ = len(sweep.axes) > 2 or len(rows) <= 12
    lead = "What does not vary is left out."
    return section("points", "Every point", lead, more(f"The table ({len(rows)} points)", listing, open_=open_))


def _refused(sweep: Sweep) -> Html:
    refused = [(*p.values, p.refusal or "no reason given") for p in sweep.points if p.evaluation is None]
    if not refused:
        return Html("")
    lead = "Points that cannot be, each with what was wanted, what was got, and the lever."
    return section("refused", "Refused points", lead, table((*sweep.axes, "why"), refused, range(len(sweep.axes) + 1)))


def _inputs(sweep: Sweep, command: str) -> Html:
    found = answered(sweep)
    if found:
        return inputs(found[0][1], command)
    return section("inputs", "Reproduce", "", f"<pre>{safe(command)}</pre>")
