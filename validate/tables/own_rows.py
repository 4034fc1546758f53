"""Rows that `epicycle bench` writes of this project's own kernels, read as the launches each consists of.

A row names its kernel (or op, or whole layer), its shape and its scope. It is predicted as the sum of its launches: bytes come
from the protocol's own stages, so that a row and a simulated layer cannot differ in what they move.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.calibration import calibrated_systems, load_calibration
from ...hwmodels.catalog import load_cluster
from ...hwmodels.errors import BadInput
from ...hwmodels.known.names import UnknownHardware, system_called
from ...hwmodels.plain_file import MOST_TABLE_BYTES, Reader, read_text
from ...hwmodels.specs import Gpu
from ...sim.ep.bound import stage_loads
from ...sim.ep.compute.own_kernels import OwnMove, OwnProduct, move_seconds, product_seconds, row_tiles
from ...sim.ep.protocol import Context, find_protocol
from ...sim.ep.protocols.epicycle import HT, KERNELS, LL, TWO_HOP, further_rows
from ...sim.ep.shape import Num, Shape
from ...sim.ep.stage import Machine
from .vocabulary import scope_of

LIBRARY = "epicycle-triton"
#: torch's own product, which bench times for a ceiling: the dense law predicts it.
DENSE = "torch.mm"
Key = tuple[str, str]
#: Launches of a row's op, by the column ``op``.
OPS: dict[str, dict[str, tuple[str, ...]]] = {
    HT: {"notify": ("layout", "notify_post", "notify_wait")},
    LL: {"dispatch": ("dispatch_send", "dispatch_receive")},
}
#: What a torchrun of bench times, as sums of launches (`own_node`).
NODE_OPS = {HT: ("notify", "dispatch", "combine"), TWO_HOP: ("notify", "dispatch", "combine"), LL: ("dispatch", "combine")}
_LAYER = {
    HT: (("layout", "notify_post", "notify_wait", "cast", "dispatch", "expand"), ("reduce", "combine")),
    LL: (("dispatch_send", "dispatch_receive"), ("combine_send", "combine_receive")),
}
#: A benchmark's rows are found in L2 where all it rotates over takes less than the first share of it, in HBM beyond the
#: second (in between by the logarithm): identified on the H200 rows of validate/measured.
WARM = (0.315, 0.844)
#: The same of kernels inside a rank, of what they read alone: stores are posted, and what a kernel writes and nobody reads
#: does not displace what it reads. Chosen among three pairs on the rows of validate/measured.
WARM_READS = (0.58, 0.70)
_MOST_SETS, _BEYOND_L2 = 16, 3.0
_NOTHING = OwnMove(0.0, 0.0, 0.0, 1.0, 20.0)
#: One byte a second: loads come out as bytes. Links cost nothing: where virtual ranks share a card, HBM is all there is.
_BYTES = Machine(1, 1.0, 1e30, 1e30, 1e30, 1.0, {}, 0.0, 0.0, 1.0)


class MeanShape(Shape):
    """A shape whose ranks all get the mean: a benchmark of virtual ranks reports the mean over them."""

    def busiest(self, mean_rows: Num, chance: Num = 0.0) -> Num:
        return mean_rows


@dataclass(frozen=True, slots=True)
class Part:
    """One launch of a row: ``key`` names its constants; a move has bytes and coldness, a product its sizes."""

    key: Key
    moved_bytes: float = 0.0
    cold: float = 1.0
    further_rows: float = 0.0
    product: tuple[float, float, float, float, str, bool] | None = None

    def seconds(self, gpu: Gpu, k: OwnMove | OwnProduct) -> float:
        if self.product is not None and isinstance(k, OwnProduct):
            each, experts, n, depth, dtype, drawn = self.product
            return float(product_seconds(each, experts, n, depth, dtype, gpu, k, drawn))
        assert isinstance(k, OwnMove)
        return float(move_seconds(self.moved_bytes, gpu, k, self.cold, self.further_rows))


@dataclass(frozen=True, slots=True)
class OwnRow:
    """One measured timing of our own kernels and what it consists of; ``parts`` empty: ``reason`` says why."""

    line: int
    values: dict[str, str]
    system: str
    protocol: str
    op: str
    scope: str
    tokens: int
    latency_us: float
    parts: tuple[Part, ...]
    reason: str = ""

    @property
    def measured_s(self) -> float:
        return self.latency_us * 1e-6


def is_own(header: set[str]) -> bool:
    """Whether a file of these columns is one that bench wrote (other tables have no case of a mode)."""
    return {"mode", "case", "latency_us", "gpu", "commit"} <= header


def read_own(path: Path, gpu_of: dict[str, Gpu]) -> list[OwnRow]:
    """All rows of a bench file. ``gpu_of``: system -> its GPU, filled as systems are met.

    Raises BadInput, one line with file and line, for a half-written line, a number that is none, a GPU that the catalogue
    lacks, rows of several systems, or of several commits.
    """
    text = read_text(path, MOST_TABLE_BYTES, "a table")
    reader = Reader(path, text)
    records = [(reader.line_num, record) for record in reader]
    if not records:
        raise BadInput(f"{path}: the table has a header and no rows")
    last = records[-1][0]
    for line, record in records:
        if None in record or None in record.values():
            what = "its last line is only half written: leave it out" if line == last else "too few or too many columns"
            raise BadInput(f"{path}: line {line}: {what} (epicycle bench --resume does)")
    for name in ("gpu", "commit"):
        found = sorted({str(record[name]) for _, record in records if record[name]})
        if len(found) > 1:
            raise BadInput(f"{path}: rows of several {name}s ({', '.join(found)}): one file, one machine, one commit")
    if not text.endswith("\n"):
        raise BadInput(f"{path}: line {last}: its last line is only half written: leave it out (epicycle bench --resume does)")
    return [_row(path, line, record, gpu_of) for line, record in records]


def _row(path: Path, line: int, record: dict[str, str], gpu_of: dict[str, Gpu]) -> OwnRow:
    def number(column: str) -> int:
        try:
            value = float(record.get(column) or 0)
        except ValueError:
            raise BadInput(f"{path}: line {line}: {column}: wanted a number, got {record[column]!r}") from None
        return int(value)

    try:
        latency = float(record["latency_us"])
    except ValueError:
        latency = -1.0
    if not 0.0 < latency < 1e9:
        raise BadInput(f"{path}: line {line}: latency_us: wanted a time above zero, got {record['latency_us']!r}")
    system = record["system"]
    if system not in calibrated_systems():
        try:
            system = system_called(system or record["gpu"])
        except UnknownHardware as error:
            raise BadInput(f"{path}: line {line}: {error}") from None
    if system not in gpu_of:
        gpu_of[system] = load_cluster(load_calibration(system).cluster).node.gpu
    protocol, op, scope = record.get("protocol") or KERNELS, record.get("op") or record.get("kernel") or "", scope_of(record)
    tokens = number("tokens_per_rank") or number("tokens") // max(number("ep"), 1)
    shape = _Sizes(
        tokens, number("virtual_ranks") or number("ep") or number("nodes") * number("gpus_per_node") or 1, number("hidden"),
        number("inter") or 2048, number("top_k"), number("experts"), "fp8" in (record.get("payload_dtype") or record["dtype"]),
        gpu_of[system].l2_capacity or 0.0,
    )  # fmt: skip
    parts, reason = _parts(protocol, op, scope, record, shape)
    return OwnRow(line, record, system, protocol, op, scope, tokens, latency, parts, reason)


@dataclass(frozen=True, slots=True)
class _Sizes:
    tokens: int
    ranks: int
    hidden: int
    inter: int
    top_k: int
    experts: int
    fp8: bool
    l2: float

    @property
    def local(self) -> int:
        return self.experts // self.ranks

    @property
    def each(self) -> float:
        """Rows of one expert, on average."""
        return self.tokens * self.ranks * self.top_k / self.experts

    @property
    def payload(self) -> float:
        return self.hidden * (1.0 + 4.0 / 128.0) if self.fp8 else 2.0 * self.hidden

    @property
    def dtype(self) -> str:
        return "fp8" if self.fp8 else "bf16"

    def shape(self) -> MeanShape:
        t, r = float(self.tokens), float(self.ranks)
        return MeanShape(t, float(self.hidden), float(self.top_k), float(self.experts), r, r, self.payload)


def _parts(protocol: str, op: str, scope: str, record: dict[str, str], s: _Sizes) -> tuple[tuple[Part, ...], str]:
    if protocol in (HT, LL) and scope == "kernel":
        if op == "layer":
            return tuple(_layer(protocol, s)), ""
        ops = OPS[protocol].get(op, (op,))
        known = find_protocol(protocol).ops
        if any(name not in known for name in ops):
            return (), f"unknown op {op} of {protocol}"
        return tuple(_launch(protocol, name, s, _foot(protocol, op, s)) for name in ops), ""
    if protocol in NODE_OPS and scope != "kernel" and op in NODE_OPS[protocol]:
        return (), ""
    if record.get("library") == LIBRARY and protocol == KERNELS:
        return _single(op, record, s)
    if record.get("case") == "ceiling_copy":
        return (), "a ceiling of the device: what shares are taken of"
    if op == DENSE:
        return (), ""
    return (), f"no description of {op or 'this kernel'} of {protocol} ({scope})"


def moved_bytes(protocol: str, op: str, shape: Shape) -> float:
    """Bytes that a launch reads and writes on a rank's HBM, by its own stages."""
    stages = find_protocol(protocol).ops[op].describe(shape, _BYTES, _NOTHING, Context())
    return float(sum(np.sum(stage_loads(stage, shape, _BYTES).get("hbm", 0.0)) for stage in stages))


