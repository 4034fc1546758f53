"""Files a command writes: checked before the work starts, all of them put in place at its end, or none."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from ...hwmodels.errors import BadInput

STDOUT = Path("-")


class ClosedOutputError(OSError):
    """``-`` where standard output is closed."""

    def __init__(self) -> None:
        super().__init__(errno.EBADF, "standard output is closed, there is nowhere for '-' to go: name a file")


class Outputs:
    """The output paths of one command; ``None`` stands for one not asked for and ``-`` for standard output.

    Entering the context claims every path, so that an unwritable one is an error before anything is computed. ``put`` keeps
    what a writer makes of a path beside it; leaving the context without an error renames all of them into place.
    """

    def __init__(self, paths: Iterable[Path | None]) -> None:
        self.paths = [path for path in paths if path is not None]
        self._claims: dict[Path, Path] = {}
        self._put: list[Path] = []

    @property
    def uses_stdout(self) -> bool:
        """Whether one of the outputs is standard output."""
        return STDOUT in self.paths

    def __enter__(self) -> Self:
        try:
            if len(set(self.paths)) < len(self.paths):
                raise BadInput(f"two outputs have the same path: {', '.join(str(p) for p in self.paths)}")
            for path in self.paths:
                self._claims[path] = _claim(path)
        except BaseException:
            self._drop()
            raise
        return self

    def put(self, path: Path | None, write: Callable[[Path], None]) -> None:
        """Let ``write`` make the output ``path`` (nothing, if None). It is given another path, to be renamed later."""
        if path is not None:
            with _naming(path):
                write(self._claims[path])
            self._put.append(path)

    def put_all(self, paths: Sequence[Path | None], write: Callable[[Sequence[Path | None]], None]) -> None:
        """Let ``write`` make several outputs in one go; None stands for one not asked for."""
        write([None if path is None else self._claims[path] for path in paths])
        self._put += [path for path in paths if path is not None]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                for path in self._put:
                    with _naming(path):
                        _place(self._claims[path], path)
        finally:
            self._drop()

    def _drop(self) -> None:
        for claim in self._claims.values():
            with suppress(OSError):
                claim.unlink(missing_ok=True)
        self._claims.clear()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """What the system refuses inside (a full disk) names the output that was asked for, and not a file beside it."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        error.filename = str(path)
        raise


def _claim(path: Path) -> Path:
    """An empty file beside ``path`` that can take its place. Raises BadInput saying why ``path`` cannot be written."""
    if path == STDOUT and sys.stdout is None:
        raise ClosedOutputError
    special = path == STDOUT or (path.exists() and not path.is_file() and not path.is_dir())
    folder = Path(tempfile.gettempdir()) if special else path.parent
    if path.is_dir() and path != STDOUT:
        raise BadInput(f"{path}: cannot be written: it is a folder, name a file in it")
    if not folder.is_dir():
        raise BadInput(f"{path}: cannot be written: there is no folder {folder}")
    if path.exists() and not os.access(path, os.W_OK):
        raise BadInput(f"{path}: cannot be written: the file is read-only")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=folder)
    except OSError as error:
        raise BadInput(f"{path}: cannot be written: {error.strerror}") from None
    os.close(handle)
    return Path(name)


def _place(made: Path, path: Path) -> None:
    if path == STDOUT:
        sys.stdout.write(made.read_text(encoding="utf-8"))
        sys.stdout.flush()
    elif path.exists() and not path.is_file():  # a device or a pipe: written to, not replaced
        path.write_bytes(made.read_bytes())
    else:
        mask = os.umask(0)
        os.umask(mask)
        made.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~mask)
        made.replace(path.resolve())
