"""Dense GEMM parts against the law they are made of, and against the GPU's datasheet."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epicycle.hwmodels.catalog import load_cluster
from epicycle.hwmodels.laws import CAST_BYTES, OPERAND_BYTES, gemm_bytes, gemm_seconds
from epicycle.hwmodels.specs import Cluster, Gpu
from epicycle.sim.precision import Dtype
from epicycle.sim.step.gemm import gemm_part, kernel_constants
from epicycle.sim.step.gpu_kernels import GpuKernels
from epicycle.sim.step.part import Part

DTYPES: tuple[Dtype, ...] = ("bf16", "fp8", "fp4")
SIZES = st.integers(1, 16_384).map(float)
SYSTEMS = ("h100-cx7", "h200-cx7", "b200-cx7", "gb200-nvl72")


@cache
def cluster_of(name: str) -> Cluster:
    return load_cluster(name)


def part(m: object, n: object, k: object, dtype: Dtype, cluster: str = "h100-cx7", **more: object) -> Part:
    there = cluster_of(cluster)
    return gemm_part("gemm", "head", ((m, n, k),), dtype, there.node.gpu, there.calibration, 1.0, **more)  # type: ignore[arg-type]


def gpu_of(cluster: str = "h100-cx7") -> Gpu:
    return cluster_of(cluster).node.gpu


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cluster", SYSTEMS)
@given(m=SIZES, n=SIZES, k=SIZES)
def test_a_part_is_the_law_without_its_launch(cluster: str, dtype: Dtype, m: float, n: float, k: float) -> None:
    constants, source = kernel_constants(cluster_of(cluster).calibration, dtype)
    assert constants.launch == constants.host == 0.0
    assert source
    sizes = (np.asarray(m), np.asarray(n), np.asarray(k))
    found = part(m, n, k, dtype, cluster)
    assert found.seconds == pytest.approx(float(gemm_seconds(*sizes, dtype, gpu_of(cluster), constants)))
    assert found.flops == 2.0 * m * n * k
    native = dtype in gpu_of(cluster).tensor_flop_per_cycle_sm
    assert found.hbm_bytes == float(gemm_bytes(*sizes, dtype, native))


@pytest.mark.parametrize("dtype", DTYPES)
@given(m=SIZES, n=SIZES, k=SIZES)
def test_no_gemm_outruns_its_gpu(dtype: Dtype, m: float, n: float, k: float) -> None:
    for cluster in SYSTEMS:
        gpu = gpu_of(cluster)
        rate = gpu.tensor_flops(dtype if dtype in gpu.tensor_flop_per_cycle_sm else "bf16")
        found = part(m, n, k, dtype, cluster)
        assert found.seconds >= found.flops / rate
        assert found.seconds >= found.hbm_bytes / gpu.hbm_bandwidth


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_large_square_runs_at_the_tensor_rate_and_a_row_at_hbms(dtype: Dtype) -> None:
    gpu = gpu_of("b200-cx7")
    constants, _ = kernel_constants(cluster_of("b200-cx7").calibration, dtype)
    large = part(16_384.0, 16_384.0, 16_384.0, dtype, "b200-cx7")
    assert large.flops / float(np.asarray(large.seconds)) == pytest.approx(
        gpu.tensor_flops(dtype) * constants.tensor_efficiency, rel=0.15
    )
    row = part(1.0, 16_384.0, 16_384.0, dtype, "b200-cx7")
    assert float(row.hbm_bytes) / float(np.asarray(row.seconds)) == pytest.approx(
        gpu.hbm_bandwidth * constants.hbm_efficiency, rel=0.25
    )
    assert large.loads["tensor"] > large.loads["hbm"]
    assert row.loads["hbm"] > row.loads["tensor"]


@given(m=SIZES, n=SIZES, k=SIZES)
def test_fp4_without_fp4_tensor_cores_reads_four_bits_and_multiplies_in_bf16(m: float, n: float, k: float) -> None:
    gpu = gpu_of("h100-cx7")
    assert "fp4" not in gpu.tensor_flop_per_cycle_sm
    found = part(m, n, k, "fp4")
    assert found.hbm_bytes == pytest.approx(k * n * OPERAND_BYTES["fp4"] + 2.0 * m * k + 2.0 * m * n)
    assert found.seconds >= found.flops / gpu.tensor_flops("bf16")
    assert found.kernels == 1.0, "the rows stay bf16: nothing to cast"
    assert part(m, n, k, "fp4", "b200-cx7").kernels == 2.0


@pytest.mark.parametrize("dtype", ["fp8", "fp4"])
@given(n=SIZES, k=SIZES, share=st.floats(0.2, 1.0))
def test_only_four_bit_weights_may_be_read_slower(dtype: Dtype, n: float, k: float, share: float) -> None:
    whole, slower = part(1.0, n, k, dtype, "b200-cx7"), part(1.0, n, k, dtype, "b200-cx7", fp4_weights=share)
    if dtype == "fp8":
        assert slower.seconds == whole.seconds
    else:
        assert whole.seconds <= slower.seconds <= whole.seconds / share * (1 + 1e-9)
        assert slower.hbm_bytes == whole.hbm_bytes


def test_narrower_weights_are_read_faster() -> None:
    bf16, fp8, fp4 = (float(np.asarray(part(1.0, 16_384.0, 16_384.0, dtype, "b200-cx7").seconds)) for dtype in DTYPES)
    assert fp4 < fp8 < bf16
    assert bf16 / fp8 == pytest.approx(OPERAND_BYTES["bf16"] / OPERAND_BYTES["fp8"], rel=0.1)


@given(extra=st.floats(0.0, 1e9))
def test_bytes_beside_a_gemm_come_on_top(extra: float) -> None:
    plain, more = part(64.0, 4096.0, 4096.0, "bf16"), part(64.0, 4096.0, 4096.0, "bf16", extra_bytes=extra)
    constants, _ = kernel_constants(cluster_of("h100-cx7").calibration, "bf16")
    assert more.hbm_bytes == plain.hbm_bytes + extra
    rate = gpu_of().hbm_bandwidth * constants.hbm_efficiency
    assert float(np.asarray(more.seconds)) == pytest.approx(float(np.asarray(plain.seconds)) + extra / rate)


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_rows_take_nothing(dtype: Dtype) -> None:
    found = part(0.0, 4096.0, 4096.0, dtype)
    assert found.seconds == found.flops == found.hbm_bytes == 0.0


@given(st.lists(st.tuples(SIZES, SIZES, SIZES), min_size=2, max_size=6))
def test_a_table_is_its_rows(points: list[tuple[float, float, float]]) -> None:
    m, n, k = (np.array(column) for column in zip(*points, strict=True))
    assert np.asarray(part(m, n, k, "fp8").seconds) == pytest.approx(
        [float(np.asarray(part(*point, "fp8").seconds)) for point in points]
    )


@pytest.mark.parametrize("dtype", DTYPES)
@given(m=SIZES, n=SIZES, k=SIZES)
def test_attentions_gemms_are_the_same_law(dtype: Dtype, m: float, n: float, k: float) -> None:
    """`GpuKernels.gemm` counts the cast's bytes and its launches; its own time is the law's with those launches."""
    there = cluster_of("h200-cx7")
    kernels = GpuKernels.of(there.node.gpu, there.calibration)
    work = kernels.gemm(m, n, k, dtype)
    native = dtype in there.node.gpu.tensor_flop_per_cycle_sm
    sizes = (np.asarray(m), np.asarray(n), np.asarray(k))
    cast = CAST_BYTES[dtype] * m * k if native else 0.0
    assert work.hbm_bytes == pytest.approx(float(gemm_bytes(*sizes, dtype, native)) + cast)
    assert work.flops == 2.0 * m * n * k
    own = replace(kernels.bf16 if dtype == "bf16" else kernels.narrow, launch=0.0, host=0.0)
    busy = float(gemm_seconds(*sizes, dtype, there.node.gpu, own))
    assert float(np.asarray(work.seconds)) == pytest.approx(busy + float(np.asarray(work.launch)))
