"""CollectiveX's measured cases, predicted: each op as it was timed, and the chained pair that its charts show."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from ...hwmodels.calibration import load_calibration
from ...hwmodels.errors import BadInput
from ...hwmodels.interval import Interval, combined, elsewhere
from ...hwmodels.known.foreign import why_foreign
from ...hwmodels.known.names import cluster_called
from ...hwmodels.specs import Cluster
from ...sim.ep.bound import program_seconds
from ...sim.ep.machine import machine_of
from ...sim.ep.protocol import Context, describe, find_protocol
from ...sim.ep.shape import Shape
from ...sim.ep.transport import over
from ..tables.collectivex import Case, Timing, read_cases
from ..tables.ep_rows import POINT
from ..tables.regimes import CAST_S, FLASHINFER_CAST_S
from .predicted import Found, Predicted

#: Bytes of a dispatched element: fp8 with one fp32 scale for 128 values.
_BYTES = {"bf16": 2.0, "fp8": 1.0 + 4.0 / 128.0}


def collectivex_rows(path: Path) -> Found:
    """Every time of the file with its prediction. Raises BadInput."""
    timings, left_out = read_cases(path)
    skipped = Counter(left_out)
    predicted = []
    for timing in timings:
        try:
            predicted.append(_predicted(timing))
        except BadInput as error:  # hardware that the catalogue does not have, a kernel that nobody measured
            skipped[str(error)] += 1
    regimes = {timing.regime for timing in timings}
    notes = tuple(f"{r.name} ({r.over}): {r.why}" for r in sorted(regimes, key=lambda r: r.name))
    return predicted, dict(skipped), notes


def _predicted(timing: Timing) -> Predicted:
    case, regime = timing.case, timing.regime
    cluster = over(_cluster(case), case.protocol)
    ops = ("dispatch", "combine") if timing.op == "pair" else (timing.op,)
    parts = [_op(case, cluster, op, float(timing.tokens)) for op in ops]
    seconds = sum(s for s, _, _ in parts) + regime.per_op_s * len(ops)
    if "dispatch" in ops and case.quantised:
        seconds += FLASHINFER_CAST_S if case.backend.lower().startswith("flashinfer") else CAST_S
    sure = elsewhere(combined([(s, interval) for s, interval, _ in parts]))
    values = {
        "system": case.sku, "backend": case.backend, "mode": case.mode, "precision": case.precision, "ep": case.ranks,
        "tokens_per_rank": timing.tokens, "hidden": case.hidden, "top_k": case.top_k, "experts": case.experts, "op": timing.op,
        "regime": regime.name,
    }  # fmt: skip
    key = (f"{case.backend} on {cluster.name}", case.protocol, f"{timing.op}, {regime.name}", case.nodes)
    source = ", ".join(dict.fromkeys(system for _, _, system in parts))
    return Predicted(timing.line, values, key, timing.measured_us, 1e6 * seconds, source, interval=sure)


def _cluster(case: Case) -> Cluster:
    across = case.nodes > 1 and case.ranks > case.gpus_per_node
    return cluster_called(case.product or case.sku, case.transport, across, case.sku)


def _op(case: Case, cluster: Cluster, op: str, tokens: float) -> tuple[float, Interval, str]:
    """Seconds of one op's kernels, their interval, and the system of their constants."""
    record, domain = find_protocol(case.protocol), min(float(case.ranks), float(cluster.nvlink_domain_gpus))
    shape = Shape(
        tokens=tokens,
        hidden=float(case.hidden),
        top_k=float(case.top_k),
        experts=float(case.ranks * np.ceil(case.experts / case.ranks)),
        ranks=float(case.ranks),
        domain=domain,
        payload_bytes=case.hidden * _BYTES[case.precision],
    )
    named = [name for name in record.ops if name == op or record.ops[name].shown == op]
    scope, machine, context = record.scope(case.ranks <= domain), machine_of(cluster), Context(float(case.gpus_per_node))
    total, intervals, system = 0.0, [], ""
    for name in named:
        found = describe(case.protocol, name, scope, cluster.calibration, shape, machine, context)
        seconds = float(np.asarray(program_seconds(found.stages, shape, machine)))
        point = {name: float(np.asarray(getattr(shape, name))) for name in POINT}
        system = found.calibrated_on
        same = load_calibration(system).cluster == load_calibration(cluster.calibration).cluster
        borrowed = "" if same else system
        if found.lender:
            borrowed = f"the {found.lender} kernels on {system}: {case.protocol} is unmeasured"
        foreign = why_foreign(cluster, scope == "multi-node", system)
        intervals.append((seconds, found.entry.fit.interval(seconds, case.nodes, point, borrowed, foreign)))
        total += seconds
    return total, combined(intervals), system
