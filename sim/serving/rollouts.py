"""Rollouts of reinforcement learning on many workers: all wait for the longest trajectory of a batch, or each runs on.

A batch of trajectories is dealt to workers. *Barrier*: every worker decodes its share, as many at a time as fit, and all GPUs
train when the last trajectory of the last worker has ended. *Free-running*: a worker takes a new trajectory whenever one ends,
other GPUs train as soon as a batch is together, and new weights reach workers one by one. A worker's step is as long as its
sequences make it, and its sequences thin out behind the long ones; that is all the mechanism there is.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
#: Seconds of one decoding step of a worker that has so many sequences.
StepSeconds = Callable[[int], float]


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of a trajectory: log-normal, ``p99_over_median``, cut at ``most``."""

    median: float
    p99_over_median: float
    most: float

    def draw(self, count: int, rng: np.random.Generator) -> Floats:
        """[trajectory] tokens, at least one."""
        spread = np.log(self.p99_over_median) / 2.3263478740408408  # the standard normal's 99th percentile
        drawn = np.ceil(self.median * np.exp(spread * rng.standard_normal(count)))
        return np.asarray(np.clip(drawn, 1.0, self.most))


@dataclass(frozen=True, slots=True)
class Rollout:
    """``seconds`` of a batch until its last trajectory; ``waiting``: share of the workers' time after their own last one."""

    seconds: float
    waiting: float


def with_barrier(lengths: Floats, workers: int, slots: int, step: StepSeconds) -> Rollout:
    """A batch dealt round to ``workers``, each with ``slots`` sequences at a time."""
    ends = np.array([_drained(lengths[worker::workers], slots, step) for worker in range(workers)])
    last = float(ends.max())
    return Rollout(last, float(1.0 - ends.mean() / last))


@dataclass(frozen=True, slots=True)
class Split:
    """``trainer_share`` of the GPUs trains; together they finish ``batches_per_s``."""

    trainer_share: float
    batches_per_s: float


def free_running(
    mean_tokens: float, batch: int, in_flight: int, workers: int, slots: int, step: StepSeconds, train_s: float
) -> Split:
    """The best split of the GPUs between rollouts and training (``train_s`` a batch on all); ``workers`` if all roll out.

    A worker that always has ``n`` sequences makes ``n / step(n)`` tokens a second, whatever their lengths are. ``in_flight``
    trajectories in all bound how stale they get.
    """
    best = Split(0.0, 0.0)
    for rolling in range(1, workers):
        share = 1.0 - rolling / workers
        each = max(1, min(slots, in_flight // rolling))
        made = min(rolling, in_flight) * each / step(each) / (batch * mean_tokens)
        both = min(made, share / train_s if train_s else made)
        best = max(best, Split(share, both), key=lambda split: split.batches_per_s)
    return best


def _drained(lengths: Sequence[float] | Floats, slots: int, step: StepSeconds) -> float:
    """Seconds until a worker has decoded all of ``lengths``, the next one begun whenever one ends."""
    waiting = list(lengths)[::-1]
    running: list[float] = []
    done = clock = 0.0
    while waiting and len(running) < slots:
        heapq.heappush(running, waiting.pop())
    while running:
        ends = running[0]
        clock += (ends - done) * step(len(running))
        done = ends
        while running and running[0] <= done:
            heapq.heappop(running)
        while waiting and len(running) < slots:
            heapq.heappush(running, done + waiting.pop())
    return clock
