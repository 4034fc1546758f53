"""How large a layer's play is, before it is built: what would not fit into this machine's memory is refused at once."""

from __future__ import annotations

import os
from bisect import bisect_right
from contextlib import suppress
from pathlib import Path

from ...hwmodels.units import format_bytes
from .feasible import KeyPath, Unanswerable

#: The engine itself; a pair of ranks, in tables of what is sent; and a flow of a rank to another. Measured from 256 to 4,096
#: ranks: at most so many bytes.
ENGINE_BYTES, PAIR_BYTES, FLOW_BYTES = 256e6, 130.0, 700.0


def can_be_played(protocol: str, ep: int, copies: int, key: KeyPath) -> None:
    """The event engine's tables of ``ep`` ranks fit into this machine. ``copies``: expert rows that the busiest rank sends.

    A rank has a flow to every other that it sends to. Raises Unanswerable with the largest ``ep`` that fits.
    """
    needed, have = _bytes_of(ep, copies), machine_bytes()
    if needed <= have:
        return
    fitting = bisect_right(range(ep), have, key=lambda ranks: _bytes_of(ranks, copies)) - 1
    raise Unanswerable(
        key,
        f"playing {protocol} on {ep} ranks takes about {format_bytes(needed, binary=True)} for its flows, this machine has "
        f"{format_bytes(have, binary=True)}: use deployment.ep of at most {fitting}, or a workload, "
        "whose closed form plays none",
    )


def _bytes_of(ep: int, copies: int) -> float:
    return ENGINE_BYTES + PAIR_BYTES * ep * ep + FLOW_BYTES * ep * min(ep, copies)


def machine_bytes() -> float:
    """Memory of this machine, or of its container where that has less; infinite where nobody says."""
    found = [float("inf")]
    with suppress(AttributeError, ValueError, OSError):
        found.append(float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    with suppress(OSError, ValueError):  # "max" where there is no limit
        found.append(float(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return min(found)
