"""The one law of a step's GEMMs against the fitted law it is made of, and against the GPU's datasheet."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epicycle.hwmodels.catalog import load_cluster
from epicycle.hwmodels.laws.kernels import CAST_BYTES, OPERAND_BYTES, gemm_bytes, gemm_seconds
from epicycle.hwmodels.specs import Cluster, Gpu
from epicycle.sim.precision import Dtype
from epicycle.sim.step.gpu_kernels import GpuKernels
from epicycle.sim.step.work import Work

DTYPES: tuple[Dtype, ...] = ("bf16", "fp8", "fp4")
SIZES = st.integers(1, 16_384).map(float)
SYSTEMS = ("h100-cx7", "h200-cx7", "b200-cx7", "gb200-nvl72")


@cache
def cluster_of(name: str) -> Cluster:
    return load_cluster(name)


def kernels_of(cluster: str = "h100-cx7", fp4_weights: float = 1.0) -> GpuKernels:
    there = cluster_of(cluster)
    return GpuKernels.of(there.node.gpu, there.calibration, fp4_weights)


def gemm(m: object, n: object, k: object, dtype: Dtype, cluster: str = "h100-cx7", fp4_weights: float = 1.0) -> Work:
    return kernels_of(cluster, fp4_weights).gemm(m, n, k, dtype)  # type: ignore[arg-type]


def busy(work: Work) -> float:
    """Seconds without the launches."""
    return float(np.asarray(work.seconds)) - float(np.asarray(work.launch))


def gpu_of(cluster: str = "h100-cx7") -> Gpu:
    return cluster_of(cluster).node.gpu


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cluster", SYSTEMS)
@given(m=SIZES, n=SIZES, k=SIZES)
def test_it_is_the_fitted_law_after_its_launches(cluster: str, dtype: Dtype, m: float, n: float, k: float) -> None:
    """The casts' bytes and launches are counted; the time between launches is the law's."""
    kernels = kernels_of(cluster)
    assert kernels.source
    sizes = (np.asarray(m), np.asarray(n), np.asarray(k))
    found = gemm(m, n, k, dtype, cluster)
    own = replace(kernels.constants(dtype), launch=0.0, host=0.0)
    assert busy(found) == pytest.approx(float(gemm_seconds(*sizes, dtype, gpu_of(cluster), own)))
    assert found.launch == pytest.approx(float(np.asarray(found.kernels)) * kernels.bf16.launch)
    assert found.flops == 2.0 * m * n * k
    native = dtype in gpu_of(cluster).tensor_flop_per_cycle_sm
    cast = CAST_BYTES[dtype] * m * k if native else 0.0
    assert found.hbm_bytes == pytest.approx(float(gemm_bytes(*sizes, dtype, native)) + cast)


def test_eager_tables_tell_the_tensor_rate_and_nothing_else() -> None:
    """The fp8 kernels were launched one by one: tile fill, sharpness and HBM rate are those of the bf16 ones."""
    kernels = kernels_of()
    assert kernels.narrow.tensor_efficiency != kernels.bf16.tensor_efficiency
    assert replace(kernels.narrow, tensor_efficiency=1.0) == replace(kernels.bf16, tensor_efficiency=1.0, host=0.0)


@pytest.mark.parametrize("dtype", DTYPES)
@given(m=SIZES, n=SIZES, k=SIZES)
def test_no_gemm_outruns_its_gpu(dtype: Dtype, m: float, n: float, k: float) -> None:
    for cluster in SYSTEMS:
        gpu = gpu_of(cluster)
        rate = gpu.tensor_flops(dtype if dtype in gpu.tensor_flop_per_cycle_sm else "bf16")
        found = gemm(m, n, k, dtype, cluster)
        assert busy(found) >= found.flops / rate
        assert busy(found) >= found.hbm_bytes / gpu.hbm_bandwidth


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_large_square_runs_at_the_tensor_rate_and_a_row_at_hbms(dtype: Dtype) -> None:
    gpu = gpu_of("b200-cx7")
    constants = kernels_of("b200-cx7").constants(dtype)
    large = gemm(16_384.0, 16_384.0, 16_384.0, dtype, "b200-cx7")
    assert large.flops / busy(large) == pytest.approx(gpu.tensor_flops(dtype) * constants.tensor_efficiency, rel=0.15)
    row = gemm(1.0, 16_384.0, 16_384.0, dtype, "b200-cx7")
    assert float(row.hbm_bytes) / busy(row) == pytest.approx(gpu.hbm_bandwidth * constants.hbm_efficiency, rel=0.25)
    assert large.tensor > large.hbm
    assert row.hbm > row.tensor


@given(m=SIZES, n=SIZES, k=SIZES)
def test_fp4_without_fp4_tensor_cores_reads_four_bits_and_multiplies_in_bf16(m: float, n: float, k: float) -> None:
    gpu = gpu_of("h100-cx7")
    assert "fp4" not in gpu.tensor_flop_per_cycle_sm
    found = gemm(m, n, k, "fp4")
    assert found.hbm_bytes == pytest.approx(k * n * OPERAND_BYTES["fp4"] + 2.0 * m * k + 2.0 * m * n)
    assert busy(found) >= found.flops / gpu.tensor_flops("bf16")
    assert found.kernels == 1.0, "the rows stay bf16: nothing to cast"
    assert gemm(m, n, k, "fp4", "b200-cx7").kernels == 2.0


@pytest.mark.parametrize("dtype", ["fp8", "fp4"])
@given(n=SIZES, k=SIZES, share=st.floats(0.2, 1.0))
def test_only_four_bit_weights_may_be_read_slower(dtype: Dtype, n: float, k: float, share: float) -> None:
    whole, slower = gemm(1.0, n, k, dtype, "b200-cx7"), gemm(1.0, n, k, dtype, "b200-cx7", share)
    if dtype == "fp8":
        assert slower.seconds == whole.seconds
    else:
        assert whole.seconds <= slower.seconds <= whole.seconds / share * (1 + 1e-9)
        assert slower.hbm_bytes == whole.hbm_bytes


def test_narrower_weights_are_read_faster() -> None:
    bf16, fp8, fp4 = (busy(gemm(1.0, 16_384.0, 16_384.0, dtype, "b200-cx7")) for dtype in DTYPES)
    assert fp4 < fp8 < bf16
    assert bf16 / fp8 == pytest.approx(OPERAND_BYTES["bf16"] / OPERAND_BYTES["fp8"], rel=0.1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_rows_take_nothing(dtype: Dtype) -> None:
    found = gemm(0.0, 4096.0, 4096.0, dtype)
    assert found.seconds == found.flops == found.hbm_bytes == 0.0


@given(st.lists(st.tuples(SIZES, SIZES, SIZES), min_size=2, max_size=6))
def test_a_table_is_its_rows(points: list[tuple[float, float, float]]) -> None:
    m, n, k = (np.array(column) for column in zip(*points, strict=True))
    assert np.asarray(gemm(m, n, k, "fp8").seconds) == pytest.approx(
        [float(np.asarray(gemm(*point, "fp8").seconds)) for point in points]
    )
