"""The constants of this project's own kernels, fitted together to the rows that bench measured of them on one GPU.

Shared where the physics is: one launch time for all, one ratio of a chain over HBM to the same chain over L2, one sharpness
for kernels that only post stores (those whose loads must return before they go on hide nothing), one time of a program that
finds no rows. A kernel has a chain and a share of HBM of its own, a precision's product its shares of tensor rate and HBM, its
sharpness, its fill; copies of one row after another are one loop wherever they are (`_LENT`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from ....hwmodels.calibration import Calibration, Entry, Fit
from ....hwmodels.constant import write_constant
from ....hwmodels.specs import Gpu
from ....sim.ep.compute.own_kernels import OwnMove, OwnProduct
from ....sim.ep.protocols.epicycle import HT, KERNELS, LL
from ...tables.own.launches import Key
from ...tables.own.rows import LIBRARY, OwnRow, keys_of, predicted_s
from ..conformal import regimes_of

#: Kernels that read little and post stores: their bytes hide the chain of the next row.
POSTING = frozenset({(HT, "dispatch"), (HT, "notify_post"), (LL, "dispatch_send"), (KERNELS, "permute"), (KERNELS, "quantise")})
#: The four launches that count rows are never timed alone in rows before 2026-11-28: one chain for all of them.
COUNTING = ((HT, "layout"), (HT, "notify_post"), (HT, "notify_wait"))
#: Kernels that are the same code: the cast of a layer is the quantise kernel.
SAME: dict[Key, Key] = {(HT, "cast"): (KERNELS, "quantise")}
#: Kernels whose programs copy rows one by one.
ROW_BY_ROW = frozenset({(LL, "dispatch_receive"), (LL, "combine_send")})
#: Its chain is one atomic per expert of a token, which L2 answers wherever the rows lie.
ATOMIC = frozenset({(LL, "dispatch_send")})
#: (kernel, constant) -> the kernel whose it is: what returns is copied by the loop that received it, and is never timed alone;
#: counts are too few bytes to show a share of HBM.
_LENT: dict[tuple[Key, str], Key] = {
    ((LL, "combine_send"), "hbm_efficiency"): (LL, "dispatch_receive"),
    ((LL, "combine_send"), "chain_row"): (LL, "dispatch_receive"),
    ((HT, "layout"), "hbm_efficiency"): (HT, "dispatch"),
}
#: A receive's chain is the copying itself: bf16 rows take as long as fp8 rows of half the bytes, so the longer counts.
_EITHER = 20.0
#: Loads that must return before the next: nothing overlaps.
_WAITING = 1.0
_ROBUST = 0.05
#: A share of a rate is told when its standard deviation is below this; a time when it is below the time itself.
_TOLD_SHARE = 0.15
#: name -> (start, low, high) of what is shared, then of every kernel.
_SHARED = {"launch": (1.2, 0.5, 2.5), "cold": (0.6, 0.0, 4.0), "posting": (2.0, 1.0, 12.0), "empty": (1.5, 0.0, 8.0)}
_MOVE = {"chain": (1.5, 0.0, 40.0), "hbm_efficiency": (0.7, 0.1, 1.0)}
_PRODUCT = {
    "tensor_efficiency": (0.7, 0.1, 1.0), "hbm_efficiency": (0.8, 0.1, 1.0), "sharpness": (3.0, 1.0, 12.0),
    "fill": (2.0, 0.0, 30.0),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class OwnFit:
    """Constants by key, those at a bound or that the rows cannot tell, one standard deviation of the others (microseconds or
    shares), and the rows they were fitted to and predict. Key None: what all kernels share."""

    constants: dict[Key, OwnMove | OwnProduct]
    undetermined: dict[Key | None, tuple[str, ...]]
    deviation: dict[Key | None, dict[str, float]]
    rows: tuple[OwnRow, ...]
    used: NDArray[np.bool_]
    predicted_s: NDArray[np.float64]
    shared: dict[str, float]

    @property
    def free(self) -> int:
        """How many numbers were fitted."""
        return len(self.shared) + sum(len(_free(key, self.constants)) for key in self.constants if _same(key) == key)


def fit_own(rows: Sequence[OwnRow], gpu: Gpu, used: NDArray[np.bool_] | None = None) -> OwnFit:
    """Fit the constants that ``rows`` (all of one system) need. ``used``: [row] those fitted to; default: all."""
    rows = tuple(row for row in rows if row.parts)
    used = np.ones(len(rows), bool) if used is None else used
    keys = list(dict.fromkeys(_same(k) for k in keys_of(list(rows))))
    padded = any(part.product and part.product.room for row in rows for part in row.parts)
    names: list[tuple[Key | None, str]] = [(None, name) for name in _SHARED if padded or name != "empty"]
    for key in keys:
        names += [(key, name) for name in _free(key, keys)]
    limits = np.array([(_SHARED if key is None else _free(key, keys))[name] for key, name in names])

    def constants(x: NDArray[np.float64]) -> dict[Key, OwnMove | OwnProduct]:
        value = dict(zip(names, x.tolist(), strict=True))
        found = {key: _record(key, value) for key in keys}
        return found | {alias: found[key] for alias, key in _aliases(rows).items()}

    chosen = [row for row, use in zip(rows, used, strict=True) if use]
    measured = np.array([row.measured_s for row in chosen])

    def residuals(x: NDArray[np.float64]) -> NDArray[np.float64]:
        # A weak pull to where the search begins keeps in place what no row shows.
        weak = 1e-3 * (x - limits[:, 0]) / (limits[:, 2] - limits[:, 1])
        return np.concatenate([np.log(predicted_s(chosen, gpu, constants(x)) / measured), weak])

    solution = least_squares(
        residuals, limits[:, 0], bounds=(limits[:, 1], limits[:, 2]), loss="soft_l1", f_scale=_ROBUST, x_scale=limits[:, 2]
    )
    k = constants(solution.x)
    deviation = _deviations(np.asarray(solution.jac), np.asarray(solution.fun)[: len(chosen)])
    lost: dict[Key | None, list[str]] = {key: [] for key in (None, *k)}
    sure: dict[Key | None, dict[str, float]] = {key: {} for key in (None, *k)}
    for (owner, name), at, value, sd in zip(names, solution.active_mask, solution.x.tolist(), deviation.tolist(), strict=True):
        told = sd < (_TOLD_SHARE if name.endswith("efficiency") else value - (name == "sharpness"))
        if at or not told:
            lost[owner].append(name)
        else:
            sure[owner][name] = sd
    everything = predicted_s(list(rows), gpu, k)
    shared = {name: float(v) for (owner, name), v in zip(names, solution.x, strict=True) if owner is None}
    return OwnFit(k, {key: tuple(n) for key, n in lost.items()}, sure, rows, used, everything, shared)


def _deviations(jacobian: NDArray[np.float64], residuals: NDArray[np.float64]) -> NDArray[np.float64]:
    """One standard deviation of every fitted number, in its own unit: the residuals' spread, never below `_ROBUST` of rows as
    few as the numbers, through what rows say of it beside all others."""
    spare = max(len(residuals) - jacobian.shape[1], 0)
    spread = float(np.sqrt(np.sum(residuals**2) / spare)) if spare else 0.0
    spread = max(spread, _ROBUST if spare < jacobian.shape[1] else 0.0)
    return np.asarray(spread * np.sqrt(np.diag(np.linalg.pinv(jacobian.T @ jacobian))))


def entries_of(found: OwnFit, table: str) -> tuple[Entry, ...]:
    """One entry for every kernel; its residuals are those of the rows in which it is the longest launch."""
    entries = []
    errors = np.log(found.predicted_s / np.array([row.measured_s for row in found.rows]))
    for key, k in found.constants.items():
        mine = _rows_of(key, found.rows)
        fitted, rest = mine & found.used, mine & ~found.used
        seen = np.array([row.tokens for row, m in zip(found.rows, mine, strict=True) if m], float)
        record = Fit(
            table=table,
            library=library_of(found.rows),
            rows=int(fitted.sum()),
            rows_available=int(mine.sum()),
            mape_fit_pct=_mape(errors[fitted]),
            mape_rest_pct=_mape(errors[rest]) if rest.any() else None,
            residual_log_sd=round(float(errors[fitted].std()), 4),
            undetermined=undetermined_of(found, key),
            uncertainty=_uncertainty(found, key),
            seen={"tokens": (float(seen.min()), float(seen.max()))},
            intervals=regimes_of(
                found.predicted_s[mine], np.array([r.measured_s for r in found.rows])[mine], np.ones(int(mine.sum()), np.int64)
            ),
            method="soft-L1 loss on log error, all kernels together (validate/fit/own/constants.py)",
        )
        values = {f.name: write_constant(f.name, float(getattr(k, f.name))) for f in fields(k)}
        entries.append(Entry(protocol=key[0], op=key[1], scope="kernel", constants=values, fit=record))
    return tuple(entries)


def undetermined_of(found: OwnFit, key: Key) -> tuple[str, ...]:
    """The constants of ``key`` that the rows cannot tell, those it shares with others among them."""
    own = {field.name for field in fields(found.constants[key])}
    lent = [name for (of, name), lender in _LENT.items() if of == key and name in found.undetermined.get(lender, ())]
    names = (*found.undetermined.get(_same(key), ()), *lent, *found.undetermined[None])
    return tuple(dict.fromkeys(name for name in names if name in own))


def _uncertainty(found: OwnFit, key: Key) -> dict[str, str | float]:
    own = {field.name for field in fields(found.constants[key])}
    known = {**found.deviation[None], **found.deviation.get(_same(key), {})}
    return {
        n: write_constant(n, sd if n.endswith("efficiency") or n == "sharpness" else sd * 1e-6)
        for n, sd in known.items()
        if n in own
    }


def library_of(rows: Sequence[OwnRow]) -> str:
    """Our kernels and the commit they were of, which rows say."""
    commits = sorted({row.values["commit"] for row in rows if row.values["commit"]})
    return " ".join((LIBRARY, *commits))


def _rows_of(key: Key, rows: Sequence[OwnRow]) -> NDArray[np.bool_]:
    """The rows that tell a kernel's residuals: those of it alone, else those it is part of, else those of the same code."""
    alone = np.array([len(row.parts) <= 2 for row in rows])
    part = np.array([key in {part.key for part in row.parts} for row in rows])
    same = np.array([_same(key) in {_same(part.key) for part in row.parts} for row in rows])
    return next(found for found in (part & alone, part, same) if found.any())


