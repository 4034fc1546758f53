"""Max-min fair rates of flows that share resources.

All flows' byte rates rise together from zero; a flow stops rising when one of its resources is full or its own cap is
met (progressive filling, Bertsekas & Gallager, *Data Networks*, 2nd ed., section 6.5.2). A flow consumes
``coefficient`` units of a resource per payload byte, so resources in bytes, messages and SM-seconds mix freely.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Entries = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]  # CSR: starts, numbers, coefficients


@dataclass(frozen=True, slots=True)
class Routes:
    """What each flow uses, in CSR: flow f's entries are ``indptr[f]:indptr[f + 1]`` of the other two.

    ``resource`` int32 [entry] resource numbers; ``coefficient`` float64 [entry] units per payload byte, > 0. A flow has
    one entry a resource. Build with :func:`routes` or :func:`csr_routes`.
    """

    indptr: NDArray[np.int64]
    resource: NDArray[np.int32]
    coefficient: NDArray[np.float64]

    @property
    def flows(self) -> int:
        return self.indptr.size - 1

    @property
    def csr(self) -> Entries:
        return self.indptr, self.resource, self.coefficient


@dataclass(frozen=True, slots=True)
class Shares:
    """``rate`` [flow] bytes/s, ``bottleneck`` [flow] resource that stopped it (-1: own cap), ``used`` [resource] units/s."""

    rate: NDArray[np.float64]
    bottleneck: NDArray[np.int32]
    used: NDArray[np.float64]


def routes(resource: ArrayLike, coefficient: ArrayLike = 1.0) -> Routes:
    """Routes from a table ``resource`` [flow, hop] (-1: no hop here) and ``coefficient`` that broadcasts to it.

    A hop whose coefficient is 0 consumes nothing and is left out. Raises ValueError as :func:`csr_routes` does.
    """
    table = np.asarray(resource)
    if table.ndim != 2:
        raise ValueError(f"resource must be a table [flow, hop], got shape {table.shape}")
    weights = np.broadcast_to(np.asarray(coefficient, np.float64), table.shape)
    there = table >= 0
    indptr = np.zeros(table.shape[0] + 1, np.int64)
    np.cumsum(there.sum(axis=1), out=indptr[1:])
    return csr_routes(indptr, table[there], weights[there])


def csr_routes(indptr: ArrayLike, resource: ArrayLike, coefficient: ArrayLike) -> Routes:
    """Checked :class:`Routes` from CSR arrays; entries of a flow on the same resource are added, zeros dropped.

    Raises ValueError for arrays that do not fit together, a negative, infinite or NaN coefficient, a negative resource.
    """
    starts = np.ascontiguousarray(indptr, np.int64)
    names = np.ascontiguousarray(resource, np.int32)
    weights = np.ascontiguousarray(coefficient, np.float64)
    if starts.ndim != 1 or starts.size == 0 or starts[0] != 0 or starts[-1] != names.size or (np.diff(starts) < 0).any():
        raise ValueError(f"indptr must rise from 0 to the number of entries, {names.size}")
    if names.shape != weights.shape or names.ndim != 1:
        raise ValueError(f"one coefficient per entry: got {weights.shape} coefficients for {names.shape} resources")
    if names.size and names.min() < 0:
        raise ValueError(f"resource numbers must be >= 0, got {names.min()}")
    if not (np.isfinite(weights) & (weights >= 0)).all():
        bad = weights[~(np.isfinite(weights) & (weights >= 0))][0]
        raise ValueError(f"a coefficient must be finite and >= 0 units per byte, got {bad}")
    from . import filling  # numba is slow to import: only when something is shared

    return Routes(*filling.merged(int(names.max(initial=-1)) + 1, starts, names, weights))


def check_caps(flows: Routes, cap: NDArray[np.float64], resources: int) -> None:
    """Raise ValueError unless every flow has a rate: caps >= 0, known resources, and a resource or a finite cap each."""
    if cap.shape != (flows.flows,):
        raise ValueError(f"one cap per flow: got shape {cap.shape} for {flows.flows} flows")
    if not (cap >= 0).all():
        raise ValueError(f"a cap must be >= 0 bytes/s (inf for none), got {cap[~(cap >= 0)][0]}")
    if flows.resource.size and flows.resource.max() >= resources:
        raise ValueError(f"flow uses resource {flows.resource.max()}, there are {resources}")
    unbounded = np.flatnonzero((np.diff(flows.indptr) == 0) & np.isinf(cap))
    if unbounded.size:
        raise ValueError(f"flow {unbounded[0]} uses no resource and has no cap: its rate would be infinite; give it a cap")


def check_capacities(capacity: ArrayLike) -> NDArray[np.float64]:
    """``capacity`` [resource] as float64. Raises ValueError unless all are finite and >= 0 (0: the resource is down)."""
    values = np.array(capacity, np.float64)
    if values.ndim != 1:
        raise ValueError(f"capacity must be an array [resource], got shape {values.shape}")
    if not (np.isfinite(values) & (values >= 0)).all():
        bad = int(np.flatnonzero(~(np.isfinite(values) & (values >= 0)))[0])
        raise ValueError(f"capacity of resource {bad} must be finite and >= 0 units/s, got {values[bad]}")
    return values


def max_min(capacity: ArrayLike, flows: Routes, cap: ArrayLike | None = None) -> Shares:
    """Max-min fair shares of ``capacity`` [resource] units/s among ``flows`` with ``cap`` [flow] bytes/s (default none).

    A flow over a resource of capacity 0 gets rate 0. O((entries + resources) log resources).
    Raises ValueError for bad capacities or caps, or a flow that nothing bounds.
    """
    from . import filling

    capacities = check_capacities(capacity)
    n = flows.flows
    caps = np.full(n, np.inf) if cap is None else np.ascontiguousarray(np.broadcast_to(np.asarray(cap, np.float64), (n,)))
    check_caps(flows, caps, capacities.size)
    by_resource: Entries = filling.transpose(capacities.size, *flows.csr)
    rate = np.zeros(n)
    bottleneck = np.full(n, filling.OWN_CAP, np.int32)
    alive = np.ones(n, np.uint8)
    newer: Entries = (np.zeros(capacities.size + 1, np.int64), np.empty(0, np.int32), np.empty(0))
    used = filling.fill(capacities, *flows.csr, *by_resource, *newer, caps, rising(caps), alive, rate, bottleneck)
    return Shares(rate, bottleneck, used)


def rising(cap: NDArray[np.float64]) -> NDArray[np.int64]:
    """The flows with a finite cap, by rising cap, ties by number."""
    finite = np.flatnonzero(np.isfinite(cap))
    return finite[np.argsort(cap[finite], kind="stable")]
