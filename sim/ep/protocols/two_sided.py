"""The two-sided NVLink protocol: counts and index lists first, then rings of one peer each (TensorRT-LLM's NVLinkTwoSided).

Rows travel as the one-sided protocol's do, but through a ring a peer, whose warps copy them: a row costs its peer's ring time
for its bytes as well, and once more for every separate field.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..protocol import Context, Op, Protocol
from ..shape import Num, Path, Rows, Shape
from ..stage import Join, Load, Machine, Move, Stage
from .one_sided import COMBINE, DISPATCH, SlotConstants, buffers, transfer

#: Peers that one block serves, a warp each.
PEERS_A_BLOCK = 8.0


@dataclass(frozen=True, slots=True)
class RingConstants(SlotConstants):
    """As one-sided, where ``peer_row``, ``peer_field`` and ``peer_copy`` are of a peer's ring."""


def prepare(shape: Shape, k: SlotConstants) -> tuple[Stage, ...]:
    """The two-sided protocol's count exchange and local index lists behind a handshake.

    A walk over the rank's tokens, and for every peer a list of those that go there, all lists at once.
    """
    walk = Move(Rows.TOKEN, Path.SELF, 0.0, (Load("sm_send", k.token),))
    entry = (Load("sm_send", k.peer_row / shape.ranks),)
    lists = tuple(Move(Rows.RANK, path, 0.0, entry) for path in (Path.SELF, Path.NVLINK))
    latency = (("launch and counts", k.launch + k.launch_per_rank * shape.ranks),)
    return (Stage("notify.prepare", "notify", Join.ALL, (walk, *lists), latency, 0.0, k.flags, k.sharpness),)


def channels(ranks: Num, sms: int) -> Num:
    """Warps that serve one peer: half of the SMs hold blocks of eight warps, each for another peer, to send or to receive.

    ``floor(SMs / 2 / (2 ceil(ranks / 8)))``, at least one (``computeMoeCommChannelCount``, TensorRT-LLM's moeCommKernels.h).
    """
    return np.maximum(np.floor(sms / 2.0 / (2.0 * np.ceil(ranks / PEERS_A_BLOCK))), 1.0)


def _described(op: str, shape: Shape, machine: Machine, k: Any, context: Context) -> tuple[Stage, ...]:
    slower = channels(PEERS_A_BLOCK, machine.sms) / channels(shape.ranks, machine.sms)
    return transfer(shape, machine, k, op, gpus_per_node=context.gpus_per_node, fields=context.fields, slower=slower)


def _prepare(shape: Shape, machine: Machine, k: SlotConstants, context: Context) -> tuple[Stage, ...]:
    return prepare(shape, k)


PROTOCOLS = (
    Protocol(
        name="two-sided",
        what="counts and index lists behind a handshake, then one copy per token and rank through a ring a peer",
        holds="slots for the worst case",
        kernels="TensorRT-LLM's NVLinkTwoSided",
        tables=("nvlink-two-sided",),
        before=(
            Op("prepare", SlotConstants, _prepare, "notify"),
            Op(DISPATCH, RingConstants, partial(_described, DISPATCH)),
        ),
        after=(Op(COMBINE, RingConstants, partial(_described, COMBINE)),),
        buffers=buffers,
        near="nvlink-domain",
        far="nvlink-domain",
        one_domain=True,
        offered=("vllm",),
    ),
)
