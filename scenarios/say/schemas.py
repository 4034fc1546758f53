"""JSON schemas: of scenario files, for editors, and of what each command writes, from the records themselves."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from ...hwmodels.errors import UnknownName
from ..answer.evaluation import Comparison, Evaluation, Explanation, Metric, Plan, Sweep, SweepPoint
from ..answer.exchange_choice import Exchanges
from ..answer.request_run import RequestRun
from ..ask.calculator_scenario import CalculatorScenario
from ..ask.expectation import Published
from ..ask.layer_scenario import LayerScenario
from ..ask.serving_scenario import ServingScenario
from .envelope import SCHEMA_VERSION

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_RECORDS = {
    "plan": Plan,
    "compare": Comparison,
    "explain": Explanation,
    "evaluation": Evaluation,
    "serve": RequestRun,
    "exchanges": Exchanges,
}
KINDS = (
    "scenario",
    "simulate",
    "plan",
    "serve",
    "sweep",
    "compare",
    "explain",
    "exchanges",
    "evaluation",
    "validate",
    "bench",
    "catalog",
    "gallery",
)
_NUMBER: Schema = {"type": ["number", "null"]}
_TEXT: Schema = {"type": "string"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}


def schema(kind: str) -> Schema:
    """The schema of scenario files, or of a command's JSON. Raises UnknownName."""
    if kind not in KINDS:
        raise UnknownName("schema", kind, KINDS, "epicycle schema")
    if kind == "scenario":
        return _scenarios()
    defs: dict[str, Schema] = {}
    body = _body(kind, defs)
    head: dict[str, Schema] = {
        "schema_version": {"const": SCHEMA_VERSION},
        "kind": {"const": kind},
        "epicycle": {"type": "string", "description": "the version that wrote it"},
        "units": {"type": "object", "description": "units of keys that do not end in one", "additionalProperties": _TEXT},
        "words": {"type": "object", "description": "what the terminal and the pages call bounds, links and metrics"}
        | _map(_TEXT),
    }
    properties = {**head, **{key: value for key, value in body.items() if key not in head}}
    return {
        "$schema": DIALECT,
        "title": f"epicycle {kind}",
        **_object(properties),
        **({"$defs": dict(sorted(defs.items()))} if defs else {}),
    }


def _body(kind: str, defs: dict[str, Schema]) -> dict[str, Schema]:
    if kind in _RECORDS:
        found = _fields_of(_RECORDS[kind], defs)
        found.pop("version", None)
        return found
    if kind == "sweep":
        found = _fields_of(Sweep, defs)
        point = _fields_of(SweepPoint, defs)
        _ref(Evaluation, defs)
        inside = {k: v for k, v in defs["Evaluation"]["properties"].items() if k != "inputs"}
        point |= {"values": _map(_TEXT), "evaluation": {"anyOf": [_object(inside), {"type": "null"}]}}
        found |= {"points": {"type": "array", "items": _object(point)}}
        found["inputs_of_first"] = {"type": "array", "items": {"$ref": "#/$defs/InputRow"}}
        return found
    if kind == "simulate":
        return _simulate()
    if kind == "validate":
        groups = {"type": "array", "items": _map({"type": ["string", "number", "null"]})}
        return {"groups": groups, "skipped": _map({"type": "integer"}), "notes": _TEXTS}
    if kind == "gallery":
        each = {"type": "array", "items": {"type": "object"}}
        return {"systems": each, "rows": each}
    if kind == "bench":
        return {"rows": {"type": "array", "items": {"type": "object"}}}
    return {"of": {"type": ["string", "null"]}, "name": {"type": ["string", "null"]}, "entries": {"type": ["array", "object"]}}


