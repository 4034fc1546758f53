"""What a library cannot do at all: caps of its code and combinations that abort, refused with the reason and not priced.

Read in the sources and in the notes of those who ran into them. What only old versions get wrong is a caveat, not a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .shape import Num

#: Whether an exchange, or each of several, is past a limit.
Beyond = bool | np.bool_ | NDArray[np.bool_]
#: Beginnings of a system's name by whose hardware it is; what begins otherwise is NVIDIA's.
_MAKERS = {"mi": "AMD", "tpu": "Google", "trainium": "AWS", "ascend": "Huawei"}
#: Systems whose GPUs are Hopper (sm_90) or Blackwell (sm_100, sm_103).
_BLACKWELL = ("b200", "b300", "gb200", "gb300")
_HOPPER_OR_BLACKWELL = ("h100", "h200", "h20_", "h800", *_BLACKWELL)


@dataclass(frozen=True, slots=True)
class Asked:
    """An exchange as far as limits look at it. Numbers may be arrays of candidates; ``tokens``: the most a rank brings to one
    call, None where nothing is said of them. ``system``: the calibrated one of its GPUs; ``transport``: what carries messages
    between domains."""

    system: str
    ranks: Num
    domain: Num
    top_k: Num
    experts: Num
    hidden: Num
    comm_sms: Num = 24.0
    tokens: Num | None = None
    transport: str = ""

    @property
    def domains(self) -> Num:
        domains: Num = np.ceil(np.asarray(self.ranks, float) / np.asarray(self.domain, float))
        return domains

    @property
    def blackwell(self) -> bool:
        return self.system.startswith(_BLACKWELL)

    @property
    def maker(self) -> str:
        return next((maker for begins, maker in _MAKERS.items() if self.system.startswith(begins)), "NVIDIA")


@dataclass(frozen=True, slots=True)
class Limit:
    """``why``: what is the matter, with its source; ``beyond``: whether an exchange is past it; ``lever``: what would do."""

    why: str
    beyond: Callable[[Asked], Beyond]
    lever: str


def most_ranks(most: int, why: str, over: str = "") -> Limit:
    """At most ``most`` ranks (``over``: by that transport only)."""

    def beyond(asked: Asked) -> Beyond:
        many = np.asarray(asked.ranks, float) > most
        return many if not over else many & (asked.domains > 1.0) & (asked.transport == over)

    return Limit(why, beyond, f"use ep of {most} or less, or another protocol")


def made_for(maker: str, what: str) -> Limit:
    """Hardware of one maker only."""
    return Limit(
        f"{what} runs on {maker}'s GPUs only", lambda asked: asked.maker != maker, "use another protocol, or such a cluster"
    )


def hopper_or_blackwell(what: str) -> Limit:
    return Limit(
        f"{what} is written for sm_90 and sm_100",
        lambda asked: not asked.system.startswith(_HOPPER_OR_BLACKWELL),
        "use another protocol, or a cluster of Hopper or Blackwell GPUs",
    )


def most_top_k(most: int, why: str) -> Limit:
    return Limit(why, lambda asked: np.asarray(asked.top_k, float) > most, "use another protocol")


def why_not(limits: Sequence[Limit], asked: Asked) -> Limit | None:
    """The first limit that a single exchange is past; None where it can run."""
    return next((limit for limit in limits if bool(np.any(limit.beyond(asked)))), None)


def cautioned(cautions: Sequence[Limit], asked: Asked) -> tuple[str, ...]:
    """What an answer has to say of an exchange that only some versions of its library do right."""
    return tuple(f"{caution.why}: {caution.lever}" for caution in cautions if bool(np.any(caution.beyond(asked))))


def can_run(limits: Sequence[Limit], asked: Asked) -> NDArray[np.bool_]:
    """Which of the candidates are past no limit, of the shape of ``asked.ranks``."""
    able = np.ones(np.shape(asked.ranks), bool)
    for limit in limits:
        able &= ~np.broadcast_to(np.asarray(limit.beyond(asked), bool), able.shape)
    return able
