"""The clock: a SimPy environment counting integer picoseconds, and named, seeded random streams.

Order of what happens at one picosecond (lower priority number first; equal numbers in the order they were scheduled):

0. ``URGENT``  processes start, interrupts arrive, ``run(until=...)`` stops;
1. ``NORMAL``  timeouts expire, resources are granted, flows land, events succeed;
2. ``RETIME``  the flow network retires what ended, admits every flow started at this instant, and shares anew, once.

An event that a ``RETIME`` callback schedules at the same instant runs after it, again in this order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from hashlib import blake2b
from operator import index
from typing import Any

import numpy as np
import simpy
from simpy.events import NORMAL, URGENT, Event, Process

RETIME = 2

PS_PER_SECOND = 10**12

__all__ = ["NORMAL", "PS_PER_SECOND", "RETIME", "URGENT", "Clock", "Simulator", "seconds_to_ps"]


def seconds_to_ps(seconds: float) -> int:
    """``seconds`` as picoseconds, rounded up so that an effect never precedes its cause (1/1000 ps is float noise).

    Raises ValueError for a negative, infinite or NaN duration.
    """
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"a duration must be finite and not negative, got {seconds!r} s")
    return max(0, math.ceil(seconds * PS_PER_SECOND - 1e-3))


class Clock(simpy.Environment):
    """SimPy's environment on integer picoseconds: a delay that is not an integer is a TypeError."""

    def __init__(self) -> None:
        super().__init__(initial_time=0)

    def schedule(self, event: Event, priority: Any = NORMAL, delay: float = 0) -> None:
        """Schedule ``event`` in ``delay`` picoseconds. Raises TypeError for floats, ValueError for the past."""
        if delay.__class__ is not int:
            try:
                delay = index(delay)  # type: ignore[arg-type]
            except TypeError:
                raise TypeError(f"the clock counts integer picoseconds, got a delay of {delay!r}: use seconds_to_ps") from None
        if delay < 0:
            raise ValueError(f"cannot schedule {-delay} ps into the past")
        super().schedule(event, priority, delay)


class Simulator:
    """One run: ``clock`` (SimPy environment), ``seed``, and random streams by name."""

    def __init__(self, seed: int = 0) -> None:
        if seed < 0:
            raise ValueError(f"seed must be >= 0, got {seed}")
        self.seed = seed
        self.clock = Clock()
        self._streams: dict[str, np.random.Generator] = {}

    @property
    def now_ps(self) -> int:
        return int(self.clock.now)

    def stream(self, name: str) -> np.random.Generator:
        """The random stream called ``name``: a function of (seed, name) alone, the same on every machine.

        Asking again returns the same generator, further along. Streams of other names are independent (SeedSequence
        over the seed and the name's 128-bit BLAKE2 digest), so a new consumer never shifts the draws of an old one.
        """
        if name not in self._streams:
            digest = int.from_bytes(blake2b(name.encode(), digest_size=16).digest(), "little")
            self._streams[name] = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, digest])))
        return self._streams[name]

    def event(self) -> Event:
        return Event(self.clock)

    def process(self, generator: Generator[Event, Any, Any]) -> Process:
        return self.clock.process(generator)

    def delay(self, ps: int) -> Event:
        """An event ``ps`` picoseconds from now."""
        return self.clock.timeout(ps)

    def fire(self, event: Event, delay_ps: int, value: Any = None) -> None:
        """Let the pending ``event`` succeed with ``value`` in ``delay_ps`` (as a timeout would), at NORMAL priority."""
        event._ok = True
        event._value = value
        self.clock.schedule(event, NORMAL, delay_ps)

    def call(self, callback: Callable[[], None], delay_ps: int = 0, priority: int = RETIME) -> None:
        """Call ``callback()`` in ``delay_ps``, at ``priority`` among the events of that picosecond."""
        event = Event(self.clock)
        event._ok = True
        event._value = None
        assert event.callbacks is not None
        event.callbacks.append(lambda _: callback())
        self.clock.schedule(event, priority, delay_ps)

    def run(self, until: Event | int | None = None) -> Any:
        """Run to the end, to a time in ps, or until an event; returns the event's value.

        Raises RuntimeError if the event can no longer happen (everything left waits for something that never comes).
        """
        if until is not None and not isinstance(until, Event):
            until = index(until)
        return self.clock.run(until)
