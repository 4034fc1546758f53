"""The hardware numbers an answer can hang on, and a cluster in which one of them is a little more or less."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from ...hwmodels.specs import Cluster
from ...hwmodels.units import format_bytes, format_rate, format_time


@dataclass(frozen=True, slots=True)
class HardwareNumber:
    """``path``: its key under ``cluster``. ``low`` and ``high``: what it cannot go beyond. ``whole``: it counts things."""

    path: str
    words: str
    low: float = 0.0
    high: float = float("inf")
    whole: bool = False


NUMBERS: tuple[HardwareNumber, ...] = (
    HardwareNumber("node.gpu.tensor_flop_per_cycle_sm", "tensor rate"),
    HardwareNumber("node.gpu.clock", "GPU clock"),
    HardwareNumber("node.gpu.sms", "SMs", low=1, whole=True),
    HardwareNumber("node.gpu.hbm_bandwidth", "HBM bandwidth"),
    HardwareNumber("node.gpu.hbm_capacity", "HBM capacity"),
    HardwareNumber("node.gpu.l2_capacity", "L2 capacity"),
    HardwareNumber("node.gpu.nvlink_bandwidth", "NVLink bandwidth"),
    HardwareNumber("node.gpu.pcie_bandwidth", "PCIe bandwidth"),
    HardwareNumber("node.gpu.power", "GPU power"),
    HardwareNumber("node.nic.bandwidth", "NIC bandwidth"),
    HardwareNumber("node.nic.efficiency", "NIC efficiency", high=1.0),
    HardwareNumber("node.nic.latency", "NIC latency"),
    HardwareNumber("node.nic.message_rate", "NIC message rate"),
    HardwareNumber("node.nic.message_cost", "NIC time per message"),
    HardwareNumber("node.nic.queue_pairs", "NIC queue pairs", low=1, whole=True),
    HardwareNumber("fabric.switch.latency", "switch latency"),
    HardwareNumber("fabric.switch.port_bandwidth", "switch port bandwidth"),
    HardwareNumber("fabric.oversubscription", "fabric oversubscription", low=1.0),
)


def scaled(cluster: Cluster, number: HardwareNumber, factor: float) -> Cluster | None:
    """``cluster`` with ``number`` times ``factor``; None if not stated or not to be moved. Several rates move together."""
    before = _read(cluster, number.path)
    if None in before.values():  # not stated of this GPU
        return None
    after = {key: _within(number, value * factor) for key, value in before.items()}
    if all(after[key] == value for key, value in before.items()):
        return None
    moved: Cluster = _replaced(cluster, number.path.split("."), after)
    return moved


def shown(cluster: Cluster, number: HardwareNumber) -> tuple[str, str]:
    """The number's value in words, and its source."""
    sheet, inside = _sheet(cluster, number.path)
    sources: dict[str, str] = sheet.sources
    return ", ".join(_words(number.path, key, value) for key, value in _read(cluster, number.path).items()), sources.get(
        inside, sources.get("*", "")
    )


def _read(cluster: Cluster, path: str) -> dict[str, float]:
    """The value, under its last key; of several rates, each under its own."""
    record: Any = cluster
    for key in path.split("."):
        record = getattr(record, key)
    return dict(record) if isinstance(record, dict) else {path.rsplit(".", 1)[-1]: record}


def _within(number: HardwareNumber, value: float) -> float:
    return min(number.high, max(number.low, round(value) if number.whole else value))


def _replaced(record: BaseModel, keys: list[str], values: dict[str, float]) -> Any:
    key, *rest = keys
    held = getattr(record, key)
    if rest:
        inner: object = _replaced(held, rest, values)
    else:
        inner = values if isinstance(held, dict) else type(held)(values[key])
    return record.model_copy(update={key: inner})


def _sheet(cluster: Cluster, path: str) -> tuple[Any, str]:
    """The innermost record with sources that ``path`` goes through, and the rest of the path from there."""
    sheet: Any = cluster
    record: Any = cluster
    keys = path.split(".")
    inside = path
    for depth, key in enumerate(keys[:-1], 1):
        record = getattr(record, key)
        if hasattr(record, "sources"):
            sheet, inside = record, ".".join(keys[depth:])
    return sheet, inside


def _words(path: str, key: str, value: float | None) -> str:
    name = path.rsplit(".", 1)[-1]
    if value is None:
        return "not stated"
    if name == "tensor_flop_per_cycle_sm":
        return f"{key} {value:,.0f} flop per cycle and SM"
    if name in ("latency", "message_cost"):
        return format_time(value)
    if name.endswith("bandwidth"):
        return format_rate(value)
    if name.endswith("capacity"):
        return format_bytes(value, binary=True)
    if name == "clock":
        return f"{value / 1e9:.3g} GHz"
    if name == "message_rate":
        return f"{value / 1e6:,.0f} M/s"
    return f"{value:,.0f} W" if name == "power" else f"{value:g}"
