"""Ends a run in which a rank has died or hangs, naming it; what was measured so far is already on disk.

Every rank writes what it is doing into the store torchrun provides. A thread on every rank watches: when one rank's last
word is older than the limit, that rank (the one furthest behind) is named and the process ends. A rank stuck in a kernel
cannot be stopped from inside, but its host thread releases Python while it waits, so the watching thread still runs.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

EXIT_CODE = 3


class Watchdog:
    """``store``: get/set of strings shared by all ranks (torch.distributed's). ``limit_s``: longest a step may take."""

    def __init__(self, store: Any, rank: int, ranks: int, limit_s: float, end: Callable[[str], None] | None = None) -> None:
        self.store, self.rank, self.ranks, self.limit_s = store, rank, ranks, limit_s
        self._end = end or _exit
        self._steps = 0
        self._done = threading.Event()
        self.step("start")
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> Watchdog:
        self._thread.start()
        return self

    def step(self, what: str) -> None:
        """Say that this rank now begins ``what``."""
        self._steps += 1
        self.store.set(f"step/{self.rank}", f"{self._steps}|{what}")

    def stop(self) -> None:
        self.step("done")
        self._done.set()

    def _watch(self) -> None:
        # Each watcher dates the others' words by its own clock: clocks of different nodes need not agree.
        last: dict[int, tuple[str, float]] = {}
        while not self._done.wait(min(1.0, self.limit_s / 4)):
            now = time.monotonic()
            for r in range(self.ranks):
                word = self._word(r)
                if r not in last or last[r][0] != word:
                    last[r] = (word, now)
            if all(word.endswith("|done") for word, _ in last.values()):
                return
            late = [r for r, (word, since) in last.items() if now - since > self.limit_s and not word.endswith("|done")]
            if late:
                behind = min(late, key=lambda r: int(last[r][0].split("|")[0] or 0))
                word = last[behind][0].split("|", 1)[-1] or "nothing yet"
                self._end(f"rank {behind} has not moved on from {word!r} for {self.limit_s:g} s; rows measured so far are kept")
                return

    def _word(self, rank: int) -> str:
        try:
            if not self.store.check([f"step/{rank}"]):
                return "0|"
            word = self.store.get(f"step/{rank}")
        except Exception:
            return "0|its store (the rank that started the run is gone)"
        return word.decode() if isinstance(word, bytes) else str(word)


def _exit(message: str) -> None:
    print(f"bench: {message}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(EXIT_CODE)
