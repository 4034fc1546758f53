"""GPUs joined directly, as a mesh or torus: links and the routes over them, dimension by dimension.

GPU r lies at the coordinates of r in row-major order. A row travels along the first dimension until that coordinate is right,
then along the next. On a ring it goes the shorter way round; halfway round, from an even coordinate forwards and from an odd
one backwards, so that both ways carry as much.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...hwmodels.specs import Mesh

Ints = NDArray[np.int64]
NO_LINK = -1


@dataclass(frozen=True, slots=True)
class Grid:
    """``shape``: GPUs along each dimension; ``wrap``: its rows are closed to rings.

    Links are one-way and numbered ``(gpu * dimensions + dimension) * 2 + (0 forwards, 1 backwards)``, where a row would end as
    well: a link that no route takes.
    """

    shape: tuple[int, ...]
    wrap: bool

    @classmethod
    def of(cls, mesh: Mesh) -> Grid:
        return cls(mesh.shape, mesh.wrap)

    @property
    def gpus(self) -> int:
        return prod(self.shape)

    @property
    def links(self) -> int:
        return 2 * len(self.shape) * self.gpus

    def routes(self, src: ArrayLike, dst: ArrayLike) -> Ints:
        """[pair, hop] the links from ``src`` to ``dst`` in order, -1 where a route is over."""
        s, d = np.broadcast_arrays(np.atleast_1d(src), np.atleast_1d(dst))
        at = np.stack(np.unravel_index(s, self.shape), axis=1)
        goal = np.stack(np.unravel_index(d, self.shape), axis=1)
        hops = []
        for axis, size in enumerate(self.shape):
            step, count = self._way(at[:, axis], goal[:, axis], size)
            for hop in range(int(count.max(initial=0))):
                going = hop < count
                gpu = np.ravel_multi_index(tuple(at.T), self.shape)
                hops.append(np.where(going, (gpu * len(self.shape) + axis) * 2 + (step < 0), NO_LINK))
                at[:, axis] = np.where(going, (at[:, axis] + step) % size, at[:, axis])
        return np.stack(hops, axis=1) if hops else np.full((s.size, 1), NO_LINK, np.int64)

    def _way(self, start: Ints, goal: Ints, size: int) -> tuple[Ints, Ints]:
        """(+1 or -1, hops) along one dimension."""
        if not self.wrap:
            return np.where(goal >= start, 1, -1), np.abs(goal - start)
        ahead, behind = (goal - start) % size, (start - goal) % size
        forwards = (ahead < behind) | ((ahead == behind) & (start % 2 == 0))
        return np.where(forwards, 1, -1), np.minimum(ahead, behind)

    def all_to_all_load(self) -> NDArray[np.float64]:
        """[link] rows that cross it when every GPU sends one to every other."""
        return _load(self.shape, self.wrap)

    def uniform_bytes_per_s(self, link_bytes_per_s: float) -> float:
        """What a GPU sends to all others together, one direction, while the busiest link is full."""
        return float(link_bytes_per_s * (self.gpus - 1) / self.all_to_all_load().max())


@cache
def _load(shape: tuple[int, ...], wrap: bool) -> NDArray[np.float64]:
    grid = Grid(shape, wrap)
    src, dst = np.indices((grid.gpus, grid.gpus)).reshape(2, -1)
    links = grid.routes(src, dst)
    return np.bincount(links[links >= 0], minlength=grid.links).astype(float)
