"""What a row of our own kernels consists of: its launches, what each moves, and how much of that lies in L2.

Bytes come from the protocols' own stages, so that a row and a simulated layer cannot differ in what they move.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ....hwmodels.specs import Gpu
from ....sim.ep.bound import stage_loads
from ....sim.ep.compute.own_kernels import OwnMove, OwnProduct, move_seconds, product_seconds, row_tiles
from ....sim.ep.protocol import Context, find_protocol
from ....sim.ep.protocols.epicycle import HT, KERNELS, LL, further_rows
from ....sim.ep.shape import Num, Shape
from ....sim.ep.stage import Machine

Key = tuple[str, str]
#: Launches of a row's op, by the column ``op``.
OPS: dict[str, dict[str, tuple[str, ...]]] = {
    HT: {"notify": ("layout", "notify_post", "notify_wait")},
    LL: {"dispatch": ("dispatch_send", "dispatch_receive")},
}
_LAYER = {
    HT: (("layout", "notify_post", "notify_wait", "cast", "dispatch", "expand"), ("reduce", "combine")),
    LL: (("dispatch_send", "dispatch_receive"), ("combine_send", "combine_receive")),
}
#: Until this day a product had a program for every tile there could be, with rows or without; since then it is persistent.
PROGRAM_PER_TILE_UNTIL = "2026-11-27"
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


class Product(NamedTuple):
    """Sizes of a grouped product; ``tiles``: row tiles of an expert; ``used``: share of experts with rows; ``room``: row tiles
    that there are programs for, where that is more."""

    each: float
    experts: float
    n: float
    k: float
    dtype: str
    tiles: float
    used: float = 1.0
    room: float = 0.0


@dataclass(frozen=True, slots=True)
class Part:
    """One launch of a row: ``key`` names its constants; a move has bytes over HBM and coldness, a product its sizes."""

    key: Key
    moved_bytes: float = 0.0
    cold: float = 1.0
    further_rows: float = 0.0
    product: Product | None = None


def launch_seconds(parts: Sequence[Part], gpu: Gpu, k: OwnMove | OwnProduct) -> NDArray[np.float64]:
    """Seconds of every one of ``parts``, launches of one kernel with the constants ``k``."""
    if isinstance(k, OwnMove):
        moved, cold, further = np.array([(part.moved_bytes, part.cold, part.further_rows) for part in parts]).T
        return move_seconds(moved, gpu, k, cold, further)
    sizes = [part.product for part in parts if part.product is not None]
    each, experts, n, depth, tiles, used, room = np.array(
        [(p.each, p.experts, p.n, p.k, p.tiles, p.used, p.room) for p in sizes]
    ).T
    return product_seconds(each, experts, n, depth, sizes[0].dtype, gpu, k, (tiles, used), room)


@dataclass(frozen=True, slots=True)
class Sizes:
    """The shape of a row; ``l2``: bytes; ``padded``: whether a product has programs for tiles without rows."""

    tokens: int
    ranks: int
    hidden: int
    inter: int
    top_k: int
    experts: int
    fp8: bool
    l2: float
    padded: bool

    @property
    def local(self) -> int:
        return self.experts // self.ranks

    @property
    def each(self) -> float:
        """Rows of one expert, on average."""
        return self.tokens * self.ranks * self.top_k / self.experts

    @property
    def tall(self) -> float:
        """Rows of the products' tile."""
        return 128.0 if self.each >= 128 else 64.0

    @property
    def payload(self) -> float:
        return self.hidden * (1.0 + 4.0 / 128.0) if self.fp8 else 2.0 * self.hidden

    @property
    def dtype(self) -> str:
        return "fp8" if self.fp8 else "bf16"

    def shape(self) -> MeanShape:
        t, r = float(self.tokens), float(self.ranks)
        return MeanShape(t, float(self.hidden), float(self.top_k), float(self.experts), r, r, self.payload)

    def room(self, protocol: str) -> float:
        """Row tiles of a layer's products: every slot, or twice the mean and what aligning wastes (bench's exchange cases)."""
        if protocol == LL:
            return self.local * float(np.ceil(self.ranks * self.tokens / self.tall))
        return float(np.ceil(self.expert_rows / self.tall)) + self.local

    @property
    def expert_rows(self) -> float:
        """Expert rows that a high-throughput rank makes room for."""
        worst = float(self.ranks * self.tokens * min(self.top_k, self.local))
        return min(worst, 2.0 * self.tokens * self.top_k + 64.0 * self.local)


def exchange_parts(protocol: str, op: str, s: Sizes) -> tuple[tuple[Part, ...], str]:
    """The launches of a row of virtual ranks; none, and why, for an op that the protocol has not."""
    if op == "layer":
        return tuple(_layer(protocol, s)), ""
    ops = OPS[protocol].get(op, (op,))
    known = find_protocol(protocol).ops
    if any(name not in known for name in ops):
        return (), f"unknown op {op} of {protocol}"
    return tuple(_launch(protocol, name, s, _foot(protocol, op, s)) for name in ops), ""


def moved_bytes(protocol: str, op: str, shape: Shape) -> float:
    """Bytes that a launch reads and writes on a rank's HBM, by its own stages."""
    stages = find_protocol(protocol).ops[op].describe(shape, _BYTES, _NOTHING, Context())
    return float(sum(np.sum(stage_loads(stage, shape, _BYTES).get("hbm", 0.0)) for stage in stages))


