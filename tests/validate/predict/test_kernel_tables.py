"""Dense GEMM and NCCL collectives by their laws: the bars on H100, the laws' limits, and bad tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from epicycle.hwmodels.calibration import constants_of, find_entry
from epicycle.hwmodels.catalog import load_gpu
from epicycle.hwmodels.laws.kernels import Collective, Gemm, collective_seconds, gemm_seconds
from epicycle.validate.validate import validate_table

Command = Callable[..., Any]


@pytest.mark.parametrize(("table", "bar"), [("gemm.csv", 8.0), ("collectives.csv", 10.0), ("mla_attention.csv", 12.0)])
def test_bars_on_h100(tables: Path, table: str, bar: float) -> None:
    groups = [g for g in validate_table(tables / table).groups if g.system == "h100_sxm"]
    assert groups
    assert {g.op: g.mape_pct for g in groups if g.mape_pct > bar} == {}


def test_a_large_gemm_runs_at_the_tensor_rate_and_a_thin_one_at_the_memory_rate() -> None:
    gpu = load_gpu("h100-sxm")
    k = constants_of(find_entry("h100_sxm", "gemm", "bf16", "one-node")[0], Gemm)
    side = np.array([16384.0])
    flops = 2 * 16384.0**3 / gemm_seconds(side, side, side, "bf16", gpu, k)
    assert 0.6 < float(flops[0]) / gpu.tensor_flops("bf16") < k.tensor_efficiency
    thin = gemm_seconds(np.array([1.0]), side, side, "bf16", gpu, k)
    assert float(thin[0]) > 2 * 16384.0**2 / gpu.hbm_bandwidth


def test_no_collective_beats_the_wire() -> None:
    gpu = load_gpu("h100-sxm")
    message = np.geomspace(1e3, 1e9, 40)
    for op in ("all_gather", "reduce_scatter", "all_reduce", "all_to_all"):
        k = constants_of(find_entry("h100_sxm", "nccl", op, "one-node")[0], Collective)
        seconds = collective_seconds(op, np.full(40, 8.0), message, gpu, k)
        assert np.all(seconds > 7 / 8 * message * (2 if op == "all_reduce" else 1) / gpu.nvlink_bandwidth)
        assert np.all(np.diff(seconds) > 0)


def test_systems_without_rows_borrow_from_their_relative(epicycle: Command, tmp_path: Path) -> None:
    table = tmp_path / "gemm.csv"
    table.write_text(
        "system,kernel,dtype,m,n,k,latency_us\nh200_sxm,linear,bfloat16,4096,4096,4096,200\nnone,linear,bfloat16,1,1,1,9\n",
        encoding="utf-8",
    )
    done = epicycle("validate", table)
    assert done.status == 0, done
    assert "1 rows predicted, 1 skipped" in done.out


@pytest.mark.parametrize(("m", "word"), [("0", "above zero"), ("many", "'many'")])
def test_bad_numbers_get_one_line(epicycle: Command, tmp_path: Path, m: str, word: str) -> None:
    table = tmp_path / "gemm.csv"
    table.write_text(f"system,kernel,dtype,m,n,k,latency_us\nh100_sxm,linear,bfloat16,{m},1,1,9\n", encoding="utf-8")
    done = epicycle("validate", table)
    assert done.status == 2
    assert "line 2: m:" in done.err
    assert word in done.err
