"""Rules with every choice at its plainest, to be changed one by one."""

from __future__ import annotations

from typing import Any

from .loop.layout import MOST_DRAFTS, Rules

NEVER = 1 << 61  # ps: beyond the end of every run

_FLOATS = (
    "admission",
    "watermark",
    "token_bytes",
    "host_rate",
    "scale_up",
    "scale_down",
    "first_steps",
    "wait_fill",
    "handover_steps",
    "scale_full",
)


def rules_of(acceptance: float | tuple[float, ...] = 0.0, **choices: float) -> Rules:
    """`PLAIN` with ``choices``; every field of the one type that the loop is compiled for. ``acceptance`` of drafts: of each if
    those before it were accepted, or the chances of the first, the second and so on."""
    typed: dict[str, Any] = {k: float(v) if k in _FLOATS else int(v) for k, v in choices.items()}
    chances = acceptance if isinstance(acceptance, tuple) else tuple(acceptance**n for n in range(1, MOST_DRAFTS + 1))
    typed["chances"] = (*map(float, chances), *(0.0,) * (MOST_DRAFTS - len(chances)))
    return PLAIN._replace(**typed)


PLAIN = Rules(
    unit_tokens=64, block_tokens=64, drafts=0, chances=(0.0,) * MOST_DRAFTS, seed=0, admission=0.0, watermark=0.01, swap=0,
    prefix=0, router=1, far_router=1, most_waiting=-1, patience=-1, layerwise=0, layers=1, early=0, append=0, token_bytes=1.0,
    move_latency=0, handover_steps=0.0,
    tool_policy=0, ttl=0, closed=0, retries=3, backoff=10**12, resume=0, host_rate=1e12, sample=0, until=NEVER,
    first_steps=0.0, first_token=0, stream=1, poll=0,
    poll_steps=1, wait_steps=0, wait_fill=1.0, balance_steps=0, span_from=0, span_to=0, scale_every=0, scale_up=1.0,
    scale_down=0.0, scale_least=1, scale_ahead=0, scale_full=1.0,
    start_up=0, imbalance_period=0, keeps=0,
)  # fmt: skip
