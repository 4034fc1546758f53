"""A workload and a deployment: what may be asked, and what is refused in one line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from epicycle.sim.inputs.serving import Bill, Serving, Slo, Worker, Workload


@given(longest=st.integers(1, 100_000), spread=st.floats(0.0, 1.0))
def test_lengths_drawn_evenly_have_their_middle_as_mean(longest: int, spread: float) -> None:
    load = Workload(input_tokens=longest, output_tokens=longest, length_spread=spread)
    assert load.mean_input == pytest.approx((longest * (1 - spread) + longest) / 2)
    assert load.mean_output == max(1.0, load.mean_input)


def test_a_request_makes_at_least_one_token() -> None:
    assert Workload(input_tokens=1, output_tokens=1, length_spread=1.0).mean_output == 1.0


def test_load_is_a_loop_or_a_rate() -> None:
    assert Workload(input_tokens=1, output_tokens=1).concurrency is None
    assert Workload.model_validate({"input_tokens": 1, "output_tokens": 1, "rate": "3 /s"}).rate == 3.0
    with pytest.raises(ValidationError, match="both concurrency and rate: a closed loop or an arrival rate, give one of them"):
        Workload.model_validate({"input_tokens": 1, "output_tokens": 1, "concurrency": 4, "rate": "3 /s"})


@given(tp=st.integers(1, 16), dp=st.integers(1, 16), ep=st.integers(1, 64))
def test_experts_fill_the_worker_or_the_nearest_width_is_named(tp: int, dp: int, ep: int) -> None:
    if tp * dp % ep == 0:
        assert Worker(tp=tp, dp=dp, ep=ep).gpus == tp * dp
        return
    with pytest.raises(ValidationError) as caught:
        Worker(tp=tp, dp=dp, ep=ep)
    said = str(caught.value.errors()[0]["msg"])
    named = int(said.rsplit("use ep=", 1)[1])
    assert tp * dp % named == 0, said
    assert Worker(tp=tp, dp=dp, ep=named).ep == named, "the lever works"


@given(decode=st.integers(1, 8), prefill=st.integers(1, 8), counts=st.tuples(st.integers(1, 4), st.integers(1, 4)))
def test_gpus_are_those_of_all_workers(decode: int, prefill: int, counts: tuple[int, int]) -> None:
    both = Serving(
        mode="disaggregated", decode=Worker(dp=decode, count=counts[0]), prefill=Worker(tp=prefill, pp=2, count=counts[1])
    )
    assert both.gpus == decode * counts[0] + 2 * prefill * counts[1]
    assert Serving(decode=Worker(dp=decode, count=counts[0])).gpus == decode * counts[0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"mode": "disaggregated"}, "a disaggregated deployment needs prefill, the workers that compute prompts"),
        ({"mode": "aggregated", "prefill": {}}, "an aggregated deployment has no prefill workers"),
    ],
)
def test_pools_match_the_mode(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Serving.model_validate(given)


@pytest.mark.parametrize(
    ("record", "changes"),
    [
        (Workload, {"input_tokens": 0, "output_tokens": 1}),
        (Workload, {"input_tokens": 1, "output_tokens": 1, "cached_input": 1.0}),
        (Workload, {"input_tokens": 1, "output_tokens": 1, "length_spread": 1.5}),
        (Workload, {"input_tokens": 1, "output_tokens": 1, "rank_imbalance": -0.1}),
        (Workload, {"input_tokens": 1, "output_tokens": 1, "isl": 3}),
        (Worker, {"tp": 0}),
        (Worker, {"comm_sms": 1}),
        (Worker, {"chunk_tokens": 8}),
        (Worker, {"batch": 0}),
        (Serving, {"mtp": 9}),
        (Serving, {"acceptance": 0.0}),
        (Serving, {"memory_share": 1.1}),
        (Serving, {"backend": "tgi"}),
        (Slo, {"tpot": 30}),
        (Bill, {"basis": "spot"}),
    ],
)
def test_what_cannot_be_is_refused(record: type, changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        record.model_validate(changes)


def test_records_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Worker().tp = 2
