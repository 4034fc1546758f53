"""What engines do that kernels do not: every mechanism has evidence, and its switch takes away what it says."""

from __future__ import annotations

import numpy as np
import pytest

from epicycle.validate.serving.evidence import EVIDENCE
from epicycle.validate.serving.mechanisms import CARRIED, ENGINE_SWITCHES, FIELD_SWITCHES, EngineSwitch, changed
from epicycle.validate.serving.newer import newer, widest
from epicycle.validate.serving.rows import ServingRow, Widths
from epicycle.validate.serving.steady import predict_serving


def test_every_mechanism_has_its_evidence_and_none_is_left_over() -> None:
    names = {s.mechanism for s in (*ENGINE_SWITCHES, *FIELD_SWITCHES, CARRIED)}
    others = {
        "when requests are taken up, by the suite's scripts", "groups hold prompts back for each other",
        "a closed loop begins with a burst", "kernels beside an exchange slow each other down",
    }  # fmt: skip
    assert names | others == set(EVIDENCE)


@pytest.mark.parametrize("switch", ENGINE_SWITCHES, ids=lambda switch: switch.mechanism)
def test_a_switch_changes_the_time_that_it_is_judged_by(switch: EngineSwitch) -> None:
    """Of some deployment that it concerns; a version's only where rows told its pace."""
    kinds = (
        ("sglang", "h200_sxm", "deepseek-r1", "fp8", "fp8", Widths(1, 8, 1, 8, 1), Widths(1, 8, 1, 8, 1), "0.5.9", 2),
        ("vllm", "h100_sxm", "gpt-oss-120b", "bf16", "fp4", Widths(4, 1, 1, 1, 1), None, "0.18.0", 0),
        ("trtllm", "b200_sxm", "deepseek-r1", "fp8", "fp8", Widths(8, 1, 1, 1, 1), None, "unstated", 0),
    )
    rows = [
        ServingRow(
            1, model, system, engine, weights, experts, "fp8", 1024, 1024, 0.2, 64, decode, prefill, 1.0, 1.0, (),  # type: ignore[arg-type]
            drafts=drafts, version=version,
        )
        for engine, system, model, weights, experts, decode, prefill, version, drafts in kinds
    ]  # fmt: skip
    mine = [row for row in rows if switch.holds(row)]
    assert mine, switch.mechanism
    on, off = predict_serving(mine), predict_serving(mine, changed(switch.off))
    times = (on.tpot_s, off.tpot_s) if switch.judged == "TPOT" else (on.ttft_s, off.ttft_s)
    moved = np.abs(times[1] / times[0] - 1.0)
    assert moved.max() > 1e-6


def test_newer_architectures_are_told_with_each_mechanism_off() -> None:
    found = list(newer())
    assert {one.row.model for one in found} == {"minimax-m2.5", "glm-5"}
    assert all(one.tpot_s > 0.0 and one.ttft_s > one.tpot_s for one in found)
    low, high = widest(found)["kernels of a graph follow each other after a gap (TPOT)"]
    assert -0.6 < low < high < 0.0
