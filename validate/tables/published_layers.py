"""Published times of a whole MoE layer: dispatch, both GEMMs and combine, fused in one kernel or one after another.

Every chain is its own protocol and expert kernels: Mega MoE's single kernel, DeepEP's low-latency kernels around masked GEMMs,
its normal ones around contiguous GEMMs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ...hwmodels.calibration import Fit, load_calibration
from ...hwmodels.interval import Interval, combined, elsewhere
from ...hwmodels.known.foreign import why_foreign
from ...hwmodels.specs import Cluster
from ...sim.ep.bound import program_seconds
from ...sim.ep.compute.expert_time import expected_counts, expert_constants, expert_time
from ...sim.ep.compute.experts import ExpertShape, Kind
from ...sim.ep.compute.fused_experts import FusedExperts
from ...sim.ep.machine import machine_of
from ...sim.ep.protocol import Context, describe, find_protocol
from ...sim.ep.shape import Shape
from ...sim.precision import Dtype
from .ep_rows import POINT

Row = Mapping[str, str]
#: How the table calls a chain -> its protocol and the kind of its expert kernels ("": inside the exchange's kernel).
CHAINS: Mapping[str, tuple[str, Kind | None]] = {
    "DeepGEMM Mega MoE": ("mega-moe", None),
    "MegaMoE SM90": ("mega-moe", None),
    "DeepEP LL + masked FP8": ("low-latency", "masked"),
    "DeepEP normal + grouped FP8": ("high-throughput", "contiguous"),
}
_DTYPES: Mapping[str, Dtype] = {"fp4": "fp4", "fp8": "fp8", "bf16": "bf16"}


@dataclass(frozen=True, slots=True)
class Layer:
    """One row as a layer: its exchange and its experts on the hardware it names."""

    cluster: Cluster
    protocol: str
    kind: Kind | None
    shape: Shape
    experts: ExpertShape

    @classmethod
    def of(cls, row: Row, cluster: Cluster) -> Layer:
        protocol, kind = CHAINS[row["lib"]]
        ranks, hidden = float(row["ep"]), float(row["hidden"])
        shape = Shape(
            tokens=float(row["tokens_per_rank"]),
            hidden=hidden,
            top_k=float(row["topk"]),
            experts=float(row["experts"]),
            ranks=ranks,
            domain=min(ranks, float(cluster.nvlink_domain_gpus)),
            payload_bytes=hidden * (1.0 + 1.0 / 32.0),
            comm_sms=24.0,
        )
        return cls(
            cluster, protocol, kind, shape, ExpertShape(hidden, float(row["inter"]), _DTYPES[row["weights_dtype"]], "fp8")
        )

    def parts(self) -> Iterator[tuple[float, Interval, str]]:
        """(seconds, interval, system of the constants) of every op."""
        machine, system = machine_of(self.cluster), self.cluster.calibration
        record = find_protocol(self.protocol)
        scope = record.scope(one_domain=True)
        point = {name: float(np.asarray(getattr(self.shape, name))) for name in POINT}
        for op in record.ops:
            found = describe(self.protocol, op, scope, system, self.shape, machine, Context())
            seconds = float(np.asarray(program_seconds(found.stages, self.shape, machine)))
            yield seconds, self._sure(found.entry.fit, seconds, point, found.calibrated_on), found.calibrated_on
        group, e = float(self.shape.tokens) * float(self.shape.ranks), float(self.shape.experts)
        if self.kind is None:
            assert record.fused is not None
            products = record.fused(system)
            seconds = self.products_s(products)
            entry, source = products.entry, products.system
        else:
            k, entry, source = expert_constants(system, self.kind, "fp8")
            found_experts = expert_time(
                self.kind, group, self.experts, machine, k,
                experts=e, top_k=float(self.shape.top_k), ranks=float(self.shape.ranks), graphs=self.kind == "masked",
            )  # fmt: skip
            seconds = float(found_experts.seconds)
        block = {"tokens": group, "hidden": float(self.experts.hidden), "inter": float(self.experts.inter)}
        yield seconds, self._sure(entry.fit, seconds, block if self.kind else point, source), source

    def products_s(self, fused: FusedExperts) -> float:
        """Seconds of both GEMMs and the rows beside them."""
        sizes = (self.shape.tokens * self.shape.ranks, self.shape.experts, self.shape.top_k, self.shape.ranks)
        group, e, top_k, ranks = (np.asarray(x, float) for x in sizes)
        counts = expected_counts(group, e, top_k, ranks, np.zeros(()), np.zeros(()))
        machine = machine_of(self.cluster)
        gemm = fused.gemm_seconds(counts, group * top_k / e, self.experts, machine)
        return float(fused.seconds(self.shape, gemm, machine))

    def _sure(self, fit: Fit, seconds: float, point: Mapping[str, float], source: str) -> Interval:
        same = load_calibration(source).cluster == load_calibration(self.cluster.calibration).cluster
        return fit.interval(seconds, 1, point, "" if same else source, why_foreign(self.cluster, False, source))


def layer_time(row: Row, cluster: Cluster) -> tuple[float, Interval, str]:
    """Seconds of the row's layer, its interval, and the systems whose constants it has."""
    parts = list(Layer.of(row, cluster).parts())
    sure = elsewhere(combined([(seconds, interval) for seconds, interval, _ in parts]))
    return sum(seconds for seconds, _, _ in parts), sure, ", ".join(sorted({source for _, _, source in parts}))


def with_products(row: Row, cluster: Cluster, fused: FusedExperts) -> float:
    """Seconds of a fused layer whose products have the constants ``fused``, and nothing else is asked of any entry."""
    layer, machine = Layer.of(row, cluster), machine_of(cluster)
    record = find_protocol(layer.protocol)
    around = [op.describe(layer.shape, machine, None, Context()) for op in record.ops.values()]
    fixed = sum(float(np.asarray(program_seconds(stages, layer.shape, machine))) for stages in around)
    return fixed + layer.products_s(fused)
