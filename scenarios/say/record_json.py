"""Plans, sweeps, comparisons and explanations as JSON: the fields of `evaluation`'s records by their names, in SI units.

Metrics are by their key; a number that does not exist is null. The same bytes for the same version, scenario and seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel

from ..answer.evaluation import Comparison, Evaluation, Explanation, Metric, Plan, Sweep
from ..answer.exchange_choice import Exchanges
from ..answer.request_run import RequestRun
from .envelope import enveloped
from .json_text import json_text, rounded

Record = Plan | Sweep | Comparison | Explanation | Evaluation | RequestRun | Exchanges


def record_dict(record: Record) -> dict[str, Any]:
    """``record`` as plain data, in the envelope that all kinds have."""
    kinds: dict[type, str] = {Plan: "plan", Sweep: "sweep", Comparison: "compare", Explanation: "explain"}
    kinds |= {Evaluation: "evaluation", RequestRun: "serve", Exchanges: "exchanges"}
    whole = _sweep(record) if isinstance(record, Sweep) else _plain(record)
    whole.pop("version", None)
    return enveloped(kinds[type(record)], whole)


def record_json(record: Record) -> str:
    """``record`` as JSON text. ``kind`` is the command that made it."""
    return json_text(record_dict(record))


def _sweep(sweep: Sweep) -> dict[str, Any]:
    """The inputs of all points are those of the first, but for the swept values: they are given once."""
    answers = [point.evaluation for point in sweep.points if point.evaluation is not None]
    points = []
    for point in sweep.points:
        answer = _plain(point.evaluation)
        if answer is not None:
            del answer["inputs"]
        points.append(
            {"values": dict(zip(sweep.axes, point.values, strict=True)), "refusal": point.refusal, "evaluation": answer}
        )
    return {
        "name": sweep.name,
        "description": sweep.description,
        "sentence": sweep.sentence,
        "axes": list(sweep.axes),
        "points": points,
        "front": list(sweep.front),
        "keys": list(sweep.keys),
        "refused": dict(sweep.refused),
        "inputs_of_first": _plain(answers[0].inputs) if answers else [],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return rounded(value) if math.isfinite(value) else None
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        if value and all(isinstance(item, Metric) for item in value):
            return {metric.key: {name: item for name, item in _plain(metric).items() if name != "key"} for metric in value}
        return [_plain(item) for item in value]
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return value if value is None or isinstance(value, str | int) else value.item()
