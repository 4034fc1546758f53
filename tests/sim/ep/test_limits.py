"""What a library cannot do is refused with its reason, alone and in a plan's table of candidates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.sim.ep.limit import Asked, can_run, cautioned
from epicycle.sim.ep.protocol import all_protocols, find_protocol

WIDE = {"ep": 72, "deployment__redundant_experts": 32, "cluster": "gb200-nvl72", "nodes": 18}


def asked(**changes: Any) -> Asked:
    usual = {"system": "h100_sxm", "ranks": 32.0, "domain": 8.0, "top_k": 8.0, "experts": 256.0, "hidden": 7168.0}
    return Asked(**(usual | changes))


@pytest.mark.parametrize(
    ("protocol", "changes", "said"),
    [
        ("high-throughput", {"ep": 256, "cluster__nodes": 32}, "at most 160 ranks"),
        (
            "high-throughput",
            {"ep": 80, "cluster__nodes": 10, "deployment__redundant_experts": 64},
            "instantiated for 2, 3, 4, 6, 8",
        ),
        ("high-throughput", {"ep": 128, "cluster__nodes": 16, "deployment__comm_sms": 64}, "32 bits"),
        ("low-latency", {"ep": 128, "cluster": "h100-efa", "cluster__nodes": 16}, "between 64 and 128 ranks"),
        ("one-sided", WIDE, "one 64-bit mask"),
        ("flashinfer-one-sided", WIDE, "one 64-bit mask"),
        ("mori-ep", {"ep": 8}, "AMD's GPUs only"),
        ("hybrid-ep", {"ep": 8, "cluster": "mi300x-cx7"}, "NVIDIA's GPUs only"),
        ("mega-moe", {"ep": 8, "cluster": "a100-cx7"}, "sm_90 and sm_100"),
        ("hybrid-ep", {"ep": 16, "cluster__nodes": 2, "tokens": 30_000}, "21,844 tokens"),
    ],
)
def test_it_is_refused_with_its_reason(ask: Callable[..., Any], protocol: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        ask(**({"protocol": protocol, "tokens": 128} | changes))


@pytest.mark.parametrize("protocol", sorted(all_protocols()))
def test_some_usual_exchange_runs(protocol: str) -> None:
    record = find_protocol(protocol)
    systems = ("h100_sxm", "mi300x")
    assert any(bool(can_run(record.limits, asked(system=s, ranks=np.array(8.0)))) for s in systems)


def test_what_only_some_versions_get_wrong_is_said_and_not_refused() -> None:
    cautions = find_protocol("low-latency").cautions
    assert not cautioned(cautions, asked(tokens=512.0))
    assert not cautioned(cautions, asked(system="b200_sxm", tokens=128.0))
    (said,) = cautioned(cautions, asked(system="b200_sxm", tokens=256.0))
    assert "pull request 642" in said
    assert find_protocol("high-throughput").cautions[0].beyond(asked(ranks=128.0))


def test_a_plan_leaves_out_what_cannot_run() -> None:
    ranks = np.array([16.0, 64.0, 160.0, 168.0, 256.0])
    able = can_run(find_protocol("high-throughput").limits, asked(ranks=ranks))
    assert able.tolist() == [True, True, True, False, False]
