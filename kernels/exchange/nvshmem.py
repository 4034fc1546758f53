"""The few NVSHMEM device functions the two-hop path uses, as Triton externs resolved in ``libnvshmem_device.bc``.

torch ships such wrappers but defines them only where a GPU is present; these also compile on a machine without one.
``dest`` is always this rank's own symmetric address: NVSHMEM translates it to the peer's.
"""
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from triton.language import core

_SIGNATURES = {
    "nvshmemx_putmem_nbi_block": ("int64", "int64", "int64", "int32"),
    "nvshmemx_signal_op": ("int64", "int64", "int32", "int32"),
    "nvshmem_int_p": ("int64", "int32", "int32"),
    "nvshmem_quiet": (),
}


def _call(symbol, arguments, _semantic):
    types = tuple(core.dtype(t) for t in _SIGNATURES[symbol])
    return core.extern_elementwise(
        "", "", list(arguments), {types: (symbol, core.dtype("int32"))}, is_pure=False, _semantic=_semantic
    )


@core.extern
def put_block(dest, source, size_bytes, pe, _semantic=None):
    """Start a put by the whole program; complete after ``quiet``."""
    return _call("nvshmemx_putmem_nbi_block", (dest, source, size_bytes, pe), _semantic)


@core.extern
def signal(dest, value, operation, pe, _semantic=None):
    """Set (operation 0) the 8-byte signal at ``dest`` of ``pe``, after this program's completed puts."""
    return _call("nvshmemx_signal_op", (dest, value, operation, pe), _semantic)


@core.extern
def put_int(dest, value, pe, _semantic=None):
    """Write one 4-byte value at ``dest`` of ``pe``."""
    return _call("nvshmem_int_p", (dest, value, pe), _semantic)


@core.extern
def quiet(_semantic=None):
    """Wait until this program's puts are visible at their destinations."""
    return _call("nvshmem_quiet", (), _semantic)


def device_library() -> Path | None:
    """Path of ``libnvshmem_device.bc`` in the installed ``nvidia-nvshmem-cu*`` wheel, or None."""
    found = importlib.util.find_spec("nvidia.nvshmem") if importlib.util.find_spec("nvidia") else None
    for place in found.submodule_search_locations or [] if found else []:
        library = Path(place) / "lib" / "libnvshmem_device.bc"
        if library.exists():
            return library
    return None


def with_nvshmem(kernel: Any) -> Any:
    """``kernel`` linked with the device library and initialised for NVSHMEM on first launch (torch's own hook)."""
    from torch.distributed._symmetric_memory._nvshmem_triton import requires_nvshmem

    return requires_nvshmem(kernel)
