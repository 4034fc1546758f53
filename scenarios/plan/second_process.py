"""A function whose first call takes long to get ready, got ready in a second process while this one is busy elsewhere.

The event engine compiles its loops when it is loaded, half a second that a plan spends searching. Where a second process cannot
be had safely (not on Linux, one CPU, other threads running) the function is called here, with the same result.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, BinaryIO, Self


class SecondProcess:
    """Calls ``work`` with arguments that can be pickled, after ``ready``; a context, at whose end the process is gone."""

    def __init__(self, work: Callable[..., Any], ready: Callable[[], None]) -> None:
        self._work = work
        self._ready = ready
        self._child = 0
        self._asks: BinaryIO | None = None
        self._answers: BinaryIO | None = None

    def __enter__(self) -> Self:
        if sys.platform != "linux" or (os.cpu_count() or 1) < 2 or threading.active_count() > 1:
            return self
        asked, asks = os.pipe()
        answers, answered = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            os.close(asks)
            os.close(answers)
            self._serve(os.fdopen(asked, "rb"), os.fdopen(answered, "wb"))
        os.close(asked)
        os.close(answered)
        self._asks, self._answers = os.fdopen(asks, "wb"), os.fdopen(answers, "rb")
        return self

    def __call__(self, *arguments: Any) -> Any:
        """``work(*arguments)``. Raises what it raises."""
        if self._asks is None or self._answers is None:
            return self._work(*arguments)
        try:
            pickle.dump(arguments, self._asks)
            self._asks.flush()
            found, value = pickle.load(self._answers)
        except (OSError, EOFError, pickle.PickleError):  # it is gone: what it would have done is done here
            self._leave()
            return self._work(*arguments)
        if not found:
            raise value
        return value

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._leave()

    def _leave(self) -> None:
        for pipe in (self._asks, self._answers):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._asks = self._answers = None
        if self._child:  # it may still be getting ready, for nothing
            with suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
            self._child = 0

    def _serve(self, asked: BinaryIO, answered: BinaryIO) -> None:
        """The child's life: it ends with the pipe, and never returns to what its parent was doing."""
        try:
            self._ready()
            while True:
                arguments = pickle.load(asked)
                try:
                    answer = (True, self._work(*arguments))
                except Exception as error:
                    answer = (False, error)
                pickle.dump(answer, answered)
                answered.flush()
        except BaseException:
            os._exit(0)
