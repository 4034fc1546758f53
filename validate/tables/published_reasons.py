"""Why a published figure may lie far from its prediction: read in the libraries' sources and notes, never fitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Row = Mapping[str, str]


def _is_misprint(row: Row) -> bool:
    case = (row["lib"], row["mode"], row["op"], row["ep"])
    return case in {("pplx-garden CX7", "HT", "combine", "16"), ("pplx-garden CX7", "HT", "dispatch", "8")}


_REASONS: tuple[tuple[Callable[[Row], bool], str], ...] = (
    (
        lambda r: r["lib"] == "pplx-kernels" and r["fabric"] == "IBRC",
        "one host thread posts every write (IBRC); our description lets the GPU post",
    ),
    (
        lambda r: r["lib"] == "pplx-kernels",
        "counts are exchanged and awaited before the rows, one NVSHMEM put with signal a row: round trips that DeepEP's kernel,"
        " whose constants these are, does not pay",
    ),
    (
        _is_misprint,
        "looks like a misprint: out of line with the same column at every other EP size",
    ),
    (
        lambda r: r["lib"] == "pplx-garden EFA" and r["mode"] == "HT",
        "rows of a large batch to one peer leave as one write; we count a message a row, and EFA's message rate then binds",
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
        lambda r: "MI3" in r["gpu"] or "MI3" in r["fabric"],
        "AMD GPU predicted from NVIDIA's constants, kernels of another library (MORI's combine pulls rows instead of"
        " posting them)",
    ),
    (
        lambda r: r["lib"] == "Triton-distributed" and r["mode"] == "HT",
        "a fused kernel; whether its tokens are of a rank or of the group is not stated",
    ),
)


def reason_of(row: Row) -> str:
    """The first reason that applies to ``row``, or "unexplained"."""
    return next((why for applies, why in _REASONS if applies(row)), "unexplained")
