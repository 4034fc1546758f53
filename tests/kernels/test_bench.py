"""The harness around the kernels: planted cheats, rows, the watchdog, arguments; real kernels checked in the interpreter."""

import csv
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from epicycle.validate.bench import BenchFailed, run_bench
from epicycle.validate.bench.case import Case, Problem
from epicycle.validate.bench.check import CheckError, check, check_zeros_cost_as_much
from epicycle.validate.bench.rows import TABLES, Rows
from epicycle.validate.bench.single_rank import Point
from epicycle.validate.bench.timing import sets_beyond_l2, summarise
from epicycle.validate.bench.watchdog import Watchdog

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


def test_real_kernels_pass_in_the_interpreter(tmp_path: Path) -> None:
    said: list[str] = []
    rows = run_bench(
        "interpret",
        kernels=["quantise", "gemm_masked_fp8", "ht_combine_bf16", "ll_send_receive_fp8"],
        shapes=["3x128x128x4x2"],
        ranks=2,
        out=tmp_path / "m.csv",
        say=said.append,
    )
    assert rows == []  # nothing is timed without a device, so nothing is reported
    assert len(said) == 4
    assert all("checked" in line for line in said)


def test_a_broken_kernel_fails_the_run_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from epicycle.validate.bench import single_rank

    monkeypatch.setattr(single_rank, "permute", lambda *_: None)
    with pytest.raises(BenchFailed, match=r"permute: .* were not written"):
        run_bench("interpret", kernels=["permute"], shapes=["3x128x128x4x2"], ranks=2, say=lambda _: None)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="mode 'gpu': one of interpret, virtual, node, cluster"):
        run_bench("gpu")
    with pytest.raises(ValueError, match="tokens x hidden x inter x experts x top_k"):
        Point.parse("128x7168")
    with pytest.raises(ValueError, match="no case matches"):
        run_bench("interpret", kernels=["nothing"], shapes=["3x128x128x4x2"], say=lambda _: None)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="needs a CUDA device"):
            run_bench("virtual")


def test_rows_are_on_disk_as_they_are_added_in_the_tables_columns(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "m.csv")
    rows.add("ep_comm", {"system": "h200", "op": "dispatch", "latency_us": 12.3456789, "gpu": "NVIDIA H200"})
    rows.add("gemm", {"system": "h200", "m": 1, "latency_us": 1.0})
    with (tmp_path / "m.ep_comm.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert list(row)[: len(TABLES["ep_comm"])] == TABLES["ep_comm"]
    assert (row["op"], row["latency_us"], row["role"], row["gpu"]) == ("dispatch", "12.3457", "measured", "NVIDIA H200")
    with (tmp_path / "m.csv").open() as file:
        assert [r["table"] for r in csv.DictReader(file)] == ["ep_comm", "gemm"]
    with pytest.raises(ValueError, match="no table knows"):
        rows.add("gemm", {"colour": "red"})


def test_columns_are_those_of_the_published_tables() -> None:
    folder = Path(__file__).parents[3] / "shared" / "measurements"
    if not folder.is_dir():
        pytest.skip("no ../shared/measurements here")
    for table, columns in TABLES.items():
        with (folder / f"{table}.csv").open() as file:
            assert next(csv.reader(file)) == columns


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
store = dist.TCPStore("127.0.0.1", port, 2, rank == 0, timeout=timedelta(seconds=20))
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
        _, said = ranks[0].communicate(timeout=60)
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
    from epicycle.validate.bench.page import write_page

    row = {"case": "permute", "tokens": 8, "latency_us": 10.0, "torch_us": 20.0, "share_of_ceiling": 0.9, "gpu": "test"}
    write_page(tmp_path / "page.html", [row, {"case": "ll_layer_bf16", "tokens_per_rank": 1, "latency_us": 3.0}])
    text = (tmp_path / "page.html").read_text()
    assert "permute" in text
    assert 'src="http' not in text
