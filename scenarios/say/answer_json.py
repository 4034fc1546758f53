"""An answer as JSON: the same bytes for the same scenario, seed and version, whatever the machine or the day."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.interval import UNKNOWN, Interval
from ...sim.layer.result import Answer, LayerResult, TrafficMatrix
from .envelope import enveloped
from .json_text import json_text, rounded

MATRIX_RANKS = 64  # beyond it, a matrix would be most of the file: its row and column sums are given


def answer_json(answer: Answer) -> str:
    """The answer as JSON text: times in microseconds, sizes in bytes, one list of numbers a line."""
    return json_text(answer_dict(answer))


def answer_dict(answer: Answer) -> dict[str, Any]:
    """The same as plain data, in the envelope that all kinds have."""
    return enveloped("simulate", _answer(answer))


def _answer(answer: Answer) -> dict[str, Any]:
    return {
        "name": answer.name,
        "description": answer.description,
        "seed": answer.seed,
        "answer": answer.sentence,
        "ranks": answer.ranks,
        "gpus_per_node": answer.gpus_per_node,
        "layers": [_layer(layer) for layer in answer.layers],
        "inputs": [{"section": i.section, "name": i.name, "value": i.value, "source": i.source} for i in answer.inputs],
    }


def _layer(layer: LayerResult) -> dict[str, Any]:
    used = sum(item.bytes for item in layer.memory)
    return {
        "protocol": layer.protocol,
        "makespan_us": _us(layer.makespan_ps),
        "interval": _interval(layer.interval, layer.makespan_ps / 1e6),
        "ops": [
            {
                "op": op.op,
                "start_us": _us(op.start_ps),
                "end_us": _us(op.end_ps),
                "duration_us": _us(op.duration_ps),
                "critical_us": rounded(layer.op_us(op.op)),
                "critical_interval": _interval(layer.intervals.get(op.op, UNKNOWN), layer.op_us(op.op)),
                "rank_us": [_us(ps) for ps in op.rank_ps.tolist()],
            }
            for op in layer.ops
        ],
        "closed_form_us": {op: rounded(us) for op, us in layer.closed_form_us.items()},
        "bound_us": {bound: rounded(us) for bound, us in layer.bound_us().items()},
        "critical_path": [
            {
                "start_us": _us(s.start_ps),
                "end_us": _us(s.end_ps),
                "rank": s.rank,
                "op": s.op,
                "stage": s.stage,
                "bound": s.bound,
            }
            for s in layer.critical_path
        ],
        "traffic": [_traffic(matrix) for matrix in layer.traffic],
        "exchange": {name: table.tolist() for name, table in layer.exchange.items()},
        "links": [
            {
                "name": link.name,
                "kind": link.kind,
                "index": link.index,
                "moved": rounded(link.moved),
                "capacity_per_s": rounded(link.capacity_per_s),
                "utilisation": rounded(link.utilisation),
                "peak": rounded(link.peak),
            }
            for link in layer.links
        ],
        "expert_load": layer.expert_load.tolist(),
        "rank_load": layer.rank_load.tolist(),
        "memory": {
            "items": [{"name": m.name, "bytes": m.bytes, "source": m.source} for m in layer.memory],
            "used_bytes": used,
            "hbm_bytes": layer.hbm_bytes,
            "free_bytes": layer.hbm_bytes - used,
        },
        "notes": list(layer.notes),
    }


def _interval(interval: Interval, time_us: float) -> dict[str, Any]:
    low90, low50, high50, high90 = (rounded(limit) for limit in interval.scaled(time_us))
    return {"low90_us": low90, "low50_us": low50, "high50_us": high50, "high90_us": high90, "why": list(interval.why)}


def _traffic(matrix: TrafficMatrix) -> dict[str, Any]:
    return {
        "op": matrix.op,
        "stage": matrix.stage,
        "medium": matrix.medium,
        "total_bytes": int(matrix.bytes.sum()),
        "total_rows": int(matrix.rows.sum()),
        **_table("bytes", matrix.bytes),
        **_table("rows", matrix.rows),
    }


def _table(name: str, table: NDArray[np.int64]) -> dict[str, Any]:
    """[src_rank, dst_rank], whole or as what each rank sends and receives."""
    if len(table) <= MATRIX_RANKS:
        return {name: table.tolist()}
    return {f"{name}_sent": table.sum(axis=1).tolist(), f"{name}_received": table.sum(axis=0).tolist()}


def _us(ps: int) -> float:
    return ps / 1e6
