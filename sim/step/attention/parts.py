"""All attention of one model step on the busiest GPU of a worker: projections, and the core of decoding rows and of prompts.

``tp`` splits heads. KV heads are repeated when there are more GPUs than heads; MLA's latent cache and down-projections, a
compressed layer's shared entries and every sparse indexer are on each GPU (vLLM and SGLang: ReplicatedLinear). A mixed step
runs projections once over all its rows. Each kind of layer states its own kernels: `cores`, `mla`,
`states`, `compressed`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ....hwmodels.specs import Gpu
from ...inputs.attention import Attention, Compressed, Gqa, Linear, Mla, Sliding
from ...inputs.model import MoeModel
from ..gpu_kernels import GpuKernels
from ..part import Part
from ..work import Work
from ..worker import Arrangement, Batch, Precision
from .compressed import compressed_works
from .cores import grouped_works
from .mla import index_work, mla_works
from .states import linear_works


def attention_parts(
    model: MoeModel,
    arrangement: Arrangement,
    batch: Batch,
    precision: Precision,
    gpu: Gpu,
    system: str,
    fp4_weights: float = 1.0,
    fp8_mla: bool = False,
    fp8_rate: float = 1.0,
) -> tuple[Part, ...]:
    """Parts of every kind of attention layer; ``times``: that kind's layers. Arrays in ``arrangement`` and ``batch`` broadcast.

    A core costs exactly nothing where ``batch`` has no rows for it. Where kernels are launched one by one (``graphs`` False)
    MLA's projections hold the module's measured host time. Raises Uncalibrated if nobody measured GEMMs or MLA.
    """
    kernels = GpuKernels.of(gpu, system, fp4_weights, fp8_rate)
    precision = replace(precision, weights=precision.of("attention").dtype)
    parts = []
    for kind in model.attention:
        for name, work, source in _works(kind, model.hidden, arrangement, batch, precision, kernels, system, fp8_mla):
            label, layers = f"{_label(kind)} {name}", float(kind.layers)
            parts.append(work.part(label, "attention", layers, source))
    return tuple(parts)


def _works(
    kind: Attention, hidden: int, a: Arrangement, batch: Batch, precision: Precision, gpu: GpuKernels, system: str, fp8: bool
) -> Iterator[tuple[str, Work, str]]:
    """(name, work of one layer, source) of one kind's parts."""
    if isinstance(kind, Mla):
        yield from mla_works(kind, hidden, a, batch, precision, gpu, system, fp8)
    elif isinstance(kind, Compressed):
        yield from compressed_works(kind, hidden, a, batch, precision, gpu, system, fp8)
    elif isinstance(kind, Linear):
        yield from linear_works(kind, hidden, a, batch, precision, gpu)
    else:
        yield from grouped_works(kind, hidden, a, batch, precision, gpu)
        if isinstance(kind, Gqa) and kind.indexer is not None and not kind.indexer.shared:
            yield "indexer", index_work(kind.indexer, hidden, hidden, batch, precision, gpu, 1.0), gpu.source


def _label(kind: Attention) -> str:
    if isinstance(kind, Sliding):
        return f"sliding {kind.window}"
    if isinstance(kind, Compressed):
        return f"compressed 1:{kind.ratio}" if kind.ratio else f"window {kind.window}"
    if isinstance(kind, Linear):
        return {"delta": "delta net", "kda": "KDA", "mamba2": "mamba"}.get(kind.form, kind.form)
    return kind.kind
