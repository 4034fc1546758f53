"""A search in which what a file's ``deployment`` says is held fixed, and everything else is looked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from ...hwmodels.errors import BadInput
from ...sim.inputs.serving import Serving
from .search import BATCHES, Search

KeyPath = tuple[str, ...]

#: Key of a deployment -> key of a search, for what is one value in both.
_SAME = ("weights", "experts", "kv", "payload", "mtp", "acceptance", "memory_share")
#: Key of a worker -> key of a search, for what is one of several there.
_WIDTHS = {
    **{name: name for name in ("tp", "dp", "pp", "ep", "overlap", "redundant_experts")},
    "protocol": "protocols",
    "count": "counts",
}


class NotHeld(BadInput):
    """A key of the deployment that a search cannot hold. ``key``: its path."""

    def __init__(self, key: KeyPath, message: str) -> None:
        self.key = key
        super().__init__(message)


def holding(search: Search, deployment: Serving) -> Search:
    """``search`` with every key that ``deployment`` sets held. Raises NotHeld for one that a search does not have, or that it
    looks for elsewhere."""
    if deployment.mode in ("decode", "prefill"):
        raise NotHeld(
            ("deployment", "mode"),
            f"a plan looks for whole deployments, mode={deployment.mode} asks about one pool: `epicycle explain` answers that",
        )
    found: dict[str, Any] = {}
    told: list[str] = []
    for path, key, value in _held(deployment):
        asked = getattr(search, key)
        given = key in search.model_fields_set and asked is not None
        if given and asked != value and not (key == "batches" and asked == value[-1:]):
            raise NotHeld(
                path, f"the deployment fixes {'.'.join(path[1:])}, search.{key} asks for others: remove one of the two"
            )
        found[key] = value
        told.append(f"{'.'.join(path[1:])} {value[-1] if isinstance(value, tuple) else value}")
    if not told:
        return search
    note = f"held as the file's deployment has it: {', '.join(told)}"
    return search.holding(found, note)


def _held(deployment: Serving) -> Iterator[tuple[KeyPath, str, Any]]:
    given = deployment.model_fields_set
    if "backend" in given:
        yield ("deployment", "backend"), "backends", (deployment.backend,)
    if "mode" in given or "prefill" in given:
        yield ("deployment", "mode"), "modes", (deployment.mode,)
    for name in _SAME:
        if name in given and getattr(deployment, name) is not None:
            yield ("deployment", name), name, getattr(deployment, name)
    for name in sorted(given - {"backend", "mode", "decode", "prefill", *_SAME}):
        if getattr(deployment, name) != type(deployment).model_fields[name].default:
            raise _unsearched(name, getattr(deployment, name))
    if "decode" in given:
        yield from _worker(deployment.decode, "decode", "")
    if deployment.prefill is not None:
        yield from _worker(deployment.prefill, "prefill", "prefill_")


def _worker(worker: BaseModel, role: str, prefix: str) -> Iterator[tuple[KeyPath, str, Any]]:
    for name in sorted(worker.model_fields_set):
        path, value = ("deployment", role, name), getattr(worker, name)
        if value is None:
            continue
        if name in _WIDTHS:
            yield path, prefix + _WIDTHS[name], (value,)
        elif name == "chunk_tokens":
            yield path, f"{prefix}chunk_tokens", (value,)
        elif name == "batch" and role == "decode":
            yield path, "batches", (*(batch for batch in BATCHES if batch < value), value)  # it is the most, not the least
        elif name in ("comm_sms", "placement") and role == "decode":
            yield path, name, value
        elif value != type(worker).model_fields[name].default:
            raise _unsearched(f"{role}.{name}", value)


def _unsearched(name: str, value: object) -> NotHeld:
    return NotHeld(
        ("deployment", *name.split(".")),
        f"plan does not look for deployments with {name}={value}: remove it, or ask `epicycle explain` about "
        "this deployment as it stands",
    )
