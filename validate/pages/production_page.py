"""The production runs as a section of docs/validation.md: published beside predicted, whole."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..serving.production import RUNS, SKEW, Blind, Pools, pools, predict_run

TITLE = "Production runs, blind"


def section() -> Iterator[str]:
    """Lines of Markdown."""
    found = [predict_run(run) for run in RUNS]
    errors = np.abs([blind.error for blind in found])
    inside = sum(_inside(blind) for blind in found)
    yield f"## {TITLE}"
    yield ""
    median, beyond = 100 * np.median(errors), int((errors > 0.35).sum())
    yield f"{len(found)} throughputs of whole pools, none of them fitted: median absolute error {median:.0f} %,"
    yield f"{beyond} beyond 35 %. {inside} of {len(found)} lie inside the 90 % interval of the engine's step."
    yield "Where experts are balanced, the fullest rank is taken to have as much more than the mean as published balancing"
    yield f"leaves: {100 * SKEW.rank_imbalance:.0f} %."
    yield ""
    yield "| run | published, tokens/s | per | predicted | error, % | 90 % interval | step, ms | batch | assumed | reason |"
    yield "|---|--:|---|--:|--:|---|--:|--:|---|---|"
    for blind in found:
        run = blind.run
        low, high = (blind.predicted / f for f in (blind.band.high90, blind.band.low90))
        per = "GPU" if run.per == 1 else f"{run.per} GPUs"
        batch = f"{blind.batch:.0f}" if blind.batch else ""
        numbers = f"{run.published:,.0f} | {per} | {blind.predicted:,.0f} | {100 * blind.error:+.0f}"
        numbers += f" | {low:,.0f} to {high:,.0f}"
        yield f"| {run.name} | {numbers} | {1e3 * blind.step_s:.0f} | {batch} | {run.assumed} | {run.reason} |"
    yield ""
    yield from _ratio(pools())
    yield ""
    yield "Sources: " + "; ".join(dict.fromkeys(blind.run.source for blind in found)) + "."


def _ratio(found: Pools) -> Iterator[str]:
    """Prefill nodes for each decode node, and what the pools' use has to do with it."""
    away = 100.0 * (found.equal / found.run - 1.0)
    used, decoding = 100 * found.prefill_used, 100 * found.decode_used
    yield f"DeepSeek's day ran 95 prefill nodes for 131 of decode, {found.run:.2f} to one. Pools of the predicted rates,"
    yield f"both in use to the same share, would be {found.equal:.2f} to one ({away:+.0f} %): the published rates are"
    yield f"{used:.0f} % of a full prefill pool's and {decoding:.0f} % of a full decode pool's. A prefill pool sized for the"
    yield "hours and the tail of its times to first token stands idle that much more; with those two shares the predicted"
    yield "pools are as many as were run."


def _inside(blind: Blind) -> bool:
    return blind.predicted / blind.band.high90 <= blind.run.published <= blind.predicted / blind.band.low90
