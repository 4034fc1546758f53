"""One line, whatever happens: whose turn it is by the status, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from epicycle.cli import main, stopping_cleanly
from epicycle.hwmodels.errors import BadInput
from epicycle.scenarios.ask import ending

Command = Callable[..., Any]
SCENARIO = "ep-anatomy"


def run(*arguments: object, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "epicycle", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False, **options)


def told(done: Any, status: int) -> str:
    """The one line of a command that ended with ``status``."""
    assert (done.returncode if hasattr(done, "returncode") else done.status) == status, done
    err = done.stderr if hasattr(done, "stderr") else done.err
    (line,) = err.splitlines()
    assert line.startswith("error: ") and len(line) < 400
    return str(line)


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (BadInput("wanted a, got b"), 2, "wanted a, got b"),
        (FileNotFoundError(2, "No such file or directory", "x.yaml"), 2, "x.yaml: No such file"),
        (OSError(28, "No space left on device", "out.json"), 74, "out.json: No space left on device"),
        (MemoryError("Unable to allocate 3 TiB"), 74, "out of memory: Unable to allocate 3 TiB"),
        (ValueError("not a refusal"), 70, "internal error: ValueError: not a refusal: EPICYCLE_TRACEBACK=1 shows it"),
        (KeyError("k" * 9000), 70, "EPICYCLE_TRACEBACK=1 shows it"),
        (RecursionError(), 70, "internal error: RecursionError"),
    ],
)
def test_a_status_says_whose_turn_it_is(
    epicycle: Command, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, words: str
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("epicycle.scenarios.command.layer.load_layer", fails)
    assert words in told(epicycle("simulate", SCENARIO), status)
    monkeypatch.setenv("EPICYCLE_TRACEBACK", "1")
    monkeypatch.setattr(sys, "argv", ["epicycle", "simulate", SCENARIO])
    with pytest.raises(type(error)):
        main()


def test_a_line_keeps_its_beginning_and_its_lever() -> None:
    line = ending.one_line(f"file: key: {'x' * 5000}\n\x1b[31m use ep=32")
    assert len(line) < 400
    assert line.startswith("file: key: x") and line.endswith("use ep=32") and line.isprintable()


@pytest.mark.parametrize("long", ["x" * 100_000, "\n" * 5000, "é" * 3000])
def test_no_input_makes_a_long_line(epicycle: Command, tmp_path: Path, long: str) -> None:
    told(epicycle("simulate", SCENARIO, "--set", f"deployment.protocol={long}y"), 2)
    told(epicycle("simulate", SCENARIO, "--set", f"{long.strip() or 'z'}.a=1"), 2)
    (tmp_path / "s.yaml").write_text(f"name: '{long}'\nmodel: {long.strip() or 'z'}y\n")
    told(epicycle("simulate", tmp_path / "s.yaml"), 2)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev/zero")
def test_endless_files_and_pipes_are_not_opened(epicycle: Command, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    asked = [
        ("simulate", "{}.yaml"),
        ("plan", "{}.yaml"),
        ("validate", "{}.csv"),
        ("calibrate", "{}.csv", "--system", "h100_sxm"),
        ("simulate", SCENARIO, "--set", "traffic.routing={{kind: file, file: {}.csv}}"),
        ("simulate", SCENARIO, "--set", "model=./{}.json"),
        ("explain", "serve-deepseek-v3-h200", "--set", "workload.routing={{kind: file, file: {}.csv}}"),
    ]
    for source in (Path("/dev/zero"), tmp_path / "pipe"):
        for kind in ("yaml", "csv", "json"):
            link = tmp_path / f"{source.name}.{kind}"
            link.symlink_to(source)
        for command in asked:
            line = told(epicycle(*(word.format(source.name) for word in command)), 2)
            assert "device" in line or "pipe" in line, line


def test_large_files_are_refused_before_they_are_read(epicycle: Command, tmp_path: Path) -> None:
    for name, command in (("a.yaml", ("simulate", "a.yaml")), ("a.csv", ("validate", "a.csv"))):
        with (tmp_path / name).open("wb") as file:
            file.truncate(1 << 34)  # takes no disk
        assert "too large" in told(epicycle(*command), 2)


def test_a_cell_beyond_what_csv_reads(epicycle: Command, tmp_path: Path) -> None:
    header = "system,nodes,gpus_per_node,library,protocol,op,payload_dtype,routing,tokens_per_rank,hidden,top_k,experts"
    (tmp_path / "t.csv").write_text(f"{header},comm_sms,latency_us\nh100_sxm,1,8,{'x' * 140_000},deepep-low-latency\n")
    for command in (("validate", "t.csv"), ("calibrate", "t.csv", "--system", "h100_sxm")):
        assert "t.csv: line 2: field larger than field limit" in told(epicycle(*command), 2)


def test_one_row_of_a_kernel_is_too_few(epicycle: Command, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "system,nodes,gpus_per_node,library,protocol,op,payload_dtype,routing,tokens_per_rank,hidden,top_k,experts,comm_sms,"
        "latency_us\nh100_sxm,1,8,deepep,deepep-low-latency,dispatch,fp8,uniform,1,2048,8,128,,10.313\n"
    )
    line = told(epicycle("calibrate", "t.csv", "--system", "h100_sxm"), 2)
    assert "has 1 row, wanted at least 12" in line


def test_a_closed_standard_output_is_the_machine_s(tmp_path: Path) -> None:
    command = f"{sys.executable} -m epicycle simulate {SCENARIO} --json - >&-"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert "standard output is closed" in told(done, 74)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_the_machine_s(tmp_path: Path) -> None:
    assert (
        told(run("simulate", SCENARIO, "--json", "/dev/full", cwd=tmp_path), 74) == "error: /dev/full: No space left on device"
    )


def test_a_cache_of_compiled_loops_that_does_not_work_costs_time_only(tmp_path: Path) -> None:
    """No folder for it, and files cut short: the same answer."""
    answers = set()
    for cache in ("/dev/null/none", str(tmp_path / "kept"), str(tmp_path / "kept")):
        done = run("simulate", SCENARIO, cwd=tmp_path, env={**os.environ, "NUMBA_CACHE_DIR": cache})
        assert done.returncode == 0 and not done.stderr, done
        answers.add(done.stdout)
        for file in (tmp_path / "kept").rglob("*.nb*"):
            file.write_bytes(file.read_bytes()[:25])
    assert len(answers) == 1


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_stops_it_as_an_interrupt_does(tmp_path: Path, name: str) -> None:
    """While it works: nothing on stderr but itself, no file, no part of one. (Whoever runs the tests may have it ignored.)"""
    number = getattr(signal, name)
    handler = "default_int_handler" if name == "SIGINT" else "SIG_DFL"
    code = (
        f"import signal; signal.signal(signal.{name}, signal.{handler});"
        "import sys, time; sys.argv = ['epicycle', 'simulate', 'ep-anatomy', '--json', 'a.json'];"
        "import epicycle.sim.layer.layer as layer; from epicycle.cli import main;"
        "layer.simulate = lambda question: (print('begun', flush=True), time.sleep(60)); main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    assert list(tmp_path.iterdir()), "its output is claimed"
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with stopping_cleanly():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_interval_is_named_after_what_it_is_of(epicycle: Command, tmp_path: Path) -> None:
    import json

    epicycle("simulate", SCENARIO, "--json", "a.json")
    for layer in json.loads((tmp_path / "a.json").read_text())["layers"]:
        for op in layer["ops"]:
            assert "interval" not in op
            low, high = op["critical_interval"]["low90_us"], op["critical_interval"]["high90_us"]
            assert low <= op["critical_us"] <= high
