"""The workers of a search: every arrangement that can be, what memory lets it hold, and its rates, as one table of columns.

A *kind* is one combination of engine, protocol and overlap; within a kind the widths, batches and chunks are arrays, so that
one call of the closed form answers for all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.backends import load_backend
from ...hwmodels.calibration import load_calibration
from ...hwmodels.errors import Uncalibrated
from ...sim.ep.limit import Asked, can_run
from ...sim.ep.protocol import all_protocols, find_protocol
from ...sim.ep.protocols import DEFAULT
from ...sim.ep.transport import can_cross, transport_of
from ...sim.inputs.traffic import Routing
from ...sim.serving.queue import ArrivalLaw
from ...sim.serving.steady import Rates, Setting, aggregated_worker, decode_worker, prefill_worker
from ...sim.step.memory import WorkerMemory, worker_memory
from ...sim.step.worker import Arrangement
from ..ask.search import Search
from .widths import Floats, widths

#: Why a worker is ruled out that does not fit.
NO_MEMORY = "memory does not hold the weights, or the batch's KV cache"
#: What a search may say of prefill workers alone.
PREFILL_OWN = ("tp", "dp", "pp", "ep", "worker_gpus", "protocols", "overlap", "redundant_experts")
Rated = Callable[[Setting, Arrangement, Floats, Floats], Rates]


@dataclass(frozen=True, slots=True)
class Kind:
    """What is the same for many workers, and no number. ``protocol`` is "" where nothing is exchanged."""

    backend: str
    protocol: str
    overlap: bool


@dataclass(frozen=True, slots=True)
class Workers:
    """One row a worker. ``kind`` indexes ``kinds``; ``sequences``: what its memory holds in one attention group.

    ``limited``: 1 where numbers are those at the limits, with the batch less than full (`at_limits`).

    Rates as in `sim.serving.steady.Rates`; ``batch`` is 0 for prefill workers, ``chunk_tokens`` 0 for decode workers.
    """

    kinds: tuple[Kind, ...]
    kind: NDArray[np.int64]
    tp: Floats
    dp: Floats
    pp: Floats
    ep: Floats
    redundant: Floats
    batch: Floats
    chunk_tokens: Floats
    sequences: Floats
    requests_per_s: Floats
    tpot_s: Floats
    ttft_s: Floats
    prompt_s: Floats
    boarding_s: Floats
    limited: Floats

    @property
    def gpus(self) -> Floats:
        """GPUs of one worker."""
        return self.tp * self.dp * self.pp

    def __len__(self) -> int:
        return len(self.tp)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Workers:
        """The table of these rows only."""
        columns = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "kinds"}
        return replace(self, **columns)


@dataclass(frozen=True, slots=True)
class Found:
    """A table of workers that fit, and how many were ruled out, by reason. ``nearest``: of those that no memory holds, the
    one that lacks least, in words."""

    workers: Workers
    ruled_out: Counter[str]
    nearest: str = ""
    short_bytes: float = 0.0


def decode_workers(setting: Setting, routing: Routing, search: Search, most_gpus: int) -> Found:
    """Workers that only decode: widths x protocol x overlap x batch."""

    def rates(here: Setting, a: Arrangement, batch: Floats, chunk: Floats) -> Rates:
        return decode_worker(here, a, batch)

    return _table(setting, routing, search, most_gpus, search.batches, (0,), rates)


def prefill_workers(setting: Setting, routing: Routing, search: Search, most_gpus: int) -> Found:
    """Workers that only compute prompts: widths x protocol x overlap x chunk."""

    def rates(here: Setting, a: Arrangement, batch: Floats, chunk: Floats) -> Rates:
        return prefill_worker(here, a, chunk)

    own = {name: getattr(search, f"prefill_{name}") or getattr(search, name) for name in PREFILL_OWN}
    return _table(setting, routing, search.model_copy(update=own), most_gpus, (0,), search.prefill_chunk_tokens, rates)


def aggregated_workers(
    setting: Setting,
    routing: Routing,
    search: Search,
    most_gpus: int,
    law: ArrivalLaw | None = None,
    concurrency: int | None = None,
) -> Found:
    """Workers that do both, ``batch`` sequences decoding in each group: widths x protocol x overlap x batch x chunk.

    ``law``: of arrivals at a rate; None: a closed loop, of ``concurrency`` requests over as many workers as those fill, or of
    as many as decode.
    """

    def rates(here: Setting, a: Arrangement, batch: Floats, chunk: Floats) -> Rates:
        flying: Any = batch
        if concurrency is not None:
            most = np.maximum(np.floor(most_gpus / (a.tp * a.dp * a.pp)), 1.0)
            flying = np.maximum(concurrency / (a.dp * np.clip(np.floor(concurrency / (batch * a.dp)), 1.0, most)), batch)
        return aggregated_worker(here, a, flying, chunk, batch, law)

    return _table(setting, routing, search, most_gpus, search.batches, search.chunk_tokens, rates)


def at_rate(workers: Workers, rate: float) -> Workers:
    """The workers as busy as ``rate`` requests a second keep the fewest of each that carry it.

    ``batch`` stays the most they take. Times run straight between the batches of an arrangement; below the smallest they stay.
    """
    each = rate / np.ceil(rate / workers.requests_per_s)
    times = {name: np.array(getattr(workers, name)) for name in ("tpot_s", "ttft_s", "prompt_s")}
    for rows in _by_batch(workers):
        carried = np.maximum.accumulate(workers.requests_per_s[rows])
        for column in times.values():
            column[rows] = np.interp(each[rows], carried, column[rows])
    return replace(workers, requests_per_s=each, **times)  # type: ignore[arg-type]


def at_limits(workers: Workers, share: Floats) -> Workers:
    """The workers at the largest load that meets the limits, where more than the smallest batch does.

    ``share``: [row] the worst of got / wanted with the batch full. ``batch`` stays the most they take. Between the batches of
    an arrangement numbers run straight, as in `at_rate`.
    """
    names = ("requests_per_s", "tpot_s", "ttft_s", "prompt_s")
    columns = {name: np.array(getattr(workers, name)) for name in (*names, "limited")}
    for rows in _by_batch(workers):
        rising = np.maximum.accumulate(share[rows])
        if rising[0] >= 1.0 or rising[-1] <= 1.0:
            continue
        beyond = rising > 1.0
        for name in names:
            columns[name][rows[beyond]] = np.interp(1.0, rising, columns[name][rows])
        columns["limited"][rows[beyond]] = 1.0
    return replace(workers, **columns)  # type: ignore[arg-type]


def _by_batch(workers: Workers) -> list[NDArray[np.int64]]:
    """Rows of each arrangement, the smallest batch first."""
    if not len(workers):
        return []
    alike = np.stack([getattr(workers, name) for name in ("kind", "tp", "dp", "pp", "ep", "redundant", "chunk_tokens")])
    group = np.unique(alike, axis=1, return_inverse=True)[1].ravel()
    order = np.lexsort((workers.batch, group))
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1)


def _table(
    setting: Setting,
    routing: Routing,
    search: Search,
    most_gpus: int,
    batches: tuple[int, ...],
    chunks: tuple[int, ...],
    rates: Rated,
) -> Found:
    model, cluster = setting.model, setting.cluster
    columns = widths(model, cluster, search, most_gpus, routing)
    ruled_out: Counter[str] = Counter()
    tables: list[Workers] = []
    kinds: list[Kind] = []
    nearest, least = "", np.inf
    # Arrangement x batch x chunk: what depends on one of them alone is worked out once for each of its values.
    batch, chunk = np.array(batches, float)[None, :, None], np.array(chunks, float)[None, None, :]
    for kind in _kinds(search, decodes=batches != (0,)):
        mine = [c[:, None, None] for c in _of_kind(columns, kind, setting, search)]
        if not len(mine[0]):
            continue
        arrangement = _arrangement(mine, kind, search)
        held = memory_of(setting, arrangement, batch, chunk, search.memory_share)
        shape = np.broadcast_shapes(mine[0].shape, batch.shape, chunk.shape)
        sequences = np.broadcast_to(held.sequences, shape)
        # Every stage of a pipeline has a sequence of its own; fewer would leave stages idle.
        asked = np.broadcast_to((batch == 0.0) | (batch >= mine[2]), shape)
        fits = asked & (sequences >= np.maximum(batch, 1.0))
        ruled_out[NO_MEMORY] += int((asked & ~fits).sum())
        if not fits.any():
            lacking = np.where(asked, held.short_bytes, np.inf)
            at = np.unravel_index(int(np.argmin(lacking)), shape)
            if 0 < lacking[at] < least:
                closest = _arrangement([c[at[0]] for c in mine], kind, search)
                one = memory_of(setting, closest, batch[0, at[1]], chunk[0, 0, at[2]], search.memory_share)
                nearest, least = one.refusal(), float(lacking[at])
            continue
        some = fits.any(axis=(1, 2))
        mine, fits, sequences = [c[some] for c in mine], fits[some], sequences[some]
        try:
            here = replace(setting, backend=load_backend(kind.backend))
            found = rates(here, _arrangement(mine, kind, search), batch, chunk)
        except Uncalibrated as error:
            ruled_out[str(error)] += int(fits.sum())
            continue
        answers = (found.requests_per_s, found.tpot_s, found.ttft_s, found.prompt_s, found.boarding_s, 0.0)
        rows: Any = [np.broadcast_to(c, fits.shape)[fits] for c in (*mine, batch, chunk, sequences, *answers)]
        tables.append(Workers((), np.full(len(rows[0]), len(kinds)), *rows))
        kinds.append(kind)
    ruled_out = +ruled_out
    return Found(_joined(tables, tuple(kinds)), ruled_out, nearest, 0.0 if np.isinf(least) else float(least))


def _arrangement(columns: list[Floats], kind: Kind, search: Search) -> Arrangement:
    """Workers of a kind, ``columns`` as `widths` has them."""
    tp, dp, pp, ep, redundant = columns
    sms = float(search.comm_sms)
    placed = search.placement or ""
    protocol = kind.protocol or DEFAULT
    return Arrangement(tp, dp, pp, ep, protocol, sms, redundant, kind.overlap, graphs=True, placement=placed)


def memory_of(setting: Setting, arrangement: Arrangement, batch: Floats, chunk: Floats, share: float) -> WorkerMemory:
    """What such workers hold; a sequence is counted at its longest, a prefill worker's prompt at its whole length."""
    workload = setting.workload
    decoding = np.asarray(batch) > 0
    return worker_memory(
        setting.model,
        arrangement,
        setting.precision,
        setting.cluster,
        tokens_per_step=batch * (1.0 + setting.speculation.drafts),
        prompt_tokens=chunk,
        memory_share=share,
        context=np.where(decoding, workload.mean_input + workload.mean_output, workload.mean_input),
        graphs=bool(np.any(decoding)),
        mtp=setting.speculation.drafts,
    )


