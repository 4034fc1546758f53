"""The harness around the kernels: planted cheats, rows, the watchdog, arguments; real kernels checked in the interpreter."""

import csv
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from epicycle.cli import app
from epicycle.hwmodels.errors import BadInput
from epicycle.validate.bench import Asked, BenchFailed, run_bench
from epicycle.validate.bench.cases.case import Case, Problem
from epicycle.validate.bench.cases.single_rank import Point
from epicycle.validate.bench.check import CheckError, check, check_zeros_cost_as_much
from epicycle.validate.bench.rows import Rows
from epicycle.validate.bench.timing import sets_beyond_l2, summarise
from epicycle.validate.bench.watchdog import Watchdog
from epicycle.validate.tables.vocabulary import EVERY, SCOPES, TABLES, identity, scope_of

Kernel = Callable[[torch.Tensor, torch.Tensor], None]


def _doubling(kernel: Kernel) -> Case:
    """A case whose kernel must write twice its input."""

    def make(seed: int) -> Problem:
        x = torch.randn(16, 8, generator=torch.Generator().manual_seed(seed))
        out = torch.empty_like(x)
        return Problem({"x": x}, {"out": out}, lambda: kernel(x, out), lambda: {"out": 2 * x}, ("x",))

    return Case("doubling", "gemm", {}, make, 1e-6, bytes=1024)


def test_an_honest_kernel_passes() -> None:
    assert check(_doubling(lambda x, out: torch.mul(x, 2, out=out))) < 1e-6


def test_a_cache_by_input_address_is_caught() -> None:
    seen: dict[int, torch.Tensor] = {}

    def cheat(x: torch.Tensor, out: torch.Tensor) -> None:
        if x.data_ptr() not in seen:
            seen[x.data_ptr()] = 2 * x
        out.copy_(seen[x.data_ptr()])

    with pytest.raises(CheckError, match="new values at the same addresses"):
        check(_doubling(cheat))


def test_skipped_zeros_are_caught() -> None:
    def skips_rows(x: torch.Tensor, out: torch.Tensor) -> None:
        rows = x.abs().sum(1) > 0
        out[rows] = 2 * x[rows]

    def skips_all(x: torch.Tensor, out: torch.Tensor) -> None:
        if bool(x.any()):
            torch.mul(x, 2, out=out)

    with pytest.raises(CheckError, match=r"not written \(half of the rows zero\)"):
        check(_doubling(skips_rows))
    with pytest.raises(CheckError, match=r"not written \(all inputs zero\)"):
        check(_doubling(skips_all))
    honest = _doubling(lambda x, out: torch.mul(x, 2, out=out))
    check_zeros_cost_as_much(honest, random_us=100.0, zeros_us=88.0)
    with pytest.raises(CheckError, match="skips work on zeros"):
        check_zeros_cost_as_much(honest, random_us=100.0, zeros_us=20.0)


def test_writing_nothing_is_caught() -> None:
    with pytest.raises(CheckError, match="128 of 128 elements of out were not written"):
        check(_doubling(lambda x, out: None))


def test_a_wrong_answer_is_caught() -> None:
    with pytest.raises(CheckError, match="relative error"):
        check(_doubling(lambda x, out: torch.mul(x, 2.001, out=out)))


def test_real_kernels_pass_in_the_interpreter() -> None:
    said: list[str] = []
    wanted = [
        "quantise", "gemm_masked_fp8", "gemm_contiguous_int4_down", "ht_layout_bf16", "ht_notify_post_bf16",
        "ht_notify_wait_fp8", "ht_combine_bf16", "ll_send_fp8", "ll_give_back_bf16", "ll_send_receive_fp8",
    ]  # fmt: skip
    rows = run_bench(Asked("interpret", wanted, ["3x128x128x4x2"], ranks=2), said.append)
    assert rows == []  # nothing is timed without a device, so nothing is reported
    assert len(said) == len(wanted)
    assert all("checked" in line for line in said)