def calibration_of(found: OwnFit, table: str, system: str, cluster: str, relative: str | None, why: str) -> Calibration:
    return Calibration(system=system, cluster=cluster, relative=relative, why=why, entries=entries_of(found, table))


def _mape(log_error: NDArray[np.float64]) -> float:
    return round(float(np.abs(np.expm1(log_error)).mean() * 100), 2)


def _free(key: Key, keys: Collection[Key]) -> dict[str, tuple[float, float, float]]:
    """The constants of a kernel that are fitted when ``keys`` are: all but those that another of them lends."""
    if _is_product(key):
        return _PRODUCT
    wanted = _MOVE | {"chain_row": (1.0, 0.0, 10.0)} if key in ROW_BY_ROW else _MOVE
    return {name: limits for name, limits in wanted.items() if _LENT.get((key, name)) not in keys}


def _is_product(key: Key) -> bool:
    return key[1].startswith("product.")


def _same(key: Key) -> Key:
    return COUNTING[0] if key in COUNTING else SAME.get(key, key)


def _aliases(rows: Sequence[OwnRow]) -> dict[Key, Key]:
    return {key: _same(key) for key in keys_of(list(rows)) if _same(key) != key}


def _record(key: Key, value: dict[tuple[Key | None, str], float]) -> OwnMove | OwnProduct:
    launch = value[None, "launch"] * 1e-6
    if _is_product(key):
        names = {name: value[key, name] for name in _PRODUCT}
        empty = value.get((None, "empty"), 0.0) * 1e-6
        return OwnProduct(**{**names, "launch": launch, "fill": names["fill"] * 1e-6, "empty": empty})

    def own(name: str) -> float:
        return value.get((key, name), value.get((_LENT.get((key, name)), name), 0.0))

    chain = own("chain") * 1e-6
    sharpness = value[None, "posting"] if key in POSTING else _EITHER if key in ROW_BY_ROW else _WAITING
    cold = chain if key in ATOMIC else chain * (1.0 + value[None, "cold"])
    return OwnMove(launch, chain, cold, own("hbm_efficiency"), sharpness, own("chain_row") * 1e-6)


def errors_by_op(found: OwnFit) -> list[tuple[str, str, int, float, int, float]]:
    """(protocol, op, rows of 20 us and more, their MAPE in percent, rows below, theirs)."""
    out = []
    rows = sorted(zip(found.rows, found.predicted_s, strict=True), key=lambda r: (r[0].protocol, r[0].op))
    for (protocol, op), group in groupby(rows, key=lambda r: (r[0].protocol, r[0].op)):
        errors = [(row.latency_us, abs(100 * (s / row.measured_s - 1))) for row, s in group]
        long, short = ([e for us, e in errors if (us >= 20) == side] for side in (True, False))
        out.append((protocol, op, len(long), float(np.mean(long or [0])), len(short), float(np.mean(short or [0]))))
    return out
