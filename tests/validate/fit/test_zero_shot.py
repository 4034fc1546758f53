"""Rows of a kind that the fit never saw: other hidden sizes, SM counts, node counts, EP sizes; and a third left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from epicycle.hwmodels.calibration import load_calibration
from epicycle.hwmodels.catalog import load_cluster
from epicycle.sim.ep.machine import machine_of
from epicycle.sim.ep.stage import Machine
from epicycle.validate.fit.fit import fit, rows_to_fit
from epicycle.validate.tables.ep_rows import Group, Row, grouped, read_table

Pick = Callable[[Row], bool]


def h100(nodes: int | None = None) -> Pick:
    return lambda r: r.system == "h100_sxm" and ((r.nodes == 1) if nodes == 1 else (r.nodes > 1))


def ranks(row: Row) -> int:
    return row.nodes * row.gpus_per_node


# name: (rows taken, rows that may be fitted to, rows predicted, bar in percent)
SPLITS: dict[str, tuple[Pick, Pick, Pick, float]] = {
    "hidden 2048 from 4096 and 7168": (h100(1), lambda r: r.hidden in (4096, 7168), lambda r: r.hidden == 2048, 8.0),
    "8, 16 and 20 SMs from 4, 12 and 24": (
        lambda r: h100(1)(r) and r.protocol == "deepep-normal",
        lambda r: r.comm_sms in (4, 12, 24),
        lambda r: r.comm_sms in (8, 16, 20),
        8.0,
    ),
    "4 nodes from 2": (h100(), lambda r: r.nodes == 2, lambda r: r.nodes == 4, 10.0),
    "EP16 from EP2..EP8": (
        lambda r: r.system == "gb200" and r.family == "trtllm",
        lambda r: ranks(r) <= 8,
        lambda r: ranks(r) == 16,
        8.0,
    ),
}


@pytest.fixture(scope="module")
def rows(tables: Path) -> list[Row]:
    return read_table(tables / "ep_comm.csv")


def machine(system: str) -> Machine:
    return machine_of(load_cluster(load_calibration(system).cluster))


def errors(group: Group, used: np.ndarray, tested: np.ndarray) -> np.ndarray:
    """Signed percent on the tested rows of a fit to ``used``."""
    return 100 * (fit(group, machine(group.system), "t", used).predicted_s / group.measured_s - 1)[tested]


def splits(group: Group, train: Pick, test: Pick) -> tuple[np.ndarray, np.ndarray]:
    allowed = np.flatnonzero([train(r) for r in group.rows])
    part = replace(group, rows=tuple(group.rows[i] for i in allowed))
    return allowed[rows_to_fit(part)], np.array([test(r) for r in group.rows])


@pytest.mark.parametrize("name", SPLITS)
def test_zero_shot(rows: list[Row], name: str) -> None:
    pick, train, test, bar = SPLITS[name]
    found = {}
    for group in grouped([r for r in rows if pick(r)]):
        used, tested = splits(group, train, test)
        assert len(used) <= 24
        assert not tested[used].any()
        found[group.protocol, group.op] = float(np.abs(errors(group, used, tested)).mean())
    assert len(found) >= 2
    beyond = {key: mape for key, mape in found.items() if mape > bar}
    assert not beyond, found


def thirds(count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for k in range(3):
        out = np.arange(count) % 3 == k
        yield np.flatnonzero(~out), out


@pytest.mark.parametrize("system", ["b200_sxm", "gb200"])
def test_a_third_left_out(rows: list[Row], system: str) -> None:
    """DeepEP on Blackwell from its `calibrate` rows alone."""
    for group in grouped([r for r in rows if r.system == system and r.family == "deepep"]):
        assert len(group.rows) <= 24
        assert {r.values["role"] for r in group.rows} == {"calibrate"}
        left_out = np.concatenate([errors(group, used, out) for used, out in thirds(len(group.rows))])
        assert np.abs(left_out).mean() <= 7.0, (group.protocol, group.op)


@pytest.mark.parametrize("system", ["h200_sxm", "b300_sxm", "gb300"])
def test_systems_without_rows_are_predicted_by_their_relative(system: str) -> None:
    assert load_calibration(system).relative in ("h100_sxm", "b200_sxm", "gb200")
    assert {entry.scope for entry in load_calibration(system).entries} <= {"kernel"}  # our own kernels, on one GPU