def test_a_broken_kernel_fails_the_run_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from epicycle.validate.bench.cases import single_rank

    monkeypatch.setattr(single_rank, "permute", lambda *_: None)
    with pytest.raises(BenchFailed, match=r"permute: .* were not written"):
        run_bench(Asked("interpret", ["permute"], ["3x128x128x4x2"], ranks=2), lambda _: None)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="mode 'gpu': one of interpret, virtual, node, cluster"):
        run_bench(Asked("gpu"))
    with pytest.raises(ValueError, match="tokens x hidden x inter x experts x top_k"):
        Point.parse("128x7168")
    with pytest.raises(ValueError, match="no case matches"):
        run_bench(Asked("interpret", ["nothing"], ["3x128x128x4x2"]), lambda _: None)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="needs a CUDA device"):
            run_bench(Asked("virtual"))
    for option in ("out", "html", "json"):
        with pytest.raises(ValueError, match=f"there are no rows for --{option}"):
            run_bench(Asked("interpret", **{option: Path("m")}))
    with pytest.raises(ValueError, match="say which with --out"):
        run_bench(Asked(resume=True))


def test_rows_are_on_disk_as_they_are_added_in_the_tables_columns(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "m.csv")
    rows.add("ep_comm", {"system": "h200", "op": "dispatch", "latency_us": 12.3456789, "gpu": "NVIDIA H200"})
    rows.add("gemm", {"system": "h200", "m": 1, "latency_us": 1.0})
    with (tmp_path / "m.ep_comm.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert tuple(row)[: len(TABLES["ep_comm"])] == TABLES["ep_comm"]
    assert (row["op"], row["latency_us"], row["role"], row["gpu"]) == ("dispatch", "12.3457", "measured", "NVIDIA H200")
    with (tmp_path / "m.csv").open() as file:
        assert [r["table"] for r in csv.DictReader(file)] == ["ep_comm", "gemm"]
    with pytest.raises(ValueError, match="no table knows"):
        rows.add("gemm", {"colour": "red"})


def test_a_run_is_taken_up_where_it_was_ended(tmp_path: Path) -> None:
    """Half a line at the end was never a row; what is there is not measured again, and other rows are not mixed in."""
    out, facts = tmp_path / "m.csv", {"gpu": "NVIDIA H200", "commit": "abc", "torch": "2.11", "triton": "3.6"}
    rows = Rows(out, facts=facts)
    row = {"system": "h200_sxm", "mode": "virtual", "scope": "kernel", "case": "permute", "tokens": 8, "kernel": "permute"}
    rows.add("grouped_gemm", {**row, "latency_us": 3.0, **facts})
    rows.add("grouped_gemm", {**row, "tokens": 16, "latency_us": 4.0, **facts})
    with pytest.raises(BadInput, match="has 2 rows already: --resume goes on with them"):
        Rows(out, facts=facts)
    out.write_text(out.read_text() + "grouped_gemm,h200_sxm,1")
    again = Rows(out, resume=True, facts=facts)
    assert (again.dropped, len(again.rows)) == (1, 2)
    assert again.has(row)
    assert not again.has({**row, "tokens": 32})
    again.add("grouped_gemm", {**row, "tokens": 32, "latency_us": 5.0, **facts})
    for path, n in ((out, 3), (tmp_path / "m.grouped_gemm.csv", 3)):
        with path.open() as file:
            assert [r["tokens"] for r in csv.DictReader(file)] == ["8", "16", "32"], (path, n)
    with pytest.raises(BadInput, match="its rows are of commit abc, this run is of def"):
        Rows(out, resume=True, facts={**facts, "commit": "def"})
    with pytest.raises(BadInput, match="its rows are of gpu NVIDIA H200"):
        Rows(out, resume=True, facts={**facts, "gpu": "NVIDIA H100 80GB HBM3"})
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadInput, match="is not a file of this bench's rows"):
        Rows(tmp_path / "other.csv", resume=True)


def test_what_a_row_is_of_does_not_depend_on_what_it_read() -> None:
    row = {"table": "gemm", "system": "h200_sxm", "mode": "virtual", "m": 8, "latency_us": 3.0, "commit": "a", "error": 0.1}
    assert identity(row) == identity({**row, "m": "8", "latency_us": 4.0, "commit": "b"})
    assert identity(row) != identity({**row, "m": 9})
    assert [scope_of({"mode": m}) for m in ("virtual", "node", "cluster")] == ["kernel", "one-node", "multi-node"]
    assert scope_of({"mode": "node", "scope": "nvlink-domain"}) == "nvlink-domain" in SCOPES
    assert {"scope", "sm_clock_mhz", "power_w", "throttled", "virtual_ranks"} <= set(EVERY)


