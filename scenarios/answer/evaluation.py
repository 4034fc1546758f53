"""What a serving question is answered with: the numbers of one deployment, where its step's time goes, memory and cost.

The commands build on it: a plan ranks candidates, a sweep repeats it, a comparison sets two side by side, an explanation
shakes its inputs. Records only; `evaluate` (scenarios/answer/evaluate.py) fills them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ...sim.ep.buffer import MemoryItem
from ...sim.inputs.serving import Serving
from ...sim.layer.result import InputRow


@dataclass(frozen=True, slots=True)
class Metric:
    """One number with its unit and its intervals (absolute values; equal to ``value`` where nothing is known).

    ``key``: the stable name in JSON, CSV and ``--metric``: tpot, ttft, requests_per_s, output_tokens_per_s,
    output_tokens_per_s_gpu, tokens_per_s_user, usd_per_mtok_output, usd_per_hour, mfu, mbu, concurrency…
    """

    key: str
    words: str
    unit: str  # "s", "tokens/s", "USD/Mtok", "" …
    value: float
    better: Literal["low", "high", ""] = ""
    low90: float | None = None
    low50: float | None = None
    high50: float | None = None
    high90: float | None = None


@dataclass(frozen=True, slots=True)
class PartTime:
    """One part of a step on the busiest GPU, all its runs together. ``exposed_s``: what of it the step's time shows."""

    name: str
    group: str
    seconds: float
    exposed_s: float
    bound: str  # "tensor", "hbm", "nvlink", "nic", "pcie", "fabric", "launch" or "host"
    flops: float
    hbm_bytes: float
    wire_bytes: float
    source: str = ""


@dataclass(frozen=True, slots=True)
class StepTime:
    """One pass: its time, its rows, and what it is made of. ``mfu`` and ``mbu``: shares of peak flop/s and HBM bandwidth."""

    phase: Literal["decode", "prefill", "mixed", "layer"]
    seconds: float
    tokens_per_gpu: float
    batch: float
    mfu: float
    mbu: float
    bound: str
    parts: tuple[PartTime, ...]


@dataclass(frozen=True, slots=True)
class Limit:
    """One constraint: what was wanted, what came out, and the lever that would move it (empty if met).

    ``chance``: that a measured deployment keeps it, where that is known; ``got`` is then the median, and ``met`` where the
    chance is the ``confidence`` asked for, or more.
    """

    key: str
    words: str
    wanted: float
    got: float
    unit: str
    met: bool
    lever: str = ""
    chance: float | None = None
    confidence: float = 0.5


@dataclass(frozen=True, slots=True)
class Pool:
    """One kind of worker of a deployment: its arrangement in words, its memory per GPU and its step."""

    role: Literal["aggregated", "prefill", "decode", "layer"]
    arrangement: str  # "4 x (tp 1, dp 32, ep 32, low-latency)"
    workers: int
    gpus: int
    memory: tuple[MemoryItem, ...]
    hbm_bytes: int
    steps: tuple[StepTime, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One deployment under one workload, answered. ``why_wide``: reasons that widened the intervals. ``unpriced``: why its
    dollars are nan, empty where they are not.
    """

    name: str
    description: str
    sentence: str
    model: str
    cluster: str
    gpus: int
    serving: Serving | None  # None: one layer, not a deployment
    metrics: tuple[Metric, ...]
    pools: tuple[Pool, ...]
    cost: Mapping[str, float]  # line of the bill -> USD per hour
    limits: tuple[Limit, ...]
    notes: tuple[str, ...] = ()
    why_wide: tuple[str, ...] = ()
    inputs: tuple[InputRow, ...] = ()
    seed: int = 0
    version: str = ""
    unpriced: str = ""

    def metric(self, key: str) -> Metric:
        """The metric called ``key``. Raises KeyError."""
        for metric in self.metrics:
            if metric.key == key:
                return metric
        raise KeyError(key)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One deployment that a plan kept. ``events_tpot_s``: its TPOT with the exchange played event by event."""

    serving: Serving
    cluster: str
    gpus: int
    arrangement: str
    values: Mapping[str, float]  # metric key -> value
    on_front: bool
    meets: bool
    events_tpot_s: float | None = None
    hardware: str = ""  # what `cluster=` has to be set to for its cluster; "" for the scenario's own


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer of a search. ``best`` is None if nothing meets the limits; ``limits`` then say what fails, and by how much,
    and ``closest`` is the deployment that comes closest, if any fits.
    """

    name: str
    description: str
    sentence: str
    considered: int
    fitting: int  # of which the memory suffices
    meeting: int  # of which every limit is met
    best: Evaluation | None
    candidates: tuple[Candidate, ...]  # the front first, then the best of the rest
    limits: tuple[Limit, ...]
    ruled_out: Mapping[str, int] = field(default_factory=dict)  # reason -> deployments
    notes: tuple[str, ...] = ()
    inputs: tuple[InputRow, ...] = ()
    closest: Evaluation | None = None
    seed: int = 0
    version: str = ""


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One combination of a sweep: the values set, and the answer or the one line that says why there is none."""

    values: tuple[str, ...]
    evaluation: Evaluation | None
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Sweep:
    """``axes``: the swept paths; every point has a value for each. ``front``: places of points that no other one beats."""

    name: str
    description: str
    sentence: str
    axes: tuple[str, ...]
    points: Sequence[SweepPoint]
    front: tuple[int, ...] = ()
    keys: tuple[str, ...] = ()  # of all metrics, in order
    refused: Mapping[str, int] = field(default_factory=dict)  # reason -> points

    @property
    def notes(self) -> tuple[str, ...]:
        """What qualifies every point that has an answer, each note once."""
        told = [point.evaluation.notes for point in self.points if point.evaluation is not None]
        return tuple(note for note in (told[0] if told else ()) if all(note in notes for notes in told))


@dataclass(frozen=True, slots=True)
class Change:
    """One input in which two scenarios differ, and what it alone does to the headline metrics: key -> relative change."""

    path: str
    before: str
    after: str
    effect: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two evaluations. ``changes`` in the order they were applied; ``mechanism`` names the part that moved most, and why."""

    sentence: str
    mechanism: str
    a: Evaluation
    b: Evaluation
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What ``step`` (0.1: 10 %) more of one hardware number does: metric key -> relative change; ``less`` the same for less."""

    path: str
    words: str
    value: str
    source: str
    step: float
    more: Mapping[str, float]
    less: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Explanation:
    """An evaluation, and its answer's sensitivity to every hardware number, the strongest first."""

    sentence: str
    evaluation: Evaluation
    sensitivities: tuple[Sensitivity, ...]
