"""Rows of this project's own kernels, predicted launch by launch with the constants fitted on one GPU."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from ...hwmodels.calibration import Entry, constants_of, find_entry, load_calibration
from ...hwmodels.catalog import load_cluster
from ...hwmodels.errors import Uncalibrated
from ...hwmodels.known.foreign import why_foreign
from ...hwmodels.laws.kernels import Gemm, gemm_seconds
from ...hwmodels.specs import Gpu
from ...sim.ep.compute.own_kernels import OwnMove, OwnProduct
from ...sim.ep.machine import machine_of
from ...sim.ep.protocol import Context, describe
from ...sim.ep.protocols.epicycle import find_own
from ..tables.own.launches import Key
from ..tables.own.node import LAUNCHES, is_of_node, links_of, node_seconds, shape_of
from ..tables.own.rows import DENSE, LIBRARY, OwnRow, keys_of, predicted_s, read_own
from .predicted import Found, Predicted


def own_rows(path: Path) -> Found:
    """The predicted rows, skips and notes of a file that bench wrote. Raises BadInput as `read_own`."""
    gpus: dict[str, Gpu] = {}
    rows = read_own(path, gpus)
    skipped = Counter(row.reason for row in rows if row.reason)
    predicted: list[Predicted] = []
    notes: list[str] = []
    for row in rows:
        if row.op == DENSE:
            try:
                predicted.append(_dense(row, gpus[row.system]))
            except Uncalibrated as error:
                skipped[str(error)] += 1
    for system in dict.fromkeys(row.system for row in rows):
        predicted += [_on_node(row) for row in rows if row.system == system and is_of_node(row)]
        usable = [row for row in rows if row.system == system and row.parts]
        if not usable:
            continue
        try:
            entries = {key: find_own(system, *key) for key in keys_of(usable)}
        except Uncalibrated as error:
            skipped[str(error)] += len(usable)
            continue
        predicted += _predicted(usable, system, gpus[system], entries)
        notes += _notes(usable, system, entries)
    return predicted, dict(skipped), tuple(notes)


def _on_node(row: OwnRow) -> Predicted:
    """A node's row from one GPU's constants and the links' own efficiencies, or borrowed ones."""
    cluster = load_cluster(load_calibration(row.system).cluster)
    nodes = int(float(row.values["nodes"]))
    op = LAUNCHES[row.protocol][row.op][-1]
    described = describe(row.protocol, op, links_of(row), row.system, shape_of(row), machine_of(cluster), Context())
    source = described.calibrated_on
    note = f"links at the shares of {described.lender}: no row of ours crossed one" if described.lender else ""
    key = (row.system, row.protocol, row.op, nodes)
    return Predicted(row.line, dict(row.values), key, row.latency_us, 1e6 * node_seconds(row, cluster), source, False, note)


def _dense(row: OwnRow, gpu: Gpu) -> Predicted:
    """torch's dense product by the GEMM law of the system or its nearest relative."""
    entry, source = find_entry(row.system, "gemm", "bf16", "one-node")
    m, n, k = (np.array([float(row.values[name])]) for name in "mnk")
    seconds = float(gemm_seconds(m, n, k, "bf16", gpu, constants_of(entry, Gemm))[0])
    key = (row.system, "gemm", "bf16", 1)
    return Predicted(row.line, dict(row.values), key, row.latency_us, 1e6 * seconds, source)


def own_constants(entries: dict[Key, tuple[Entry, str]]) -> dict[Key, OwnMove | OwnProduct]:
    """The records of entries, by their keys."""
    found: dict[Key, OwnMove | OwnProduct] = {}
    for key, (entry, _) in entries.items():
        found[key] = constants_of(entry, OwnProduct) if key[1].startswith("product.") else constants_of(entry, OwnMove)
    return found


def _predicted(rows: list[OwnRow], system: str, gpu: Gpu, entries: dict[Key, tuple[Entry, str]]) -> list[Predicted]:
    seconds = predicted_s(rows, gpu, own_constants(entries))
    cluster = load_cluster(load_calibration(system).cluster)
    found = []
    for row, s in zip(rows, seconds, strict=True):
        entry, source = entries[row.parts[0].key]
        borrowed = "" if source == system else source
        sure = entry.fit.interval(float(s), 1, {"tokens": float(row.tokens)}, borrowed, why_foreign(cluster, False, source))
        key = (system, row.protocol, row.op, 1)
        seen = not borrowed and entry.fit.mape_rest_pct is None
        times = (row.latency_us, 1e6 * float(s))
        found.append(Predicted(row.line, dict(row.values), key, *times, source, False, "", sure, seen))
    return found


def _notes(rows: list[OwnRow], system: str, entries: dict[Key, tuple[Entry, str]]) -> list[str]:
    notes = []
    named = {row.values["system"] for row in rows} - {system}
    if named:
        notes.append(f"system {', '.join(sorted(repr(n) for n in named))} is {system}, by the GPU's name")
    theirs, fitted = (sorted(commits) for commits in (_commits(rows), {_commit(e) for e, _ in entries.values()} - {""}))
    if theirs and fitted and theirs != fitted:
        notes.append(
            f"rows of commit {', '.join(theirs)}, constants of commit {', '.join(fitted)}: where kernels changed between them,"
            " errors are of the kernels, too"
        )
    lost = sorted({f"{key[1]}: {', '.join(e.fit.undetermined)}" for key, (e, _) in entries.items() if e.fit.undetermined})
    if lost:
        notes.append(f"the rows fitted to do not tell {'; '.join(lost)}: epicycle calibrate says which would")
    return notes


def _commits(rows: list[OwnRow]) -> set[str]:
    return {row.values["commit"] for row in rows} - {""}


def _commit(entry: Entry) -> str:
    """The commit whose rows an entry was fitted to, which its library ends in; "" if it names none."""
    return entry.fit.library.partition(f"{LIBRARY} ")[2]
