"""What every JSON of epicycle begins with: the version of its shape, its kind, who made it, units and words of its keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ... import __version__
from ..answer.words.glossary import bound_words
from .json_text import json_text

#: Raised when a key is renamed, removed, or means something else; a new key alone does not raise it.
SCHEMA_VERSION = 1
KINDS = (
    "simulate",
    "plan",
    "serve",
    "sweep",
    "compare",
    "explain",
    "exchanges",
    "validate",
    "bench",
    "catalog",
    "evaluation",
    "gallery",
)

#: Units of keys that do not end in one. Metrics carry theirs beside their value.
_SHARED = {"seconds": "s", "flops": "flop", "cost": "USD/h", "mfu": "share", "mbu": "share"}
_METRICS = {
    "tpot": "s",
    "ttft": "s",
    "requests_per_s": "1/s",
    "output_tokens_per_s": "tokens/s",
    "output_tokens_per_s_gpu": "tokens/s",
    "input_tokens_per_s_gpu": "tokens/s",
    "tokens_per_s_user": "tokens/s",
    "usd_per_mtok_output": "USD/Mtok",
    "usd_per_mtok": "USD/Mtok",
    "usd_per_hour": "USD/h",
}
UNITS: Mapping[str, Mapping[str, str]] = {
    "simulate": {"moved": "bytes; messages for nic_msg, seconds of work for copy", "capacity_per_s": "moved per second"},
    "plan": {**_SHARED, **{f"values.{key}": unit for key, unit in _METRICS.items()}},
    "sweep": _SHARED,
    "serve": {**_SHARED, "distributions": "s", "closed_form": "s", "stages": "s"},
    "compare": {**_SHARED, "effect": "relative change"},
    "explain": {**_SHARED, "more": "relative change", "less": "relative change", "step": "relative change"},
    "exchanges": {"ratio": "runner-up over winner", "tokens": "a rank"},
    "evaluation": _SHARED,
    "validate": {},
    "bench": {},
    "catalog": {},
    "gallery": {"published": "unit of the row", "simulated": "unit of the row", "error_pct": "%, of a change points"},
}


def enveloped(kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """``body`` behind the keys that all kinds have."""
    head = {"schema_version": SCHEMA_VERSION, "kind": kind, "epicycle": __version__, "units": dict(UNITS[kind])}
    words: dict[str, str] = {}
    _gather(body, words)
    head["words"] = dict(sorted(words.items()))
    return {**head, **{key: value for key, value in body.items() if key not in head}}


def _gather(value: object, words: dict[str, str]) -> None:
    """What the terminal and the pages call the bounds, links and metrics of ``value``: its short names -> their words."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key in ("bound", "kind") and isinstance(item, str):
                if (said := bound_words(item)) != item:
                    words[item] = said
            elif key == "bound_us" and isinstance(item, Mapping):
                words.update({bound: bound_words(bound) for bound in item if bound_words(bound) != bound})
            elif key == "metrics" and isinstance(item, Mapping):
                words.update({name: metric["words"] for name, metric in item.items()})
            else:
                _gather(item, words)
    elif isinstance(value, list | tuple) and value and isinstance(value[0], Mapping | list | tuple):
        for item in value:
            _gather(item, words)


def envelope_json(kind: str, body: Mapping[str, Any]) -> str:
    """The same as text."""
    return json_text(enveloped(kind, body))
