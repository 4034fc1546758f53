"""Whatever fails, every request is accounted for: served, failed or refused; and what failed comes back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from epicycle.sim.inputs.requests import Fault, Faults
from epicycle.sim.serving.faults.pools import Group
from epicycle.sim.serving.faults.schedule import schedule
from epicycle.sim.serving.requests.arrivals.made_up import Lengths, arrivals
from epicycle.sim.serving.requests.fleet import Kind
from epicycle.sim.serving.requests.loop import layout as at
from epicycle.sim.serving.requests.rules import rules_of

from .conftest import one_table, played

SHELF = one_table(lambda n, c: 5e-3 + 1e-4 * n, lambda r, _: 5e-3 + 1e-5 * r)


def groups(pools: list[Kind]) -> list[Group]:
    found, numbers = [], {"decode": 0, "prefill": 0}
    for kind in pools:
        for _ in range(kind.count):
            pool = "prefill" if kind.role == at.PREFILLS else "decode"
            found.append(Group(len(found), pool, numbers[pool], kind.ranks, 1, 8, kind.table, kind.port_bytes_per_s))
            numbers[pool] += 1
    return found


def same_table(group: Group, lost: int, share: float) -> int:
    return 0


@pytest.mark.parametrize("number", range(50))
def test_every_request_is_accounted_for(worker: Callable[..., Kind], number: int) -> None:
    rng = np.random.default_rng(number)
    apart = bool(rng.random() < 0.6)
    ranks = int(rng.integers(1, 5))
    pools = [worker(count=3, ranks=ranks, units=int(rng.integers(40, 400)))]
    if apart:
        pools = [
            worker(role=1, count=2, units=200, port_bytes_per_s=2e9),
            worker(role=2, count=2, ranks=ranks, units=int(rng.integers(40, 400)), port_bytes_per_s=2e9),
        ]
    faults = Faults(
        gpu_hours=float(rng.uniform(0.02, 0.2)),
        nic_hours=0.2,
        node_hours=0.5,
        protocol="elastic" if rng.random() < 0.5 else "stop",
        detect=f"{rng.uniform(0, 2):.3f} s",
        restart="5 s",
        repair="30 s",
        spares=int(rng.integers(0, 3)),
        precursors=0.5,
        warning="5 s",
    )
    early = int(rng.random() < 0.5)
    rules = rules_of(
        token_bytes=131_072.0,
        retries=int(rng.integers(0, 4)),
        backoff=5e11,
        resume=rng.random() < 0.5,
        swap=rng.random() < 0.3,
        host_rate=1e10,
        early=early,
        layerwise=early and rng.random() < 0.5,
        layers=32,
        seed=number,
    )
    plan = schedule(faults, groups(pools), 60.0, number, same_table)
    chunks = arrivals("poisson", 20.0, Lengths(400, 150, spread=0.9), number, count=1_000)
    records, end = played(pools, rules, SHELF, chunks, changes=plan.changes)
    assert len(records) == len(set(records["id"])) == 1_000
    served = records["status"] == at.SERVED
    np.testing.assert_array_equal(records["made"][served], records["output"][served])
    assert np.all(records["tries"][records["status"] == at.FAILED] > rules.retries)
    assert np.all((served) | (records["status"] == at.FAILED))
    assert end.world.n[at.CHANGED] <= plan.changes.size


def test_a_lost_rank_stops_its_group_or_only_shrinks_it(worker: Callable[..., Kind]) -> None:
    pools = [worker(ranks=4)]
    outcome = {}
    for protocol in ("stop", "elastic"):
        faults = Faults(at=(Fault(at="30 s"),), protocol=protocol, detect="1 s", regroup="1 s", restart="20 s", spares=1)  # type: ignore[arg-type]
        plan = schedule(faults, groups(pools), 100.0, 1, same_table)
        chunks = arrivals("poisson", 20.0, Lengths(400, 150), 1, count=1_200)
        records, end = played(pools, rules_of(retries=100, backoff=5e11), SHELF, chunks, changes=plan.changes)
        outcome[protocol] = (float(end.world.workers["down"][0]) * 1e-12, int(np.count_nonzero(records["tries"])), records)
    assert outcome["stop"][0] == pytest.approx(20.0)
    assert outcome["elastic"][0] == 0.0
    assert outcome["elastic"][1] < outcome["stop"][1]
    waits = {k: np.percentile((r["first"] - r["arrival"]) * 1e-12, 99) for k, (_, _, r) in outcome.items()}
    assert waits["elastic"] < 10.0 < waits["stop"]


def test_a_spare_shortens_the_outage(worker: Callable[..., Kind]) -> None:
    pools = [worker(ranks=2, count=2)]
    for spares, expected in ((1, 20.0), (0, 14_420.0)):
        faults = Faults(at=(Fault(at="30 s", worker=1),), detect="1 s", restart="20 s", spares=spares)  # type: ignore[arg-type]
        plan = schedule(faults, groups(pools), 100.0, 1, same_table)
        (told,) = plan.happenings
        assert told.until_s - 31.0 == pytest.approx(expected)
        assert plan.spares_short == (0 if spares else 1)


def test_failures_come_at_their_rate() -> None:
    """Llama 3: one in 50,676 GPU-hours; 96 GPUs in a year see 16.6."""
    group = [Group(0, "decode", 0, 96, 1, 8, 0, 1e10)]
    faults = Faults(gpu_hours=50_676.0, repair="1 s", restart="1 s", detect="0 s")  # type: ignore[arg-type]
    years = [len(schedule(faults, group, 365 * 86_400.0, seed, same_table).happenings) for seed in range(40)]
    assert np.mean(years) == pytest.approx(96 * 8760 / 50_676, rel=0.1)
