"""Studies: kept point by point, the same however they were answered, whatever interrupted them."""

from __future__ import annotations

import csv
import io
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.scenarios.answer.evaluation import SweepPoint
from epicycle.scenarios.say.record_csv import sweep_csv
from epicycle.scenarios.say.record_json import record_json
from epicycle.scenarios.study import key
from epicycle.scenarios.study import sweep as sweeping
from epicycle.scenarios.study.point import read, written
from epicycle.scenarios.study.results import kept_sweep
from epicycle.scenarios.study.salvage import salvage
from epicycle.scenarios.study.store import Store
from epicycle.scenarios.study.sweep import How, sweep
from epicycle.scenarios.study.workers import here, processes

LAYER = "ep-anatomy"
OVER = ("traffic.tokens_per_rank=1,2,4", "deployment.protocol=low-latency,high-throughput,nonsense")
SERVING = "serve-deepseek-v3-h200"
PLAN = "plan-deepseek-v3-h200"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "s.sqlite") as opened:
        yield opened


def asked(task: Any) -> Any:
    raise AssertionError(f"{task.changes} is kept and was asked again")


def nobody(tasks: Any) -> Any:
    for task in tasks:
        yield asked(task)


def test_a_point_is_the_same_after_it_was_kept() -> None:
    for name, over in (
        (LAYER, OVER),
        (SERVING, ["deployment.decode.batch=16,3000000"]),
        ("plan-deepseek-v3-h200", ["slo.tpot=30 ms"]),
    ):
        for point in sweep(name, over).points:
            assert read(*written(point)) == point


def test_a_number_that_does_not_exist_is_kept_as_one() -> None:
    from dataclasses import replace

    answer = sweep(LAYER, ["seed=1"]).points[0].evaluation
    assert answer is not None
    odd = replace(answer, metrics=(replace(answer.metrics[0], value=float("inf"), low90=float("-inf")),))
    assert read(*written(SweepPoint(("1",), odd))).evaluation == odd


def test_what_is_kept_is_not_asked_again(store: Store) -> None:
    first = sweep(LAYER, OVER, store=store)
    assert record_json(sweep(LAYER, OVER, store=store, workers=nobody)) == record_json(first)
    # A larger study asks only for what is new.
    asked_for: list[str] = []

    def watched(tasks: Any) -> Any:
        for answer in here(tasks):
            asked_for.append(answer[0].values[0])
            yield answer

    sweep(LAYER, ("traffic.tokens_per_rank=1,2,4,8", OVER[1]), store=store, workers=watched)
    assert set(asked_for) == {"8"}


def test_processes_answer_as_this_one_does(store: Store) -> None:
    assert record_json(sweep(LAYER, OVER, store=store, workers=processes(2))) == record_json(sweep(LAYER, OVER))


