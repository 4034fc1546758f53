"""One engine instance step by step: what the host does between steps, and who may join the batch when.

`requests` plays whole deployments, with the rules of today's engines; this loop has what those no longer have: *static*
batches, which begin together and end together, and a host that takes a random time between two steps of the GPU. *continuous*:
a request joins at any step, its whole prompt in one; *chunked*: at most so many prompt tokens a step, decoding beside them.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.errors import BadInput

Floats = NDArray[np.float64]
Policy = Literal["static", "continuous", "chunked"]
#: Seconds of a step on the GPU: prompt tokens in it, sequences that decode.
StepSeconds = Callable[[int, int], float]


@dataclass(frozen=True, slots=True)
class Trace:
    """[request] seconds of arrival (in order), prompt tokens and output tokens."""

    arrival: Floats
    prompt: NDArray[np.int64]
    output: NDArray[np.int64]

    @classmethod
    def drawn(cls, count: int, rate: float, prompt: float, output: float, spread: float, rng: np.random.Generator) -> Trace:
        """Poisson arrivals (all at once where ``rate`` is infinite); log-normal lengths of these means, ``spread``: sigma."""
        arrival = np.cumsum(rng.exponential(1.0, count)) / rate

        def tokens(mean: float) -> NDArray[np.int64]:
            drawn = mean * np.exp(spread * rng.standard_normal(count) - spread**2 / 2.0)
            return np.maximum(1, np.rint(drawn)).astype(np.int64)

        return cls(arrival, tokens(prompt), tokens(output))


@dataclass(frozen=True, slots=True)
class HostDelay:
    """What every step waits for the host: log-normal of this ``mean`` in seconds and ``sigma``; none where the mean is 0."""

    mean: float = 0.0
    sigma: float = 0.0

    def draws(self, count: int, rng: np.random.Generator) -> Floats:
        return np.asarray(self.mean * np.exp(self.sigma * rng.standard_normal(count) - self.sigma**2 / 2.0))


@dataclass(frozen=True, slots=True)
class Looped:
    """[request] seconds to the first token, and a token after it (0 where there is one only); of the run, its seconds."""

    ttft: Floats
    tpot: Floats
    seconds: float
    output_tokens: int

    @property
    def tokens_per_s(self) -> float:
        return self.output_tokens / self.seconds


def looped(
    trace: Trace,
    policy: Policy,
    slots: int,
    step: StepSeconds,
    *,
    chunk: int = 8192,
    kv_tokens: float = float("inf"),
    host: HostDelay = HostDelay(),
    seed: int = 0,
) -> Looped:
    """Every request of ``trace`` in the order of arrival, at most ``slots`` at a time whose tokens (prompt and output) the
    cache of ``kv_tokens`` holds. A step's prompts are at most ``chunk`` tokens; unless chunked, at least one whole one."""
    need = trace.prompt + trace.output
    if need.max() > kv_tokens:
        raise BadInput(f"the longest request has {need.max()} tokens, the cache holds {kv_tokens:.0f}")
    rng, delays, used = np.random.default_rng(seed), np.zeros(0), 0
    count = len(trace.arrival)
    first, last = np.zeros(count), np.zeros(count)
    waiting: deque[int] = deque()
    reading: deque[list[int]] = deque()  # [request, prompt tokens left]
    decoding: list[tuple[int, int]] = []  # (step of the last token, request)
    clock, coming, steps, held, inside = 0.0, 0, 0, 0.0, 0
    while coming < count or waiting or reading or decoding:
        if not (waiting or reading or decoding):
            clock = max(clock, float(trace.arrival[coming]))
        while coming < count and trace.arrival[coming] <= clock:
            waiting.append(coming)
            coming += 1
        if policy != "static" or not (reading or decoding):
            while waiting and inside < slots and held + need[waiting[0]] <= kv_tokens:
                request = waiting.popleft()
                held += float(need[request])
                inside += 1
                reading.append([request, int(trace.prompt[request])])
        tokens, through = 0, []
        while reading and tokens < chunk:
            left = reading[0][1]
            if policy == "chunked":
                left = min(left, chunk - tokens)
            elif tokens and tokens + left > chunk:
                break
            tokens += left
            reading[0][1] -= left
            if reading[0][1]:
                break
            through.append(reading.popleft()[0])
        # A static engine reads all prompts of its batch before anybody decodes.
        decodes = 0 if policy == "static" and tokens else len(decoding)
        if used == len(delays):
            delays, used = host.draws(4096, rng), 0
        clock += step(tokens, decodes) + float(delays[used])
        used += 1
        steps += bool(decodes)
        while decodes and decoding and decoding[0][0] <= steps:
            _, request = heapq.heappop(decoding)
            last[request] = clock
            held -= float(need[request])
            inside -= 1
        for request in through:
            first[request] = last[request] = clock
            if trace.output[request] > 1:
                heapq.heappush(decoding, (steps + int(trace.output[request]) - 1, request))
            else:
                held -= float(need[request])
                inside -= 1
    more = np.maximum(trace.output - 1, 1)
    begun = float(trace.arrival[0])
    return Looped(first - trace.arrival, (last - first) / more, clock - begun, int(trace.output.sum()))
