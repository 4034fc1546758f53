"""What a comparison says of overlap and of memory, on steps made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from epicycle.scenarios.answer.evaluation import Evaluation, PartTime, Pool, StepTime
from epicycle.scenarios.weigh.hiding import hidden_s, hiding, room
from epicycle.sim.ep.buffer import MemoryItem

GIB = 1 << 30


def part(name: str, group: str, seconds: float, exposed: float) -> PartTime:
    return PartTime(name, group, seconds, exposed, "hbm", 0.0, 0.0, 0.0)


def step(attention: tuple[float, float], exchange: tuple[float, float], batch: float = 64.0) -> StepTime:
    parts = (part("mla decode", "attention", *attention), part("combine", "communication", *exchange))
    seconds = sum(p.exposed_s for p in parts)
    return StepTime("decode", seconds, batch, batch, 0.1, 0.1, "hbm", parts)


OFF = step((6e-3, 6e-3), (4e-3, 4e-3))


def test_what_hides_is_what_the_step_does_not_show() -> None:
    assert hidden_s(OFF) == 0.0
    assert hidden_s(step((8e-3, 8e-3), (4e-3, 1e-3))) == pytest.approx(3e-3)


def test_the_shorter_side_hides_behind_the_longer_one() -> None:
    words = hiding(OFF, step((8e-3, 8e-3), (4e-3, 1e-3)))
    assert words.startswith("3 ms of the exchange, mostly combine, hide behind computing")
    assert words.endswith("the parts themselves take 2 ms more, mostly mla decode (6 ms -> 8 ms)")
    words = hiding(OFF, step((6e-3, 1e-3), (7e-3, 7e-3)))
    assert words.startswith("5 ms of computing, mostly mla decode, hide behind the exchange")


def test_the_other_way_round() -> None:
    words = hiding(step((8e-3, 8e-3), (4e-3, 1e-3)), OFF)
    assert words.startswith("3 ms of the exchange, mostly combine, no longer hide behind computing")
    assert words.endswith("take 2 ms less, mostly mla decode (8 ms -> 6 ms)")


def test_nothing_is_said_where_neither_hides() -> None:
    assert hiding(OFF, step((9e-3, 9e-3), (4e-3, 4e-3))) == ""


def evaluation(batch: float, weights_gib: int, kv_gib: int, hbm_gib: int = 80) -> Evaluation:
    memory = (MemoryItem("routed expert weights", weights_gib * GIB, ""), MemoryItem("KV cache", kv_gib * GIB, ""))
    pool = Pool("decode", "", 1, 8, memory, hbm_gib * GIB, (replace(OFF, batch=batch),))
    return Evaluation("x", "", "", "m", "c", 8, None, (), (pool,), {}, ())


def test_a_batch_that_grew_into_freed_memory() -> None:
    words = room(evaluation(100.0, 20, 25), evaluation(160.0, 5, 40))
    assert words == "Routed expert weights of a GPU fall from 20 GiB to 5 GiB, and its KV cache grows from 25 GiB to 40 GiB."


@pytest.mark.parametrize(
    ("batch", "weights_gib", "hbm_gib"),
    [(100.0, 5, 80), (160.0, 20, 80), (60.0, 5, 80), (160.0, 5, 141)],
    ids=["the same batch", "the same weights", "a smaller batch with more room", "another GPU"],
)
def test_memory_is_not_blamed_for_anything_else(batch: float, weights_gib: int, hbm_gib: int) -> None:
    assert room(evaluation(100.0, 20, 25), evaluation(batch, weights_gib, 40, hbm_gib)) == ""
