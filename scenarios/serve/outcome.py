"""What is left of a run once it is over, small enough to travel; and several of them as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...sim.ep.machine import machine_of
from ...sim.inputs.serving_question import ServingQuestion
from ...sim.serving.faults.schedule import Happening
from ...sim.serving.requests.loop import layout as at
from ...sim.serving.requests.play import Played, play
from ...sim.step.worker import precision_of
from ..answer.request_run import Timeline
from .load import chunks_of
from .setup import Setup
from .weighed import Weighed, merge

SPANS = 200_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """``seconds``: over which rates are taken. ``itl``: intervals between tokens [bin]. ``use``: shares by name; ``in_flight``:
    requests on average; ``working``: share of the GPUs' time in steps. ``runs``: how many it stands for.
    """

    weighed: Weighed
    seconds: float
    itl: Any
    use: dict[str, float]
    in_flight: float
    working: float
    unfinished: int
    lost_kv: float
    steps: int
    failures: int
    timelines: tuple[Timeline, ...]
    happenings: tuple[Happening, ...]
    runs: int = 1


def played_once(
    question: ServingQuestion,
    setup: Setup,
    *,
    sink: Callable[[Any], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    spans: Callable[[Any, Setup], None] | None = None,
    window: bool = False,
) -> Outcome:
    """One run of ``setup``."""
    warmup = question.requests.warmup if question.requests else 0.0
    weighed = Weighed(question.slo, warmup, setup.rules.keeps > 0)

    def ended(records: Any) -> None:
        weighed.take(records)
        if sink is not None:
            sink(records)

    whole = setup.load.count or max(1, round((setup.load.duration_s or 1.0) * (setup.load.rate or 1.0)))
    told = (lambda done, _: progress(min(done, whole), whole)) if progress is not None else None
    played = play(
        setup.kinds, setup.rules, setup.shelf, chunks_of(question, setup.load), ended,
        changes=setup.changes, tiers=setup.tiers, core_bytes_per_s=setup.core_bytes_per_s,
        spans=SPANS if window else 0, progress=told,
    )  # fmt: skip
    if spans is not None:
        spans(played.world.spans[: played.world.n[at.SPANS]], setup)
    n, happenings = played.world.n, setup.schedule.happenings if setup.schedule else ()
    w = played.world.workers
    return Outcome(
        weighed=weighed,
        seconds=max(0.0, (weighed.last_ps - max(weighed.first_ps, weighed.warmup)) * 1e-12),
        itl=played.world.itl,
        use=_use(question, setup, played),
        in_flight=float(n[at.AREA]) * 1e-6 / max(1e-9, played.end_ps * 1e-12),
        working=float((w["busy"] * w["gpus"]).sum()) / max(1.0, float((w["on"] * w["gpus"]).sum())),
        unfinished=played.unfinished,
        lost_kv=float(n[at.LOST_KV]),
        steps=int(n[at.STEPS]),
        failures=len(happenings),
        timelines=tuple(_timelines(setup, played)),
        happenings=tuple(happenings),
    )


def merged(outcomes: Sequence[Outcome]) -> Outcome:
    """All as one: requests together, shares as means, the first one's timelines."""
    first = outcomes[0]
    if len(outcomes) == 1:
        return first
    names = [name for name in first.use if all(name in o.use for o in outcomes)]
    return Outcome(
        weighed=merge([o.weighed for o in outcomes]),
        seconds=sum(o.seconds for o in outcomes),
        itl=np.sum([o.itl for o in outcomes], axis=0),
        use={name: float(np.mean([o.use[name] for o in outcomes])) for name in names},
        in_flight=float(np.mean([o.in_flight for o in outcomes])),
        working=float(np.mean([o.working for o in outcomes])),
        unfinished=sum(o.unfinished for o in outcomes),
        lost_kv=sum(o.lost_kv for o in outcomes),
        steps=sum(o.steps for o in outcomes),
        failures=sum(o.failures for o in outcomes),
        timelines=first.timelines,
        happenings=first.happenings,
        runs=len(outcomes),
    )


def _use(question: ServingQuestion, setup: Setup, played: Played) -> dict[str, float]:
    """Shares of time and of peak rates, by pool."""
    world, end = played.world, max(1, played.end_ps)
    found: dict[str, float] = {}
    assert question.serving is not None
    machine, precision = machine_of(question.cluster), precision_of(question.model, question.serving)
    stored = precision.experts if question.model.experts else precision.weights
    peak = machine.tensor_flops[stored if stored in machine.tensor_flops else "bf16"]
    gpu_on = gpu_all = gpu_down = 0.0
    for role, name in setup.pools.items():
        w = world.workers[world.workers["role"] == role]
        on = max(1.0, float(w["on"].sum()))
        found[f"{name}: share of time in steps"] = float(w["busy"].sum()) / on
        # A step's flops and bytes are those of one GPU of every stage of a pipeline.
        pp = max(1.0, float(w["pp"].mean()))
        found[f"{name}: MFU"] = float(w["flops"].sum()) / pp / peak / (on * 1e-12)
        found[f"{name}: MBU"] = float(w["bytes"].sum()) / pp / machine.hbm_bytes_per_s / (on * 1e-12)
        gpu_on += float((w["on"] * w["gpus"]).sum())
        gpu_down += float((w["down"] * w["gpus"]).sum())
        gpu_all += float((w["gpus"] * end).sum())
    found["availability"] = 1.0 - gpu_down / gpu_all
    if gpu_on < 0.999 * gpu_all:
        found["share of GPU time that is on"] = gpu_on / gpu_all
    looked = float(world.n[at.LOOKED])
    if setup.rules.prefix and looked:
        found["share of prompt tokens found in a cache"] = float(world.n[at.HITS]) / looked
    return found


def _timelines(setup: Setup, played: Played) -> Iterator[Timeline]:
    rows = int(played.world.n[at.SERIES])
    series = played.world.series[:rows]
    if rows < 2:
        return
    seconds = tuple(series[:, 0, at.S_AT] * 1e-12)
    step = np.diff(series[:, 0, at.S_AT]) * 1e-12
    for role, name in setup.pools.items():
        s = series[:, role]
        per_s = np.concatenate(([0.0], np.diff(s[:, at.S_TOKENS]) / step))
        prompts = np.concatenate(([0.0], np.diff(s[:, at.S_PROMPT]) / step))
        count = sum(kind.count for kind in setup.kinds if kind.role == role)
        busy = np.concatenate(([0.0], np.diff(s[:, at.S_BUSY]) * 1e-12 / step / count))
        values = {
            "waiting": s[:, at.S_WAITING],
            "prompts in work": s[:, at.S_PREFILLING],
            "decoding": s[:, at.S_DECODING],
            "KV cache in use": s[:, at.S_USED] / np.maximum(s[:, at.S_UNITS], 1.0),
            "groups up": s[:, at.S_UP],
            "output tokens/s": per_s,
            "prompt tokens/s": prompts,
            "share of time in steps": np.minimum(busy, 1.0),
        }
        yield Timeline(name, seconds, {key: tuple(float(v) for v in value) for key, value in values.items()})
