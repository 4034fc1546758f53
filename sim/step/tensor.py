"""What a kernel reaches of the tensor peak, taken apart so that it carries to a GPU of another balance.

An efficiency that was measured on one GPU holds two things: the share of its tensor peak that any kernel reaches there (clocks
under load, tile edges), and cycles in which an SM issues something else that the tensor cores do not hide (softmax's
exponentials, scaling of fp8 products, addresses). The first is a share of a peak, the second cycles of an SM. Per flop, in
units of the bf16 peak's time::

    1 / efficiency = (bf16 peak / peak in the dtype) / share + issue

``share`` is what the calibration's bf16 GEMMs reach, whose large rows are bound by nothing else. A GPU with fewer tensor flops
a cycle (H20: a quarter of H100's) pays as many cycles of issue for a flop, which are a smaller part of its time; a narrower
dtype shortens the first term only; an SM with more exponentials a cycle (Blackwell Ultra) shortens the second.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache

from ...hwmodels.calibration import constants_of, find_entry, load_calibration
from ...hwmodels.catalog import load_cluster
from ...hwmodels.laws.kernels import Gemm
from ...hwmodels.specs import Gpu, TensorDtype

_WHOLE: ContextVar[bool] = ContextVar("efficiencies carried over whole", default=False)


@contextmanager
def carried_whole() -> Iterator[None]:
    """Within it an efficiency is one number, as wide on a GPU of another balance: how much taking it apart is worth."""
    token = _WHOLE.set(True)
    try:
        yield
    finally:
        _WHOLE.reset(token)


@dataclass(frozen=True, slots=True)
class Reach:
    """What kernels measured on ``measured`` reach on ``gpu``. ``share``: of the tensor peak, by the bf16 GEMMs there."""

    gpu: Gpu
    measured: Gpu
    share: float

    @staticmethod
    def of(gpu: Gpu, system: str) -> Reach:
        """With the GEMMs of ``system`` or its nearest relative. Raises Uncalibrated."""
        entry, source = find_entry(system, "gemm", "bf16", "one-node")
        return Reach(gpu, measured_gpu(source) or gpu, constants_of(entry, Gemm).tensor_efficiency)

    @property
    def cycles(self) -> float:
        """Tensor flops that an SM does in a cycle over those of the SM it was measured on."""
        return self.gpu.tensor_flop_per_cycle_sm["bf16"] / self.measured.tensor_flop_per_cycle_sm["bf16"]

    def efficiency(
        self, found: float, dtype: TensorDtype = "bf16", measured_in: TensorDtype = "bf16", *, softmax: bool = False
    ) -> float:
        """Share of ``gpu``'s bf16 peak that a kernel reaches in ``dtype``, which reached ``found`` of it in ``measured_in``.

        ``softmax``: its issue cycles are exponentials. A dtype without a tensor rate is multiplied in bf16.
        """
        if _WHOLE.get():
            return found
        share = max(self.share, found * self.peak(self.measured, measured_in))
        issue = max(0.0, 1.0 / found - self.peak(self.measured, measured_in) / share)
        faster = self.gpu.exp_per_cycle_sm / self.measured.exp_per_cycle_sm if softmax else 1.0
        return 1.0 / (self.peak(self.gpu, dtype) / share + issue * self.cycles / faster)

    @staticmethod
    def peak(gpu: Gpu, dtype: TensorDtype) -> float:
        """The bf16 peak over that in ``dtype``: 1 for bf16, 0.5 for fp8, or 1 where there is no such rate."""
        rates = gpu.tensor_flop_per_cycle_sm
        return rates["bf16"] / rates.get(dtype, rates["bf16"])

    def same_dtype(self, found: float) -> float:
        """``found``, a share of the peak in a dtype, on ``gpu`` in the same dtype."""
        if _WHOLE.get():
            return found
        share = max(self.share, found)
        return 1.0 / (1.0 / share + (1.0 / found - 1.0 / share) * self.cycles)


@cache
def measured_gpu(system: str) -> Gpu | None:
    """The GPU that the calibration ``system`` was taken on; None where it names no cluster."""
    cluster = load_calibration(system).cluster
    return load_cluster(cluster).node.gpu if cluster else None
