"""The figures that EP libraries print about themselves, mapped to our protocols and predicted blind: never fitted to.

Bandwidths there are *logical*: payload handed over, local rows included, over time. From a logical bandwidth this file
recovers the time, as the library's own benchmark counts its bytes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from ...hwmodels.calibration import Scope, load_calibration, named_lines
from ...hwmodels.catalog import load_transport, names
from ...hwmodels.errors import BadInput
from ...hwmodels.interval import Interval, elsewhere
from ...hwmodels.known.foreign import why_foreign
from ...hwmodels.known.names import UnknownHardware, cluster_called
from ...hwmodels.plain_file import read_csv
from ...hwmodels.specs import Cluster
from ...sim.ep.bound import program_seconds
from ...sim.ep.machine import machine_of
from ...sim.ep.protocol import Context, describe, find_protocol
from ...sim.ep.protocols.elastic import theoretical_sms
from ...sim.ep.shape import Shape
from ...sim.ep.stage import Machine
from ...sim.ep.transport import over
from .ep_rows import POINT
from .published_layers import CHAINS, layer_time
from .published_libraries import protocol_of, timed, transport_named, why_undescribed
from .published_reasons import reason_of

COLUMNS = (
    "lib", "gpu", "fabric", "mode", "op", "ep", "gpus_per_node", "tokens_per_rank", "hidden", "topk", "experts", "dtype",
    "routing", "latency_us", "bw_GBps", "bw_kind", "num_sms", "notes",
)  # fmt: skip
#: SMs of DeepEP's kernels where none are stated (`Buffer.num_sms`), of the 132 that its GPU has.
DEFAULT_SMS, OF_SMS = 24.0, 132.0
#: DeepEP's default experts: of the inter-node and low-latency tests where the table gives none.
DEFAULT_EXPERTS = 256.0
#: GPUs that a source leaves open: Hopper, by its generation.
_NOT_STATED = ("SM90", "sm_90 (not stated)", "not stated (H100/H200 class)")
#: The table whose rows a few laws and transports were taken from, by line.
LAWS_TABLE = "published_ep_2.csv"
#: Beyond this error a row needs a reason.
FAR_PCT = 40.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One printed figure as a time, and what our description predicts for it."""

    line: int
    values: dict[str, str]
    system: str
    protocol: str
    op: str
    nodes: int
    measured_us: float
    predicted_us: float
    calibrated_on: str
    reason: str
    interval: Interval
    fitted: bool = False  # one of the few rows that its law was fitted to

    @property
    def error_pct(self) -> float:
        return 100.0 * (self.predicted_us / self.measured_us - 1.0)


def read_figures(path: Path) -> tuple[list[Figure], dict[str, int]]:
    """Every row that has a description, predicted, and reason -> rows for the others. Raises BadInput for a malformed table."""
    skipped: Counter[str] = Counter()
    found = []
    reader = read_csv(path)
    if missing := [c for c in COLUMNS if c not in (reader.fieldnames or ())]:
        raise BadInput(f"{path}: line 1: no column {', '.join(missing)}")
    for row in reader:
        reason = _skip(row)
        if reason:
            skipped[reason] += 1
            continue
        try:
            found.append(_figure(reader.line_num, row, path.name))
        except (ValueError, ZeroDivisionError) as error:
            raise BadInput(f"{path}: line {reader.line_num}: {error}") from None
    return found, dict(skipped)


@cache
def transport_lines() -> frozenset[int]:
    """Lines of `LAWS_TABLE` that transports of the catalogue were taken from."""
    return frozenset(line for name in names("transports") for line in load_transport(name).lines)


