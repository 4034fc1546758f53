"""Two-batch overlap: what a pass takes when one half of the batch travels while the other half computes.

In every layer the two halves alternate in four slots (SGLang and vLLM order them so; DeepSeek's profile data of 2025-02 shows
it): dispatch of one beside attention of the other, then the experts beside the dispatch, the combine beside the experts, and
the combine beside the next attention. A slot lasts as long as the longer of its two sides.

Kernels of both sides that run beside each other share HBM, L2 and power, and slow each other down (the engine's
``contention``): computing slows by 18.9 % on average beside communication, by 40 % at most (arXiv 2507.03114, H100, A100 and
MI250); the exchange is assumed to lose as much. Waiting for a wire costs nothing.

What cannot hide: a low-latency exchange's own kernels (they send and receive on the SMs; only the wait for the wire is free),
and the SMs kept for communication, which the other half's kernels miss: of high-throughput and elastic kernels for as long as
they run, beside a low-latency exchange those that the engine sets aside for the whole step. What it waits for the wire is what
it lasts longer than with a NIC that takes no time: stores over NVLink beside the NIC's messages are the kernels' own work. So a
slot lasts ``max(work + own, exchange)``, of which no term grows where a link gets faster.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..ep.protocol import find_protocol
from .part import Num, Part

#: The slowdown above, an engine's ``contention`` where nothing else is said.
CONTENTION = 1.189


@dataclass(frozen=True, slots=True)
class _Exchange:
    """One direction over all layers and halves: seconds that can hide, and seconds in which its kernels keep all SMs."""

    hides: Num
    keeps: Num


def overlapped_seconds(
    parts: Sequence[Part], gaps: Num, protocol: str, comm_sms: Num, aside_sms: float, sms: int, contention: float = CONTENTION
) -> Num:
    """GPU seconds of a pass whose ``parts`` count both halves; ``gaps`` between its kernels count as computing.

    ``comm_sms``: of the kernels that run on them; ``aside_sms``: kept from every kernel of the step by the engine.
    """
    experts = _sum(p for p in parts if p.name == "experts")
    compute = _sum(p for p in parts if p.group != "communication") - experts + gaps
    others = _sum(p for p in parts if p.group == "communication" and not _exchanged(p))  # all-reduces and stage hops
    dispatch, combine = (_direction(parts, way, protocol) for way in ("dispatch", "combine"))
    if find_protocol(protocol).on_comm_sms:
        share: Num = sms / (sms - np.asarray(comm_sms, float))
        beside = contention
    else:
        kept = sms / (sms - aside_sms)
        compute, experts, share = compute * kept, experts * kept, 1.0
        beside = 1.0
    # A slot holds half of a layer's attention or experts beside one half's dispatch or combine: halves of the pass's sums.
    total: Num = others
    for work, exchange in ((compute, dispatch), (experts, dispatch), (experts, combine), (compute, combine)):
        total = total + _slot(work / 2.0, exchange, share, beside)
    return total


def _slot(work: Num, exchange: _Exchange, share: Num, contention: float) -> Num:
    """``work`` beside half of ``exchange``: while both run, work goes ``share`` times and both ``contention`` times slower."""
    hides, keeps = exchange.hides / 2.0, exchange.keeps / 2.0
    outlasted = hides + work * share * (contention - 1.0)
    beside: Num = np.where(work * share <= hides, outlasted, hides * contention + work - hides / share)
    return beside + keeps


def _direction(parts: Sequence[Part], way: str, protocol: str) -> _Exchange:
    mine = [p for p in parts if _exchanged(p) and p.name.startswith(way)]
    whole = _sum(mine)
    if find_protocol(protocol).on_comm_sms:
        return _Exchange(whole, 0.0)
    wire: Num = 0.0
    for part in mine:
        wire = wire + part.wire_wait_s * part.times
    return _Exchange(wire, whole - wire)


def _exchanged(part: Part) -> bool:
    return part.group == "communication" and part.name.split(" ")[0] in ("dispatch", "combine", "prepare")


def _sum(parts: Iterable[Part]) -> Num:
    total: Num = 0.0
    for part in parts:
        total = total + part.step_seconds
    return total
