"""A measurement of hardware that nobody here knows is skipped with the reason; what the catalogue has is itself."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.validate.predict.predicted import Validation
from epicycle.validate.tables.ep_rows import COLUMNS as EP
from epicycle.validate.tables.published import COLUMNS as PUBLISHED
from epicycle.validate.validate import validate_table

PRINTED = {
    "lib": "DeepEP-V1", "gpu": "H100", "fabric": "CX7 IB", "mode": "LL", "op": "dispatch", "ep": "16", "gpus_per_node": "8",
    "tokens_per_rank": "128", "hidden": "7168", "topk": "8", "experts": "256", "dtype": "fp8", "routing": "uniform",
    "latency_us": "150",
}  # fmt: skip
TIMED = {
    "system": "h100_sxm", "nodes": "1", "gpus_per_node": "8", "library": "deepep@1", "protocol": "deepep-low-latency",
    "op": "dispatch", "payload_dtype": "fp8", "routing": "uniform", "tokens_per_rank": "128", "hidden": "7168", "top_k": "8",
    "experts": "256", "latency_us": "60",
}  # fmt: skip


def _validated(path: Path, columns: tuple[str, ...], *rows: dict[str, str]) -> Validation:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return validate_table(path)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"gpu": "Ascend 910D"}, "no GPU of the catalogue is called 'Ascend 910D': the nearest is ascend-910c"),
        ({"gpu": "Gaudi 3"}, "no GPU of the catalogue is called 'Gaudi 3'"),
        ({"gpu": "MI250X"}, "no GPU of the catalogue is called 'MI250X': the nearest is mi"),
        ({"gpu": "MI308X", "fabric": "EFA"}, "no instance of the catalogue has mi308x with EFA"),
        ({"gpu": "H100", "fabric": "Slingshot"}, "no NIC of the catalogue is called"),
    ],
)
def test_a_printed_figure_of_unknown_hardware(tmp_path: Path, changes: dict[str, str], why: str) -> None:
    found = _validated(tmp_path / "printed.csv", PUBLISHED, PRINTED, {**PRINTED, **changes})
    assert len(found.rows) == 1
    ((reason, count),) = found.skipped.items()
    assert reason.startswith(why) and "hardware of your own is a file" in reason and count == 1
    with pytest.raises(BadInput, match="none of its 1 rows can be predicted"):
        _validated(tmp_path / "alone.csv", PUBLISHED, {**PRINTED, **changes})


@pytest.mark.parametrize(
    ("changes", "cluster"),
    [
        ({"gpu": "Ascend 910C", "fabric": ""}, "cloudmatrix-384"),
        ({"gpu": "B300 p6-b300 (16 EFA/node)", "fabric": "EFA"}, "b300-efa"),
        ({"gpu": "MI308X", "fabric": "CX7"}, "mi308x-cx7"),
        ({"gpu": "p5", "fabric": "EFA"}, "h100-efa"),
    ],
)
def test_what_the_catalogue_has_is_predicted_as_itself_and_wider(tmp_path: Path, changes: dict[str, str], cluster: str) -> None:
    found = _validated(tmp_path / "printed.csv", PUBLISHED, PRINTED, {**PRINTED, **changes})
    plain, other = sorted(found.rows, key=lambda row: row["system"].endswith(cluster))
    assert other["system"] == f"DeepEP-V1 on {cluster}"

    def width(row: dict[str, str]) -> float:
        return float(row["predicted_high90_us"]) / float(row["predicted_low90_us"])

    assert width(other) > 1.1 * width(plain)


def test_a_timing_of_an_unknown_system(tmp_path: Path) -> None:
    found = _validated(tmp_path / "ep.csv", EP, TIMED, {**TIMED, "system": "Ascend 910D"}, {**TIMED, "system": "H100"})
    assert len(found.rows) == 1
    assert any(reason.startswith("unknown system Ascend 910D: no GPU of the catalogue") for reason in found.skipped)
    assert "unknown system H100: write h100_sxm, as this hardware is called here" in found.skipped
