"""The expert block of the busiest rank in closed form: whole tables of operating points at once, no draw and no slot axis.

Rows are what random routing is expected to send: the busiest of the ranks by order statistics, an expert's weights read only
if a token chose it, a row tile counted with the chance that rows begin it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....hwmodels.calibration import Entry, constants_of, find_entry
from ...precision import Dtype
from ..normal import cumulative, largest_of
from ..shape import Num
from ..stage import Machine
from .expert_share import Counted, Share, busiest_share, counted_share
from .experts import Counts, ExpertConstants, ExpertShape, Kind, block, block_seconds

Floats = NDArray[np.float64]

#: A spread beyond this share of a tile blurs the staircase of row tiles: what is left of it is 3 % of a tile.
_BLUR = 0.35


@dataclass(frozen=True, slots=True)
class ExpertTime:
    """The block on the busiest rank. ``tensor_s`` and ``hbm_s``: what each resource alone would need; ``rows``: its
    (token, expert) rows. All of the points' broadcast shape."""

    seconds: Floats
    tensor_s: Floats
    hbm_s: Floats
    flops: Floats
    hbm_bytes: Floats
    rows: Floats


def expert_constants(system: str, kind: Kind, weights: Dtype) -> tuple[ExpertConstants, Entry, str]:
    """The fitted constants of a kind on ``system`` (or its relative), their entry, and the system they were measured on.

    Raises Uncalibrated if nobody measured the kind. Weights below bf16 use the fp8 kernels' constants.
    """
    op = kind if kind != "triton" else f"triton.{'bf16' if weights == 'bf16' else 'fp8'}"
    entry, source = find_entry(system, "expert-compute", op, "one-node")
    return constants_of(entry, ExpertConstants), entry, source


def expert_time(
    kind: Kind,
    tokens: Num,
    shape: ExpertShape,
    machine: Machine,
    k: ExpertConstants,
    *,
    experts: Num,
    top_k: Num,
    ranks: Num,
    redundant: Num = 0.0,
    alpha: Num = 0.0,
    balanced: bool = False,
    sms: Num | None = None,
    graphs: bool | NDArray[np.bool_] = True,
    counted: Counted | None = None,
    placement: str = "",
    dealt: bool = False,
) -> ExpertTime:
    """Seconds of the expert block of an EP group of ``ranks`` ranks that together bring ``tokens`` tokens.

    All arguments broadcast, the fields of ``shape`` too (``shape.inter`` may be what is left of an expert split over GPUs).
    ``alpha``: exponent of the popularity's power law (0: uniform). Replicas (``redundant``) come with placement by load;
    ``balanced`` asks for that placement without them. ``sms``: left to the kernels, default all. ``graphs``: replayed.
    ``counted``: how often each expert is chosen, instead of ``alpha``; all results then have a layer axis in front.
    ``placement``: where popular experts lie ("": by load where there are replicas). ``dealt``: experts are dealt in turn, so
    that no rank has more than the mean.
    """
    fields = [np.asarray(x, float) for x in (tokens, experts, top_k, ranks, redundant, alpha)]
    if counted is not None:
        points = np.broadcast_shapes(*(x.shape for x in fields), np.shape(shape.inter))
        fields = [np.broadcast_to(x, (counted.layers, *points)) for x in fields]
    t, e, chosen, r, extra, a = (np.asarray(x, float) for x in np.broadcast_arrays(*fields))
    balanced = balanced or placement == "balanced"
    counts = (
        dealt_counts(t, e, chosen, r) if dealt else expected_counts(t, e, chosen, r, extra, a, balanced, counted, placement)
    )
    used = float(machine.sms) if sms is None else sms
    found = block(kind, counts, shape, machine, k, used)
    seconds = block_seconds(found, k, graphs=graphs)
    flops = counts.rows * shape.flops_per_row
    parts = (seconds, found.tensor_s, found.hbm_s + found.side_s, flops, found.hbm_bytes, counts.rows)
    return ExpertTime(*(np.asarray(x, float) for x in np.broadcast_arrays(*parts)))


def expected_counts(
    tokens: Floats,
    experts: Floats,
    top_k: Floats,
    ranks: Floats,
    redundant: Floats,
    alpha: Floats,
    balanced: bool = False,
    counted: Counted | None = None,
    placement: str = "",
) -> Counts:
    """What the busiest rank is expected to compute. Arrays of one shape; the counts have it too (``counted``: [layer, ...])."""
    lift, shares, slots = _classes(experts, top_k, ranks, redundant, alpha, balanced, counted, placement)
    local = (experts + redundant) / ranks
    rows = busiest_rows(tokens, experts, top_k, ranks, local, lift)
    # The rank's slots see the busiest rank's rows in proportion to their shares; no slot more than one row of a token.
    scale = rows / np.maximum(tokens, 1e-300) / (shares * slots).sum(axis=0)
    chances = np.clip(shares * scale, 0.0, 1.0 - 1e-12)
    hits = -np.expm1(tokens * np.log1p(-chances))
    busy = np.maximum((slots * hits).sum(axis=0), np.minimum(rows, 1.0))

    def tiles(size: Num) -> Num:
        return np.asarray(np.maximum((slots * _tiles(tokens, chances, hits, size)).sum(axis=0), busy))

    def others(size: Num) -> Num:
        """The other ranks' experts as if all alike: their tiles are walked, whoever is popular."""
        rest = local * (ranks - 1.0)
        left = np.maximum(tokens * top_k - rows, 0.0)
        share = np.clip(left / np.maximum(tokens * rest, 1e-300), 0.0, 1.0 - 1e-12)
        return np.asarray(rest * _tiles(tokens, share, -np.expm1(tokens * np.log1p(-share)), size))

    # A token reaches the rank if it chose any of its slots.
    walked = np.minimum(-tokens * np.expm1((slots * np.log1p(-chances)).sum(axis=0)), rows)
    return Counts(tiles, others, busy, rows, tokens, tokens * top_k, walked)