def _skip(row: dict[str, str]) -> str:
    if row["mode"] == "wire":
        return "a test of the wire, not of an expert-parallel kernel"
    if "AtA" in row["fabric"]:
        return "NCCL's all-to-all across nodes: nobody calibrated it"
    if row["lib"] in CHAINS and row["op"] == "layer":
        return _unknown_hardware(row)
    if row["op"] not in ("dispatch", "combine"):
        return "dispatch and combine in one figure"
    if not all(row[name] for name in ("ep", "tokens_per_rank", "hidden", "topk")):
        return "tokens, hidden size, top-k or ranks are not stated"
    if undescribed := why_undescribed(row):
        return undescribed
    return _unknown_hardware(row)


def _unknown_hardware(row: dict[str, str]) -> str:
    try:
        cluster_of(row)
    except UnknownHardware as error:
        return str(error)
    except ValueError:
        return ""  # said of the row itself
    return ""


@dataclass(frozen=True, slots=True)
class Case:
    """What a row was measured on, and the shape and context of its exchange."""

    cluster: Cluster
    machine: Machine
    protocol: str
    scope: Scope
    shape: Shape
    context: Context
    measured_us: float


def case_of(row: dict[str, str]) -> Case:
    """A row as a question to its library's protocol. Raises ValueError for what cannot be read."""
    cluster = cluster_of(row)
    shape = _shape(row, cluster)
    protocol = protocol_of(row)
    scope = find_protocol(protocol).scope(float(shape.ranks) <= float(shape.domain))
    context = Context(gpus_per_node=4.0, fields=1.0 if row["dtype"].lower() in ("bf16", "fp8") else 2.0)
    measured = float(row["latency_us"]) if row["latency_us"] else _time_us(row, shape)
    if measured <= 0.0:
        raise ValueError(f"latency_us: wanted a time above zero, got {measured:g}")
    machine = machine_of(over(cluster, protocol, transport_named(row)))
    if row["lib"] == "DeepEP-V2" and not row["num_sms"]:
        shape = replace(shape, comm_sms=theoretical_sms(shape, machine))
    return Case(cluster, machine, protocol, scope, shape, context, measured)


def _figure(line: int, row: dict[str, str], table: str) -> Figure:
    if row["op"] == "layer":
        return _layer(line, row, table)
    case = case_of(row)
    cluster, shape = case.cluster, case.shape
    described = describe(case.protocol, row["op"], case.scope, cluster.calibration, shape, case.machine, case.context)
    stages = timed(row, described.stages)
    predicted = 1e6 * float(np.asarray(program_seconds(stages, shape, case.machine)))
    system, nodes = f"{row['lib']} on {cluster.name}", max(1, round(float(shape.ranks) / 8))
    same = load_calibration(described.calibrated_on).cluster == load_calibration(cluster.calibration).cluster
    point = {name: float(getattr(shape, name)) for name in POINT}
    foreign = why_foreign(cluster, case.scope == "multi-node", described.calibrated_on)
    borrowed = "" if same else described.calibrated_on
    if described.lender:
        borrowed = f"the {described.lender} kernels on {described.calibrated_on}: {case.protocol} is unmeasured"
    fit = described.entry.fit
    sure = elsewhere(fit.interval(1e-6 * predicted, nodes, point, borrowed, foreign))
    fitted = line in named_lines(case.protocol, table) or (table == LAWS_TABLE and line in transport_lines())
    source = described.calibrated_on
    figure = Figure(line, row, system, case.protocol, row["op"], nodes, case.measured_us, predicted, source, "", sure, fitted)
    return replace(figure, reason=reason_of(row) if abs(figure.error_pct) > FAR_PCT else "")


def _layer(line: int, row: dict[str, str], table: str) -> Figure:
    cluster = cluster_of(row)
    protocol, measured = CHAINS[row["lib"]][0], float(row["latency_us"])
    seconds, sure, source = layer_time(row, cluster)
    system, fitted = f"{row['lib']} on {cluster.name}", line in named_lines(protocol, table)
    figure = Figure(line, row, system, protocol, "layer", 1, measured, 1e6 * seconds, source, "", sure, fitted)
    return replace(figure, reason=reason_of(row) if abs(figure.error_pct) > FAR_PCT else "")


