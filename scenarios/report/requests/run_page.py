"""The page of a run of requests: distributions against the limits, the run in time, who was slowest and why."""

from __future__ import annotations

from pathlib import Path

from plotly.offline import get_plotlyjs

from ....hwmodels.units import format_time
from ....sim.serving.requests.tally import PERCENTILES, name_of
from ...answer.request_run import RequestRun
from ...answer.words.number_text import number_text
from ..deployment.limits import limits_section
from ..deployment.metrics import fact, facts, sureness
from ..deployment.waterfall import steps
from ..shell import page
from ..shell.bars import Bar, bars, stacked
from ..shell.inputs import inputs
from ..shell.memory import pools_memory
from ..shell.opening import opening
from ..shell.page import Html, safe, section, table
from .pictures import cumulative, timeline

CONTENTS = (
    ("answer", "Answer"), ("distributions", "Distributions"), ("limits", "Limits"), ("run", "In time"),
    ("failures", "Failures"),
    ("slowest", "Slowest"), ("use", "Use"), ("step", "Step"), ("memory", "Memory"), ("sure", "Intervals"), ("inputs", "Inputs"),
)  # fmt: skip
WORDS = {
    "ttft": "time to first token", "later_ttft": "that of later turns", "queue": "of it in the queue",
    "tpot": "time per output token", "itl": "time between two tokens", "e2e": "arrival to last token",
    "talk": "whole conversation, pauses included",
}  # fmt: skip
_COLOURS = {
    "waited": "var(--op-other)",
    "prefill": "var(--sm)",
    "transfer": "var(--nic)",
    "lost and computed again": "var(--alarm)",
}


def render_run(run: RequestRun, command: str) -> str:
    """The page of ``run`` as HTML. ``command`` is what reproduces it."""
    e = run.evaluation
    parts = {
        "answer": opening(run.name, run.description, run.sentence, _facts(run), e.notes),
        "distributions": _distributions(run),
        "limits": limits_section(e.limits),
        "run": _in_time(run),
        "failures": _failures(run),
        "slowest": _slowest(run),
        "use": _use(run),
        "step": steps(e, "Where a step's time goes, at the mean load") if e.pools else Html(""),
        "memory": pools_memory(e) if e.pools else Html(""),
        "sure": sureness(e),
        "inputs": inputs(e, command),
    }
    contents = [(name, words) for name, words in CONTENTS if parts[name]]
    return page.document(f"{run.name} · served · epicycle", contents, "\n".join(parts[n] for n, _ in contents), get_plotlyjs())


def write_run_report(run: RequestRun, path: Path, command: str) -> None:
    """Write the page of ``run`` to ``path``. Raises OSError if it cannot be written."""
    page.write(render_run(run, command), path)


def _facts(run: RequestRun) -> Html:
    found = run.distributions
    shown = [
        fact("served", f"{run.counts['served']:,.0f}", f"of {run.counts['played']:,.0f} requests"),
        fact("first token", format_time(found["ttft"].percentile["p99"]), f"p99; mean {format_time(found['ttft'].mean)}"),
        fact("per token", format_time(found["tpot"].percentile["p99"]), f"p99; mean {format_time(found['tpot'].mean)}"),
    ]
    goodput = next((m for m in run.evaluation.metrics if m.key == "goodput"), None)
    if goodput is not None:
        shown.append(fact("goodput", f"{goodput.value:.1%}", "of the requests keep the limits"))
    return facts(shown)


def _distributions(run: RequestRun) -> Html:
    names = [name_of(p) for p in PERCENTILES]
    rows = []
    for key, words in WORDS.items():
        d = run.distributions.get(key)
        if d is None or not d.count:
            continue
        closed = run.closed_form.get(key)
        cells = [_sure(d.mean, d.low.get("mean"), d.high.get("mean"))]
        cells += [_sure(d.percentile[n], d.low.get(n), d.high.get(n)) for n in names]
        rows.append((words, *cells, format_time(closed) if closed is not None else "–"))
    lead = (
        "Every request counts once, every interval between two tokens once. Small ranges: 95 % confidence of this run, by "
        "batch means; how well the model itself is known stands under Intervals."
    )
    limits = {"ttft": _limit(run, "ttft"), "tpot": _limit(run, "tpot")}
    figures = "".join(
        f"<h3>{safe(WORDS[key])}</h3>{cumulative(key, run.distributions[key], limits.get(key), WORDS[key])}"
        for key in ("ttft", "tpot", "e2e")
        if run.distributions[key].count
    )
    head = ("", "mean", *names, "closed form's mean")
    return section("distributions", "How long requests waited", lead, table(head, rows) + figures)


def _limit(run: RequestRun, key: str) -> float | None:
    """The limit that a request itself is held to: the narrowest given."""
    given = [limit.wanted for limit in run.evaluation.limits if limit.key.startswith(key)]
    return min(given) if given else None


def _sure(value: float, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return format_time(value)
    return f"{format_time(value)} ({format_time(low)} to {format_time(high)})"


def _in_time(run: RequestRun) -> Html:
    if not run.timelines:
        return Html("")
    lead = "What waits, runs and is held, pool by pool; a failure is a vertical line."
    marks = [h.at_s for h in run.happenings]
    body = "".join(f"<h3>{safe(line.pool)}</h3>{timeline(line, marks)}" for line in run.timelines)
    return section("run", "The run in time", lead, body)


def _failures(run: RequestRun) -> Html:
    if not run.happenings:
        return Html("")
    rows = [(format_time(h.at_s), format_time(h.until_s - h.at_s), h.words) for h in run.happenings[:200]]
    more = f" The first {len(rows)} are shown." if len(run.happenings) > len(rows) else ""
    lead = f"{len(run.happenings)} failures.{more}"
    return section("failures", "What failed", lead, table(("at", "until whole again", "what"), rows))


def _slowest(run: RequestRun) -> Html:
    if not run.slowest:
        return Html("")
    rows = []
    for slow in run.slowest:
        stages = [(stage, s) for stage, s in slow.stages.items() if s > 0 and stage != "decode"]
        parts = [(stage, s, _COLOURS.get(stage, "var(--op-other)")) for stage, s in stages]
        says = [f"{stage}: {format_time(s)}" for stage, s in stages]
        note = f"{slow.input_tokens:,} in, {slow.output_tokens:,} out; " + ", ".join(says)
        rows.append(Bar(f"request {slow.id}", stacked(parts, says), format_time(slow.ttft_s), note))
    lead = "The requests whose first token came last, and where that time went: waited, computed, moved, lost and done again."
    longest = max(slow.ttft_s for slow in run.slowest)
    unit, factor = ("s", 1.0) if longest >= 1.0 else ("ms", 1e3)
    return section("slowest", "The slowest, and why", lead, bars(rows, unit, factor))


def _use(run: RequestRun) -> Html:
    rows = [(m.words, number_text(m.value, m.unit, m.key)) for m in run.evaluation.metrics if m.unit != "s"]
    counts = [
        (name, f"{value:,.0f}") for name, value in run.counts.items() if value and float(value).is_integer() and value > 1
    ]
    return section("use", "Use, tokens and dollars", "", table(("", "value"), [*rows, *counts]))
