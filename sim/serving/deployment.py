"""A whole deployment in steady state: its pools joined by the requests that pass through them.

*Closed loop*: ``concurrency`` requests are always in flight. Aggregated workers share them evenly. In a disaggregated
deployment a request queues for a prefill group, is computed, moves its KV cache and decodes: ``B`` that decode is where
``B + X(B) R(X) = concurrency`` with ``X(B) = B / (output TPOT(B))`` requests a second and ``R`` the time to first token.
*Open*: ``rate`` requests a second arrive; ``B`` is then the one at which decoding keeps up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..ep.machine import machine_of
from ..step.part import Num
from ..step.worker import Arrangement
from .queue import AT_RANDOM, STEADY, ArrivalLaw, Burst, boarding_wait, queue_wait
from .steady import Rates, Setting, aggregated_worker, decode_step, decode_worker, prefill_worker

_ROUNDS = 18  # of bisection: 1,024 sequences to a hundredth of one
#: Batches at which a decode pool's steps are worked out before its loop is closed, how often it is closed again at the batch
#: just found (what is left is below a thousandth of it), and rounds of bisection between them, which cost no step.
_GRID, _CLOSINGS, _FINE_ROUNDS = 9, 3, 40

Truth = np.bool_ | NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Served:
    """One deployment. ``batch``: sequences that decode in one attention group; ``capacity_per_s``: requests a second at most;
    ``prefill_busy`` and ``slots_busy``: shares of the prefill pool's time and of the decode pool's sequence slots in use.
    ``transfer_s``: moving one prompt's KV cache from pool to pool.
    """

    requests_per_s: Num
    capacity_per_s: Num
    tpot_s: Num
    ttft_s: Num
    concurrency: Num
    batch: Num
    prefill_busy: Num
    slots_busy: Num
    transfer_s: Num
    decode: Rates
    prefill: Rates | None = None


@dataclass(frozen=True, slots=True)
class PoolShape:
    """``count`` alike workers. ``slots``: sequences of one attention group that decode together at most."""

    arrangement: Arrangement
    count: Num
    slots: Num = 1024.0
    chunk_tokens: Num = 8192.0


def aggregated(setting: Setting, pool: PoolShape, concurrency: Num | None = None, rate: Num | None = None) -> Served:
    """Workers that prefill and decode, in a closed loop of ``concurrency``, at ``rate``, or with every slot in use."""
    groups = pool.arrangement.dp * pool.count

    law = None if rate is None else setting.arrivals

    def at(batch: Num) -> Rates:
        return aggregated_worker(setting, pool.arrangement, batch, pool.chunk_tokens, pool.slots, law)

    full = at(pool.slots)
    capacity = full.requests_per_s * pool.count
    if rate is not None:
        found = at(largest_batch(lambda b: np.less_equal(at(b).requests_per_s * pool.count, rate), pool.slots + 0.0 * capacity))
    elif concurrency is not None:
        found = at(concurrency / groups)
    else:
        found = full
    per_s = found.requests_per_s * pool.count
    busy = found.batch / pool.slots
    return Served(
        per_s, capacity, found.tpot_s, found.ttft_s, found.concurrency * pool.count, found.batch, busy, busy, 0.0, found
    )


def disaggregated(
    setting: Setting,
    prefill: PoolShape,
    decode: PoolShape,
    concurrency: Num | None = None,
    rate: Num | None = None,
    elsewhere: Setting | None = None,
) -> Served:
    """Prefill and decode pools, in a closed loop of ``concurrency``, at ``rate``, or with every decode slot spoken for.

    ``elsewhere``: the setting of the prefill pool, if it runs on other hardware.
    """
    workload, there = setting.workload, elsewhere or setting
    pre = prefill_worker(there, prefill.arrangement, prefill.chunk_tokens)
    transfer = transfer_seconds(setting, prefill.arrangement, decode.arrangement, there)
    most_prefill = pre.requests_per_s * prefill.count
    groups = decode.arrangement.dp * decode.count

    def tpot(batch: Num) -> Num:
        return decode_step(setting, decode.arrangement, batch).seconds / setting.speculation.accepted

    def per_s(batch: Num, tpot_s: Num) -> Num:
        return batch * groups / (tpot_s * workload.mean_output)

    # Of a closed loop a request meets the others; arrivals of another law come as they do.
    loop = slots_of(decode) if concurrency is None else concurrency
    met = 1.0 if rate is not None else np.maximum(np.asarray(loop, float) - 1.0, 0.0) / loop
    law = AT_RANDOM if rate is None else setting.arrivals

    burst = STEADY if rate is not None else setting.burst

    def handover(tpot_s: Num) -> Num:
        waited: Num = transfer + handover_seconds(setting, tpot_s)
        return waited

    def first_token(requests_per_s: Num, tpot_s: Num) -> Num:
        return pre.ttft_s + handover(tpot_s) + prompt_wait(pre, prefill, requests_per_s * met, law, burst)

    slots = decode.slots + 0.0 * most_prefill
    capacity = np.minimum(most_prefill, per_s(slots, tpot(slots)))
    if rate is not None:
        batch = _closed(tpot, lambda b, t: np.less_equal(per_s(b, t), rate), slots)
    else:
        flying = loop + 0.0 * slots
        most = np.minimum(slots, flying / groups)
        batch = _closed(tpot, lambda b, t: np.less_equal(b * groups + per_s(b, t) * first_token(per_s(b, t), t), flying), most)
    rates = decode_worker(setting, decode.arrangement, batch)
    throughput = rates.requests_per_s * decode.count
    if rate is None:
        least = pre.ttft_s + handover(rates.tpot_s)
        ttft = np.maximum(flying / throughput - workload.mean_output * rates.tpot_s, least)
    else:
        ttft = first_token(throughput, rates.tpot_s)
    in_flight = batch * groups + throughput * ttft
    busy = throughput / most_prefill
    return Served(throughput, capacity, rates.tpot_s, ttft, in_flight, batch, busy, batch / decode.slots, transfer, rates, pre)


def slots_of(pool: PoolShape) -> Num:
    """Sequences that all of its workers hold."""
    return pool.slots * pool.arrangement.dp * pool.count


def handover_seconds(setting: Setting, tpot_s: Num) -> Num:
    """What a decode worker adds to a first token: it polls between its steps, takes a request up and returns the token after
    further ones."""
    engine = setting.engine
    waited: Num = engine.handover + engine.handover_steps * tpot_s * setting.speculation.accepted
    return waited


def prompt_wait(prefill: Rates, pool: PoolShape, met_per_s: Num, arrivals: ArrivalLaw, burst: Burst = STEADY) -> Num:
    """What a prompt waits for a prefill pool whose workers each have ``prefill``'s rates: for the step under way, and behind
    the prompts of its group. ``met_per_s``: requests a second that it may wait for."""
    most = prefill.requests_per_s * pool.count
    busy = burst.busy(met_per_s / most)
    behind = queue_wait(prefill.prompt_s, pool.arrangement.dp * pool.count, busy, arrivals)
    return behind + boarding_wait(prefill.boarding_s, busy * most, pool.count, arrivals)


def transfer_seconds(setting: Setting, prefill: Arrangement, decode: Arrangement, there: Setting | None = None) -> Num:
    """One prompt's KV cache from a prefill group to a decode group, over the NICs of the GPUs that hold it.

    Every pool lies on its own nodes; ``there``: the prefill pool's setting, where that is another: the slower fabric decides. A
    cache that is the same on all ``tp`` GPUs (MLA) is sent once, a share by each.
    """
    kv_bytes = np.vectorize(lambda tokens: setting.model.kv_bytes(round(tokens), setting.precision.kv), otypes=[float])
    size = kv_bytes(setting.workload.mean_input)
    clusters = [each.cluster for each in (setting, there or setting)]
    lanes = np.minimum(prefill.tp * prefill.pp, decode.tp * decode.pp)
    latency = max(cluster.node.nic.latency for cluster in clusters)
    rate = min(machine_of(cluster).nic_bytes_per_s * cluster.node.nic.efficiency for cluster in clusters)
    seconds: Num = latency + size / (lanes * rate)
    return seconds


def largest_batch(holds: Callable[[NDArray[np.float64]], Truth], most: NDArray[np.float64] | Num) -> NDArray[np.float64]:
    """The largest batch up to ``most`` of which ``holds`` is true, by bisection in the logarithm; it must be monotone."""
    high = np.log(np.maximum(np.asarray(most, float), 1e-3))
    low = np.full(high.shape, np.log(1e-3))
    done = np.asarray(holds(np.exp(high)))
    low = np.where(done, high, low)
    for _ in range(_ROUNDS):
        middle = 0.5 * (low + high)
        fine = np.asarray(holds(np.exp(middle)))
        low, high = np.where(fine, middle, low), np.where(fine, high, middle)
    return np.exp(low)


def _closed(
    tpot: Callable[[Num], Num], holds: Callable[[Num, Num], Truth], most: NDArray[np.float64] | Num
) -> NDArray[np.float64]:
    """The largest batch up to ``most`` of which ``holds(batch, tpot(batch))`` is true; it must be monotone in the batch.

    ``tpot`` is worked out for a grid of batches at once; between them its logarithm runs straight, shifted so that it passes
    through the value at the batch last found.
    """
    top = np.log(np.maximum(np.asarray(most, float), 1e-3))
    floor = np.minimum(top - 1e-9, np.log(0.05))
    share = np.linspace(0.0, 1.0, _GRID).reshape(-1, *(1 for _ in top.shape))
    grid = floor + share * (top - floor)
    known = np.log(np.broadcast_to(tpot(np.exp(grid)), grid.shape))
    shift: Num = 0.0
    found = top
    for closing in range(_CLOSINGS + 1):
        low, high = np.full(top.shape, np.log(1e-3)), top
        low = np.where(holds(np.exp(high), np.exp(_between(grid, known, high) + shift)), high, low)
        for _ in range(_FINE_ROUNDS):
            middle = 0.5 * (low + high)
            fine = holds(np.exp(middle), np.exp(_between(grid, known, middle) + shift))
            low, high = np.where(fine, middle, low), np.where(fine, high, middle)
        found = low
        if closing < _CLOSINGS:
            shift = np.log(tpot(np.exp(found))) - _between(grid, known, found)
    return np.asarray(np.exp(found))


def _between(grid: NDArray[np.float64], known: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """``known`` [node, ...] on the evenly spaced ``grid`` [node, ...], straight between its nodes, constant outside."""
    step = np.maximum(grid[1] - grid[0], 1e-12)
    place = np.clip((at - grid[0]) / step, 0.0, len(grid) - 1.0)
    node = np.minimum(place.astype(np.intp), len(grid) - 2)
    below = np.take_along_axis(known, node[None], 0)[0]
    above = np.take_along_axis(known, node[None] + 1, 0)[0]
    return np.asarray(below + (place - node) * (above - below))
