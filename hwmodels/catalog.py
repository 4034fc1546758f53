"""The catalogue: hardware by name, read from the YAML files that ship with the package.

A cluster file names its GPU, NIC and switch; loading joins them into one record. ``overrides`` change it on the way:
``{"node.nic": "connectx8-800g"}`` swaps a part, ``{"fabric.oversubscription": "2"}`` sets a field, and every field that was
set says "set by the user" in ``sources``.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from . import strict_yaml
from .errors import BadInput, UnknownKey, UnknownName, one_line
from .specs import Cluster, Datasheet, Gpu, Link, Nic, Switch

KINDS: tuple[str, ...] = ("gpus", "nics", "links", "switches", "clusters")
SET_BY_USER = "set by the user"

_SINGULAR = {"gpus": "GPU", "nics": "NIC", "links": "link", "switches": "switch", "clusters": "cluster"}
_PARTS = {"node.gpu": "gpus", "node.nic": "nics", "fabric.switch": "switches"}

_Sheet = TypeVar("_Sheet", bound=Datasheet)


def names(kind: str) -> tuple[str, ...]:
    """The sorted names of the catalogue's entries of ``kind``, one of ``KINDS``. Raises UnknownName for another kind."""
    return tuple(sorted(_entries(kind)))


def load_gpu(name: str) -> Gpu:
    """The GPU of that name. Raises UnknownName."""
    return _datasheet(Gpu, "gpus", name)


def load_nic(name: str) -> Nic:
    """The NIC of that name. Raises UnknownName."""
    return _datasheet(Nic, "nics", name)


def load_link(name: str) -> Link:
    """The point-to-point link of that name. Raises UnknownName."""
    return _datasheet(Link, "links", name)


def load_switch(name: str) -> Switch:
    """The switch of that name. Raises UnknownName."""
    return _datasheet(Switch, "switches", name)


def load_cluster(name: str, nodes: int | None = None, overrides: Mapping[str, object] | None = None) -> Cluster:
    """The cluster of that name with ``nodes`` nodes (default: the file's) and ``overrides`` (dotted key -> text or number).

    A part's name is applied before the fields inside the part, whatever their order. ``node.nics`` follows ``node.gpus`` unless
    it is given. Raises UnknownName, UnknownKey, or BadInput with one line on every field that does not fit.
    """
    tree = deepcopy(_read("clusters", name))
    changes = dict(overrides or {})
    if nodes is not None:
        tree["nodes"] = nodes
    _check_keys(name, changes)
    for part, kind in _PARTS.items():
        owner, key = part.split(".")
        if part in changes:
            chosen = changes.pop(part)
            if not isinstance(chosen, str):
                raise BadInput(f"{part}: wanted the name of a {_SINGULAR[kind]}, got {chosen!r}")
            tree[owner][key] = chosen
            tree["sources"][part] = SET_BY_USER
        tree[owner][key] = deepcopy(_read(kind, tree[owner][key]))
    for dotted, value in changes.items():
        _set(tree, dotted, value)
    tree["node"].setdefault("nics", tree["node"]["gpus"])
    return _validated(Cluster, tree, name)


def override_keys() -> tuple[str, ...]:
    """Every dotted key that ``load_cluster`` accepts in ``overrides``."""
    return tuple(sorted(set(_keys(Cluster)) - {"name", "sources"}))


def _keys(record: type[BaseModel], prefix: str = "") -> list[str]:
    found = []
    for key, field in record.model_fields.items():
        found.append(prefix + key)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            inner = _keys(field.annotation, f"{prefix}{key}.")
            found += [dotted for dotted in inner if dotted.rsplit(".", 1)[1] not in ("name", "sources")]
        elif key == "tensor_flop_per_cycle_sm":
            found += [f"{prefix}{key}.{dtype}" for dtype in ("bf16", "fp8", "fp4")]
    return found


def _check_keys(name: str, changes: Mapping[str, object]) -> None:
    known = set(override_keys())
    wholes = {"node", "fabric"} | {key.rsplit(".", 1)[0] for key in known if key.endswith("_sm.fp8")}
    for dotted in changes:
        if dotted in wholes:
            inner = sorted(key for key in known if key.startswith(f"{dotted}.") and key.count(".") == dotted.count(".") + 1)
            raise BadInput(f"{name}: {dotted} cannot be set as a whole: set one of {', '.join(inner)}")
        if dotted not in known:
            raise UnknownKey(name, dotted, known - wholes)


def _set(tree: dict[str, Any], dotted: str, value: object) -> None:
    *owners, key = dotted.split(".")
    owner, sheet, inside = tree, tree, dotted
    for depth, step in enumerate(owners):
        owner = owner[step]
        if "sources" in owner:
            sheet, inside = owner, ".".join(dotted.split(".")[depth + 1 :])
    owner[key] = value
    # A datasheet's sources are per field, a cluster's per dotted key.
    sheet["sources"][inside.split(".")[0] if sheet is not tree else inside] = SET_BY_USER


def _datasheet(record: type[_Sheet], kind: str, name: str) -> _Sheet:
    return _cached(record, kind, name)  # type: ignore[return-value]


@cache
def _cached(record: type[Datasheet], kind: str, name: str) -> Datasheet:
    return _validated(record, _read(kind, name), f"{kind}/{name}.yaml")


_Record = TypeVar("_Record", bound=BaseModel)


def _validated(record: type[_Record], tree: Mapping[str, Any], where: str) -> _Record:
    try:
        return record.model_validate(tree)
    except ValidationError as error:
        raise BadInput(one_line(error, where)) from None


@cache
def _read(kind: str, name: str) -> dict[str, Any]:
    entries = _entries(kind)
    if name not in entries:
        raise UnknownName(_SINGULAR[kind], name, entries, f"epicycle catalog {kind}")
    return strict_yaml.load(entries[name].read_text(encoding="utf-8"), f"{kind}/{name}.yaml")


@cache
def _entries(kind: str) -> dict[str, Traversable]:
    if kind not in KINDS:
        raise UnknownName("kind of hardware", kind, KINDS, "epicycle catalog")
    folder = files("epicycle.hwmodels").joinpath("data", kind)
    return {entry.name.removesuffix(".yaml"): entry for entry in folder.iterdir() if entry.name.endswith(".yaml")}
