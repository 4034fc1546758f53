"""CollectiveX's documents as a measurement table: each regime its own, what does not count left out with its reason."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.sim.ep.protocol import all_protocols
from epicycle.validate.predict.collectivex_rows import collectivex_rows
from epicycle.validate.tables.collectivex import BACKENDS, read_cases

Command = Callable[..., Any]


def leaf(us: float, origin: str = "measured") -> dict[str, Any]:
    levels = {f"p{p}": us * (1.0 + (p - 50) / 1000.0) for p in (50, 90, 95, 99)}
    return {"availability": "measured", "origin": origin, "percentiles_us": levels, "sample_count": 448}


def row(tokens: int, dispatch: float, combine: float, period: float, **changes: Any) -> dict[str, Any]:
    usual = {
        "tokens_per_rank": tokens,
        "global_tokens": 8 * tokens,
        "components": {
            "dispatch": leaf(dispatch),
            "combine": leaf(combine),
            "stage": {"availability": "unavailable", "origin": None, "percentiles_us": None, "sample_count": 0},
            "pair_period": leaf(period, "chained-median"),
        },
        "chain_floor_us": {"dispatch": leaf(0.8 * dispatch), "combine": leaf(0.8 * combine)},
        "chain_health": {"pair_spread_us": leaf(1.0), "interpair_gap_us": leaf(2.0), "settle_drift_us": leaf(0.1)},
        "correctness": {"passed": True, "max_relative_error": 0.001},
    }
    return usual | changes


def document(*rows: dict[str, Any], sku: str = "h100", status: str = "success", **case: Any) -> dict[str, Any]:
    usual = {
        "backend": "deepep-v2", "ep": 8, "experts": 256, "gpus_per_node": 8, "hidden": 7168, "mode": "normal", "nodes": 1,
        "phase": "decode", "precision": "bf16", "routing": "uniform", "topk": 8, "scale_out_transport": None,
    }  # fmt: skip
    return {
        "version": 1,
        "record_type": "case-attempt",
        "generated_at": "2026-11-01T00:00:00Z",
        "identity": {"case_id": "x", "case_factors": {"sku": sku, "case": usual | case}},
        "measurement": {"rows": list(rows)},
        "topology": {"device_product": "NVIDIA H100 80GB HBM3"} if sku == "h100" else {},
        "outcome": {"status": status, "reasons": []},
    }


def written(tmp_path: Path, *documents: object, name: str = "cases.jsonl") -> Path:
    path = tmp_path / name
    path.write_text("\n".join(json.dumps(each) for each in documents), encoding="utf-8")
    return path


def test_every_regime_is_a_row_of_its_own(tmp_path: Path) -> None:
    path = written(tmp_path, document(row(1, 50.0, 45.0, 70.0), row(128, 70.0, 80.0, 105.0)))
    timings, skipped = read_cases(path)
    assert not skipped
    assert len(timings) == 10
    assert {(t.op, t.regime.name) for t in timings} == {
        ("dispatch", "fresh entry"), ("combine", "fresh entry"), ("dispatch", "chained, fastest rank"),
        ("combine", "chained, fastest rank"), ("pair", "chained"),
    }  # fmt: skip
    predicted, _, notes = collectivex_rows(path)
    times = {(p.values["tokens_per_rank"], p.values["op"], p.values["regime"]): p.predicted_us for p in predicted}
    for tokens in (1, 128):
        floors = [times[tokens, op, "chained, fastest rank"] for op in ("dispatch", "combine")]
        assert times[tokens, "pair", "chained"] == pytest.approx(sum(floors))
        assert times[tokens, "dispatch", "fresh entry"] == pytest.approx(floors[0] + 10.0)
    assert {p.key[1] for p in predicted} == {"elastic"}
    assert len(notes) == 3


def test_the_cast_is_charged_to_a_normal_dispatch(tmp_path: Path) -> None:
    both = [
        document(row(16, 50.0, 45.0, 70.0), precision=p, backend="deepep", mode=m)
        for p in ("fp8",)
        for m in ("normal", "low-latency")
    ]
    predicted, _, _ = collectivex_rows(written(tmp_path, *both))
    times = {(p.key[1], p.values["op"], p.values["regime"]): p.predicted_us for p in predicted}
    chained = ("dispatch", "chained, fastest rank")
    assert {key[0] for key in times} == {"high-throughput", "low-latency"}
    assert times["low-latency", *chained] < 30.0
    assert times["high-throughput", *chained] > 42.0


def test_what_does_not_count_is_left_out_with_its_reason(tmp_path: Path) -> None:
    wrong = row(1, 50.0, 45.0, 70.0, correctness={"passed": False})
    old = row(2, 50.0, 45.0, 70.0, chain_health={"interpair_gap_us": {"availability": "unavailable"}})
    unchained = copy.deepcopy(row(4, 50.0, 45.0, 70.0))
    unchained["components"]["pair_period"]["origin"] = "derived-percentile-sum"
    path = written(
        tmp_path,
        document(wrong, old, unchained),
        document(row(1, 1.0, 1.0, 1.0), status="invalid"),
        document(row(1, 1.0, 1.0, 1.0), backend="somebody-else"),
        document(row(1, 50.0, 45.0, 70.0), sku="gb999"),
    )
    predicted, skipped, _ = collectivex_rows(path)
    assert len(predicted) == 8
    said = " ".join(skipped)
    for reason in ("did not pass", "older generation", "no median of chained", "attempt is invalid", "somebody-else", "gb999"):
        assert reason in said, reason


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"record_type": "other"}, "wanted 'case-attempt'"),
        ({"version": 2}, "version: wanted 1"),
        ({"outcome": None}, "outcome: wanted an object, got nothing"),
    ],
)
def test_another_document_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read_cases(written(tmp_path, document(row(1, 1.0, 1.0, 1.0)) | change))


def test_backends_are_protocols() -> None:
    for named in BACKENDS.values():
        assert {named} if isinstance(named, str) else set(named.values()) <= set(all_protocols())


def test_the_command_reads_it(epicycle: Command, tmp_path: Path) -> None:
    path = written(tmp_path, document(row(128, 70.0, 80.0, 105.0)), name="case.json")
    done = epicycle("validate", path, "--csv", tmp_path / "rows.csv")
    assert done.status == 0, done.err
    assert "fresh entry" in (tmp_path / "rows.csv").read_text(encoding="utf-8")
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    refused = epicycle("validate", tmp_path / "bad.json")
    assert refused.status == 2
    assert "line 1" in refused.err
