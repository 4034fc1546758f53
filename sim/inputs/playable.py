"""How large a layer's play is, before it is built: what would not fit into this machine's memory is refused at once."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ...hwmodels.units import format_bytes
from .feasible import KeyPath, Unanswerable

#: The engine itself; a flow of a rank to another; and one where rows travel on rails, few of them between nodes. Measured from
#: 64 to 1,024 ranks: at most so many bytes.
ENGINE_BYTES, FLOW_BYTES, RAIL_FLOW_BYTES = 256e6, 12e3, 4e3


def can_be_played(protocol: str, ep: int, copies: int, key: KeyPath) -> None:
    """The event engine's tables of ``ep`` ranks fit into this machine. ``copies``: expert rows that the busiest rank sends.

    A rank has a flow to every other that it sends to. Raises Unanswerable with the largest ``ep`` that fits.
    """
    from ..ep.protocol import find_protocol  # numpy comes with it, which reading a file does without

    each = RAIL_FLOW_BYTES if find_protocol(protocol).rails else FLOW_BYTES
    needed, have = ENGINE_BYTES + each * ep * min(ep, copies), machine_bytes()
    if needed <= have:
        return
    room = max(have - ENGINE_BYTES, 0.0) / each
    fitting = int(max(room**0.5, room / copies))
    raise Unanswerable(
        key,
        f"playing {protocol} on {ep} ranks takes about {format_bytes(needed, binary=True)} for its flows, this machine has "
        f"{format_bytes(have, binary=True)}: use deployment.ep of at most {fitting}, or a workload, "
        "whose closed form plays none",
    )


def machine_bytes() -> float:
    """Memory of this machine, or of its container where that has less; infinite where nobody says."""
    found = [float("inf")]
    with suppress(AttributeError, ValueError, OSError):
        found.append(float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    with suppress(OSError, ValueError):  # "max" where there is no limit
        found.append(float(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return min(found)
