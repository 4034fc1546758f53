"""The times that a serving engine adds to its kernels, and an engine in which one of them is a little more or less."""

from __future__ import annotations

from collections.abc import Mapping

from ...hwmodels.backends import Backend, with_overrides
from ...hwmodels.units import SECONDS, format_time

#: Field of `backends.Constants` -> words.
ENGINE_TIMES: Mapping[str, str] = {
    "gap": "gap between two kernels",
    "launch": "host time of a launch",
    "step": "host time of a step",
    "sequence": "host time of a sequence in a step",
    "all_reduce": "small all-reduce",
}


def slowed(engine: Backend, system: str, key: str, factor: float) -> Backend | None:
    """``engine`` with the time ``key`` on ``system`` times ``factor``; None if it is nothing there."""
    seconds: float = getattr(engine.on(system), key)
    return with_overrides(engine, {key: SECONDS.write(seconds * factor)}) if seconds else None


def time_words(engine: Backend, system: str, key: str) -> tuple[str, str]:
    """The time in words, and its source."""
    return format_time(getattr(engine.on(system), key)), engine.sources.get(key, engine.sources.get("*", ""))
