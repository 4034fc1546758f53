"""The interpreter's arithmetic is wrong where we correct it, and right afterwards."""

import pytest
import torch
import triton
import triton.language as tl

from epicycle.kernels import interpreter


@triton.jit
def _cast(source, target, n: tl.constexpr):
    i = tl.arange(0, n)
    tl.store(target + i, tl.load(source + i).to(target.dtype.element_ty))


@triton.jit
def _multiply(a, b, c, n: tl.constexpr):
    at = tl.arange(0, n)[:, None] * n + tl.arange(0, n)[None, :]
    tl.store(c + at, tl.dot(tl.load(a + at), tl.load(b + at), out_dtype=tl.float32))


def _cast_errors(dtype: torch.dtype) -> int:
    source = torch.randn(4096, generator=torch.Generator().manual_seed(1)) * 4
    bits = {1: torch.uint8, 2: torch.int16}[dtype.itemsize]
    target = torch.zeros(4096, dtype=dtype)
    _cast[(1,)](source, target, 4096)
    return int((target.view(bits) != source.to(dtype).view(bits)).sum())


def _dot_error() -> float:
    g = torch.Generator().manual_seed(2)
    a, b = (torch.randn(16, 16, generator=g).bfloat16() for _ in range(2))
    c = torch.zeros(16, 16)
    _multiply[(1,)](a, b, c, 16)
    exact = a.double() @ b.double()
    return float((c - exact).norm() / exact.norm())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_casts(dtype: torch.dtype) -> None:
    interpreter.remove()
    try:
        assert _cast_errors(dtype) > 50  # of 4096: truncation, lost carries
    finally:
        interpreter.install()
    assert _cast_errors(dtype) == 0


def test_bf16_dot() -> None:
    interpreter.remove()
    try:
        assert not _dot_error() < 0.5
    finally:
        interpreter.install()
    assert _dot_error() < 1e-6


def test_float8_saturates_and_keeps_nan() -> None:
    source = torch.tensor([1e6, -1e6, float("nan"), 0.0])
    target = torch.zeros(4, dtype=torch.float8_e4m3fn)
    _cast[(1,)](source, target, 4)
    assert target.float()[:2].tolist() == [448.0, -448.0]
    assert target.float()[2].isnan()
    assert target.float()[3] == 0