def cluster_of(row: dict[str, str]) -> Cluster:
    """The hardware a row is of. Raises UnknownHardware for what the catalogue does not have: it is never somebody else's."""
    gpu, fabric, lib = row["gpu"], row["fabric"], row["lib"]
    across = float(row["ep"]) > float(row["gpus_per_node"] or 8) and "NVL72" not in gpu
    if gpu in _NOT_STATED:  # what the authors of each library measure on
        if "EFA" in fabric or "EFA" in lib:
            gpu = "H200"
        # V2's EP16 rows are 256 GB/s of NVLink a GPU, which an H800 (200) cannot do.
        elif lib.startswith("DeepEP-V1") or (gpu == "SM90" and lib != "DeepEP-V2"):
            gpu = "H800"
        else:
            gpu = "H100"
    return cluster_called(gpu, fabric, across, f"{row['gpu']} {lib}" if across else "")


def _shape(row: dict[str, str], cluster: Cluster) -> Shape:
    ranks, hidden, top_k = float(row["ep"]), float(row["hidden"]), float(row["topk"])
    domain = min(ranks, float(max(8, cluster.nvlink_domain_gpus)))
    if "as cited by pplx" in row["lib"]:
        domain = 1.0  # DeepEP before its low-latency kernels used NVLink
    nodes = ranks / domain
    stated = row["experts"].split()[0] if row["experts"] else ""
    experts = float(stated) if stated else (288.0 if row["mode"] == "LL" else DEFAULT_EXPERTS)
    if row["lib"] == "UCCL-EP" and nodes > 1:
        experts = 288.0
    experts = ranks * np.ceil(experts / ranks)
    grouped = row["mode"] == "HT" and nodes > 1 and row["lib"].startswith(("DeepEP", "UCCL")) and row["routing"] != "uniform"
    balanced = row["routing"] == "perfect_router" or "OneSided" in row["lib"]
    sms = float(row["num_sms"]) if row["num_sms"] else DEFAULT_SMS * max(1.0, cluster.node.gpu.sms / OF_SMS)
    return Shape(
        tokens=float(row["tokens_per_rank"]),
        hidden=hidden,
        top_k=top_k,
        experts=float(experts),
        ranks=ranks,
        domain=domain,
        payload_bytes=hidden * _density(row),
        comm_sms=sms if row["lib"] == "DeepEP-V2" else 2.0 * np.floor(sms / 2.0),  # the first generation pairs them
        routing="balanced" if balanced else "group-limited" if grouped else "uniform",
        groups=nodes,
        groups_kept=min(nodes, 4.0),
    )


def _density(row: dict[str, str]) -> float:
    """Bytes per element of a dispatched row, scales included."""
    dtype = row["dtype"].lower()
    if dtype.startswith("bf16"):
        return 2.0
    if dtype == "nvfp4":
        return 0.5 + 1.0 / 16.0
    return 1.0 + (1.0 / 32.0)  # fp8 with an fp32 scale per 128 values, or MX: an 8-bit one per 32


def _time_us(row: dict[str, str], shape: Shape) -> float:
    """Microseconds behind a logical bandwidth: rows per distinct node (RDMA) or rank (NVLink, xGMI), local ones counted."""
    if not row["bw_GBps"]:
        raise ValueError("neither latency_us nor bw_GBps is given")
    rdma = row["bw_kind"].startswith("RDMA")
    rows = float(shape.tokens) * float(shape.distinct(shape.nodes if rdma else shape.ranks))
    per_row = 2.0 * float(shape.hidden) if row["op"] == "combine" else float(shape.payload_bytes)
    if row["lib"] == "DeepEP-V2":  # counts weights, and on dispatch 64-bit ids, with the rows
        per_row += (4.0 if row["op"] == "combine" else 12.0) * float(shape.top_k)
    return rows * per_row / (1e9 * float(row["bw_GBps"])) * 1e6
