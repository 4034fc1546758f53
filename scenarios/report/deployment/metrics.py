"""An evaluation's numbers: the few that come first, all of them in a table, and how sure each of them is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ...answer.evaluation import Evaluation, Metric
from ..shell.bars import Bar, Span, bars
from ..shell.page import Html, more, safe, section, table
from ..shell.quantity import between, said

#: The metrics a page begins with, where an evaluation has them.
FIRST = (
    "layer",
    "tpot",
    "ttft",
    "tokens_per_s_user",
    "output_tokens_per_s_gpu",
    "usd_per_mtok_output",
    "requests_per_s",
    "mfu",
    "mbu",
)
SHOWN_FACTS = 8


def fact(name: object, value: object, small: object = "") -> Html:
    """One headline number."""
    return Html(f"<div><dt>{safe(name)}</dt><dd>{safe(value)}<small>{safe(small)}</small></dd></div>")


def facts(items: Sequence[Html]) -> Html:
    return Html(f"<dl class=facts>{''.join(items)}</dl>")


def metric_facts(evaluation: Evaluation, before: Sequence[Html] = ()) -> Html:
    """The headline numbers with their 90 % intervals, after the facts ``before``."""
    known = {m.key: m for m in evaluation.metrics}
    shown = [known[k] for k in leading(known)][: SHOWN_FACTS - len(before)]
    return facts([*before, *(fact(m.words, said(m.value, m.unit, m.key), interval(m)) for m in shown)])


def leading(keys: Iterable[str]) -> list[str]:
    """``keys`` with the headline ones first."""
    have = dict.fromkeys(keys)
    return [k for k in FIRST if k in have] + [k for k in have if k not in FIRST]


def distinct(keys: Iterable[str], changes: Sequence[Mapping[str, float]]) -> list[str]:
    """``keys`` without those that all ``changes`` (key -> relative change) move exactly as they move an earlier one."""
    seen: dict[tuple[float, ...], str] = {}
    for key in keys:
        seen.setdefault(tuple(round(change.get(key, 0.0), 9) for change in changes), key)
    return list(seen.values())


def interval(metric: Metric) -> str:
    """The 90 % interval in words; empty where nothing is known."""
    if metric.low90 is None or metric.high90 is None or metric.low90 == metric.high90:
        return ""
    return f"90 %: {between(metric.low90, metric.high90, metric.unit, metric.key)}"


def metric_table(metrics: Sequence[Metric]) -> Html:
    """Every metric with both intervals."""
    rows = [
        (
            m.words,
            said(m.value, m.unit, m.key),
            _range(m, m.low50, m.high50),
            _range(m, m.low90, m.high90),
            Html(f"<code>{safe(m.key)}</code>"),
        )
        for m in metrics
    ]
    return table(("metric", "value", "50 % interval", "90 % interval", "key"), rows, (0, 4))


def value_table(values: Mapping[str, float], known: Mapping[str, Metric]) -> Html:
    """Bare values by metric key, in words where an evaluation's metrics ``known`` say them."""
    rows = []
    for key, value in values.items():
        words, unit = (known[key].words, known[key].unit) if key in known else key_words(key)
        rows.append((words, said(value, unit, key)))
    return table(("metric", "value"), rows)


def key_words(key: str) -> tuple[str, str]:
    """(words, unit) of a metric of which only the key is known."""
    return _KEYS.get(key, (key.replace("_", " "), ""))


def short_words(key: str, words: str) -> str:
    """A metric's name for a button: short where it is a usual one, else its own ``words``."""
    return _KEYS[key][0] if key in _KEYS else words


def sureness(evaluation: Evaluation) -> Html:
    """How wide the intervals are, each beside the value it belongs to, and what widened them."""
    sure = [m for m in evaluation.metrics if m.value and m.low90 is not None and m.high90 is not None and m.low90 < m.high90]
    if not sure and not evaluation.why_wide:
        return Html("")
    rows = [_interval_bar(m) for m in sure]
    drawn = bars(rows, "%", 100.0, signed=True) if rows else ""
    reasons = "".join(f"<li>{safe(w)}</li>" for w in evaluation.why_wide)
    why = f"<h3>What widened them</h3><ul>{reasons}</ul>" if reasons else ""
    body = f"{drawn}{why}{more('Every number with its intervals', metric_table(evaluation.metrics))}"
    lead = (
        "Nine measurements in ten should lie within the pale bars, one in two within the dark ones; the line is the prediction."
    )
    return section("sure", "How sure this is", lead, body)


def _interval_bar(m: Metric) -> Bar:
    def off(value: float | None) -> float:
        return (m.value if value is None else value) / m.value - 1.0

    spans = [Span(off(m.low90), off(m.high90), "var(--nvlink-2)", interval(m), "ghost")]
    if m.low50 is not None and m.high50 is not None:
        spans.append(Span(off(m.low50), off(m.high50), "var(--nvlink)", f"50 %: {_range(m, m.low50, m.high50)}"))
    spans.append(Span(0.0, 0.0, "", "", "mark"))
    return Bar(m.words, tuple(spans), said(m.value, m.unit, m.key), _range(m, m.low90, m.high90))


def _range(m: Metric, low: float | None, high: float | None) -> str:
    if low is None or high is None or low == high:
        return "–"
    return between(low, high, m.unit, m.key)


_KEYS = {
    "tpot": ("time per output token", "s"),
    "ttft": ("time to first token", "s"),
    "e2e": ("time of a request", "s"),
    "requests_per_s": ("requests", "requests/s"),
    "output_tokens_per_s": ("output", "tokens/s"),
    "total_tokens_per_s": ("input and output", "tokens/s"),
    "output_tokens_per_s_gpu": ("output per GPU", "tokens/s"),
    "total_tokens_per_s_gpu": ("input and output per GPU", "tokens/s"),
    "tokens_per_s_user": ("speed of a user", "tokens/s"),
    "usd_per_mtok_output": ("cost of output", "USD/Mtok"),
    "usd_per_mtok_input": ("cost of input", "USD/Mtok"),
    "usd_per_mtok": ("cost of a token", "USD/Mtok"),
    "usd_per_hour": ("bill", "USD/h"),
    "concurrency": ("requests in flight", ""),
    "mfu": ("MFU", ""),
    "mbu": ("MBU", ""),
}