def _launch(protocol: str, op: str, s: _Sizes, cold: float = 1.0) -> Part:
    shape = s.shape()
    one_by_one = float(further_rows(shape)) if op in ("dispatch_receive", "combine_send") else 0.0
    return Part((protocol, op), moved_bytes(protocol, op, shape), cold, one_by_one)


def _layer(protocol: str, s: _Sizes) -> Iterator[Part]:
    """Every launch of a layer; the experts' rows are as drawn, and nothing of a layer is still in L2."""
    before, after = _LAYER[protocol]
    for op in before:
        if op != "cast" or s.fp8:
            yield _launch(protocol, op, s)
    key = (KERNELS, f"product.{s.dtype}")
    tiles, _ = row_tiles(s.each, s.dtype, True)
    tall = 128.0 if s.each >= 128 else 64.0
    yield Part(key, product=(s.each, s.local, 2 * s.inter, s.hidden, s.dtype, True))
    yield Part((KERNELS, f"swiglu.{s.dtype}"), float(tiles) * tall * s.local * _swiglu_row(s))
    yield Part(key, product=(s.each, s.local, s.hidden, s.inter, s.dtype, True))
    for op in after:
        yield _launch(protocol, op, s)


def _swiglu_row(s: _Sizes) -> float:
    return s.inter * (4.0 + (1.0 + 1.0 / 32.0 if s.fp8 else 2.0))


