"""Measured deployments replayed request by request: the suite's closed loop against the engines' schedulers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.backends import load_backend
from ...hwmodels.errors import BadInput
from ...sim.ep.machine import machine_of
from ...sim.serving.prompts import ROUNDS
from ...sim.serving.requests.arrivals.made_up import Lengths, arrivals
from ...sim.serving.requests.fleet import Kind
from ...sim.serving.requests.loop import layout as at
from ...sim.serving.requests.play import play
from ...sim.serving.requests.rules import rules_of
from ...sim.serving.requests.times.shelf import shelf_of
from ...sim.serving.requests.times.step_table import Reach, Table, step_table
from ...sim.serving.steady import Setting
from ...sim.step.worker import Arrangement
from .rows import SUITE_SPREAD, ServingRow
from .steady import Deployed, backend_of, deployed

_PS = 1e12
_UNIT = 64
#: Requests that a replay plays at most: the suite's are ten for each client, which so many clients have less of.
MOST_REQUESTS = 20_000
_ADMISSION = {"trtllm": 1.0, "sglang": 0.5}


@dataclass(frozen=True, slots=True)
class Replayed:
    """Mean seconds [row], NaN where a row could not be played."""

    tpot_s: NDArray[np.float64]
    ttft_s: NDArray[np.float64]


def replay(rows: Sequence[ServingRow], rounds: float = 10.0, progress: Callable[[int, int], None] | None = None) -> Replayed:
    """Every row's means, each played for itself: ``rounds`` requests of each client, all of whom begin at once."""
    tpot, ttft = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    for i, row in enumerate(rows):
        try:
            tpot[i], ttft[i] = _one(row, rounds)
        except BadInput:
            continue
        if progress is not None:
            progress(i + 1, len(rows))
    return Replayed(tpot, ttft)


def _one(row: ServingRow, rounds: float) -> tuple[float, float]:
    too_large: dict[int, str] = {}
    asked = deployed([row], load_backend(backend_of(row.backend)), too_large)
    if too_large:
        raise BadInput(too_large[0])
    # One row's settings as numbers: what the closed form broadcasts over rows, the tables broadcast over their nodes.
    setting, lengths = asked.setting, _lengths(row, asked.setting.backend.mixes_prompts)
    tables: list[Table] = []
    kinds = [_kind(asked, setting, row, tables, first) for first in ((True, False) if asked.prefill is not None else (False,))]
    count = int(min(rounds * row.concurrency, max(MOST_REQUESTS, row.concurrency)))
    engine, nic = setting.engine, setting.cluster.node.nic
    patient = ROUNDS[asked.decode.arrangement.balance or setting.backend.balance]
    rules = rules_of(
        unit_tokens=_UNIT,
        block_tokens=_UNIT,
        drafts=row.drafts,
        acceptance=setting.speculation.acceptance,
        admission=_ADMISSION.get(row.backend, 0.0),
        token_bytes=max(1.0, float(setting.model.kv_bytes(8192, setting.precision.kv)) / 8192),
        handover_steps=engine.handover_steps,
        move_latency=(nic.latency + engine.handover) * _PS,
        closed=row.concurrency,
        first_steps=engine.first_steps,
        first_token=engine.first_token * _PS,
        router=1,
        poll_steps=max(1, round(row.script.poll_steps)),
        wait_steps=row.script.wait_steps,
        wait_fill=row.script.wait_fill,
        balance_steps=0 if np.isinf(patient) or patient <= 1.0 else patient,
    )
    records: list[Any] = []
    play(kinds, rules, shelf_of(tables), arrivals("closed", 1.0, lengths, row.line, count=count), records.append)
    r = np.concatenate(records)
    r = r[(r["status"] == at.SERVED) & (r["output"] > 1)]
    if not r.size:
        raise BadInput(f"line {row.line}: no request is served: the cache holds none")
    tpot = (r["end"] - r["first"]) / (r["output"] - 1) / _PS
    return float(tpot.mean()), float((r["first"] - r["arrival"]).mean() / _PS)


def _lengths(row: ServingRow, mixes: bool) -> Lengths:
    """As the suite draws them. Requests of equal lengths that begin at once would stay in step for ever where chunks are mixed
    into decode steps; measured times to first token, a fraction of what that gives, say that they do not: they are spread here
    as the suite's are, around the same means (the closed form takes it so as well)."""
    if row.spread > 0.0 or not mixes:
        return Lengths(row.isl, row.osl, row.spread)
    return Lengths(row.isl / (1.0 - SUITE_SPREAD / 2.0), row.osl / (1.0 - SUITE_SPREAD / 2.0), SUITE_SPREAD)


def _kind(asked: Deployed, setting: Setting, row: ServingRow, tables: list[Table], prefills: bool) -> Kind:
    pool = asked.prefill if prefills else asked.decode
    assert pool is not None
    a, apart = _plain(pool.arrangement), asked.prefill is not None
    slots = max(1, int(_one_of(pool.slots)))
    chunk = _one_of(pool.chunk_tokens)
    most = min(slots, max(1, -(-row.concurrency // int(a.dp))))
    reach = Reach(max(2.0, most / float(a.pp)), float(row.isl + row.osl), chunk)
    tables.append(step_table(setting, a, reach))
    nic = machine_of(setting.cluster).nic_bytes_per_s * setting.cluster.node.nic.efficiency
    place = at.AGGREGATED if not apart else at.PREFILLS if prefills else at.DECODES
    units = max(int(_one_of(asked.tokens[int(prefills)]) / _UNIT), -(-(row.isl + row.osl + 1) // _UNIT) + 1)
    return Kind(
        role=int(place),
        count=int(_one_of(pool.count)),
        ranks=int(a.dp),
        units=units,
        slots=most,
        budget=int(chunk),
        mixes=setting.backend.mixes_prompts or place == at.DECODES,
        table=len(tables) - 1,
        gpus=int(a.gpus),
        pp=int(a.pp),
        port_bytes_per_s=float(a.tp * a.pp) * nic,
        caches=False,
    )


def _plain(a: Arrangement) -> Arrangement:
    """``a`` of one row with numbers for its arrays."""
    found = {f.name: getattr(a, f.name) for f in fields(a)}
    numbers: dict[str, Any] = {name: _one_of(value) for name, value in found.items() if isinstance(value, np.ndarray)}
    return replace(a, **numbers)


def _one_of(value: object) -> float:
    return float(np.asarray(value, float).ravel()[0])