@pytest.mark.parametrize(
    ("gpu", "system"),
    [
        ("NVIDIA H200", "h200_sxm"),
        ("NVIDIA H100 80GB HBM3", "h100_sxm"),
        ("NVIDIA H100 PCIe", "h100_pcie"),
        ("NVIDIA A100-SXM4-80GB", "a100_sxm"),
        ("NVIDIA H20-3e", "h20_3e"),
        ("NVIDIA H20", "h20_sxm"),
        ("NVIDIA GB200", "gb200"),
        ("NVIDIA B200", "b200_sxm"),
        ("NVIDIA L40S", "l40s"),
        ("AMD Instinct MI300X", "mi300x"),
    ],
)
def test_a_gpu_is_named_as_the_catalogue_spells_it(gpu: str, system: str) -> None:
    from epicycle.validate.bench.device import system_of

    assert system_of(gpu) == system


def test_a_gpu_that_the_catalogue_lacks_is_one_line() -> None:
    from epicycle.validate.bench.device import system_of

    with pytest.raises(BadInput, match=r"called 'NVIDIA GeForce GT 710'.*say which system it is nearest to with --system"):
        system_of("NVIDIA GeForce GT 710")
    assert system_of("NVIDIA GeForce GT 710", "h100_sxm") == "h100_sxm"
    with pytest.raises(BadInput, match="unknown system 'h200'"):
        system_of("NVIDIA H200", "h200")


def test_what_held_the_clock_back_is_named() -> None:
    from epicycle.validate.bench.clocks import reading

    assert reading(1980, 412.5, 0) == {"sm_clock_mhz": 1980.0, "power_w": 412.5, "throttled": ""}
    assert reading(1400, 700, 0x24)["throttled"] == "power cap+software thermal"


def test_the_time_left_follows_from_what_the_cases_took() -> None:
    from epicycle.validate.bench.plan import Progress, case_seconds

    small = _doubling(lambda x, out: None)
    large = replace(small, flops=10**13)
    assert case_seconds(large) > 10 * case_seconds(small)
    progress = Progress([small, large])
    assert progress.first() == "2 cases, about 22 s"
    assert progress.next().startswith("1 cases, ")


def test_the_fastest_pair_of_tiles_is_as_high_as_each_other(tmp_path: Path) -> None:
    """Tried by made-up times: the best tile of one product alone is passed over where the other pays more for its height."""
    from epicycle.kernels.experts.tiles import Table, candidates
    from epicycle.validate.bench.cases.case import Setup
    from epicycle.validate.bench.tune import tune

    said: list[str] = []

    def time_case(case: Case) -> float:
        assert case.tile is not None
        if case.tile.n == 256 and case.tile.m == 64:
            raise RuntimeError("out of resources")
        return (10.0 if case.tile.m == 64 else 8.0) if case.name.endswith("_down") else (5.0 if case.tile.m == 64 else 6.5)

    point, path = Point.parse("2048x512x256x8x2"), tmp_path / "tiles.csv"
    tune([point], Setup("cpu", 2), path, "made up", time_case, said.append)
    assert any("RuntimeError, left out" in line for line in said)
    table = Table.shipped().with_file(path)
    for element in ("bf16", "fp8"):
        pair = table.pair(element, point.rows_each, point.hidden, point.inter, "pointer")
        assert pair.up.m == pair.down.m == 128
        assert pair.up in candidates(element, "pointer")
    assert {c.source for c in table.choices[:4]} == {"made up"}


