"""How many ranks or nodes a token reaches: distinct bins of experts that its top-k are expected to fall in, in closed form.

Experts lie in order, ``experts / bins`` to a bin. Every function takes floats or numpy arrays and broadcasts.
"""

from __future__ import annotations

from functools import cache
from math import comb, gcd

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.laws.blocks import in_blocks

Num = float | NDArray[np.float64]


def uniform_bins(experts: Num, bins: Num, drawn: Num) -> Num:
    """Of ``bins`` equal bins, how many ``drawn`` of ``experts`` experts hit: ``b (1 - C(n - n/b, k) / C(n, k))``."""
    n, b, k = (np.asarray(x, float) for x in (experts, bins, drawn))
    found: Num = b * (1.0 - in_blocks(_avoiding, n - n / b, n, k))
    return found


def grouped_bins(experts: Num, bins: Num, drawn: Num, groups: Num, kept: Num) -> Num:
    """The same when the experts are drawn inside ``kept`` of ``groups`` equal groups, themselves drawn at random.

    Exact, whether bins and groups nest or straddle each other. A table costs one evaluation per distinct row.
    """
    whole = [np.asarray(np.rint(x), np.int64) for x in (experts, np.maximum(bins, 1.0), drawn, groups, kept)]
    columns = np.broadcast_arrays(*whole)
    if all(c.size and c.min() == c.max() for c in columns):
        return np.float64(_grouped_bins(*(int(c.flat[0]) for c in columns)))
    radix = [int(column.max()) + 1 for column in columns]
    key = np.zeros(columns[0].shape, np.int64)
    for column, base in zip(columns, radix, strict=True):
        key = key * base + column
    distinct = np.unique(key)
    each = []
    for row in distinct.tolist():
        values = []
        for base in reversed(radix):
            row, value = divmod(row, base)
            values.append(value)
        each.append(_grouped_bins(*reversed(values)))
    return np.array(each, float)[np.searchsorted(distinct, key)]


@cache
def _grouped_bins(experts: int, bins: int, drawn: int, groups: int, kept: int) -> float:
    """A bin is missed if no expert drawn lies in the part of it that its kept groups cover; summed over which those are.

    A bin covers some groups whole and at most one at either end in part; where it begins within a group repeats after
    ``bins / gcd(bins, groups)`` bins.
    """
    size, within = experts / groups, experts / groups * kept
    repeats = gcd(bins, groups)
    found = 0.0
    for b in range(bins // repeats):
        # In 1 / (bins * groups) of all experts, so that edges are whole numbers.
        begin, end = b * groups, (b + 1) * groups
        first, last = begin // bins, -(-end // bins)
        shares = [(min(end, (g + 1) * bins) - max(begin, g * bins)) / bins for g in range(first, last)]
        parts = [s for s in shares if s < 1.0]
        whole = len(shares) - len(parts)
        missed = 0.0
        for chosen in range(2 ** len(parts)):
            taken = [s for i, s in enumerate(parts) if chosen >> i & 1]
            for j in range(min(whole, kept - len(taken)) + 1 if len(taken) <= kept else 0):
                ways = comb(whole, j) * comb(groups - len(shares), kept - j - len(taken))
                if ways:
                    missed += ways * float(_avoiding(within - size * (j + sum(taken)), within, float(drawn)))
        found += repeats * (1.0 - missed / comb(groups, kept))
    return found


def _avoiding(rest: Num, items: Num, drawn: Num) -> NDArray[np.float64]:
    """``C(rest, drawn) / C(items, drawn)``: the chance that ``drawn`` of ``items`` items all lie among ``rest`` of them."""
    least, most = int(np.min(drawn)), int(np.max(drawn))
    chance = np.ones(())
    for i in range(most):
        factor = np.maximum(rest - i, 0.0)
        factor /= np.maximum(items - i, 1.0)
        if i >= least:  # a point with fewer draws keeps its chance: a factor of 1, by a sum, sooner done than a selection
            factor -= 1.0
            factor *= i < drawn
            factor += 1.0
        factor *= chance
        chance = factor
    return np.asarray(chance)
