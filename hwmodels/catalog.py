"""The catalogue: hardware by name, from the YAML files that ship with the package, or from a file of the user's.

A cluster names its GPU, NIC and switch; loading joins them into one record. ``overrides`` change it on the way:
``{"node.nic": "connectx8-800g"}`` swaps a part (a name, or a file), ``{"fabric.oversubscription": "2"}`` sets a field, and
every field that was set says "set by the user" in ``sources``.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from . import strict_yaml
from .errors import BadInput, UnknownKey, UnknownName
from .hardware_file import Sheet, is_file, owned, read_sheet, with_tensor_rate
from .sick import ailing
from .specs import SET_BY_USER, Cluster, Datasheet, Gpu, Link, Nic, Switch
from .strict_yaml import KeyPath
from .transport import Transport

__all__ = [
    "KINDS",
    "SET_BY_USER",
    "is_file",
    "load_cluster",
    "load_gpu",
    "load_link",
    "load_nic",
    "load_switch",
    "load_transport",
    "names",
]

KINDS: tuple[str, ...] = ("gpus", "nics", "transports", "links", "switches", "clusters")

_SINGULAR = {
    "gpus": "GPU",
    "nics": "NIC",
    "transports": "transport",
    "links": "link",
    "switches": "switch",
    "clusters": "cluster",
}
_PARTS = {"node.gpu": "gpus", "node.nic": "nics", "fabric.switch": "switches"}
#: What a cluster of the user's may leave out: as many nodes as a two-level tree of 64-port switches joins.
_CLUSTER_DEFAULTS = {"nodes": 1, "max_nodes": 1024}

_Sheet = TypeVar("_Sheet", bound=Datasheet)


def names(kind: str) -> tuple[str, ...]:
    """The sorted names of the catalogue's entries of ``kind``, one of ``KINDS``. Raises UnknownName for another kind."""
    return tuple(sorted(_entries(kind)))


def load_gpu(name: str) -> Gpu:
    """The GPU of that name, or in that file. Raises UnknownName, or BadInput for a file."""
    return _datasheet(Gpu, "gpus", name)


def load_nic(name: str) -> Nic:
    """The NIC of that name, or in that file. Raises as `load_gpu`."""
    return _datasheet(Nic, "nics", name)


def load_transport(name: str) -> Transport:
    """The transport of that name, or in that file. Raises as `load_gpu`."""
    return _datasheet(Transport, "transports", name)


def load_link(name: str) -> Link:
    """The point-to-point link of that name, or in that file. Raises as `load_gpu`."""
    return _datasheet(Link, "links", name)


def load_switch(name: str) -> Switch:
    """The switch of that name, or in that file. Raises as `load_gpu`."""
    return _datasheet(Switch, "switches", name)


def load_cluster(name: str, nodes: int | None = None, overrides: Mapping[str, object] | None = None) -> Cluster:
    """The cluster of that name, or in that file, with ``nodes`` nodes (default: the file's) and ``overrides`` (dotted key ->
    text or number).

    A part's name is applied before the fields inside the part, whatever their order. ``node.nics`` follows ``node.gpus`` unless
    it is given. Raises UnknownName, UnknownKey, or BadInput with one line on every field that does not fit.
    """
    whole = _sheet("clusters", name)
    tree = deepcopy(whole.tree)
    if "file" in tree:
        raise BadInput(f"{whole.place(('file',))}file: no such key")
    if whole.document is not None:
        tree = {**_CLUSTER_DEFAULTS, **tree, "file": name}
        _has_its_parts(tree, whole)
    changes = dict(overrides or {})
    if nodes is not None:
        tree["nodes"] = nodes
    _check_keys(name, changes)
    parts: dict[KeyPath, Sheet] = {}
    for part, kind in _PARTS.items():
        owner, key = part.split(".")
        path: KeyPath = (owner, key)
        chosen, beside = tree[owner][key], Path(name).parent if whole.document is not None else None
        if part in changes:
            chosen, beside = changes.pop(part), None
            if not isinstance(chosen, str):
                raise BadInput(f"{part}: wanted the name of a {_SINGULAR[kind]}, or a file, got {chosen!r}")
            tree["sources"][part] = SET_BY_USER
        parts[path] = _part(kind, chosen, beside, whole, path)
        tree[owner][key] = deepcopy(parts[path].tree)
    for dotted, value in changes.items():
        _set(tree, dotted, value)
    tree["node"].setdefault("nics", tree["node"].get("gpus"))
    joined = Sheet(tree, name, whole.document, (), parts)
    try:
        return ailing(Cluster.model_validate(tree))
    except ValidationError as error:
        raise joined.refusal(error) from None