def test_another_file_or_other_code_is_another_question(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = tmp_path / "counts.csv"
    text = "name: x\nmodel: anatomy-toy\ncluster: {name: h100-cx7, nodes: 2, overrides: {node.gpus: 4}}\n"
    text += "traffic: {tokens_per_rank: 4, routing: {kind: file, file: counts.csv}}\ndeployment: {ep: 8}\n"
    (tmp_path / "x.yaml").write_text(text)
    counts.write_text("expert,count\n" + "".join(f"{e},{1 + e % 3}\n" for e in range(16)))
    over = ["seed=1,2"]
    before = sweep(tmp_path / "x.yaml", over, store=store)
    counts.write_text("expert,count\n" + "".join(f"{e},{1 + 9 * (e == 0)}\n" for e in range(16)))
    after = sweep(tmp_path / "x.yaml", over, store=store)
    assert record_json(after) == record_json(sweep(tmp_path / "x.yaml", over)) != record_json(before)
    monkeypatch.setattr(key, "code_digest", lambda: "other code")
    with pytest.raises(AssertionError, match="asked again"):
        sweep(tmp_path / "x.yaml", over, store=store, workers=nobody)


def test_a_worker_that_dies_loses_nothing(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kill = tmp_path / "killed"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    (tmp_path / "sitecustomize.py").write_text(
        "import os, threading, time\n"
        f"mark = {str(kill)!r}\n"
        "def die():\n"
        "    import sys\n"
        "    while 'epicycle.scenarios.study.point' not in sys.modules: time.sleep(0.01)\n"
        "    try: os.close(os.open(mark, os.O_CREAT | os.O_EXCL))\n"
        "    except FileExistsError: return\n"
        "    os._exit(9)\n"
    )
    found = sweep(LAYER, OVER, store=store, workers=_one_dies(processes(2)))
    assert record_json(found) == record_json(sweep(LAYER, OVER))


def _one_dies(workers: Callable[..., Any]) -> Callable[..., Any]:
    """Kills a process of the pool once its first answer is there."""
    import multiprocessing

    def run(tasks: Any) -> Any:
        for number, answer in enumerate(workers(tasks)):
            if number == 0:
                victim = multiprocessing.active_children()[0]
                os.kill(victim.pid or 0, signal.SIGKILL)
            yield answer

    return run


COMMAND = [sys.executable, "-m", "epicycle", "sweep", LAYER, "--over", "seed={seeds}", "--over", "traffic.tokens_per_rank=1,2"]


def command(points: int, store: Path, csv: Path, *more: str) -> list[str]:
    seeds = ",".join(map(str, range(points // 2)))
    return [*(word.format(seeds=seeds) for word in COMMAND), "--store", str(store), "--csv", str(csv), *more]


@pytest.mark.parametrize("where", ["processes", "dask"])
def test_killed_at_any_time_a_study_ends_as_if_undisturbed(tmp_path: Path, where: str, long: bool) -> None:
    """`kill -9` at random moments of the study's life; the last run is left alone. Bytes are compared."""
    points, kills = (500, 50) if long else (60, 4)
    undisturbed, disturbed = tmp_path / "a.csv", tmp_path / "b.csv"
    subprocess.run(command(points, tmp_path / "a.sqlite", undisturbed), check=True, capture_output=True)
    cluster: list[subprocess.Popen[bytes]] = []
    who = ["--workers", "2"]
    if where == "dask":
        pytest.importorskip("distributed", reason="needs Dask (the extra `cluster`)")
        scheduler, address, workers = dask_cluster(tmp_path)
        cluster, who = [*workers, scheduler], ["--scheduler", address]
    draw, kept = random.Random(1), [0]
    try:
        for _ in range(kills):
            asked = command(points, tmp_path / "b.sqlite", disturbed, *who)
            running = subprocess.Popen(asked, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(draw.uniform(0.2, 6.0))  # where the kill falls is left to chance: nothing is judged by it
            running.kill()
            running.wait()
            if (tmp_path / "b.sqlite").exists():
                with Store(tmp_path / "b.sqlite") as store:
                    kept.append(max((s.kept for s in store.studies()), default=0))
                    assert kept[-1] >= kept[-2], "what was kept stays kept"
        subprocess.run(command(points, tmp_path / "b.sqlite", disturbed, *who), check=True, capture_output=True)
    finally:
        for process in cluster:
            process.kill()
            process.wait()
    assert disturbed.read_bytes() == undisturbed.read_bytes()


def test_two_that_write_at_once_both_end(tmp_path: Path) -> None:
    outs = [tmp_path / "a.csv", tmp_path / "b.csv"]
    running = [subprocess.Popen(command(24, tmp_path / "s.sqlite", out), stdout=subprocess.DEVNULL) for out in outs]
    assert [r.wait() for r in running] == [0, 0]
    assert outs[0].read_bytes() == outs[1].read_bytes()
    with Store(tmp_path / "s.sqlite") as store:
        (study,) = store.studies()
        assert study.kept == study.points == 24


def test_a_damaged_point_is_answered_anew(store: Store) -> None:
    first = sweep(LAYER, OVER, store=store)
    base = sqlite3.connect(store.path)
    with base:
        base.execute("UPDATE points SET record = substr(record, 1, 40)")
    base.close()
    assert record_json(sweep(LAYER, OVER, store=store)) == record_json(first)


def test_a_corrupt_store_is_said_and_what_is_good_of_it_comes_out(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        sweep(LAYER, ["seed=" + ",".join(map(str, range(40)))], store=store)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8192] = b"\xff" * 8192
    path.write_bytes(content)
    try:
        with Store(path) as store:
            sweep(LAYER, ["seed=" + ",".join(map(str, range(40)))], store=store)
            said = ""
    except BadInput as error:
        said = str(error)
    good, lost = salvage(path, tmp_path / "sound.sqlite")
    assert 0 < good <= 40 and (lost or not said)
    with Store(tmp_path / "sound.sqlite") as store:
        assert kept_sweep(store, 1).points
    (tmp_path / "text.sqlite").write_text("this is no store " * 100)
    with pytest.raises(BadInput, match="not a sound store"):
        Store(tmp_path / "text.sqlite")


@pytest.mark.skipif(not shutil.which("mount") or os.geteuid() != 0, reason="a small file system needs root and mount")
def test_a_full_disk_is_said_and_what_was_kept_stays(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(small)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no small file system can be mounted here: {done.stderr.decode().strip()}")
    try:
        over = ["seed=" + ",".join(map(str, range(200)))]
        with Store(small / "s.sqlite") as store:
            with pytest.raises(OSError, match="disk is full"):
                sweep(LAYER, over, store=store)
            kept = store.studies()[0].kept
            assert 0 < kept < 200
            assert len(kept_sweep(store, 1).points) == kept
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_on_dask_it_is_the_same_and_a_worker_that_dies_loses_nothing(store: Store, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="needs Dask (the extra `cluster`)")
    from epicycle.scenarios.study.workers import dask

    scheduler, address, workers = dask_cluster(tmp_path)
    try:
        over = ("seed=" + ",".join(map(str, range(12))), "traffic.tokens_per_rank=1,2,4")

        def one_dies(tasks: Any) -> Any:
            for number, answer in enumerate(dask(address)(tasks)):
                if number == 3:
                    workers[0].kill()
                yield answer

        found = sweep(LAYER, over, store=store, workers=one_dies)
        assert record_json(found) == record_json(sweep(LAYER, over))
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


LOOPBACK = ["--host", "127.0.0.1", "--port", "0"]


def dask_cluster(folder: Path) -> tuple[subprocess.Popen[bytes], str, list[subprocess.Popen[bytes]]]:
    """A scheduler and two workers over loopback TCP."""
    import json

    where = folder / "scheduler.json"
    start = [sys.executable, "-m"]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = subprocess.Popen(
        [*start, "distributed.cli.dask_scheduler", *LOOPBACK, "--no-dashboard", "--scheduler-file", str(where)], **silent
    )
    while not where.exists() or not where.read_text():
        assert scheduler.poll() is None, "the scheduler did not start"
        time.sleep(0.1)
    address = json.loads(where.read_text())["address"]
    options = ["--nworkers", "1", "--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(folder)]
    workers = [subprocess.Popen([*start, "distributed.cli.dask_worker", address, *options], **silent) for _ in range(2)]
    return scheduler, address, workers


def test_designs(tmp_path: Path) -> None:
    base = sweep(LAYER, ["traffic.tokens_per_rank=1,2,4", "seed=1,2"], how=How("one-at-a-time"))
    assert [p.values for p in base.points] == [("1", "1"), ("2", "1"), ("4", "1"), ("1", "2")]
    cube = sweep(
        LAYER,
        ["traffic.tokens_per_rank=1..64", "cluster.node.nic.bandwidth=10 GB/s..100 GB/s"],
        how=How("latin-hypercube", 8, seed=3),
    )
    rates = sorted(float(p.values[1].split()[0]) for p in cube.points)
    assert all(10 * 10 ** (i / 8) <= rate <= 10 * 10 ** ((i + 1) / 8) for i, rate in enumerate(rates)), "one point in each part"
    again = sweep(
        LAYER,
        ["traffic.tokens_per_rank=1..64", "cluster.node.nic.bandwidth=10 GB/s..100 GB/s"],
        how=How("latin-hypercube", 8, seed=3),
    )
    assert record_json(again) == record_json(cube)
    with pytest.raises(BadInput, match="a range has no values for --design grid"):
        sweep(LAYER, ["seed=1..4"])
    with pytest.raises(BadInput, match="one unit"):
        sweep(LAYER, ["cluster.node.nic.bandwidth=10 GB/s..100 Gb/s"], how=How("latin-hypercube", 2))


def test_refining_looks_where_the_answer_flips(store: Store) -> None:
    """A limit that is met up to some load: the points that are added close in on that load."""
    over = ["workload.concurrency=64,4096"]
    found = sweep(SERVING, over, ["slo.tpot=40 ms"], store=store, how=How(refine=6))
    loads = sorted((int(p.values[0]), all(x.met for x in p.evaluation.limits)) for p in found.points if p.evaluation)
    assert len(loads) == 8
    met, missed = max(n for n, ok in loads if ok), min(n for n, ok in loads if not ok)
    assert missed < 1.15 * met, loads


def test_results_are_listed_exported_and_pruned(epicycle: Any, tmp_path: Path) -> None:
    store = ["--store", "s.sqlite"]
    swept = epicycle("sweep", LAYER, "--over", "seed=1,2", *store, "--csv", "a.csv")
    assert swept.status == 0, swept.err
    assert "epicycle sweep ep-anatomy --over seed=1,2" in " ".join(epicycle("results", *store).out.split())
    assert epicycle("results", "1", *store, "--csv", "b.csv").status == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert epicycle("results", "7", *store).err.startswith("error: s.sqlite: there is no study 7")
    assert "2 points are gone" in epicycle("results", "--prune", "1", *store).out
    assert "no study is kept yet" in epicycle("results", *store).out


def test_parquet_is_the_csv_with_types(epicycle: Any, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow (the extra `parquet`)")
    done = epicycle("sweep", LAYER, "--over", OVER[0], "--over", OVER[1], "--parquet", "a.parquet", "--csv", "a.csv")
    assert done.status == 0, done.err
    rows = parquet.read_table(tmp_path / "a.parquet").to_pylist()
    text = list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text())))
    assert len(rows) == len(text) == 9 and list(rows[0]) == list(text[0])
    for row, line in zip(rows, text, strict=True):
        assert float(line["layer"] or "nan") == pytest.approx(
            row["layer"] if row["layer"] is not None else float("nan"), nan_ok=True
        )


def test_more_points_than_are_held_are_read_from_the_store(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sweep(LAYER, OVER)
    monkeypatch.setattr(sweeping, "MOST_HELD", 4)
    lazy = sweep(LAYER, OVER, store=store)
    assert not isinstance(lazy.points, tuple)
    assert list(sweep_csv(lazy)) == list(sweep_csv(whole)) and lazy.sentence == whole.sentence
    monkeypatch.setattr(sweeping, "MAX_POINTS", 4)
    with pytest.raises(BadInput, match="kept tables take more"):
        sweep(LAYER, OVER, store=store, whole=True)


def test_ctrl_c_shows_what_is_answered_and_keeps_it(tmp_path: Path) -> None:
    asked = [*command(4000, tmp_path / "s.sqlite", tmp_path / "a.csv"), "--workers", "1"]
    running = subprocess.Popen(
        asked,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background have it ignored
    )
    while not (tmp_path / "s.sqlite").exists() or not kept(tmp_path / "s.sqlite"):
        assert running.poll() is None
        time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate()
    assert running.returncode == 130
    assert out.startswith("Stopped: ") and "of 4000 points are answered" in " ".join(out.split())
    assert "the same command goes on from there" in err
    assert not (tmp_path / "a.csv").exists() and not list(tmp_path.glob(".*.part"))
    assert kept(tmp_path / "s.sqlite") > 0


def kept(path: Path) -> int:
    with Store(path) as store:
        return max((study.kept for study in store.studies()), default=0)
