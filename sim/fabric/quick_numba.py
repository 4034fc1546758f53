"""numba, loaded without SciPy: it looks for a BLAS as it loads, which nothing here uses and which takes longest of all.

Only numba's own ``np.correlate`` and ``np.convolve`` lose their fast path by it, for the rest of the process; what it compiles
of ``np.linalg`` asks for the BLAS again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any


@contextmanager
def _hidden(module: str) -> Iterator[None]:
    """``import module`` fails inside, unless it was imported before: None in sys.modules is the import system's own means."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


with _hidden("scipy"), _hidden("scipy.linalg"), _hidden("scipy.linalg.cython_blas"):
    from numba import njit

    import_module("numba.np.arraymath")  # where it looks; compiled loops load it anyway


def structures() -> tuple[Any, Any]:
    """numba's references to structures and its types, for who hands a loop many arrays at once."""
    with _hidden("scipy"), _hidden("scipy.linalg"), _hidden("scipy.linalg.cython_blas"):
        return import_module("numba.experimental.structref"), import_module("numba.core.types")


__all__ = ["njit", "structures"]
