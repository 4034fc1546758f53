"""The second table of published figures: laws of few named rows, judged on the others; none under another library's name."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from epicycle.hwmodels.calibration import named_lines
from epicycle.sim.ep.protocol import find_protocol
from epicycle.validate.fit.libraries import LAWS, MOST_ROWS, MOST_SHARE, TABLE, documents, rows_of
from epicycle.validate.tables.published import Figure, read_figures, transport_lines
from epicycle.validate.tables.published_libraries import protocol_of


@pytest.fixture(scope="module")
def figures(tables: Path) -> list[Figure]:
    return read_figures(tables / TABLE)[0]


def judged(figures: list[Figure], protocol: str) -> list[Figure]:
    return [f for f in figures if f.protocol == protocol and not f.fitted]


@pytest.mark.parametrize(
    ("protocol", "rows", "median_pct"), [("hybrid-ep", 60, 15.0), ("nccl-ep-low-latency", 3, 10.0), ("pplx-garden", 8, 15.0)]
)
def test_the_rest_is_predicted(figures: list[Figure], protocol: str, rows: int, median_pct: float) -> None:
    rest = judged(figures, protocol)
    assert len(rest) == rows
    assert np.median([abs(f.error_pct) for f in rest]) <= median_pct
    assert all("published rows" in " ".join(f.interval.why) for f in rest if f.protocol == "hybrid-ep")


def test_the_second_generation_is_predicted_at_every_batch(figures: list[Figure]) -> None:
    """Decode inside a node, decode over two ways of posting to EFA, prompts over EFA."""
    rest = judged(figures, "elastic")
    batches = {float(f.values["tokens_per_rank"]) for f in rest}
    assert batches == {1.0, 4.0, 128.0, 256.0, 4096.0} and len(rest) == 17
    for tokens in batches:
        assert np.median([abs(f.error_pct) for f in rest if float(f.values["tokens_per_rank"]) == tokens]) <= 15.0
    assert all(f.interval.low90 <= f.measured_us / f.predicted_us <= f.interval.high90 for f in rest)


def test_the_first_generation_is_predicted_at_every_number_of_sms(figures: list[Figure]) -> None:
    """B200 and GB200 from 16 to 48 SMs, 8 and 24 ranks, fp8 and bf16 dispatch and combine."""
    rest = [f for f in judged(figures, "high-throughput") if f.values["num_sms"] and f.op != "layer"]
    errors = np.array([abs(f.error_pct) for f in rest])
    assert len(rest) == 19 and np.median(errors) <= 5.0
    beyond = {f.line for f, error in zip(rest, errors, strict=True) if error > 10.0}
    assert beyond <= {82, 85, 88}, "combine of eight GB200, from constants of four"


def test_rows_that_transports_are_from_count_as_taken(figures: list[Figure], tables: Path) -> None:
    """A library's laws and the transports it runs over take a quarter of its rows together."""
    rows = rows_of(tables / TABLE)
    there = Counter(row["lib"] for row in rows.values())
    taken = Counter(f.values["lib"] for f in figures if f.fitted)
    assert transport_lines() <= {f.line for f in figures if f.fitted}
    assert all(count <= min(MOST_ROWS, MOST_SHARE * there[lib]) for lib, count in taken.items()), taken


def test_fused_layers_are_predicted_and_so_is_who_wins(figures: list[Figure]) -> None:
    layers = [f for f in figures if f.op == "layer"]
    fused = [f for f in layers if f.protocol == "mega-moe"]
    assert len(layers) == 16
    assert len(fused) == 8
    rest = [f for f in fused if not f.fitted]
    assert len(rest) == 6
    assert np.median([abs(f.error_pct) for f in rest]) <= 20.0
    assert np.median([abs(f.error_pct) for f in layers if f.protocol != "mega-moe"]) <= 20.0
    for tokens in ("1", "2", "4", "8"):  # on an H20 at decode: one kernel, then the low-latency chain, then the normal one
        there = [f for f in layers if f.values["gpu"] == "H20" and f.values["tokens_per_rank"] == tokens]
        by = [[f.protocol for f in sorted(there, key=lambda f: getattr(f, name))] for name in ("measured_us", "predicted_us")]
        assert by[0] == by[1] == ["mega-moe", "low-latency", "high-throughput"]


def test_laws_take_few_rows_of_their_own_library(tables: Path) -> None:
    rows = rows_of(tables / TABLE)
    there = Counter(row["lib"] for row in rows.values())
    for protocol in {law.protocol for law in LAWS if law.table == TABLE}:
        lines = named_lines(protocol, TABLE)
        assert lines == {line for law in LAWS if law.protocol == protocol for line in law.lines}
        for library in {rows[line]["lib"] for line in lines}:
            taken = sum(rows[line]["lib"] == library for line in lines)
            assert taken <= min(MOST_ROWS, MOST_SHARE * there[library]), (protocol, library)


def test_shipped_laws_are_what_the_rows_give(tables: Path) -> None:
    folder = Path(__file__).parents[3] / "hwmodels" / "data" / "libraries"
    assert {name: (folder / f"{name}.yaml").read_text(encoding="utf-8") for name in documents(tables / TABLE)} == documents(
        tables / TABLE
    )


def test_the_page_of_exchanges_has_the_errors_as_they_are(figures: list[Figure]) -> None:
    page = (Path(__file__).parents[3] / "docs" / "exchanges.md").read_text(encoding="utf-8")
    for protocol in (
        "hybrid-ep", "nccl-ep-low-latency", "pplx-garden", "mega-moe", "elastic", "high-throughput", "low-latency", "uccl",
        "uccl-low-latency",
    ):  # fmt: skip
        rest = [f for f in judged(figures, protocol) if protocol == "mega-moe" or f.op != "layer"]
        named = sum(f.protocol == protocol and f.fitted for f in figures)
        inside = sum(f.interval.low90 * f.predicted_us <= f.measured_us <= f.interval.high90 * f.predicted_us for f in rest)
        errors = [abs(f.error_pct) for f in rest]
        line = f"| `{protocol}` | {named} | {len(rest)} | {np.median(errors):.1f} % | {max(errors):.0f} % | {inside} |"
        assert line in page, line


def test_intervals_hold_over_all_libraries(figures: list[Figure]) -> None:
    rest = [f for f in figures if not f.fitted]
    inside = [f.interval.low90 * f.predicted_us <= f.measured_us <= f.interval.high90 * f.predicted_us for f in rest]
    assert sum(inside) >= 0.8 * len(inside)


def test_no_library_is_predicted_under_anothers_name(tables: Path) -> None:
    """Every library of both tables has a description of its own, or is skipped and said to have none."""
    for name in ("published_ep.csv", TABLE):
        figures, skipped = read_figures(tables / name)
        for figure in (f for f in figures if f.op != "layer"):
            kernels, library = find_protocol(figure.protocol).kernels, figure.values["lib"]
            said = {"DeepEP-V1(as cited by pplx)": "DeepEP", "DeepEP CX7": "DeepEP", "DeepEP-HybridEP": "Hybrid-EP"}
            word = said.get(library, library.split()[-1] if "TRT" in library else library.split()[0].removesuffix("-V1"))
            word = {"NCCL-EP": "NCCL EP", "DeepEP-V2": "V2"}.get(word, word)
            assert word in kernels, (library, figure.protocol, kernels)
        assert name == TABLE or any("pplx-kernels" in reason for reason in skipped)


def test_an_unknown_library_is_nobodys() -> None:
    assert protocol_of({"lib": "MyEP", "mode": "LL"}) == ""
