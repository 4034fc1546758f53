"""Which exchange, and where the winner flips: one layer's time by tokens a rank under every protocol that can run there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ... import __version__
from ...hwmodels.calibration import library_rows
from ...hwmodels.errors import BadInput, Uncalibrated
from ...hwmodels.interval import combined
from ...sim.ep.protocol import all_protocols, find_protocol
from ...sim.inputs.question import Question
from ...sim.inputs.traffic import Routing
from ...sim.layer.closed_form import ROUTED, layer_seconds, layer_sources
from ...sim.layer.layer import sureness
from ..answer.exchange_choice import UNMEASURED, Curve, Exchanges, Refused, Stretch
from ..ask.scenario import Source, load_layer

Progress = Callable[[int, int], None]
Floats = NDArray[np.float64]
#: Tokens a rank that are looked at where none are asked for.
TOKENS = tuple(2**n for n in range(14))
_MOST_TOKENS = 1 << 17


def exchanges(
    source: Source, sets: Sequence[str] = (), tokens: Sequence[int] = TOKENS, progress: Progress | None = None
) -> Exchanges:
    """The scenario's layer under every protocol, in closed form. Raises BadInput for a scenario of another kind."""
    wanted = tuple(sorted(set(tokens)))
    if not wanted or wanted[0] < 1 or wanted[-1] > _MOST_TOKENS:
        raise BadInput(f"tokens: wanted numbers from 1 to {_MOST_TOKENS:,}, got {', '.join(map(str, tokens)) or 'none'}")
    base = load_layer(source, sets)
    question = base.resolve()
    found: list[Curve] = []
    refused: list[Refused] = []
    names = list(all_protocols())
    for done, name in enumerate(names):
        if progress is not None:
            progress(done, len(names))
        try:
            found.append(_curve(_under(question, name), np.array(wanted, float)))
        except (BadInput, Uncalibrated) as error:
            refused.append(Refused(name, _plain(error)))
    if not found:
        raise BadInput(f"{question.name}: no exchange can run there: {'; '.join(f'{r.protocol}: {r.reason}' for r in refused)}")
    found.sort(key=lambda curve: sum(np.log(curve.layer_us)))
    measured = [curve for curve in found if curve.measured]
    winners = tuple(_winners(measured or found, wanted))
    return Exchanges(
        name=question.name,
        description=question.description,
        sentence=_sentence(question, found, winners),
        model=question.model.name,
        cluster=question.cluster.label,
        ranks=question.deployment.ep,
        tokens=wanted,
        curves=tuple(found),
        winners=winners,
        refused=tuple(refused),
        notes=tuple(_notes(question, found, winners)),
        version=__version__,
    )


def _under(question: Question, protocol: str) -> Question:
    """``question`` with ``protocol``, checked again, under uniform routing where its own has no closed form."""
    routing = question.traffic.routing if question.traffic.routing.kind in ROUTED else Routing()
    traffic = question.traffic.model_copy(update={"routing": routing})
    own = protocol == question.deployment.protocol
    transport = question.deployment.transport if own else None
    changed = {"protocol": protocol, "compare": (), "transport": transport}
    if not find_protocol(protocol).capacity:
        changed["max_tokens"] = None
    return replace(question, deployment=question.deployment.model_copy(update=changed), traffic=traffic)


def _curve(question: Question, tokens: Floats) -> Curve:
    record = find_protocol(question.deployment.protocol)
    ops = layer_seconds(question, tokens)
    sources = layer_sources(question, tokens)
    by_op = {source.shown: source for source in sources}  # several launches of one op: the last one's, as when it is played
    ranks = float(question.deployment.ep)
    sure = []
    for i, each in enumerate(tokens.tolist()):
        timed = [(float(ops[op][i]), source) for op, source in by_op.items() if ops[op][i] > 0.0]
        sure.append(combined([(s, sureness(question, source, s, each, each * ranks)) for s, source in timed]))
    whole = np.sum(list(ops.values()), axis=0)
    before = {op.shown or op.name for op in record.before}
    experts = next(source.shown for source in sources if source.op is None)
    lenders = sorted({source.lender for source in sources if source.lender})
    rows = library_rows(record.name)
    few = f"{rows} published row{'s' if rows > 1 else ''}"
    if lenders:
        known = f"the {' and '.join(lenders)} kernels' fit" + (f", {few} of its own" if rows else f", {UNMEASURED}")
    else:
        known = few if rows else f"rows measured on {', '.join(dict.fromkeys(s.system for s in sources if s.op is not None))}"
    return Curve(
        protocol=record.name,
        what=record.what,
        known=known,
        engines=(*record.engines, *record.offered),
        layer_us=_us(whole),
        low90_us=_us(whole * np.array([s.low90 for s in sure])),
        high90_us=_us(whole * np.array([s.high90 for s in sure])),
        dispatch_us=_us(sum((s for op, s in ops.items() if op in before), np.zeros_like(whole))),
        experts_us=_us(ops[experts]),
        combine_us=_us(sum((s for op, s in ops.items() if op not in before and op != experts), np.zeros_like(whole))),
    )


def _us(seconds: Floats) -> tuple[float, ...]:
    return tuple(float(s) for s in seconds * 1e6)


def _winners(curves: Sequence[Curve], tokens: Sequence[int]) -> Iterator[Stretch]:
    order = [_fastest_first(curves, i) for i in range(len(tokens))]
    begin = 0
    for i in range(1, len(tokens) + 1):
        if i < len(tokens) and order[i][0] is order[begin][0]:
            continue
        best, second = order[begin][0], order[begin][1] if len(curves) > 1 else order[begin][0]
        ratio = second.layer_us[begin] / best.layer_us[begin]
        apart = all(best.high90_us[j] < other.low90_us[j] for j in range(begin, i) for other in order[j][1:])
        yield Stretch(best.protocol, tokens[begin], tokens[i - 1], second.protocol, ratio, apart and len(curves) > 1)
        begin = i


def _fastest_first(curves: Sequence[Curve], at: int) -> list[Curve]:
    return sorted(curves, key=lambda curve: curve.layer_us[at])


def _sentence(question: Question, curves: Sequence[Curve], winners: Sequence[Stretch]) -> str:
    where = f"{question.deployment.ep} {question.cluster.node.gpu.label} GPUs of {question.cluster.label}"
    spans = [
        f"{w.protocol} {'at' if w.first_tokens == w.last_tokens else 'from'} {w.first_tokens:,}"
        + ("" if w.first_tokens == w.last_tokens else f" to {w.last_tokens:,}")
        for w in winners
    ]
    return (
        f"Of {len(curves)} exchanges that can carry one {question.model.name} layer on {where}, the fastest by tokens a rank: "
        f"{', '.join(spans)}."
    )


def _notes(question: Question, curves: Sequence[Curve], winners: Sequence[Stretch]) -> Iterator[str]:
    yield "whole layers in closed form: dispatch, experts and combine; intervals are of each protocol alone"
    if question.traffic.routing.kind not in ROUTED:
        yield f"routing {question.traffic.routing.kind} has no closed form: uniform routing stands for it"
    unmeasured = [curve.protocol for curve in curves if not curve.measured]
    if unmeasured:
        yield f"unmeasured, with other kernels' constants and wider intervals, so that they do not win: {', '.join(unmeasured)}"
    for name in dict.fromkeys(winner.protocol for winner in winners):
        yield from (f"{name}: {caveat}" for caveat in find_protocol(name).caveats)


def _plain(error: Exception) -> str:
    """The reason without the place in a file."""
    return str(error).splitlines()[0]