def _has_its_parts(tree: dict[str, Any], whole: Sheet) -> None:
    """Raises BadInput where a user's cluster lacks what the parts are read from."""
    for owner, keys in (("node", ("gpu", "gpus", "nic")), ("fabric", ("kind", "switch"))):
        if not isinstance(tree.get(owner), dict):
            raise BadInput(f"{whole.place((owner,))}{owner}: wanted the keys {', '.join(keys)}")
        for key in keys:
            if key not in tree[owner]:
                raise BadInput(f"{whole.place((owner,))}{owner}.{key}: Field required")
    calibration = tree.get("calibration")
    if not isinstance(calibration, str):
        got = f", got {calibration!r}" if calibration is not None else ""
        raise BadInput(
            f"{whole.place(('calibration',))}calibration: wanted the measured system nearest to it, such as h100_sxm "
            f"(the column calibration of `epicycle catalog clusters`), or a file that `epicycle calibrate` wrote{got}"
        )
    if is_file(calibration):
        tree["calibration"] = str(Path(whole.where).parent / calibration)


def _part(kind: str, chosen: object, beside: Path | None, whole: Sheet, path: KeyPath) -> Sheet:
    """The part that a cluster names, or that is written out in its file. ``beside``: the folder its file names start from."""
    if isinstance(chosen, dict):
        written = Sheet(chosen, whole.where, whole.document, path)
        return _as_record(kind, owned(written) if whole.document is not None else written)
    if not isinstance(chosen, str):
        raise BadInput(f"{whole.place(path)}{_dotted(path)}: wanted a name, a file or the record itself, got {chosen!r}")
    try:
        return _sheet(kind, str(beside / chosen) if beside is not None and is_file(chosen) else chosen)
    except UnknownName as error:
        if whole.document is None:
            raise
        raise BadInput(f"{whole.place(path)}{_dotted(path)}: {error}") from None


def _dotted(path: KeyPath) -> str:
    return ".".join(map(str, path))


def override_keys() -> tuple[str, ...]:
    """Every dotted key that ``load_cluster`` accepts in ``overrides``."""
    return tuple(sorted(set(_keys(Cluster)) - {"name", "sources", "file", "node.gpu.price"}))


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
    if is_file(name):
        return _validated(record, _sheet(kind, name))
    return _cached(record, kind, name)  # type: ignore[return-value]


@cache
def _cached(record: type[Datasheet], kind: str, name: str) -> Datasheet:
    return _validated(record, _sheet(kind, name))


_Record = TypeVar("_Record", bound=BaseModel)


def _validated(record: type[_Record], sheet: Sheet) -> _Record:
    try:
        return record.model_validate(sheet.tree)
    except ValidationError as error:
        raise sheet.refusal(error) from None


def _sheet(kind: str, name: str) -> Sheet:
    """What the catalogue, or the file, says of ``name``."""
    return _as_record(kind, read_sheet(Path(name))) if is_file(name) else _shipped(kind, name)


@cache
def _shipped(kind: str, name: str) -> Sheet:
    entries = _entries(kind)
    if name not in entries:
        raise UnknownName(_SINGULAR[kind], name, entries, f"epicycle catalog {kind}")
    where = f"{kind}/{name}.yaml"
    tree = strict_yaml.load(entries[name].read_text(encoding="utf-8"), where)
    return _as_record(kind, Sheet(tree, name if kind == "clusters" else where))


def _as_record(kind: str, sheet: Sheet) -> Sheet:
    """``sheet`` with a GPU's tensor rates as its record keeps them."""
    if kind != "gpus":
        return sheet
    try:
        tree = with_tensor_rate(sheet.tree)
    except ValueError as error:
        place = sheet.place(("tensor_rate",)) if sheet.document else f"{sheet.where}: "
        raise BadInput(f"{place}{error}") from None
    return Sheet(tree, sheet.where, sheet.document, sheet.at, sheet.parts)


@cache
def _entries(kind: str) -> dict[str, Traversable]:
    if kind not in KINDS:
        raise UnknownName("kind of hardware", kind, KINDS, "epicycle catalog")
    folder = files("epicycle.hwmodels").joinpath("data", kind)
    return {entry.name.removesuffix(".yaml"): entry for entry in folder.iterdir() if entry.name.endswith(".yaml")}