def _simulate() -> dict[str, Schema]:
    numbers: Schema = {"type": "array", "items": {"type": "number"}}
    anything: Schema = {"type": "array", "items": {"type": "object"}}
    interval = _object({**{f"{end}_us": _NUMBER for end in ("low90", "low50", "high50", "high90")}, "why": _TEXTS})
    op = {
        "op": _TEXT,
        **{f"{each}_us": {"type": "number"} for each in ("start", "end", "duration", "critical")},
        "critical_interval": interval,
        "rank_us": numbers,
    }
    layer = {
        "protocol": _TEXT,
        "makespan_us": {"type": "number"},
        "interval": interval,
        "ops": {"type": "array", "items": _object(op)},
        "closed_form_us": _map(_NUMBER),
        "bound_us": _map({"type": "number"}),
        "critical_path": anything,
        "traffic": anything,
        "exchange": {"type": "object"},
        "links": anything,
        "expert_load": {"type": "array"},
        "rank_load": {"type": "array"},
        "memory": {"type": "object"},
        "notes": _TEXTS,
    }
    row = _object(dict.fromkeys(("section", "name", "value", "source"), _TEXT))
    return {
        **dict.fromkeys(("name", "description"), _TEXT),
        "seed": {"type": "integer"},
        "answer": _TEXT,
        "ranks": {"type": "integer"},
        "gpus_per_node": {"type": "integer"},
        "layers": {"type": "array", "items": _object(layer)},
        "inputs": {"type": "array", "items": row},
    }


def _scenarios() -> Schema:
    """All kinds of file, told apart by their key; each may say what was published of it."""
    defs: dict[str, Schema] = {}
    either = []
    told = Published.model_json_schema(ref_template="#/$defs/{model}")
    defs |= told.pop("$defs", {})
    kinds = ((ServingScenario, "workload"), (LayerScenario, "traffic"), (CalculatorScenario, "calculate"))
    for record, has in kinds:
        made = record.model_json_schema(ref_template="#/$defs/{model}")
        defs |= made.pop("$defs", {})
        made["properties"] |= told["properties"]
        either.append({**_written(made), "title": f"{has} scenario", "required": [*made["required"]]})
    serving = defs["Serving"]
    command = {"type": "string", "description": "an engine's command line"}
    pools = {"type": "object", "properties": {"prefill": command, "decode": command}, "additionalProperties": False}
    serving["properties"]["from"] = {"anyOf": [command, pools]}
    return {"$schema": DIALECT, "title": "epicycle scenario", "anyOf": either, "$defs": dict(sorted(defs.items()))}


def _written(made: Schema) -> Schema:
    """A record's schema with the short forms that a file may use: a name for a model or a cluster."""
    short: Schema = {"type": "string", "description": "a name of the catalogue, or a file"}
    properties = dict(made["properties"])
    for key in {"model", "cluster"} & set(properties):
        properties[key] = {"anyOf": [short, properties[key]]}
    return {**made, "properties": properties}


def _object(properties: Mapping[str, Schema]) -> Schema:
    return {"type": "object", "properties": dict(properties), "required": list(properties), "additionalProperties": False}


def _map(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def _fields_of(record: type, defs: dict[str, Schema]) -> dict[str, Schema]:
    hints = get_type_hints(record)
    return {field.name: _of(hints[field.name], defs) for field in fields(record)}


def _ref(record: type, defs: dict[str, Schema]) -> Schema:
    if record.__name__ not in defs:
        defs[record.__name__] = {}  # before its fields: a record may hold itself
        if is_dataclass(record):
            defs[record.__name__] = _object(_fields_of(record, defs))
        elif issubclass(record, BaseModel):
            made = record.model_json_schema(ref_template="#/$defs/{model}", mode="serialization")
            inner = made.pop("$defs", {})
            for name, each in {record.__name__: made, **inner}.items():
                defs[name] = _nullable(each)
    return {"$ref": f"#/$defs/{record.__name__}"}


def _nullable(made: Schema) -> Schema:
    return {key: value for key, value in made.items() if key != "description"}


def _of(hint: Any, defs: dict[str, Schema]) -> Schema:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_of(each, defs) for each in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple and arguments[0] is Metric:
        _ref(Metric, defs)
        inside = {key: value for key, value in defs["Metric"]["properties"].items() if key != "key"}
        return _map(_object(inside))
    if origin in (tuple, list):
        return {"type": "array", "items": _of(arguments[0], defs)}
    if origin is not None and issubclass(origin, Mapping):
        return _map(_of(arguments[1], defs))
    if hint is type(None):
        return {"type": "null"}
    plain = {str: _TEXT, int: {"type": "integer"}, float: _NUMBER, bool: {"type": "boolean"}}
    return dict(plain[hint]) if hint in plain else _ref(hint, defs)