@pytest.fixture
def made_up_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that is not there: kernels in the interpreter, every clock reading made up."""
    from epicycle.validate.bench import device, measure, run
    from epicycle.validate.bench.cases.case import Setup
    from epicycle.validate.bench.timing import Timing

    facts = {"gpu": "NVIDIA H200", "driver": "1", "torch": "2.11", "triton": "3.6", "commit": "abc", "date": "2026-11-28"}
    ceilings = device.Ceilings(4.26e12, 2016.0, 1 << 30, 790e12, 1392.0, 8192)
    for name, value in (("is_available", lambda: True), ("synchronize", lambda: None), ("empty_cache", lambda: None)):
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(device, "provenance", lambda: facts)
    monkeypatch.setattr(device, "measure_ceilings", lambda: ceilings)
    monkeypatch.setattr(run, "setup_of", lambda mode, tiles: Setup("cpu", 2, small=True))
    monkeypatch.setattr(measure, "l2_bytes", lambda: 1)
    monkeypatch.setattr(measure, "captured", lambda runs: lambda: [r() for r in runs])
    monkeypatch.setattr(measure, "timed", lambda replay, n: (replay(), Timing(10.0, 9.0, 11.0, 30))[1])
    monkeypatch.setattr(measure, "graphed", lambda runs, replays: Timing(10.0, 9.0, 11.0, replays))
    monkeypatch.setattr(
        measure, "while_busy", lambda replay, us, look: {"sm_clock_mhz": 1980.0, "power_w": 600.0, "throttled": ""}
    )
    monkeypatch.setattr(measure, "alternating", lambda ours, theirs, n: (theirs(), (10.0, 20.0))[1])


@pytest.mark.usefixtures("made_up_gpu")
def test_a_run_on_one_gpu_from_its_estimate_to_its_rows(tmp_path: Path) -> None:
    """The whole of mode virtual but the device: rows and page as they come, a run ended by its limit and taken up again."""
    said: list[str] = []
    out, html = tmp_path / "rows.csv", tmp_path / "bench.html"
    names = ["quantise", "gemm_masked_fp8", "ht_layout_bf16", "ll_send_bf16"]
    asked = Asked("virtual", names, ["3x128x128x4x2"], out, html, ranks=2, limit_s=0.0)
    assert len(run_bench(asked, said.append)) == 2  # the ceilings: no time was left for a case
    assert said[0].startswith("NVIDIA H200 as h200_sxm: 4 cases, about")
    assert "are over: 4 cases are left for --resume" in said[-1]
    rows = run_bench(replace(asked, resume=True, limit_s=None), said.append)
    assert [row["case"] for row in rows] == ["ceiling_matmul", "ceiling_copy", *names]
    quantised, product, laid, sent = rows[2:]
    assert (quantised["scope"], quantised["system"], quantised["sm_clock_mhz"]) == ("kernel", "h200_sxm", 1980.0)
    assert (product["tile"], product["speedup"]) == ("16x128x128 4w 2s 1/SM pointer", 2.0)
    assert (laid["nodes"], laid["gpus_per_node"], laid["virtual_ranks"], laid["latency_us"]) == (1, 1, 2, 5.0)
    assert sent["op"] == "dispatch_send"
    again = run_bench(replace(asked, resume=True, limit_s=None), said.append)
    assert len(again) == len(rows)
    assert "4 of 4 cases are in" in "".join(said)
    assert "gemm_masked_fp8" in html.read_text()
    with (tmp_path / "rows.ep_comm.csv").open() as file:
        assert [row["op"] for row in csv.DictReader(file)] == ["layout", "dispatch_send"]


@pytest.mark.usefixtures("made_up_gpu")
def test_what_does_not_fit_or_fails_late_leaves_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Memory that is too small, and an output that is wrong only after the timed runs: said, and the run goes on."""
    from epicycle.validate.bench import measure

    whole = measure.row_of

    def row_of(case: Case, *rest: object) -> dict[str, object]:
        if case.name == "quantise":
            raise torch.OutOfMemoryError("no room")
        if case.name == "permute":
            raise CheckError("permute: after timing: 3 of 8 elements of out were not written")
        return whole(case, *rest)

    monkeypatch.setattr(measure, "row_of", row_of)
    said: list[str] = []
    asked = Asked("virtual", ["quantise", "permute", "unpermute"], ["3x128x128x4x2"], tmp_path / "m.csv", ranks=2)
    with pytest.raises(BenchFailed, match="1 of 3 cases failed their check: permute: after timing"):
        run_bench(asked, said.append)
    assert any(line.startswith("quantise") and "left out: takes more memory than this GPU has left" in line for line in said)
    with (tmp_path / "m.grouped_gemm.csv").open() as file:
        assert [row["kernel"] for row in csv.DictReader(file)] == ["unpermute"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--mode", "interpret", "--kernels", "nothing"], "no case matches ['nothing']"),
        (["--mode", "interpret", "--shapes", "12"], "shape '12': give tokens x hidden x inter x experts x top_k"),
        (
            ["--mode", "interpret", "--shapes", "3x100x128x4x2"],
            "shape 3x100x128x4x2 on 2 ranks: hidden (100) and inter (128) must",
        ),
        (["--mode", "interpret", "--shapes", "3x128x128x5x2"], "on 2 ranks: experts (5) do not divide over ranks (2)"),
        (["--mode", "interpret", "--html", "x.html"], "there are no rows for --html x.html: leave it out"),
        (["--resume"], "--resume goes on with the rows of a file: say which with --out"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["bench", *arguments])
    assert isinstance(done.exception, BadInput), done.exception
    assert said in str(done.exception)
    assert "\n" not in str(done.exception)


def test_columns_are_those_of_the_published_tables() -> None:
    folder = Path(__file__).parents[3] / "shared" / "measurements"
    if not folder.is_dir():
        pytest.skip("no ../shared/measurements here")
    for table in ("ep_comm", "grouped_gemm", "gemm"):
        with (folder / f"{table}.csv").open() as file:
            assert tuple(next(csv.reader(file))) == TABLES[table]


def test_summary_and_rotation() -> None:
    timing = summarise([5.0, 1.0, 3.0, 2.0, 4.0])
    assert (timing.median_us, timing.low_us, timing.high_us, timing.runs) == (3.0, 1.0, 5.0, 5)
    assert sets_beyond_l2(1 << 20, 50 << 20) == 16
    assert sets_beyond_l2(60 << 20, 50 << 20) == 3
    assert sets_beyond_l2(1 << 30, 50 << 20) == 1


class _Store(dict[str, str]):
    def check(self, keys: list[str]) -> bool:
        return all(k in self for k in keys)

    def set(self, key: str, value: str) -> None:
        self[key] = value


def test_the_watchdog_names_the_rank_that_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    store, said, ended = _Store(), [], threading.Event()

    def end(message: str) -> None:
        said.append(message)
        ended.set()

    silent = Watchdog(store, 1, 2, 0.4)  # rank 1 speaks once and never again
    silent.step("timing high-throughput")
    watch = Watchdog(store, 0, 2, 0.4, end)
    speak = store.check  # rank 0 says something new whenever it is looked at, however seldom this thread may run
    monkeypatch.setattr(store, "check", lambda keys: (watch.step("busy"), speak(keys))[1], raising=False)
    watch.start()
    assert ended.wait(60)
    assert said == ["rank 1 has not moved on from 'timing high-throughput' for 0.4 s; rows measured so far are kept"]


def test_the_watchdog_lets_a_finished_run_go() -> None:
    store, said = _Store(), []
    watches = [Watchdog(store, r, 2, 0.2, said.append) for r in range(2)]
    for watch in watches:
        watch.stop()
        watch.start()
    for watch in watches:
        watch._thread.join(60)
        assert not watch._thread.is_alive()
    assert said == []


_RANK = """
import os, sys, time
from datetime import timedelta
import torch.distributed as dist
from epicycle.validate.bench.rows import Rows
from epicycle.validate.bench.watchdog import Watchdog
from pathlib import Path
rank, port, out, how = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
store = dist.TCPStore("127.0.0.1", port, 2, rank == 0, timeout=timedelta(seconds=200))
watch = Watchdog(store, rank, 2, 1.5).start()
if rank == 0:
    Rows(out).add("ep_comm", {"op": "dispatch", "latency_us": 1.0})
watch.step("timing dispatch")
if rank == 1 and how == "dies":
    os._exit(9)
if rank == 1 and how == "hangs":
    time.sleep(60)
for i in range(600):
    watch.step(f"waiting for rank 1, {i}")
    time.sleep(0.1)
"""


@pytest.mark.parametrize("how", ["dies", "hangs"])
def test_processes_end_within_the_limit_and_keep_their_rows(how: str, tmp_path: Path) -> None:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    out = tmp_path / "m.csv"
    ranks = [
        subprocess.Popen([sys.executable, "-c", _RANK, str(r), str(port), str(out), how], stderr=subprocess.PIPE, text=True)
        for r in range(2)
    ]
    try:
        _, said = ranks[0].communicate(timeout=300)
        assert ranks[0].returncode == 3
        assert "rank 1 has not moved on from 'timing dispatch'" in said
        assert len(out.read_text().splitlines()) == 2
    finally:
        for process in ranks:
            process.kill()
            process.wait()
            if process.stderr:
                process.stderr.close()


def test_the_page_opens_offline(tmp_path: Path) -> None:
    from epicycle.validate.bench.bench_page import write_page

    row = {"case": "permute", "tokens": 8, "latency_us": 10.0, "torch_us": 20.0, "share_of_ceiling": 0.9, "gpu": "test"}
    write_page(tmp_path / "page.html", [row, {"case": "ll_layer_bf16", "tokens_per_rank": 1, "latency_us": 3.0}])
    text = (tmp_path / "page.html").read_text()
    assert "permute" in text
    assert 'src="http' not in text