def dealt_counts(tokens: Floats, experts: Floats, top_k: Floats, ranks: Floats) -> Counts:
    """What every rank computes when each token takes the next ``top_k`` experts in turn: nothing is left to chance."""
    local, each = experts / ranks, tokens * top_k / experts
    busy = local * np.minimum(each, 1.0)

    def tiles(size: Num) -> Num:
        return np.asarray(busy * np.ceil(each / size))

    def others(size: Num) -> Num:
        return np.asarray((ranks - 1.0) * tiles(size))

    walked = tokens * np.minimum(top_k, ranks) / ranks
    return Counts(tiles, others, busy, local * each, tokens, tokens * top_k, walked)


def busiest_rows(tokens: Num, experts: Num, top_k: Num, ranks: Num, local: Num, lift: Num = 1.0) -> Floats:
    """Expected rows of the busiest rank.

    The mean, and on top the larger-than-mean share of its experts (``lift``) and the luck of the draw as one spread: z times
    the deviation of a sum of hypergeometric draws, z the expected maximum of ``ranks`` standard normals (Blom), with the
    Cornish-Fisher term of its skew, which is what small batches have.
    """
    mean = tokens * top_k / ranks
    z = largest_of(ranks)
    spread = np.sqrt(mean * (1.0 - 1.0 / ranks) * np.maximum(experts - top_k, 0.0) / np.maximum(experts - 1.0, 1.0))
    skew = np.maximum(z * z - 1.0, 0.0) / 6.0 * np.where(spread > 0.0, 1.0, 0.0)
    beyond = np.hypot(mean * (lift - 1.0), z * spread + skew)
    most = tokens * np.minimum(top_k, local)
    return np.asarray(np.minimum(np.maximum(mean + beyond, np.minimum(tokens, 1.0)), most))


def _classes(
    experts: Floats,
    top_k: Floats,
    ranks: Floats,
    redundant: Floats,
    alpha: Floats,
    balanced: bool,
    counted: Counted | None,
    placement: str,
) -> tuple[Num, Floats, Floats]:
    """(lift, share of a slot, slots of the busiest rank), the last two [class, ...]: one class for uniform popularity."""
    if counted is None and not np.any(alpha > 0.0):
        slots = experts + redundant
        return 1.0, (top_k / slots)[None], (slots / ranks)[None]
    layer = np.zeros(experts.shape)
    if counted is not None:
        layer = layer + np.arange(counted.layers).reshape(-1, *(1 for _ in experts.shape[1:]))
    told = (alpha, experts, top_k, ranks, redundant, layer)
    code = np.zeros(experts.shape, np.intp)
    for field in told:
        values, index = np.unique(field, return_inverse=True)
        code = code * len(values) + index.reshape(field.shape)
    _, first, which = np.unique(code, return_index=True, return_inverse=True)
    keys = np.stack([x.ravel()[first] for x in told], axis=1).tolist()
    found = [
        _share(a, e, k, r, extra, balanced or (not placement and extra > 0.0))
        if counted is None
        else counted_share(counted, round(number), k, round(r), round(extra), placement)
        for a, e, k, r, extra, number in keys
    ]
    most = max(len(f.share) for f in found)
    shares = np.array([np.pad(f.share, (0, most - len(f.share))) for f in found])
    slots = np.array([np.pad(f.slots, (0, most - len(f.slots))) for f in found])
    at = which.reshape(experts.shape)
    return np.array([f.lift for f in found])[at], np.moveaxis(shares[at], -1, 0), np.moveaxis(slots[at], -1, 0)


def _share(alpha: float, experts: float, top_k: float, ranks: float, redundant: float, balanced: bool) -> Share:
    if alpha > 0.0:
        return busiest_share(alpha, round(experts), top_k, round(ranks), round(redundant), balanced)
    slots = experts + redundant
    return Share(np.array([top_k / slots]), np.array([slots / ranks]), 1.0)


def _tiles(tokens: Floats, chance: Floats, hit: Floats, size: Num) -> Floats:
    """Expected ``ceil(rows / size)`` of a slot with binomial rows, ``hit`` the chance of any: ``sum_j P(rows > j size)``.

    Normal tails for the tiles around the mean one; a wide spread blurs the staircase: half a tile more than the mean.
    """
    mean = tokens * chance
    deviation = np.sqrt(mean * (1.0 - chance))
    height = np.broadcast_to(np.asarray(size, float), mean.shape)
    found = np.asarray(mean / height + 0.5)
    narrow = deviation <= _BLUR * height
    m, d, n = mean[narrow], np.maximum(deviation[narrow], 1e-9), height[narrow]
    first = np.maximum(np.floor(m / n) - 1.0, 1.0)
    tails = hit[narrow] + first - 1.0
    for step in range(3):
        tails += cumulative((m - (first + step) * n - 0.5) / d)
    found[narrow] = tails
    return np.asarray(np.maximum(found, hit))
