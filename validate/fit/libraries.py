"""The laws of libraries that publish a few rows of themselves, fitted to named rows of a table: ``python -m
epicycle.validate.fit.libraries [TABLE]``.

A law takes at most a quarter of its library's rows and at most twelve; which ones stands in `LAWS` and in the files it writes,
``hwmodels/data/libraries``. They were chosen to show one mechanism each (SM-bound, wire-bound, many nodes, the calls around the
kernel); every other row of the table is predicted and judged. Whoever chose had seen the whole table, and two choices were
changed after the fits were compared (Hybrid-EP's host row on GB200, Mega MoE's row of one barrier on SM100): the forms of the
laws are not blind to the rows that judge them, only their constants are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.optimize import least_squares

from ...hwmodels.calibration import Entry, Fit, Scope, constants_of, find_entry
from ...hwmodels.constant import read_constant, write_constant
from ...hwmodels.plain_file import read_csv
from ...sim.ep.bound import program_seconds
from ...sim.ep.compute.experts import ExpertConstants
from ...sim.ep.compute.fused_experts import BLOCK_ROWS, HOPPER_BLOCK_ROWS, FusedExperts
from ...sim.ep.machine import machine_of
from ...sim.ep.protocol import Context, find_protocol
from ...sim.ep.protocols import elastic, mega, mori
from ..tables.published import Case, case_of, cluster_of
from ..tables.published_layers import Layer, with_products
from ..tables.published_libraries import timed
from .shipped import rewrite

TABLE = "published_ep_2.csv"
#: Most rows of a library that its laws may use, and the share of its rows.
MOST_ROWS, MOST_SHARE = 12, 0.25


@dataclass(frozen=True, slots=True)
class Law:
    """One kernel's constants on one system. ``free``: constant -> where the search begins, as written; ``held``: those that the
    rows cannot tell, as written; ``why``: where the held ones are from. ``lends``: the protocol whose constants are the
    record's ``base``; ``build``: makes the record of the law's own constants, where they are part of it. ``fused``: block
    rows of products inside an exchange's kernel, whose rows are whole layers."""

    protocol: str
    op: str
    scope: Scope
    system: str
    lines: tuple[int, ...]
    free: Mapping[str, str | float]
    held: Mapping[str, str | float] = field(default_factory=dict)
    why: str = ""
    lends: str = ""
    build: Callable[[Mapping[str, float]], Any] | None = None
    fused: tuple[tuple[float, float], ...] = ()
    table: str = TABLE


_HELD = "held: the launch of a short kernel, sharpness as of DeepEP's fitted kernels (assumed)"
_HYBRID_HOST = "88.7 us"
_ELASTIC_WRITE = "18.29 B/cycle"
LAWS = (
    Law(
        "hybrid-ep", "dispatch", "nvlink-domain", "gb200", (47, 60, 66, 50),
        {"host": "60 us", "row": "0.05 us", "copy": "60 B/cycle", "nvlink_efficiency": 0.75},
        {"launch": "8 us", "rail_sync": "0 us", "post": "0 us", "nic_efficiency": 0.9, "sharpness": 4.0},
        _HELD,
    ),
    Law(
        "hybrid-ep", "combine", "nvlink-domain", "gb200", (61, 67),
        {"copy": "40 B/cycle", "nvlink_efficiency": 0.7},
        {
            "launch": "8 us", "host": _HYBRID_HOST, "rail_sync": "0 us", "row": "0 us", "post": "0 us", "nic_efficiency": 0.9,
            "sharpness": 4.0,
        },
        f"{_HELD}; host as of dispatch",
    ),
    Law(
        "hybrid-ep", "dispatch", "multi-node", "h100_sxm", (6, 23, 30, 27),
        {"rail_sync": "100 us", "copy": "30 B/cycle", "post": "0.3 us", "nic_efficiency": 0.9},
        {"launch": "8 us", "host": _HYBRID_HOST, "row": "0.05 us", "nvlink_efficiency": 0.78, "sharpness": 4.0},
        f"{_HELD}; host as inside a domain",
    ),
    Law(
        "hybrid-ep", "combine", "multi-node", "h100_sxm", (7, 31),
        {"copy": "30 B/cycle", "nic_efficiency": 0.9},
        {
            "launch": "8 us", "host": _HYBRID_HOST, "rail_sync": "5.6 us", "row": "0 us", "post": "0.3 us",
            "nvlink_efficiency": 0.78, "sharpness": 4.0,
        },
        f"{_HELD}; host as inside a domain, a round trip of ConnectX-7 for every remote node",
    ),
    Law("nccl-ep-low-latency", "dispatch", "multi-node", "h100_sxm", (100,), {"wire_efficiency": 0.9}, lends="low-latency"),
    Law("pplx-garden", "dispatch", "multi-node", "h200_sxm", (156,), {"waits": "100 us"}, lends="low-latency"),
    Law("pplx-garden", "combine", "multi-node", "h200_sxm", (155,), {"waits": "100 us"}, lends="low-latency"),
    Law("mega-moe", "compute", "one-node", "b200_sxm", (161,), {"fill": "3 us"}, fused=BLOCK_ROWS),
    Law("mega-moe", "compute", "one-node", "h100_sxm", (170,), {"fill": "3 us"}, fused=HOPPER_BLOCK_ROWS),
    Law(
        "elastic", "dispatch", "one-node", "h100_sxm", (138, 142), {"launch": "14 us", "store_copy": "15 B/cycle"},
        build=lambda own: elastic.constants(elastic.OwnConstants(**own), "h20_3e", "dispatch", "one-node")[0],
    ),
    Law(
        "elastic", "combine", "one-node", "h100_sxm", (139,), {"launch": "10 us"}, {"store_copy": _ELASTIC_WRITE},
        "store_copy held: as of dispatch",
        build=lambda own: elastic.constants(elastic.OwnConstants(**own), "h20_3e", "combine", "one-node")[0],
    ),
    Law(
        "mori-ep", "dispatch", "one-node", "mi355x", (2, 3, 4, 5, 6, 7, 8),
        {"launch": "20 us", "nvlink_efficiency": 0.6}, {"sharpness": 4.0}, "sharpness assumed",
        build=lambda own: mori.MoriConstants(mori.MeshConstants(**own), 0.0), table="mori-mi350x.published.csv",
    ),
)  # fmt: skip


