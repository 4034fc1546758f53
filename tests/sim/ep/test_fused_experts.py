"""Experts inside the exchange's kernel: tiles and rows overlap, blocks follow the batch, and both interpreters agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from epicycle.hwmodels.catalog import load_cluster
from epicycle.sim.ep.compute.expert_time import expected_counts
from epicycle.sim.ep.compute.experts import ExpertShape
from epicycle.sim.ep.compute.fused_experts import FusedExperts
from epicycle.sim.ep.machine import machine_of
from epicycle.sim.ep.protocols.mega import fused
from epicycle.sim.ep.shape import Shape

SHAPE = ExpertShape(7168.0, 3072.0, "fp4", "fp8")


@pytest.fixture(scope="module")
def products() -> FusedExperts:
    return fused("b200_sxm")


def seconds(products: FusedExperts, tokens: float) -> tuple[float, float]:
    """(products alone, with the rows that travel beside them) of 8 ranks."""
    group, experts, top_k, ranks = (np.asarray(x) for x in (8.0 * tokens, 384.0, 6.0, 8.0))
    counts = expected_counts(group, experts, top_k, ranks, np.zeros(()), np.zeros(()))
    machine = machine_of(load_cluster("b200-cx7"))
    gemm = products.gemm_seconds(counts, group * top_k / experts, SHAPE, machine)
    exchange = Shape(tokens, 7168.0, 6.0, 384.0, 8.0, 8.0, 7168.0 * (1.0 + 1.0 / 32.0))
    return float(gemm), float(products.seconds(exchange, gemm, machine))


def test_blocks_follow_the_expected_tokens(products: FusedExperts) -> None:
    assert products.block_rows(np.array([1.0, 8.5, 16.0, 64.0, 96.0, 500.0])).tolist() == [16.0, 16.0, 32.0, 96.0, 128.0, 192.0]
    assert fused("h100_sxm").block_rows(np.array([1.0, 64.0, 65.0])).tolist() == [64.0, 64.0, 128.0]


@pytest.mark.parametrize("tokens", [1.0, 64.0, 512.0, 8192.0])
def test_rows_hide_behind_the_products_but_for_the_longer_one(products: FusedExperts, tokens: float) -> None:
    gemm, whole = seconds(products, tokens)
    wire = seconds(replace(products, fill=0.0, base=replace(products.base, tensor_efficiency=1.0, hbm_efficiency=1.0)), tokens)[
        1
    ]
    assert gemm * (1 - 1e-12) <= whole <= gemm + wire  # where nothing is left over, they differ by rounding


def test_more_tokens_take_longer(products: FusedExperts) -> None:
    times = [seconds(products, tokens)[1] for tokens in (1.0, 8.0, 64.0, 512.0, 4096.0)]
    assert times == sorted(times)
