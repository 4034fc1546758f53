"""What a run of requests is answered with: the same evaluation as any deployment's, and beside its means the distributions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...sim.serving.faults.schedule import Happening
from ...sim.serving.requests.tally import Distribution
from .evaluation import Evaluation


@dataclass(frozen=True, slots=True)
class Timeline:
    """One pool over the run: values by name, one for every moment of ``seconds``."""

    pool: str
    seconds: tuple[float, ...]
    values: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Slow:
    """One of the slowest requests, and where its time went, seconds by stage."""

    id: int
    arrival_s: float
    ttft_s: float
    e2e_s: float
    input_tokens: int
    output_tokens: int
    stages: Mapping[str, float]
    tries: int
    preempted: int


@dataclass(frozen=True, slots=True)
class RequestRun:
    """``distributions``: by key (ttft, tpot, itl, e2e, queue). ``counts``: requests by how they ended, preemptions, hits and
    more. ``closed_form``: the same deployment's means at this load, empty where the closed form has no answer.
    """

    name: str
    description: str
    sentence: str
    evaluation: Evaluation
    distributions: Mapping[str, Distribution]
    counts: Mapping[str, float]
    timelines: tuple[Timeline, ...]
    slowest: tuple[Slow, ...]
    happenings: tuple[Happening, ...]
    closed_form: Mapping[str, float]
    notes: tuple[str, ...]
    seed: int
    version: str