def _launch(protocol: str, op: str, s: Sizes, cold: float = 1.0) -> Part:
    shape = s.shape()
    one_by_one = float(further_rows(shape)) if op in ("dispatch_receive", "combine_send") else 0.0
    return Part((protocol, op), moved_bytes(protocol, op, shape), cold, one_by_one)


def _layer(protocol: str, s: Sizes) -> Iterator[Part]:
    """Every launch of a layer; the experts' rows are as drawn, and nothing of a layer is still in L2."""
    before, after = _LAYER[protocol]
    for op in before:
        if op != "cast" or s.fp8:
            yield _launch(protocol, op, s)
    key, (tiles, used) = (KERNELS, f"product.{s.dtype}"), row_tiles(s.each, s.dtype, float(s.tokens * s.ranks))
    # Masked rows are walked to each expert's count, contiguous ones by whole tiles.
    rows = s.each if protocol == LL else tiles * s.tall
    room = s.room(protocol) if s.padded else 0.0
    yield Part(key, product=Product(s.each, s.local, 2 * s.inter, s.hidden, s.dtype, tiles, used, room))
    yield Part((KERNELS, f"swiglu.{s.dtype}"), rows * s.local * _swiglu_row(s))
    yield Part(key, product=Product(s.each, s.local, s.hidden, s.inter, s.dtype, tiles, used, room))
    for op in after:
        yield _launch(protocol, op, s)


def _swiglu_row(s: Sizes) -> float:
    return s.inter * (4.0 + (1.0 + 1.0 / 32.0 if s.fp8 else 2.0))


def single_parts(kernel: str, dtype: str, s: Sizes) -> tuple[tuple[Part, ...], str]:
    """The launch of a row of one kernel inside a rank; none, and why, without a law of it."""
    entries, h, t = float(s.tokens * s.top_k), float(s.hidden), float(s.tokens)
    tiled = float(np.ceil(s.each / 64.0)) * 64.0 * s.local
    sizes = {  # (read, written); a row's 4 bytes of place, and of weight
        "quantise": (t * 2.0 * h, t * (h + h / 32.0)),
        "permute": (t * 2.0 * h, entries * 2.0 * h + 4.0 * entries),
        "unpermute": (entries * 2.0 * h, t * 2.0 * h + 8.0 * entries),
        "swiglu": (tiled * s.inter * 4.0, tiled * (_swiglu_row(s) - s.inter * 4.0)),
    }.get(kernel)
    if sizes is not None:
        read, written = sizes
        cold = _share(_sets(read + written, s.l2) * read, s.l2, WARM_READS)
        # What is still in L2 is not read from HBM again, which these kernels' stores fill.
        return (Part((KERNELS, f"swiglu.{s.dtype}" if kernel == "swiglu" else kernel), cold * read + written, cold),), ""
    if kernel.startswith("gemm-") and dtype in ("bfloat16", "fp8_block"):
        n, k = (h, s.inter) if kernel.endswith("-down") else (2 * s.inter, h)
        each = s.each if "masked" in kernel else float(np.ceil(s.each / 64.0)) * 64.0
        sizes_of = Product(each, s.local, n, k, s.dtype, row_tiles(each, s.dtype)[0])
        return (Part((KERNELS, f"product.{s.dtype}"), product=sizes_of),), ""
    return (), f"no law of {kernel} in {dtype}"


def _sets(inside: float, l2: float) -> float:
    """Input sets of ``inside`` bytes that bench rotates over (validate/bench/timing.py)."""
    return max(1.0, min(float(_MOST_SETS), float(np.ceil(_BEYOND_L2 * l2 / max(inside, 1.0)))))


def _share(touched: float, l2: float, warm: tuple[float, float]) -> float:
    """Share of rows that L2 has lost after ``touched`` bytes; all of them on a GPU whose L2 nobody states."""
    low, high = warm
    return float(np.clip(np.log(max(touched, 1.0) / (low * l2)) / np.log(high / low), 0.0, 1.0)) if l2 else 1.0


def _foot(protocol: str, op: str, s: Sizes) -> float:
    """Coldness of a phase of all virtual ranks (validate/bench/cases/exchange.py: its inputs and outputs)."""
    t, h, r = float(s.tokens), float(s.hidden), float(s.ranks)
    row = h if s.fp8 else 2.0 * h
    rows = s.room(HT) * s.tall
    slab = s.experts * t
    inside = {
        "dispatch": t * 2.0 * h + r * t * row, "expand": t * 2.0 * h + rows * row, "reduce": rows * 2.0 * h + r * t * 2.0 * h,
        "combine": rows * 2.0 * h + t * 2.0 * h, "dispatch_receive": t * 2.0 * h + slab * row,
        "combine_receive": slab * 2.0 * h + t * 2.0 * h, "dispatch_send": t * 2.0 * h + slab * row,
        "combine_send": slab * 2.0 * h + t * s.top_k * 2.0 * h,
    }.get(op, t * 2.0 * h)  # fmt: skip
    touched = sum(moved_bytes(protocol, name, s.shape()) for name in OPS[protocol].get(op, (op,)))
    if protocol == LL and op == "dispatch":  # rank 0 alone
        return _share(_sets(r * (t * 2.0 * h) + slab * row, s.l2) * touched, s.l2, WARM)
    return _share(_sets(r * inside, s.l2) * r * touched, s.l2, WARM)
