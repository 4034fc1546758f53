"""The clock refuses floats, keeps its order of simultaneous events, and draws the same numbers everywhere."""

import numpy as np
import pytest

from epicycle.sim.engine import NORMAL, RETIME, URGENT, Simulator, seconds_to_ps


def test_time_is_integer_picoseconds():
    simulator = Simulator()
    simulator.run(simulator.delay(5))
    assert simulator.now_ps == 5 and type(simulator.clock.now) is int


def test_numpy_integers_are_integers():
    simulator = Simulator()
    simulator.run(simulator.delay(np.int64(7)))
    assert simulator.now_ps == 7 and type(simulator.clock.now) is int


@pytest.mark.parametrize("delay", [1.0, np.float64(2.0), 0.5])
def test_float_delays_are_refused(delay):
    with pytest.raises(TypeError, match="integer picoseconds"):
        Simulator().delay(delay)


def test_the_past_is_refused():
    with pytest.raises(ValueError):
        Simulator().delay(-1)


def test_seconds_round_up_so_that_effects_follow_causes():
    assert seconds_to_ps(1e-12) == 1
    assert seconds_to_ps(1.2e-12) == 2
    assert seconds_to_ps(0) == 0
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="duration"):
            seconds_to_ps(bad)


def test_simultaneous_events_run_by_priority_then_in_order():
    simulator, seen = Simulator(), []
    for name, priority in [("share", RETIME), ("a", NORMAL), ("b", NORMAL), ("start", URGENT)]:
        simulator.call(lambda name=name: seen.append(name), 10, priority)
    simulator.run()
    assert seen == ["start", "a", "b", "share"]


def test_a_stream_is_a_function_of_seed_and_name():
    first, again = Simulator(3), Simulator(3)
    again.stream("another").random(100)
    np.testing.assert_array_equal(first.stream("routing").random(5), again.stream("routing").random(5))
    assert first.stream("routing").random() != Simulator(4).stream("routing").random()
    assert Simulator(3).stream("a").random() != Simulator(3).stream("b").random()


def test_a_stream_continues_when_asked_for_again():
    simulator = Simulator(0)
    assert simulator.stream("x") is simulator.stream("x")


def test_a_stream_is_the_same_on_every_machine():
    assert Simulator(0).stream("routing").integers(0, 2**32, 3).tolist() == [3596756919, 963159021, 3678287052]


def test_waiting_for_what_never_comes_is_an_error():
    simulator = Simulator()
    with pytest.raises(RuntimeError, match="until"):
        simulator.run(simulator.event())
