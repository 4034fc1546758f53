"""KV cache: room, preemption, prefixes, tiers, pins, transfers; nothing is owned twice and all is given back."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from epicycle.sim.serving.requests.arrivals.made_up import Lengths, arrivals, blank
from epicycle.sim.serving.requests.fleet import Kind, Tier
from epicycle.sim.serving.requests.loop import layout as at
from epicycle.sim.serving.requests.loop.chunk import NO_NAMES, Chunk
from epicycle.sim.serving.requests.rules import rules_of

from .conftest import one_table, played

SHELF = one_table(lambda n, c: 1e-3 + 1e-5 * n + 1e-9 * n * c, lambda r, _: 1e-3 + 1e-5 * r)
TOKEN = 131_072.0


def mixture(rate: float = 20.0, count: int = 2_000) -> Iterator[Chunk]:
    return arrivals("poisson", rate, Lengths(512, 300, spread=0.8), 1, count=count)


CASES = {
    "room for all": ({}, {}),
    "prompts first": ({"mixes": False}, {}),
    "computed again": ({"units": 26}, {}),
    "moved to the host": ({"units": 26}, {"swap": 1, "token_bytes": TOKEN, "host_rate": 5e10}),
    "whole outputs reserved": ({"units": 60}, {"admission": 1.0}),
    "drafts": ({"ranks": 2}, {"drafts": 2, "acceptance": 0.7}),
    "drafts, and little room": ({"units": 20}, {"drafts": 3, "acceptance": 0.8}),
    "a pipeline": ({"pp": 4}, {}),
    "polled": ({}, {"poll": 10**10}),
}


@pytest.mark.parametrize("case", CASES)
def test_every_request_is_served_whole(worker: Callable[..., Kind], case: str) -> None:
    kind, rules = CASES[case]
    records, end = played([worker(**{"count": 2, "units": 400, **kind})], rules_of(**rules), SHELF, mixture())
    assert np.all(records["status"] == at.SERVED)
    np.testing.assert_array_equal(records["made"], records["output"])
    assert np.all(records["first"] > records["arrival"])  # no token before its prompt
    assert np.all(records["end"] >= records["first"])
    assert len(set(records["id"])) == 2_000
    preempted = bool(records["preempted"].any())
    assert preempted == ("again" in case or "host" in case or "little" in case)
    if not preempted:
        assert end.world.n[at.PROMPTED] == records["input"].sum()  # each prompt's tokens once


DISAGGREGATED = {
    "whole": {},
    "reserved before": {"early": 1},
    "layer by layer": {"early": 1, "layerwise": 1, "layers": 32},
}


@pytest.mark.parametrize("case", DISAGGREGATED)
def test_caches_move_from_pool_to_pool(worker: Callable[..., Kind], case: str) -> None:
    pools = [worker(role=1, count=2, port_bytes_per_s=5e9), worker(role=2, count=3, ranks=2, units=60, port_bytes_per_s=5e9)]
    records, end = played(pools, rules_of(token_bytes=TOKEN, **DISAGGREGATED[case]), SHELF, mixture())
    assert np.all(records["status"] == at.SERVED)
    np.testing.assert_array_equal(records["made"], records["output"])
    moved = records["input"][records["output"] > 1].sum() * TOKEN
    assert end.world.n[at.MOVED_BYTES] == pytest.approx(moved, rel=1e-6)


def test_a_cache_layer_by_layer_is_there_sooner(worker: Callable[..., Kind]) -> None:
    pools = [worker(role=1, port_bytes_per_s=5e9), worker(role=2, port_bytes_per_s=5e9)]
    stays = {}
    for case in ("reserved before", "layer by layer"):
        records, _ = played(pools, rules_of(token_bytes=TOKEN, **DISAGGREGATED[case]), SHELF, mixture(2.0, 300))
        stays[case] = np.mean(records["first"] - records["arrival"]) * 1e-12
    alone = 512 * 0.6 * TOKEN / 5e9
    assert stays["reserved before"] - stays["layer by layer"] == pytest.approx(alone * 31 / 32, rel=0.5)


def test_flows_share_a_port(worker: Callable[..., Kind]) -> None:
    """Two caches at once take twice as long; a fabric that is the bottleneck is shared too."""
    pools = [worker(role=1, count=2, port_bytes_per_s=1e9), worker(role=2, port_bytes_per_s=1e9)]

    def two() -> Iterator[Chunk]:
        a = blank(2)
        a["id"], a["input"], a["output"] = (0, 1), 1000, 10
        yield Chunk(a, NO_NAMES)

    rules = rules_of(token_bytes=TOKEN)
    shared, _ = played(pools, rules, SHELF, two())
    np.testing.assert_allclose(shared["moved"] * 1e-12, 2 * 1000 * TOKEN / 1e9, rtol=0.01)
    narrow, _ = played([*pools[:1], worker(role=2, count=2, port_bytes_per_s=1e9)], rules, SHELF, two(), core_bytes_per_s=5e8)
    np.testing.assert_allclose(narrow["moved"] * 1e-12, 4 * 1000 * TOKEN / 1e9, rtol=0.01)


def named(prompts: list[list[int]], gap_s: float = 1.0, block: int = 64) -> Iterator[Chunk]:
    """Requests whose prompts are whole named blocks, and one token more."""
    a = blank(len(prompts))
    a["id"], a["at"] = np.arange(len(prompts)), (np.arange(len(prompts)) * gap_s * 1e12).astype(np.int64)
    a["blocks"] = [len(p) for p in prompts]
    a["input"], a["output"] = a["blocks"] * block + 1, 4
    a["names"] = np.cumsum(a["blocks"]) - a["blocks"]
    yield Chunk(a, np.array([n for p in prompts for n in p], np.int64))


def test_a_known_prefix_is_not_computed_again(worker: Callable[..., Kind]) -> None:
    prompts = [[1, 2, 3], [1, 2, 4], [1, 2, 3, 5], [9], [1, 2, 3]]
    records, _ = played([worker()], rules_of(prefix=1), SHELF, named(prompts))
    assert list(records["hit"] // 64) == [0, 2, 3, 0, 3]


def test_the_block_used_longest_ago_goes_first(worker: Callable[..., Kind]) -> None:
    """Room for four blocks: a fifth evicts the one that was not used again; a conversation's end goes before its front."""
    prompts = [[1], [2], [1], [3, 4], [1], [2]]
    records, end = played([worker(units=4)], rules_of(prefix=1), SHELF, named(prompts))
    assert list(records["hit"] // 64) == [0, 0, 1, 0, 1, 0]
    assert end.world.n[at.EVICTED] >= 1


def test_what_is_evicted_comes_back_from_the_host(worker: Callable[..., Kind]) -> None:
    prompts = [[1, 2, 3], [5, 6, 7, 8], [1, 2, 3]]
    tiers = [Tier(tokens=64 * 100, bytes_per_s=1e8, latency_s=1e-3)]
    records, _ = played([worker(units=6)], rules_of(prefix=1, token_bytes=1e4), SHELF, named(prompts), tiers=tiers)
    kept = records["hit"] // 64 + records["loaded"] // 64
    assert list(kept) == [0, 0, 3]
    brought = records["loaded"][2]
    assert brought > 0
    assert records["moved"][2] * 1e-12 == pytest.approx(1e-3 + brought * 1e4 / 1e8, rel=0.01)


def turns(tool: int, gap_s: float = 5.0, others: int = 3) -> Iterator[Chunk]:
    """A conversation of two turns with a pause between, in which ``others`` fill the cache."""
    a = blank(2 + others)
    a["id"] = np.arange(a.size)
    a["session"][:2], a["turn"][:2] = 7, (0, 1)
    a["input"], a["output"] = 64 * 4 + 1, 4
    a["input"][1] = 64 * 5 + 1
    a["blocks"] = a["input"] // 64
    a["after"][0], a["after_n"][0], a["waits"][1], a["gap"][1], a["tool"][0] = 1, 1, 1, int(gap_s * 1e12), tool
    a["at"][2:] = (1.0 + 0.5 * np.arange(others)) * 1e12
    a["session"][2:] = 100 + np.arange(others)
    yield Chunk(a, NO_NAMES)


@pytest.mark.parametrize(("policy", "ttl_s", "hits"), [(0, 0, 0), (1, 0, 0), (2, 60, 4), (2, 0.5, 0)])
def test_a_pin_keeps_the_cache_while_a_tool_runs(worker: Callable[..., Kind], policy: int, ttl_s: float, hits: int) -> None:
    """Room for two conversations: others evict the first unless it is pinned, and long enough."""
    rules = rules_of(prefix=1, keeps=1, tool_policy=policy, ttl=ttl_s * 1e12)
    records, _ = played([worker(units=11)], rules, SHELF, turns(1))
    second = records[records["turn"] == 1][0]
    assert second["hit"] // 64 == hits


def test_later_turns_can_be_computed_where_the_conversation_is(worker: Callable[..., Kind]) -> None:
    """PPD: turn 2 is appended on the decode worker, which moves nothing; else it is computed and moved whole."""
    pools = [worker(role=1, port_bytes_per_s=1e9), worker(role=2, port_bytes_per_s=1e9)]
    first = {}
    for append in (0, 1):
        rules = rules_of(prefix=1, keeps=1, append=append, token_bytes=TOKEN)
        records, _ = played(pools, rules, SHELF, turns(0, others=0))
        second = records[records["turn"] == 1][0]
        first[append] = (second["first"] - second["arrival"]) * 1e-12
        assert second["hit"] // 64 == 4
    assert first[1] < first[0]
