"""How a command ends that does not answer: one line on stderr, and a status that says whose turn it is.

2: what was asked for is refused (`BadInput`, a file that is not there). 74: the machine (disk, memory, a closed pipe). 70: we
erred. 128 and the signal: stopped from outside, everything begun cleaned up.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import NoReturn

from ...hwmodels.errors import BadInput

REFUSED, INTERNAL, ENVIRONMENT, INTERRUPTED = 2, 70, 74, 130
#: An error line has at most as many letters, whatever the input holds: its beginning (what and where) and its end (the lever).
MOST_LETTERS, _END = 399, 130
#: Of the files that a user names; other errors of the system are the machine's.
_OF_A_NAME = (
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL),
    *(errno.EEXIST, errno.ENXIO, errno.ENODEV),
)


def end(error: BaseException) -> NoReturn:
    """Say ``error`` in one line and leave with its status; a traceback instead where EPICYCLE_TRACEBACK is set."""
    if isinstance(error, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    if isinstance(error, BrokenPipeError):
        _leave_the_pipe()
        sys.exit(128 + signal.SIGPIPE if hasattr(signal, "SIGPIPE") else ENVIRONMENT)
    if os.environ.get("EPICYCLE_TRACEBACK"):
        raise error
    status, message = _told(error)
    _print(f"error: {message}")
    sys.exit(status)


def refuse(message: str) -> NoReturn:
    """Say that a command line is wrong."""
    _print(f"error: {message}")
    sys.exit(REFUSED)


def one_line(text: str, most: int = MOST_LETTERS) -> str:
    """``text`` as one printable line of at most ``most`` letters: its beginning and its end."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return line if len(line) <= most else f"{line[: most - _END - 3]} … {line[-_END:]}"


def _told(error: BaseException) -> tuple[int, str]:
    if isinstance(error, BadInput):
        return REFUSED, str(error)
    if isinstance(error, MemoryError):
        return ENVIRONMENT, f"out of memory{f': {error}' if str(error) else ''}: use fewer ranks or tokens, or a larger machine"
    if isinstance(error, OSError):
        named = f"{error.filename}: " if error.filename else ""
        words = f"{named}{error.strerror or error or type(error).__name__}"
        return (REFUSED, words) if error.errno in _OF_A_NAME and error.filename else (ENVIRONMENT, words)
    words = f"{type(error).__name__}{f': {error}' if str(error) else ''}"
    return INTERNAL, f"internal error: {one_line(words, 250)}: EPICYCLE_TRACEBACK=1 shows it"


def _print(text: str) -> None:
    if sys.stderr is not None:
        print(one_line(text), file=sys.stderr)


def _leave_the_pipe() -> None:
    """Whoever read our output is gone; nothing more is written to it as Python ends."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            try:
                stream.flush()
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
