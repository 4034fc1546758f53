"""The answer to "which exchange": every protocol's layer by tokens a rank, the winners, and what cannot run."""

from __future__ import annotations

from dataclasses import dataclass

#: How what is known of a protocol ends where none of its own kernels was timed.
UNMEASURED = "unmeasured itself"


@dataclass(frozen=True, slots=True)
class Curve:
    """One protocol's layer by tokens. Times in microseconds, in the order of the tokens; ``dispatch_us`` and ``combine_us`` are
    what it takes besides the experts. ``known``: on what its times stand; ``engines``: those that have it."""

    protocol: str
    what: str
    known: str
    engines: tuple[str, ...]
    layer_us: tuple[float, ...]
    low90_us: tuple[float, ...]
    high90_us: tuple[float, ...]
    dispatch_us: tuple[float, ...]
    experts_us: tuple[float, ...]
    combine_us: tuple[float, ...]

    @property
    def measured(self) -> bool:
        """Whether any time of its own kernels stands behind it: others are shown and do not win."""
        return not self.known.endswith(UNMEASURED)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A range of tokens with one winner. ``runner_up`` takes ``ratio`` times as long at its first tokens; ``sure``: the two
    intervals (90 %) lie apart all through it."""

    protocol: str
    first_tokens: int
    last_tokens: int
    runner_up: str
    ratio: float
    sure: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """A protocol that cannot run there, and why."""

    protocol: str
    reason: str


@dataclass(frozen=True, slots=True)
class Exchanges:
    """Every exchange of one layer on one cluster and width."""

    name: str
    description: str
    sentence: str
    model: str
    cluster: str
    ranks: int
    tokens: tuple[int, ...]
    curves: tuple[Curve, ...]
    winners: tuple[Stretch, ...]
    refused: tuple[Refused, ...]
    notes: tuple[str, ...]
    version: str
