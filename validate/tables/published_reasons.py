"""Why a published figure may lie far from its prediction: read in the libraries' sources and notes, never fitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Row = Mapping[str, str]


def _is_misprint(row: Row) -> bool:
    case = (row["lib"], row["mode"], row["op"], row["ep"])
    return case in {("pplx-garden CX7", "HT", "combine", "16"), ("pplx-garden CX7", "HT", "dispatch", "8")}


_REASONS: tuple[tuple[Callable[[Row], bool], str], ...] = (
    (
        _is_misprint,
        "looks like a misprint: out of line with the same column at every other EP size",
    ),
    (
        lambda r: r["lib"] == "DeepEP CX7" and r["mode"] == "HT",
        "the figure seems to hold the count exchange and the CPU's wait besides the kernel: UCCL times the same kernel and"
        " shape at 500 us where this source has 1810",
    ),
    (
        lambda r: r["lib"] == "UCCL-EP" and "EFA" in r["fabric"] and r["mode"] == "HT",
        "CPU proxies with at most 8 writes in flight on a fabric without order; the same code on p6 reaches 60 GB/s",
    ),
    (
        lambda r: r["lib"] == "UCCL-EP" and "EFA" in r["fabric"],
        "every row is a FIFO entry to a CPU proxy, which posts it and restores the order that EFA lacks; more nodes,"
        " more peers",
    ),
    (
        lambda r: "Thor2" in r["fabric"],
        "another NIC (Broadcom Thor2) of the same line rate, of which only that rate is known",
    ),
    (
        lambda r: r["lib"] == "MORI-EP",
        "MORI's launches and barriers between nodes were never fitted: its law is of one node, NIC and rails are lent",
    ),
    (
        lambda r: "MI3" in r["gpu"] or "MI3" in r["fabric"],
        "AMD GPU predicted from NVIDIA's constants",
    ),
)


def reason_of(row: Row) -> str:
    """The first reason that applies to ``row``, or "unexplained"."""
    return next((why for applies, why in _REASONS if applies(row)), "unexplained")
