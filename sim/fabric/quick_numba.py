"""numba, loaded without SciPy: it looks for a BLAS as it loads, which nothing here uses and which takes longest of all.

Only numba's own ``np.correlate`` and ``np.convolve`` lose their fast path by it, for the rest of the process; what it compiles
of ``np.linalg`` asks for the BLAS again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


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
    import numba

    import_module("numba.np.arraymath")  # where it looks; compiled loops load it anyway


def njit(**options: Any) -> Callable[[F], F]:
    """numba's ``njit`` as a decorator with options; what it keeps in its cache is used where that works.

    A full disk or a file that another run left half-written only cost the time to compile again. Where neither the package's
    own folder nor the user's can be written (a read-only install without a home directory), it is kept in a folder of the
    user's among the temporary files.
    """

    def compiled(function: F) -> F:
        try:
            loop = _kept(function, options)
        except (RuntimeError, OSError, AttributeError):  # no folder to keep it in
            try:
                with _among_temporary_files():
                    loop = _kept(function, options)
            except (RuntimeError, OSError, AttributeError):
                loop = numba.njit(**{**options, "cache": False})(function)
        return cast(F, loop)

    return compiled


def _kept(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    loop: Any = numba.njit(**options)(function)
    cache = loop._cache
    cache.load_overload, cache.save_overload = _or_nothing(cache.load_overload), _or_nothing(cache.save_overload)
    return loop


@contextmanager
def _among_temporary_files() -> Iterator[None]:
    """numba keeps what it compiles there inside. Raises OSError where that folder is not this user's alone: what lies in it is
    run."""
    import os
    import stat
    import tempfile

    folder = Path(tempfile.gettempdir()) / f"epicycle-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise OSError(f"{folder} is not this user's alone")
    settings: Any = numba.config
    before, settings.CACHE_DIR = settings.CACHE_DIR, str(folder)
    try:
        yield
    finally:
        settings.CACHE_DIR = before


def _or_nothing(ask: Callable[..., Any]) -> Callable[..., Any]:
    """``ask``, and nothing where it fails: numba then compiles, or keeps nothing."""

    def asked(*arguments: Any) -> Any:
        try:
            return ask(*arguments)
        except Exception:  # whatever unpickling a broken file may raise
            return None

    return asked


def structures() -> tuple[Any, Any]:
    """numba's references to structures and its types, for who hands a loop many arrays at once."""
    with _hidden("scipy"), _hidden("scipy.linalg"), _hidden("scipy.linalg.cython_blas"):
        return import_module("numba.experimental.structref"), import_module("numba.core.types")


__all__ = ["njit", "structures"]
