"""Measured deployments: what a row says and leaves out, what is counted instead of failing, and the bars of their errors."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from epicycle.hwmodels.backends import backend_names, load_backend
from epicycle.hwmodels.errors import BadInput
from epicycle.validate.pages.serving_page import rows_aside
from epicycle.validate.serving.fit import PARAMETERS, with_values
from epicycle.validate.serving.recipes import recipes_for
from epicycle.validate.serving.rows import ServingRow, Unpredictable, Widths, dtype_of, preset_of, read_serving, system_of
from epicycle.validate.serving.scripts import PLAIN
from epicycle.validate.serving.shipped import fitted_rows
from epicycle.validate.serving.steady import predict_serving
from epicycle.validate.validate import validate_table

FIELDS = (
    *("model", "system", "backend", "backend_version", "precision", "gemm_quant_mode", "moe_quant_mode", "mode", "isl", "osl"),
    *("concurrency", "batch_size", "tp_size", "pp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size"),
    *(
        f"{pool}_{column}"
        for pool in ("prefill", "decode")
        for column in ("num_workers", "tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
    ),
    *("ttft_ms", "tpot_ms"),
)
AGGREGATED = {
    "model": "deepseek-ai/DeepSeek-R1", "system": "b200_sxm", "backend": "trtllm", "backend_version": "1.2.0rc6.post2",
    "precision": "fp8", "gemm_quant_mode": "fp8", "moe_quant_mode": "fp8", "mode": "agg", "isl": "8192", "osl": "1024",
    "concurrency": "64", "batch_size": "64", "tp_size": "8", "pp_size": "1", "attention_dp_size": "1", "moe_tp_size": "8",
    "moe_ep_size": "1", "ttft_ms": "1000", "tpot_ms": "25",
}  # fmt: skip
APART = AGGREGATED | {
    "mode": "disagg", "backend_version": "0.8.1.post2", "isl": "1024", "concurrency": "896", "batch_size": "", "tp_size": "",
    "attention_dp_size": "", "moe_tp_size": "", "moe_ep_size": "", "prefill_tp_size": "8", "prefill_attention_dp_size": "1",
    "prefill_moe_tp_size": "1", "prefill_moe_ep_size": "8", "decode_tp_size": "8", "decode_attention_dp_size": "1",
    "decode_moe_tp_size": "1", "decode_moe_ep_size": "8",
}  # fmt: skip


def table(folder: Path, *records: dict[str, str]) -> Path:
    path = folder / "serving.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(records)
    return path


def row(folder: Path, record: dict[str, str]) -> ServingRow:
    return read_serving(table(folder, record))[0]


@pytest.fixture(scope="module")
def measured(tables: Path) -> list[ServingRow]:
    if not (tables / "serving.csv").is_file():
        pytest.skip("no serving.csv")
    return read_serving(tables / "serving.csv")


@pytest.mark.parametrize(
    ("changes", "widths"),
    [
        ({}, Widths(8, 1, 1, 1, 1)),
        ({"tp_size": "64", "moe_tp_size": "8", "moe_ep_size": "8"}, Widths(8, 1, 1, 8, 1)),  # an engine's own flags
        ({"tp_size": "1", "attention_dp_size": "8", "moe_tp_size": "1", "moe_ep_size": "8"}, Widths(1, 8, 1, 8, 1)),
        ({"attention_dp_size": "", "tp_size": "4", "moe_tp_size": "2", "moe_ep_size": "2"}, Widths(4, 1, 1, 2, 1)),
        ({"attention_dp_size": "", "tp_size": "4", "moe_tp_size": "4", "batch_size": "16"}, Widths(1, 4, 1, 1, 1)),
        ({"attention_dp_size": "", "tp_size": "2", "moe_tp_size": "2", "batch_size": "16"}, Widths(2, 1, 1, 1, 4)),
    ],
)
def test_widths_of_an_aggregated_row(tmp_path: Path, changes: dict[str, str], widths: Widths) -> None:
    assert row(tmp_path, AGGREGATED | changes).decode == widths


def test_the_suites_list_fills_in_workers_and_drafts(tmp_path: Path) -> None:
    found = row(tmp_path, APART)
    assert (found.prefill, found.decode) == (Widths(1, 8, 1, 8, 1), Widths(1, 8, 1, 8, 7))
    assert (found.drafts, found.slots) == (3, 128)
    assert "workers by the suite's list" in found.assumed
    unlisted = read_serving(table(tmp_path, APART), listed=False)[0]
    assert unlisted.drafts == 0
    assert "multi-token prediction not stated: none" in unlisted.assumed


@pytest.mark.parametrize(
    ("changes", "drafts"),
    [
        ({"backend_version": "1.2.0rc6.post3"}, 3),  # an image that the suite lists with multi-token prediction only
        ({}, 0),
        ({"backend_version": ""}, 0),  # runs without a version are older than the lists
        # Listed up to 512 only with drafts, which the suite starts from scripts of their own.
        ({"backend": "sglang", "backend_version": "0.5.9", "concurrency": "256"}, 0),
        ({"backend": "sglang", "backend_version": "0.5.9", "concurrency": "32", "isl": "1024"}, 0),  # both: without
    ],
)
def test_drafts_of_an_aggregated_row(tmp_path: Path, changes: dict[str, str], drafts: int) -> None:
    assert row(tmp_path, AGGREGATED | changes).drafts == drafts


def test_the_suites_scripts_say_when_requests_are_taken_up(tmp_path: Path) -> None:
    sglang = AGGREGATED | {"backend": "sglang", "backend_version": "0.5.9"}
    few, many = (row(tmp_path, sglang | {"concurrency": c}).script for c in ("8", "64"))
    assert (few.poll_steps, many.poll_steps, many.chunk_tokens) == (10.0, 30.0, 32768.0)
    llama = AGGREGATED | {"model": "Llama-3.1-70B", "isl": "1024", "tp_size": "4", "moe_tp_size": "4", "concurrency": "8"}
    assert (row(tmp_path, llama).script.wait_steps, row(tmp_path, llama).script.chunk_tokens) == (20.0, 2304.0)
    assert row(tmp_path, llama | {"tp_size": "8", "moe_tp_size": "8"}).script.wait_steps == 0.0
    assert row(tmp_path, llama | {"isl": "1000"}).script == PLAIN, "not the suite's lengths"


def test_no_measured_time_enters_an_assumption(measured: list[ServingRow], tables: Path, tmp_path: Path) -> None:
    with (tables / "serving.csv").open(newline="") as file:
        records = list(csv.DictReader(file))
    path = tmp_path / "serving.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, records[0])
        writer.writeheader()
        writer.writerows(r | {"ttft_ms": "123", "tpot_ms": "45.6"} for r in records)
    for before, after in zip(measured, read_serving(path), strict=True):
        assert replace(after, ttft_s=before.ttft_s, tpot_s=before.tpot_s) == before
    for name in backend_names():
        mine = [r for r in measured if r.backend == name]
        scrambled = [replace(r, tpot_s=1.0 / (i + 1)) for i, r in enumerate(mine)]
        np.testing.assert_array_equal(fitted_rows(mine), fitted_rows(scrambled))


def test_recipes_are_of_their_lengths_and_concurrencies() -> None:
    (found,) = recipes_for("trtllm", "0.8.1.post1", "b200_sxm", "fp4", 1024, 1024, 10860)
    assert found.prefill is not None
    assert (found.prefill.count, found.decode.count, found.decode.gpus, found.drafts, found.slots) == (3, 5, 4, 1, 512)
    assert recipes_for("trtllm", "0.8.1.post1", "b200_sxm", "fp4", 1024, 1024, 10861) == []
    assert {r.drafts for r in recipes_for("trtllm", "0.8.1.post1", "b200_sxm", "fp4", 8192, 1024, 10)} == {0, 3}


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("deepseek-ai/DeepSeek-V3.2", "deepseek-v3.2"),
        ("nvidia/DeepSeek-R1-0528-FP4-V2", "deepseek-r1"),
        ("moonshotai/Kimi-K2.5", "kimi-k2"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama-3.1-70b"),
        ("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-FP8", "nemotron-3-super"),
    ],
)
def test_models_by_their_architecture(name: str, preset: str) -> None:
    assert preset_of(name) == preset


def test_what_nobody_knows_has_a_reason() -> None:
    for wrong in (lambda: preset_of("acme/Rocket-9T"), lambda: preset_of("deepseek-ai/DeepSeek-V4-Flash"),
                  lambda: system_of("mi999x"), lambda: dtype_of("int2")):  # fmt: skip
        with pytest.raises(Unpredictable):
            wrong()
    assert [dtype_of(n) for n in ("", "nvfp4", "w4a16_mxfp4", "fp8_block", "int4_wo")] == ["bf16", "fp4", "fp4", "fp8", "fp4"]


def test_every_row_is_predicted_or_counted(tmp_path: Path) -> None:
    """Other systems, engines and models: never a crash, and a reason for each row left out."""
    others = [
        {"model": "zai-org/GLM-5"}, {"model": "moonshotai/Kimi-K2-Instruct", "gemm_quant_mode": "int4_wo"},
        {"model": "MiniMaxAI/MiniMax-M2.5"}, {"model": "Qwen/Qwen3.5-397B-A17B"}, {"model": "deepseek-ai/DeepSeek-V4-Pro"},
        {"model": "deepseek-ai/DeepSeek-V3.2"}, {"model": "nvidia/Nemotron-3-Super-120B"}, {"system": "b300_sxm"},
        {"system": "gb300"}, {"system": "mi300x"}, {"system": "mi999x"}, {"model": "acme/Rocket-9T"}, {"backend": "atom"},
        {"moe_quant_mode": "int2"},
    ]  # fmt: skip
    outcome = validate_table(table(tmp_path, *(AGGREGATED | change for change in others)))
    assert len(outcome.rows) + sum(outcome.skipped.values()) == len(others)
    assert len(outcome.rows) >= 10
    for record in outcome.rows:
        assert 1e3 < float(record["predicted_us"]) < 1e6
    assert any("mi999x" in reason for reason in outcome.skipped)
    assert any("Rocket" in reason for reason in outcome.skipped)


def test_a_model_that_does_not_fit_is_skipped_with_the_reason(tmp_path: Path) -> None:
    alone = AGGREGATED | {"system": "h100_sxm", "tp_size": "1", "moe_tp_size": "1", "concurrency": "8", "batch_size": "8"}
    outcome = validate_table(table(tmp_path, AGGREGATED, alone))
    assert len(outcome.rows) == 1
    (why,) = outcome.skipped
    assert "deepseek-r1 does not fit" in why and "80 GiB" in why


def test_a_bad_number_is_named_by_line_and_column(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"line 2: tpot_ms: wanted a number above zero, got '-1'"):
        row(tmp_path, AGGREGATED | {"tpot_ms": "-1"})
    with pytest.raises(BadInput, match="columns missing: osl"):
        path = table(tmp_path, AGGREGATED)
        path.write_text(path.read_text().replace(",osl,", ",length,"))
        read_serving(path)


def test_fitted_values_are_written_as_they_are() -> None:
    values = {p.name: p.start for p in PARAMETERS} | {"h100_sxm": 1.1}
    engine = with_values(load_backend("vllm"), values, ["h100_sxm"])
    assert engine.constants.gap == pytest.approx(1.5e-6)
    assert engine.on("h100_sxm").busy == pytest.approx(1.1)
    assert engine.on("b200_sxm").busy == pytest.approx(1.0)
    assert engine.acceptance == pytest.approx(0.7)


def test_shipped_engines_say_what_they_were_fitted_to(measured: list[ServingRow]) -> None:
    counts = Counter(r.backend for r in measured)
    fits = {name: load_backend(name).fit for name in backend_names()}
    for name, fit in fits.items():
        assert fit is not None
        assert fit.rows_available == counts[name]
        assert fit.rows == len(fitted_rows([r for r in measured if r.backend == name]))
        assert fit.intervals
        assert fit.ttft_intervals
    assert sum(fit.rows for fit in fits.values() if fit) <= len(measured) / 10


def test_half_of_the_rows_aside_within_a_tenth(measured: list[ServingRow]) -> None:
    """TPOT of the rows that no engine was fitted to: median at most 10 %, mean at most 18 %; every row predicted."""
    found = predict_serving(measured)
    assert not found.failed
    aside = rows_aside(measured)
    error = np.abs(found.tpot_s / np.array([r.tpot_s for r in measured]) - 1.0)[aside]
    assert np.median(error) <= 0.10
    assert error.mean() <= 0.18


def test_intervals_hold_what_they_say(tables: Path) -> None:
    """Nine in ten of the rows aside lie inside their 90 % interval, each judged by others' residuals."""
    outcome = validate_table(tables / "serving.csv")
    covered = sum((g.covered_90_pct or 0.0) * g.unseen_rows for g in outcome.groups) / sum(
        g.unseen_rows for g in outcome.groups
    )
    assert 86 <= covered <= 94
    for group in outcome.groups:
        if group.unseen_rows >= 100:
            assert 80 <= (group.covered_90_pct or 0.0) <= 100