def _single(kernel: str, record: dict[str, str], s: _Sizes) -> tuple[tuple[Part, ...], str]:
    entries, h, t = s.tokens * s.top_k, s.hidden, s.tokens
    moved = {
        "quantise": t * (3.0 * h + h / 32.0),
        "permute": (t + entries) * 2.0 * h + 4.0 * t * s.top_k,
        "unpermute": (t + entries) * 2.0 * h + 8.0 * t * s.top_k,
        "swiglu": np.ceil(s.each / 64.0) * 64.0 * s.local * _swiglu_row(s),
    }.get(kernel)
    if moved is not None:
        reads = {"quantise": t * 2.0 * h, "permute": t * 2.0 * h, "unpermute": entries * 2.0 * h}.get(kernel)
        read = np.ceil(s.each / 64.0) * 64.0 * s.local * s.inter * 4.0 if reads is None else reads
        name = f"swiglu.{s.dtype}" if kernel == "swiglu" else kernel
        return (Part((KERNELS, name), float(moved), _cold(float(moved), float(read), s.l2, WARM_READS)),), ""
    if kernel.startswith("gemm-") and record["dtype"] in ("bfloat16", "fp8_block"):
        n, k = (h, s.inter) if kernel.endswith("-down") else (2 * s.inter, h)
        each = s.each if "masked" in kernel else np.ceil(s.each / 64.0) * 64.0
        return (Part((KERNELS, f"product.{s.dtype}"), product=(float(each), s.local, n, k, s.dtype, False)),), ""
    return (), f"no law of {kernel} in {record['dtype']}"


def _cold(inside: float, touched: float, l2: float, warm: tuple[float, float] = WARM) -> float:
    """Share of a case's rows that are not in L2: it rotates over sets of ``inside`` bytes and touches ``touched`` of each."""
    if not l2:
        return 1.0
    sets = max(1.0, min(float(_MOST_SETS), np.ceil(_BEYOND_L2 * l2 / max(inside, 1.0))))
    low, high = warm
    return float(np.clip(np.log(max(sets * touched, 1.0) / (low * l2)) / np.log(high / low), 0.0, 1.0))


def _foot(protocol: str, op: str, s: _Sizes) -> float:
    """As `_cold` for a phase of all virtual ranks (validate/bench/cases/exchange.py: its inputs and outputs)."""
    t, h, r = float(s.tokens), float(s.hidden), float(s.ranks)
    row = h if s.fp8 else 2.0 * h
    tall = 128.0 if s.each >= 128 else 64.0
    room = min(r * t * min(s.top_k, s.local), 2.0 * t * s.top_k + 64.0 * s.local)
    rows = (np.ceil(room / tall) + s.local) * tall
    slab = s.experts * t
    inside = {
        "dispatch": t * 2.0 * h + r * t * row, "expand": t * 2.0 * h + rows * row, "reduce": rows * 2.0 * h + r * t * 2.0 * h,
        "combine": rows * 2.0 * h + t * 2.0 * h, "dispatch_receive": t * 2.0 * h + slab * row,
        "combine_receive": slab * 2.0 * h + t * 2.0 * h, "dispatch_send": t * 2.0 * h + slab * row,
        "combine_send": slab * 2.0 * h + t * s.top_k * 2.0 * h,
    }.get(op, t * 2.0 * h)  # fmt: skip
    ops = OPS[protocol].get(op, (op,))
    touched = sum(moved_bytes(protocol, name, s.shape()) for name in ops)
    if protocol == LL and op == "dispatch":  # rank 0 alone
        return _cold(r * (t * 2.0 * h) + slab * row, touched, s.l2)
    return _cold(r * inside, r * touched, s.l2)


def predicted_s(rows: list[OwnRow], gpu: Gpu, constants: dict[Key, OwnMove | OwnProduct]) -> NDArray[np.float64]:
    """Seconds of every row: the sum of its launches."""
    return np.array([sum(part.seconds(gpu, constants[part.key]) for part in row.parts) for row in rows])


def keys_of(rows: list[OwnRow]) -> list[Key]:
    """The constants that rows need, in order of first use."""
    return list(dict.fromkeys(part.key for row in rows for part in row.parts))
