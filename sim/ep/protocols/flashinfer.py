"""FlashInfer's one-sided all-to-all: TensorRT-LLM's NVLinkOneSided kernel as vLLM and SGLang call it.

The kernel is `one_sided`'s (published times of both agree within 4 %), so its fit is lent; what differs is around it: one rank
mask word, hence 64 ranks; values, scales, ids and weights in planes of their own, so that FP8 pays a field more.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ....hwmodels.calibration import Scope, constants_of, find_entry
from ..limit import made_for, most_ranks
from ..protocol import Context, Loan, Op, Protocol
from ..shape import Shape
from ..stage import Machine, Stage
from . import one_sided

DISPATCH, COMBINE = "dispatch", "combine"


def lend(system: str, op: str, scope: Scope) -> Loan:
    """The one-sided kernel's constants. Raises Uncalibrated if nobody measured it."""
    entry, source = find_entry(system, "one-sided", op, scope)
    return Loan(constants_of(entry, one_sided.SlotConstants), entry, source, "one-sided")


def _op(op: str, shape: Shape, machine: Machine, k: Any, context: Context) -> tuple[Stage, ...]:
    """A field more where values are narrower than bf16: their block scales lie in a plane of their own."""
    scaled = np.where(np.asarray(shape.payload_bytes) < 2.0 * np.asarray(shape.hidden), 2.0, 1.0)
    fields = 1.0 if op == COMBINE else np.maximum(scaled, context.fields)
    (stage,) = one_sided.transfer(shape, machine, k, op, gpus_per_node=context.gpus_per_node, fields=fields)
    return (replace(stage, name=f"{op}.planes"),)


PROTOCOLS = (
    Protocol(
        name="flashinfer-one-sided",
        what="TensorRT-LLM's one-sided kernel with a plane for every field of a row; at most 64 ranks",
        holds="slots for the worst case",
        kernels="FlashInfer's moe_a2a",
        before=(Op(DISPATCH, one_sided.SlotConstants, partial(_op, DISPATCH)),),
        after=(Op(COMBINE, one_sided.SlotConstants, partial(_op, COMBINE)),),
        buffers=one_sided.buffers,
        near="nvlink-domain",
        far="nvlink-domain",
        one_domain=True,
        lend=lend,
        limits=(
            made_for("NVIDIA", "FlashInfer's one-sided kernel"),
            most_ranks(64, "FlashInfer's one-sided kernel holds the ranks in one 64-bit mask"),
        ),
        offered=("sglang",),
    ),
)
