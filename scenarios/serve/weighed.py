"""Requests as they end, weighed: distributions, who kept the limits, the slowest; nothing of a request is kept but those."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...sim.inputs.serving import Slo
from ...sim.serving.requests.loop import layout as at
from ...sim.serving.requests.tally import Histogram, together
from ..answer.request_run import Slow

_SHOWN = 20
STAGES = {"waited": "waited", "prefilled": "prefill", "moved": "transfer", "lost": "lost and computed again"}


class Weighed:
    """Takes `layout.FINISHED` records. Requests that arrived before ``warmup_s`` count as played, and in nothing else but
    ``after``, what ended since then: rates are of ends, or a queue would hide its own length. ``talks``: requests are turns of
    conversations.
    """

    def __init__(self, slo: Slo, warmup_s: float, talks: bool) -> None:
        self.slo, self.warmup, self.talks = slo, round(warmup_s * 1e12), talks
        self.histograms = {key: Histogram() for key in ("ttft", "tpot", "e2e", "queue", "later_ttft", "talk")}
        self.counts = dict.fromkeys(("served", "failed", "refused", "gave up", "played", "kept"), 0)
        self.tokens = {"input": 0, "output": 0, "hit": 0, "wasted": 0, "kept": 0}
        self.preempted = self.tries = 0
        self.after = dict.fromkeys(("served", "kept", "input", "output"), 0)
        self.first_ps, self.last_ps = -1, 0
        self._slowest: list[tuple[float, int, Slow]] = []

    def take(self, records: Any) -> None:
        """More requests that have ended."""
        self.counts["played"] += records.size
        self._count_ends(records[(records["end"] >= self.warmup) & (records["status"] == at.SERVED)])
        r = records[records["arrival"] >= self.warmup]
        if not r.size:
            return
        for status, name in ((at.FAILED, "failed"), (at.REJECTED, "refused"), (at.EXPIRED, "gave up")):
            self.counts[name] += int(np.count_nonzero(r["status"] == status))
        self.tries += int(r["tries"].sum())
        self.tokens["wasted"] += int(r["wasted"].sum())
        self.preempted += int(r["preempted"].sum())
        r = r[r["status"] == at.SERVED]
        if not r.size:
            return
        self.counts["served"] += r.size
        ttft, e2e = (r["first"] - r["arrival"]) * 1e-12, (r["end"] - r["arrival"]) * 1e-12
        tpot = (r["end"] - r["first"]) * 1e-12 / np.maximum(r["output"] - 1, 1)
        several = r["output"] > 1
        for key, seconds in (("ttft", ttft), ("tpot", tpot[several]), ("e2e", e2e), ("queue", r["waited"] * 1e-12)):
            self.histograms[key].add(seconds)
        if (r["turn"] > 0).any():
            self.histograms["later_ttft"].add(ttft[r["turn"] > 0])
        ended = r[(r["final"] == 1) & (r["began"] >= self.warmup)]
        if self.talks and ended.size:
            self.histograms["talk"].add((ended["end"] - ended["began"]) * 1e-12)
        kept = self._kept(r)
        self.counts["kept"] += int(np.count_nonzero(kept))
        self.tokens["input"] += int(r["input"].sum())
        self.tokens["output"] += int(r["output"].sum())
        self.tokens["kept"] += int(r["output"][kept].sum())
        self.tokens["hit"] += int((r["hit"] + r["loaded"]).sum())
        self._keep_slowest(r, ttft, e2e)

    def _kept(self, r: Any) -> Any:
        """Who kept the limits."""
        kept = np.ones(r.size, bool)
        if self.slo.ttft is not None:
            kept &= (r["first"] - r["arrival"]) * 1e-12 <= self.slo.ttft
        if self.slo.tpot is not None:
            kept &= ((r["end"] - r["first"]) * 1e-12 <= self.slo.tpot * np.maximum(r["output"] - 1, 1)) | (r["output"] <= 1)
        return kept

    def _count_ends(self, r: Any) -> None:
        if not r.size:
            return
        first = int(r["arrival"].min())
        self.first_ps = first if self.first_ps < 0 else min(self.first_ps, first)
        self.last_ps = max(self.last_ps, int(r["end"].max()))
        for name, count in (("served", r.size), ("kept", np.count_nonzero(self._kept(r)))):
            self.after[name] += int(count)
        for name in ("input", "output"):
            self.after[name] += int(r[name].sum())

    def _keep_slowest(self, r: Any, ttft: Any, e2e: Any) -> None:
        for i in np.argsort(-ttft, kind="stable")[:_SHOWN]:
            if len(self._slowest) == _SHOWN and ttft[i] <= self._slowest[0][0]:
                break
            one = r[i]
            stages = {words: float(one[name]) * 1e-12 for name, words in STAGES.items()}
            stages["decode"] = max(0.0, float(e2e[i]) - sum(stages.values()))
            slow = Slow(
                int(one["id"]), float(one["arrival"]) * 1e-12, float(ttft[i]), float(e2e[i]), int(one["input"]),
                int(one["output"]), stages, int(one["tries"]), int(one["preempted"]),
            )  # fmt: skip
            entry = (float(ttft[i]), -slow.id, slow)
            self.keep(entry)

    def keep(self, entry: tuple[float, int, Slow]) -> None:
        """One of the slowest, if it is."""
        if len(self._slowest) < _SHOWN:
            heapq.heappush(self._slowest, entry)
        elif entry > self._slowest[0]:
            heapq.heapreplace(self._slowest, entry)

    @property
    def kept_slowest(self) -> tuple[tuple[float, int, Slow], ...]:
        """As `keep` takes them."""
        return tuple(self._slowest)

    @property
    def slowest(self) -> tuple[Slow, ...]:
        """By their time to first token, the slowest first."""
        return tuple(slow for _, _, slow in sorted(self._slowest, key=lambda e: (-e[0], -e[1])))


def merge(runs: Sequence[Weighed]) -> Weighed:
    """The requests of several runs together."""
    whole = Weighed(runs[0].slo, 0.0, runs[0].talks)
    whole.warmup = runs[0].warmup
    whole.histograms = {key: together([run.histograms[key] for run in runs]) for key in whole.histograms}
    for run in runs:
        for mine, theirs in ((whole.counts, run.counts), (whole.tokens, run.tokens), (whole.after, run.after)):
            for name, count in theirs.items():
                mine[name] += count
        whole.preempted += run.preempted
        whole.tries += run.tries
        for entry in run.kept_slowest:
            whole.keep(entry)
    return whole
