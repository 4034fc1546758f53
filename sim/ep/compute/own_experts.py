"""The expert block of this project's own kernels: product, SwiGLU, product, with the constants fitted to their own rows.

The same laws that predict what bench measures (`own_kernels`), on rows as a layer draws them or as routing is expected to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....hwmodels.calibration import Entry
from ....hwmodels.laws.kernels import smooth_max
from ...precision import ELEMENT_BYTES
from ..shape import Num
from ..stage import Join, Machine, Work
from .experts import Counts, ExpertShape, counted, tensor_dtype
from .own_kernels import OwnMove, OwnProduct, product_loads, tile_of

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OwnExperts:
    """Constants of both kernels in one precision, and the entries and systems they are from."""

    product: OwnProduct
    swiglu: OwnMove
    product_from: tuple[Entry, str]
    swiglu_from: tuple[Entry, str]

    def launches(self, counts: Counts, each: Num, shape: ExpertShape, machine: Machine, sms: float) -> tuple[Work, Work, Work]:
        """The three launches on ranks with ``counts``. ``each``: mean rows of an expert, which set the tile."""
        dtype = tensor_dtype(shape, machine)
        height = tile_of(each, dtype)[0]
        row_bytes = shape.first_width * 2.0 + shape.inter * (1.0 + 4.0 / 128.0 if dtype == "fp8" else 2.0)
        swiglu_s = counts.tiles(height) * height * row_bytes / (machine.hbm_bytes_per_s * self.swiglu.hbm_efficiency)
        up, down = (
            self._product(name, waits, n, k, counts, each, shape, machine, sms)
            for name, waits, n, k in (
                ("up", Join.INBOUND, shape.first_width, shape.hidden),
                ("down", Join.OWN, shape.hidden, shape.inter),
            )
        )
        between = Work(
            "experts.swiglu", "compute", Join.OWN, (("hbm", swiglu_s),), (("launch", self.swiglu.launch),),
            sharpness=self.swiglu.sharpness, floor_s=self.swiglu.waits(),
        )  # fmt: skip
        return up, between, down

    def _product(
        self,
        name: str,
        waits: Join,
        n: Num,
        k: Num,
        counts: Counts,
        each: Num,
        shape: ExpertShape,
        machine: Machine,
        sms: float,
    ) -> Work:
        dtype, c = tensor_dtype(shape, machine), self.product
        rate = machine.tensor_flops[dtype] / machine.sms * c.tensor_efficiency
        tiles = counts.tiles(tile_of(each, dtype)[0])
        moved = ELEMENT_BYTES[shape.weights] * counts.busy * np.asarray(n) * np.asarray(k)
        moved = moved + counts.rows * (ELEMENT_BYTES[shape.activations] * np.asarray(k) + 2.0 * np.asarray(n))
        tensor = product_loads(tiles, each, n, k, dtype, sms, rate, c)
        loads = (("tensor", tensor), ("hbm", moved / (machine.hbm_bytes_per_s * c.hbm_efficiency)))
        return Work(f"experts.{name}", "compute", waits, loads, (("launch", c.launch),), c.sharpness)

    def drawn(self, rows: Floats, shape: ExpertShape, machine: Machine, sms: float) -> list[Work]:
        """The launches on every rank, ``rows`` [rank, local slot]."""
        return list(self.launches(counted(rows, 0.0), float(rows.mean()), shape, machine, sms))

    def seconds(self, counts: Counts, each: Num, shape: ExpertShape, machine: Machine, sms: float) -> Floats:
        """Seconds of the three launches, one after another."""
        total = np.zeros(())
        for work in self.launches(counts, each, shape, machine, sms):
            loads = (np.asarray(s, float) for _, s in work.loads)
            total = total + work.latency_s + smooth_max(work.sharpness, np.asarray(work.floor_s, float), *loads)
        return np.asarray(total)
