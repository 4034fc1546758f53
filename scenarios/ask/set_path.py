"""``--set path=value``: one change to a scenario, in the words of its file.

``model.experts=8`` and ``cluster.node.nic=connectx8-800g`` reach through to the preset or catalogue entry: what is no key of
the scenario file becomes one of its ``overrides``; a price is one dotted key of ``prices``. ``cluster=NAME`` swaps the hardware
and keeps the number of nodes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ...hwmodels.catalog import is_file
from ...hwmodels.errors import nearest
from .document import Document, KeyPath, Plain, ScenarioError, parse_document

_OWN_KEYS: dict[str, tuple[str, tuple[str, ...]]] = {"model": ("preset", ()), "cluster": ("name", ("nodes",))}

#: Overrides of a cluster that may name a file.
_FILES = ("calibration", "node.gpu", "node.nic", "fabric.switch")


def with_changes(document: Document, sets: Iterable[str], known: Iterable[str], option: str = "--set") -> Document:
    """``document`` with each of ``sets`` ("path=value") applied in order; ``known`` are the scenario's own keys.

    Raises ScenarioError naming the ``option`` and the text that cannot be applied.
    """
    if not isinstance(document.data, dict):
        return document
    data, places = dict(document.data), dict(document.places)
    for text in sets:
        place = f"{option} {text}"
        path, value = _read(text, place)
        if path[0] not in known:
            close = nearest(path[0], known)
            hint = f"did you mean {close!r}?" if close else f"there are {', '.join(known)}"
            raise ScenarioError(f"{place}: no such key {path[0]!r}: {hint}")
        _apply(data, places, path, value, place)
    return Document(document.source, data, places)


def rebased(document: Document, folder: Path) -> Document:
    """``document`` with its file names, which are relative to the file itself, made relative to where the command runs."""
    data = document.data
    if not isinstance(data, dict):
        return document
    data = dict(data)
    model = data.get("model")
    if isinstance(model, str):
        data["model"] = _beside(model, folder)
    elif isinstance(model, dict) and isinstance(preset := model.get("preset"), str):
        data["model"] = {**model, "preset": _beside(preset, folder)}
    cluster, search = data.get("cluster"), data.get("search")
    if isinstance(cluster, str):
        data["cluster"] = _hardware_beside(cluster, folder)
    elif isinstance(cluster, dict):
        moved = {"name": _hardware_beside(cluster["name"], folder)} if "name" in cluster else {}
        overrides = {"overrides": _parts_beside(cluster["overrides"], folder, "")} if "overrides" in cluster else {}
        data["cluster"] = {**cluster, **moved, **overrides}
    deployment = data.get("deployment")
    prefill = deployment.get("prefill") if isinstance(deployment, dict) else None
    if isinstance(deployment, dict) and isinstance(prefill, dict) and "cluster" in prefill:
        there = _hardware_beside(prefill["cluster"], folder)
        data["deployment"] = {**deployment, "prefill": {**prefill, "cluster": there}}
    if isinstance(search, dict) and isinstance(others := search.get("clusters"), list):
        data["search"] = {**search, "clusters": [_hardware_beside(name, folder) for name in others]}
    requests = data.get("requests")
    trace = requests.get("trace") if isinstance(requests, dict) else None
    if isinstance(requests, dict) and isinstance(trace, dict) and isinstance(file := trace.get("file"), str):
        data["requests"] = {**requests, "trace": {**trace, "file": str(folder / file)}}
    for section in ("traffic", "workload"):
        load = data.get(section)
        routing = load.get("routing") if isinstance(load, dict) else None
        if isinstance(load, dict) and isinstance(routing, dict) and isinstance(file := routing.get("file"), str):
            data[section] = {**load, "routing": {**routing, "file": str(folder / file)}}
    return Document(document.source, data, document.places)


def is_config_path(name: str) -> bool:
    """Whether a model's name is meant as a file and not as a preset."""
    return "/" in name or name.endswith(".json")


def _hardware_beside(name: Plain, folder: Path) -> Plain:
    return str(folder / name) if isinstance(name, str) and is_file(name) else name


def _parts_beside(overrides: Plain, folder: Path, above: str) -> Plain:
    """The overrides of a cluster, dotted or nested, in which a part may be a file."""
    if not isinstance(overrides, dict):
        return _hardware_beside(overrides, folder) if above in _FILES else overrides
    return {key: _parts_beside(value, folder, f"{above}.{key}" if above else key) for key, value in overrides.items()}


def _beside(name: str, folder: Path) -> str:
    if not is_config_path(name):
        return name
    path = str(folder / name)  # which drops a "./" before a folder, and with it the sign that it is one
    return path if is_config_path(path) else f"./{path}"


def _read(text: str, place: str) -> tuple[list[str], Plain]:
    key, equals, value = text.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise ScenarioError(f"{place}: wanted path=value, for example --set cluster.nodes=16")
    return path, parse_document(value, place).data


def _apply(data: dict[str, Plain], places: dict[KeyPath, str], path: list[str], value: Plain, place: str) -> None:
    head = path[0]
    if head in _OWN_KEYS:
        named, kept = _OWN_KEYS[head]
        before = data.get(head)
        entry: dict[str, Plain] = dict(before) if isinstance(before, dict) else {named: before}
        if len(path) == 1:
            _forget(places, (head,))
            places[(head,)] = place
            swapped: dict[str, Plain] = {key: entry[key] for key in kept if key in entry} | {named: value}
            data[head] = value if isinstance(value, dict) else swapped
            return
        data[head] = entry
        if path[1] not in (named, "overrides", *kept):
            path = [head, "overrides", ".".join(path[1:])]
        elif path[1] == "overrides":
            path = [head, "overrides", *([".".join(path[2:])] if path[2:] else [])]
    elif head == "prices" and len(path) > 2:
        path = [head, ".".join(path[1:])]
    table: dict[str, Plain] = data
    for depth, key in enumerate(path[:-1], 1):
        inner = table.get(key)
        if inner is not None and not isinstance(inner, dict):
            raise ScenarioError(f"{place}: {'.'.join(path[:depth])} is the single value {inner!r}, it has no keys to set")
        below: dict[str, Plain] = dict(inner or {})
        table[key] = below
        table = below
    _forget(places, tuple(path))
    table[path[-1]], places[tuple(path)] = value, place


def _forget(places: dict[KeyPath, str], under: KeyPath) -> None:
    for path in [p for p in places if p[: len(under)] == under]:
        del places[path]
