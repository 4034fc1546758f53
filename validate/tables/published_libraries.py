"""Which description predicts each library of the published figures, and what of it a figure times. Never another library's.

A library without a description of its own is skipped with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...sim.ep.stage import Stage

Row = Mapping[str, str]


def _deepep(row: Row) -> str:
    return "low-latency" if row["mode"] == "LL" else "high-throughput"


#: How the tables call a library -> its protocol, by name or by what the row says.
_LIBRARIES: Mapping[str, str | Callable[[Row], str]] = {
    "DeepEP-V1": _deepep,
    "DeepEP-V1(as cited by pplx)": _deepep,
    "DeepEP CX7": _deepep,
    "DeepEP-V2": "elastic",
    "DeepEP-HybridEP": "hybrid-ep",
    "UCCL-EP": lambda row: "uccl-low-latency" if row["mode"] == "LL" else "uccl",
    "TRT-LLM NVLinkOneSided": "one-sided",
    "NCCL-EP": lambda row: "nccl-ep-low-latency" if row["mode"] == "LL" else "nccl-ep",
    "MORI-EP": "mori-ep",
    "pplx-garden CX7": "pplx-garden",
    "pplx-garden EFA": "pplx-garden",
}
#: Why nothing here describes the others.
_UNDESCRIBED: Mapping[str, str] = {
    "pplx-kernels": "pplx-kernels: an NVSHMEM put with a signal a row behind a count exchange; no protocol here describes it",
    "Triton-distributed": "Triton-distributed: a persistent kernel of its own; no protocol here describes it",
}


def protocol_of(row: Row) -> str:
    """The protocol that describes the row's library ("": none does, see `why_undescribed`)."""
    found = _LIBRARIES.get(row["lib"], "")
    return found if isinstance(found, str) else found(row)


def why_undescribed(row: Row) -> str:
    """Why no description predicts the row; "" where one does."""
    return "" if protocol_of(row) else _UNDESCRIBED.get(row["lib"], f"{row['lib']}: no protocol here describes its kernels")


#: What a source calls a transport, and its name.
_TRANSPORTS = {"IBRC": "ibrc", "GIN EFA-GDA": "gin-efa-gda", "GIN proxy": "gin-efa-proxy"}


def transport_named(row: Row) -> str:
    """The transport that the row names, "" for the protocol's first on its NIC."""
    return next((name for words, name in _TRANSPORTS.items() if words in row["fabric"]), "")


def timed(row: Row, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """The stages of a call that the figure holds."""
    if row["lib"] == "DeepEP-V2":  # times the kernel that moves the rows apart from the one that orders them (test_ep.py)
        return stages[:1]
    if row["notes"].startswith("kernel only"):  # a profiler's time of one kernel, between the barriers
        return tuple(stage for stage in stages if stage.name.endswith(".stream"))
    return stages