def rows_of(path: Path) -> dict[int, dict[str, str]]:
    """Line -> row of a table."""
    reader = read_csv(path)
    found = {}
    for row in reader:
        found[reader.line_num] = row
    return found


def fit_law(law: Law, rows: Mapping[int, dict[str, str]]) -> Entry:
    """The entry of ``law``: least squares of log(predicted / measured) on its lines. Deterministic."""
    chosen = [rows[line] for line in law.lines]
    cases = [_layer_case(row) if law.fused else case_of(row) for row in chosen]
    held = {name: read_constant(name, value) for name, value in law.held.items()}
    start = np.array([read_constant(name, value) for name, value in law.free.items()])
    measured = np.array([case.measured_us * 1e-6 for case in cases])

    def predict(values: NDArray[np.float64]) -> NDArray[np.float64]:
        own = held | dict(zip(law.free, values.tolist(), strict=True))
        return np.array([_seconds(law, case, row, own) for case, row in zip(cases, chosen, strict=True)])

    def residuals(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.log(predict(np.exp(logs)) / measured), float)

    most = np.array([0.0 if n.endswith("efficiency") else np.inf for n in law.free])
    logs = np.minimum(np.log(start), most - 1e-6)
    solution = least_squares(residuals, logs, bounds=(np.full(len(start), -40.0), most))
    error = residuals(solution.x)
    fitted = zip(law.free, np.exp(solution.x), strict=True)
    constants = {n: write_constant(n, float(v)) for n, v in fitted} | dict(law.held)
    return Entry(
        protocol=law.protocol,
        op=law.op,
        scope=law.scope,
        constants=constants,
        fit=Fit(
            table=law.table,
            library=f"{chosen[0]['lib']} {chosen[0]['commit']}".strip(),
            rows=len(chosen),
            lines=law.lines,
            rows_available=sum(row["lib"] == chosen[0]["lib"] for row in rows.values()),
            mape_fit_pct=round(float(np.abs(np.expm1(error)).mean() * 100), 2),
            residual_log_sd=round(max(float(error.std()), 0.001), 4),
            undetermined=tuple(law.held),
            seen=_seen(cases),
            method="; ".join(
                filter(None, ("least squares of log error on the named rows (validate/fit/libraries.py)", law.why))
            ),
        ),
    )


def _seconds(law: Law, case: Case, row: Mapping[str, str], own: Mapping[str, float]) -> float:
    """What ``row`` is predicted to take with constants ``own``, beside those that another protocol lends."""
    if law.fused:
        return _layer_seconds(law, case, row, own["fill"])
    op = find_protocol(law.protocol).ops[law.op]
    constants: Any
    if law.lends:
        lent = find_protocol(law.lends).ops[law.op]
        entry, _ = find_entry(case.cluster.calibration, law.lends, law.op, law.scope)
        constants = op.constants(base=constants_of(entry, lent.constants), **own)
    elif law.build is not None:
        constants = law.build(own)
    else:
        constants = op.constants(**own)
    stages = timed(row, op.describe(case.shape, case.machine, constants, case.context))
    return float(np.asarray(program_seconds(stages, case.shape, case.machine)))


def _layer_case(row: dict[str, str]) -> Case:
    cluster = cluster_of(row)
    layer = Layer.of(row, cluster)
    measured = float(row["latency_us"])
    return Case(cluster, machine_of(cluster), layer.protocol, "one-node", layer.shape, Context(), measured)


def _layer_seconds(law: Law, case: Case, row: Mapping[str, str], fill: float) -> float:
    """A fused layer without its fill's entry, which is what is sought: the masked kernels' entry stands for it."""
    masked, system = find_entry(case.cluster.calibration, "expert-compute", "masked", "one-node")
    base = constants_of(masked, ExpertConstants)
    fused = FusedExperts(base, fill, mega.NVLINK_EFFICIENCY, law.fused, masked, system)
    return with_products(row, case.cluster, fused)


def _seen(cases: list[Case]) -> dict[str, tuple[float, float]]:
    found = {}
    for name in ("tokens", "hidden", "top_k", "ranks"):
        values = [float(np.asarray(getattr(case.shape, name))) for case in cases]
        found[name] = (min(values), max(values))
    return found


def documents(table: Path) -> dict[str, str]:
    """Protocol -> text of its file."""
    measured = Path(str(files("epicycle.validate").joinpath("measured")))
    tables = {name: rows_of(table if name == TABLE else measured / name) for name in {law.table for law in LAWS}}
    found: dict[str, dict[str, list[Any]]] = {}
    for law in LAWS:
        document = fit_law(law, tables[law.table]).model_dump(mode="json", exclude_none=True)
        for name in ("uncertainty", "intervals", "beside"):
            del document["fit"][name]
        found.setdefault(law.protocol, {}).setdefault(law.system, []).append(document)
    return {name: yaml.safe_dump(each, sort_keys=False, width=120) for name, each in found.items()}


def main(arguments: list[str]) -> int:
    """Make the laws of all libraries again, or compare them (``--check``)."""
    return rewrite("libraries", TABLE, lambda table: documents(table).items(), arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
