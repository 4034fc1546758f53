"""The closed form: what a stage takes, and moves, when every rank gets the rows it may expect, over whole tables at once.

For every resource the rows of each move times what a row costs, on the busiest rank; the loads of a stage hide behind
the longest as its sharpness says. No queue, no contention beyond each rank's own ports: a bound that `play` refines.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...hwmodels.laws.kernels import smooth_max
from .shape import Num, Path, Rows, Shape
from .stage import LINKS, MEDIA, MEDIUM, End, Load, Machine, Move, Stage


def program_seconds(stages: tuple[Stage, ...], shape: Shape, machine: Machine) -> Num:
    """Seconds of stages run one after another. Shape of the result: the broadcast shape of the operating points."""
    total: Num = 0.0 * shape.tokens
    for stage in stages:
        total = total + stage_seconds(stage, shape, machine)
    return total


def stage_seconds(stage: Stage, shape: Shape, machine: Machine) -> Num:
    """Seconds of one stage: latencies, the smooth maximum of its loads, and the tail."""
    loads = stage_loads(stage, shape, machine)
    busy = smooth_max(stage.sharpness, *loads.values(), stage.floor_s) if loads else stage.floor_s
    seconds: Num = stage.latency_s + busy + stage.tail_s
    return seconds


def stage_loads(stage: Stage, shape: Shape, machine: Machine) -> dict[str, Num]:
    """Seconds each resource of the busiest rank is needed, resource -> seconds."""
    seconds: dict[str, Num] = {}
    for move in stage.moves:
        for load in move.loads:
            seconds[load.resource] = seconds.get(load.resource, 0.0) + _rows(move, load, shape) * load.per_row / (
                capacity(load.resource, machine) * load.efficiency
            )
    return seconds


def program_bytes(stages: tuple[Stage, ...], shape: Shape) -> dict[str, Num]:
    """Payload bytes that a rank sends, medium (`stage.MEDIA`) -> bytes: the mean rank's under uniform draws, every hop its own.

    Counted from the moves' rows, as the event interpreter counts them from a draw's: no rate, no time and no skew enters.
    """
    sent: dict[str, Num] = dict.fromkeys(MEDIA, 0.0 * shape.tokens)
    for stage in stages:
        for move in stage.moves:
            if not np.any(np.asarray(move.row_bytes) > 0.0):
                continue
            for medium, rows in _hops(move, shape):
                sent[medium] = sent[medium] + rows * move.row_bytes
    return sent


def _hops(move: Move, shape: Shape) -> Iterator[tuple[str, Num]]:
    """Rows of a move on each hop of its path. A forwarder keeps its own copy, one in every ``domain``."""
    if move.path in (Path.SELF, Path.NVLINK, Path.RDMA):
        yield MEDIUM[move.path], shape.expected_rows(move.rows, move.path)
        return
    if move.path is Path.RAIL:
        yield MEDIUM[move.path], shape.expected_rows(move.rows, move.path)
    if any(load.forwarded for load in move.loads):
        copies = shape.expected_rows(Rows.RANK, move.path)
        stays = copies / shape.domain
        yield "nvlink", copies - stays
        yield "local", stays


def capacity(resource: str, machine: Machine) -> float:
    """Units per second of one rank: bytes/s, messages/s, or 1 second of work a second."""
    rates = {"nvlink": machine.nvlink_bytes_per_s, "nic": machine.nic_bytes_per_s, "nic_msg": machine.nic_messages_per_s}
    return rates.get(resource, 1.0)


def _rows(move: Move, load: Load, shape: Shape) -> Num:
    if load.forwarded:
        copies = shape.expected_rows(Rows.RANK, move.path)
        return copies * (1.0 - 1.0 / shape.domain) if load.resource == "nvlink" else copies
    spread = move.rows in (Rows.RANK, Rows.EXPERT) and (load.resource in LINKS[:2] or load.end is End.EXPERT)
    return (shape.busiest_rows if spread else shape.expected_rows)(move.rows, move.path)


__all__ = ["Path", "capacity", "program_bytes", "program_seconds", "stage_loads", "stage_seconds"]
