"""The catalogue on a terminal: what there is of each kind, and one record with the source of every number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.text import Text

from ...hwmodels import catalog
from ...hwmodels.backends import backend_names, load_backend
from ...hwmodels.errors import BadInput, UnknownName
from ...hwmodels.prices import load_prices
from ...hwmodels.specs import Cluster, Datasheet, grade_of
from ...hwmodels.units import format_bytes, format_rate, format_time
from ...sim.ep.protocol import all_protocols, find_protocol
from ...sim.inputs.model import MoeModel, load_model, model_names
from ..ask.gallery import gallery_names, gallery_path
from ..ask.scenario import load_scenario
from .envelope import enveloped
from .protocol_anatomy import own_rows, stages_of
from .terminal.console import say
from .terminal.text_table import TextTable

KINDS = (
    "gpus",
    "nics",
    "transports",
    "switches",
    "links",
    "clusters",
    "models",
    "protocols",
    "backends",
    "prices",
    "scenarios",
)

_LOAD: dict[str, Callable[[str], BaseModel]] = {
    "gpus": catalog.load_gpu,
    "nics": catalog.load_nic,
    "transports": catalog.load_transport,
    "switches": catalog.load_switch,
    "links": catalog.load_link,
    "clusters": catalog.load_cluster,
    "models": load_model,
    "backends": load_backend,
}


def print_catalogue(kind: str | None, name: str | None, console: Console) -> None:
    """Print every kind, the entries of ``kind``, or the one called ``name``. Raises UnknownName with the nearest."""
    if kind is None:
        for each in KINDS:
            console.print(Text.assemble((f"{each}: ", "bold"), ", ".join(_names(each))), soft_wrap=True)
        console.print(Text("epicycle catalog KIND [NAME] shows more", style="dim"))
        return
    if kind not in KINDS:
        raise UnknownName("kind", kind, KINDS, "epicycle catalog")
    if kind == "prices":
        _print(_price_list(name), console)
    elif name is None:
        _print(_overview(kind), console)
    elif kind == "protocols":
        _print(_table(("key", "value"), _whole_protocol(name).items()), console)
    elif kind == "scenarios":
        console.print(Text(gallery_path(name).read_text(encoding="utf-8")), soft_wrap=True)
    else:
        record = _LOAD[kind](name)
        if isinstance(record, MoeModel):
            say(record.summary, console)
        _print(_record(record), console)


def catalogue_dict(kind: str | None, name: str | None) -> dict[str, Any]:
    """The same as plain data, in the envelope that all kinds have. Raises UnknownName."""
    entries: Any
    if kind is None:
        entries = {each: list(_names(each)) for each in KINDS}
    elif kind not in KINDS:
        raise UnknownName("kind", kind, KINDS, "epicycle catalog")
    elif kind == "prices":
        entries = [dict(zip(("price", "value", "source"), row, strict=True)) for row in load_prices().entries()]
        entries = [row for row in entries if name is None or row["price"].split(".")[0] == name]
    elif name is None:
        entries = [_ROW[kind](each) for each in _names(kind)]
    elif kind == "protocols":
        entries = _whole_protocol(name)
    elif kind == "scenarios":
        entries = {"text": gallery_path(name).read_text(encoding="utf-8")}
    else:
        entries = _LOAD[kind](name).model_dump(mode="json")
    return enveloped("catalog", {"of": kind, "name": name, "entries": entries})


def _names(kind: str) -> tuple[str, ...]:
    if kind == "scenarios":
        return gallery_names()
    if kind == "prices":
        return tuple(dict.fromkeys(key.split(".")[0] for key, _, _ in load_prices().entries()))
    if kind == "backends":
        return backend_names()
    if kind == "protocols":
        return tuple(all_protocols())
    return model_names() if kind == "models" else catalog.names(kind)


def _overview(kind: str) -> TextTable:
    rows = [_ROW[kind](name) for name in _names(kind)]
    if not rows:
        raise BadInput(f"the catalogue has no {kind}")
    return _table(list(rows[0]), (row.values() for row in rows))


def _price_list(table: str | None) -> TextTable:
    if table is not None and table not in _names("prices"):
        raise UnknownName("table of prices", table, _names("prices"), "epicycle catalog prices")
    return _table(
        ("price", "", "source"),
        (row for row in load_prices().entries() if row[0].split(".")[0] == (table or row[0].split(".")[0])),
    )


def _gpu(name: str) -> dict[str, str]:
    gpu = catalog.load_gpu(name)
    rates = {dtype: f"{gpu.tensor_flops(dtype) / 1e12:,.0f}" for dtype in gpu.tensor_flop_per_cycle_sm}
    return {
        "gpu": name,
        "SMs": str(gpu.sms),
        **{f"{dtype} TFLOP/s": rates.get(dtype, "") for dtype in ("bf16", "fp8", "fp4")},
        "HBM": format_bytes(gpu.hbm_capacity, binary=True),
        "HBM rate": format_rate(gpu.hbm_bandwidth),
        "in a domain, one way": format_rate(gpu.nvlink_bandwidth),
        "assumed": ", ".join(_FIELDS.get(field, field.replace("_", " ")) for field in gpu.graded("assumed")),
    }


#: Fields of a GPU by a word that is shorter.
_FIELDS = {"nvlink_bandwidth": "domain rate", "pcie_bandwidth": "PCIe", "tensor_flop_per_cycle_sm": "tensor rate", "sms": "SMs"}


def _nic(name: str) -> dict[str, str]:
    nic = catalog.load_nic(name)
    return {
        "nic": name,
        "one way": format_rate(nic.bandwidth),
        "at best": f"{100 * nic.efficiency:.0f} %",
        "messages": f"{nic.message_rate / 1e6:,.0f} M/s",
        "per message": format_time(nic.message_cost),
        "latency": format_time(nic.latency),
        "ordered": "yes" if nic.ordered else "no",
    }


def _transport(name: str) -> dict[str, str]:
    transport = catalog.load_transport(name)
    users = [record.name for record in all_protocols().values() if name in record.transports]
    return {
        "transport": name,
        "what it is": transport.what,
        "to": transport.nics,
        "posted by": "GPU" if transport.posts == "GPU" else f"CPU, {transport.threads} a GPU",
        "per message": format_time(transport.message_cost) if transport.message_cost else "the NIC's",
        "hand-over": format_time(transport.hand_over) if transport.hand_over else "fitted",
        "under way": f"{transport.queues} x {transport.queue_depth}",
        "carries": ", ".join(users),
    }


def _switch(name: str) -> dict[str, str]:
    switch = catalog.load_switch(name)
    rate, latency = format_rate(switch.port_bandwidth), format_time(switch.latency)
    return {"switch": name, "ports": str(switch.ports), "port, one way": rate, "latency": latency}


def _link(name: str) -> dict[str, str]:
    link = catalog.load_link(name)
    at_best, latency = f"{100 * link.efficiency:.0f} %", format_time(link.latency)
    return {"link": name, "one way": format_rate(link.bandwidth), "at best": at_best, "latency": latency}


def _cluster(name: str) -> dict[str, str]:
    cluster = catalog.load_cluster(name)
    return {
        "cluster": name,
        "node": f"{cluster.node.gpus} x {cluster.node.gpu.name}, {cluster.node.nics} x {cluster.node.nic.name}",
        "nodes": f"up to {cluster.max_nodes}",
        "NVLink domain": f"{cluster.nvlink_domain_gpus} GPUs",
        "fabric": cluster.fabric.kind,
        "calibration": cluster.calibration,
    }


def _model(name: str) -> dict[str, str]:
    model = load_model(name)
    return {
        "model": name,
        "layers": str(model.layers),
        "hidden": str(model.hidden),
        "experts": str(model.experts) if model.experts else "dense",
        "top-k": str(model.top_k) if model.experts else "",
        "expert width": str(model.moe_intermediate) if model.experts else "",
        "weights": f"{model.total_params / 1e9:,.0f} B",
        "active": f"{model.active_params / 1e9:,.1f} B",
    }


def _protocol(name: str) -> dict[str, str]:
    return find_protocol(name).row


def _whole_protocol(name: str) -> dict[str, str]:
    """All that is known of one: its row of the list, what carries its messages, its measured rows, and its stages in order."""
    record = find_protocol(name)
    transports = {"transports": ", ".join(record.transports) or "none to choose: its messages meet the NIC as it is"}
    return {**record.row, **transports, "its own rows": own_rows(record), **dict(stages_of(record))}


def _backend(name: str) -> dict[str, str]:
    backend = load_backend(name)
    own, fit = backend.constants, backend.fit
    return {
        "engine": name,
        "prompts": "mixed into decode steps" if backend.mixes_prompts else "in steps of their own",
        "between kernels": format_time(own.gap),
        "host, a step": format_time(own.step),
        "small all-reduce": format_time(own.all_reduce),
        "before a first token": format_time(own.first_token),
        "TPOT error, rows aside": f"{fit.median_rest_pct} % median, {fit.mean_rest_pct} % mean" if fit else "not fitted",
    }


def _scenario(name: str) -> dict[str, str]:
    scenario = load_scenario(name)
    return {"scenario": name, "": " ".join(scenario.description.split())}


_ROW: dict[str, Callable[[str], dict[str, str]]] = {
    "gpus": _gpu,
    "nics": _nic,
    "transports": _transport,
    "switches": _switch,
    "links": _link,
    "clusters": _cluster,
    "models": _model,
    "protocols": _protocol,
    "backends": _backend,
    "scenarios": _scenario,
}


def _record(record: BaseModel) -> TextTable:
    rows = _fields(record, "", {})
    if not isinstance(record, Datasheet | Cluster):
        return _table(("key", "value", "source"), rows)
    # How good a source is: the word it begins with, else the maker's own document. What is not stated has none.
    graded = ((key, value, grade_of(said) if said else "", said) for key, value, said in rows if value)
    return _table(("key", "value", "grade", "source"), graded)


def _fields(record: BaseModel, prefix: str, above: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    sources: dict[str, str] = getattr(record, "sources", above)
    written: dict[str, Any] = record.model_dump(mode="json")
    for key in type(record).model_fields:
        value = getattr(record, key)
        if key == "sources":
            continue
        if isinstance(value, BaseModel):
            yield (f"{prefix}{key}", getattr(value, "name", ""), sources.get(f"{prefix}{key}", sources.get(key, "")))
            yield from _fields(value, f"{prefix}{key}.", sources)
        elif not (key == "name" and prefix):
            inside = key if isinstance(record, Datasheet) else f"{prefix}{key}"
            source = "" if key == "name" else sources.get(inside, sources.get("*", ""))
            yield (f"{prefix}{key}", _written(written[key]), source)


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_written(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "; ".join(_written(item) for item in value)
    return "" if value is None else str(value)


def _table(names: Iterable[str], rows: Iterable[Iterable[str]]) -> TextTable:
    table = TextTable(*names)
    for row in rows:
        table.add_row(*row)
    return table


def _print(table: TextTable, console: Console) -> None:
    for line, heading in table.lines(console.width):
        console.print(Text(line, style="dim" if heading else ""), soft_wrap=True)