def _kinds(search: Search, *, decodes: bool) -> list[Kind]:
    """Kinds without an exchange first; overlap hides an exchange, so it goes with one only."""
    found = []
    for backend in search.backends:
        found.append(Kind(backend, "", False))
        for protocol in _tried_with(backend, search):
            record = find_protocol(protocol)
            if not decodes and record.prompts_by:
                continue
            hidden = dict.fromkeys(search.overlap) if record.overlaps else (False,)
            found += [Kind(backend, protocol, overlap) for overlap in hidden]
    return found


def _tried_with(backend: str, search: Search) -> tuple[str, ...]:
    """The protocols that an engine is tried with: those asked for, all that it has an option for, or those it takes unasked."""
    if search.protocols is not None and search.protocols != "all":
        return search.protocols
    known = all_protocols().items()
    if search.protocols == "all":
        return tuple(name for name, record in known if backend in (*record.engines, *record.offered))
    return tuple(name for name, record in known if backend in record.engines)


def _of_kind(columns: tuple[Floats, ...], kind: Kind, setting: Setting, search: Search) -> tuple[Floats, ...]:
    """The arrangements that exchange tokens by this kind's protocol, as far as its library can, or that exchange none."""
    (tp, dp), cluster, asked = columns[:2], setting.cluster, search.protocols is not None
    if not kind.protocol:
        return tuple(c[dp == 1] for c in columns)
    ranks, domain = tp * dp, cluster.nvlink_domain_gpus
    inside = ranks <= domain
    record, able = find_protocol(kind.protocol), np.ones_like(inside)
    if record.one_domain or not (record.measured_across or asked):
        able = inside  # what nobody measured across nodes goes there only where it is asked for
    elif record.rails:
        able = inside | (ranks % domain == 0)
    crosses = can_cross(cluster, kind.protocol)
    able = able if crosses else able & inside
    transport = transport_of(cluster, kind.protocol) if crosses else None
    model, redundant = setting.model, columns[4]
    wanted = Asked(
        system=load_calibration(cluster.calibration).system,
        ranks=ranks,
        domain=np.minimum(ranks, domain),
        top_k=float(model.top_k),
        experts=model.experts + redundant,
        hidden=float(model.hidden),
        comm_sms=float(search.comm_sms),
        transport=transport.name if transport else "",
    )
    return tuple(c[(dp > 1) & able & can_run(record.limits, wanted)] for c in columns)


def _joined(tables: list[Workers], kinds: tuple[Kind, ...]) -> Workers:
    names = [f.name for f in fields(Workers) if f.name != "kinds"]
    empty = {name: np.zeros(0, np.int64 if name == "kind" else np.float64) for name in names}
    columns = {name: np.concatenate([getattr(t, name) for t in tables]) for name in names} if tables else empty
    return Workers(kinds, **columns)
