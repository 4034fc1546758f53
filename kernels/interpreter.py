"""Corrections to Triton's CPU interpreter, without which every comparison against a reference is meaningless.

Seen in Triton 3.3 to 3.9 (``tests/kernels/test_interpreter.py`` shows each error against the uncorrected interpreter):

- ``tl.dot`` of bfloat16 multiplies the raw 16-bit patterns as integers;
- float32 to bfloat16 truncates where the hardware rounds to nearest even;
- float32 to float8 loses the carry of the rounded mantissa (results off by up to a factor of two).

``install`` replaces the two functions at fault by the same operations through torch, which rounds as the hardware does.
It also lets the interpreter prepare the language once per launch instead of at every call of a device function, and makes a
rank that polls give way to the others on the machine; results are the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch

_TORCH_DTYPES = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8e4nv": torch.float8_e4m3fn,
    "fp8e5": torch.float8_e5m2,
    "fp8e4b8": torch.float8_e4m3fnuz,
    "fp8e5b16": torch.float8_e5m2fnuz,
}
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def is_interpreting() -> bool:
    """Whether kernels run in the interpreter. Triton reads the variable when a kernel is *defined*, so set it before import."""
    return os.environ.get("TRITON_INTERPRET", "0") not in ("", "0")


def use() -> None:
    """Make every kernel imported from now on run in the corrected interpreter."""
    os.environ["TRITON_INTERPRET"] = "1"
    install()


def install() -> None:
    """Correct the interpreter of this process; calling it again changes nothing."""
    from triton.runtime import interpreter

    if getattr(interpreter, "_epicycle_original", None) is None:
        interpreter._epicycle_original = (interpreter._convert_float, interpreter.InterpreterBuilder.create_dot)
        interpreter._patch_lang = _once_per_launch(interpreter._patch_lang)
        builder = interpreter.InterpreterBuilder
        builder.create_atomic_rmw = _polite(builder.create_atomic_rmw)
    interpreter._convert_float = convert_float
    interpreter.InterpreterBuilder.create_dot = _dot(interpreter.TensorHandle)


def remove() -> None:
    """Put the interpreter's own functions back (for the test that shows they are wrong)."""
    from triton.runtime import interpreter

    if getattr(interpreter, "_epicycle_original", None) is not None:
        interpreter._convert_float, interpreter.InterpreterBuilder.create_dot = interpreter._epicycle_original


class _Held:
    """The language as prepared for one launch: ``done`` are the language modules that need no second preparation."""

    done: ClassVar[set[int]] = set()

    def __init__(self, scope: Any) -> None:
        self.scope = scope

    def restore(self) -> None:
        if self.scope is not None:
            _Held.done.clear()
            self.scope.restore()


def _once_per_launch(prepare: Callable[[Any], Any]) -> Callable[[Any], Any]:
    import triton.language as tl

    languages = (tl, tl.core)

    def patch(fn: Any) -> Any:
        used = {id(module) for module in languages if any(value is module for value in fn.__globals__.values())}
        if _Held.done and used <= _Held.done:
            return _Held(None)
        outermost = not _Held.done
        scope = prepare(fn)
        _Held.done |= used
        return _Held(scope) if outermost else scope

    return patch


def _polite(atomic: Callable[..., Any]) -> Callable[..., Any]:
    """An atomic addition of zero is a poll: leave the core to the rank that is waited for."""

    def create_atomic_rmw(self: Any, operation: Any, pointers: Any, value: Any, *rest: Any) -> Any:
        if not np.any(value.data):
            time.sleep(0.0002)
        return atomic(self, operation, pointers, value, *rest)

    return create_atomic_rmw


def convert_float(data: Any, source: Any, target: Any, rounding: Any = None) -> Any:
    """``data`` (numpy, any float type as Triton stores it) as unsigned bit patterns of ``target``, rounded to nearest even.

    Values beyond the range of a float8 saturate, as the hardware's conversion does; NaN stays NaN.
    """
    source_dtype, target_dtype = _TORCH_DTYPES[source.scalar.name], _TORCH_DTYPES[target.scalar.name]
    raw = torch.from_numpy(np.ascontiguousarray(data).reshape(-1).view(f"i{source_dtype.itemsize}").copy())
    values = raw.view(source_dtype)
    if target_dtype.itemsize == 1:
        limit = torch.finfo(target_dtype).max
        values = values.to(torch.float32).clamp(-limit, limit)
    bits = values.to(target_dtype).view(_BITS[target_dtype.itemsize])
    return bits.numpy().view(f"u{target_dtype.itemsize}").reshape(np.shape(data))


def _dot(tensor_handle: Any) -> Callable[..., Any]:
    def widened(handle: Any) -> Any:
        dtype = _TORCH_DTYPES.get(handle.dtype.scalar.name)
        if dtype is None or dtype.itemsize > 2 or dtype is torch.float16:
            return handle.data
        raw = torch.from_numpy(np.ascontiguousarray(handle.data).view(f"i{dtype.itemsize}").copy())
        return raw.view(dtype).to(torch.float32).numpy()

    def create_dot(self: Any, a: Any, b: Any, d: Any, input_precision: Any, max_num_imprecise_acc: Any) -> Any:
        product = np.matmul(widened(a), widened(b), dtype=d.data.dtype)
        return tensor_handle(product + d.data, d.dtype.scalar)

    return create_dot
