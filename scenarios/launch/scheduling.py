"""When an engine takes up requests and hands out tokens: the options for it, and the keys that they stand for.

Answers have every token handed out as it is made; an engine that is told to collect some first shows longer gaps between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...sim.inputs.serving import Serving, Worker
from .option import EngineLacks, Given, Option

_STREAM = {"vllm": "--stream-interval", "sglang": "--stream-interval", "trtllm": "stream_interval"}
_POLL = {"sglang": "--scheduler-recv-interval"}
_WAIT = {"trtllm": ("batch_wait_timeout_iters", "batch_wait_max_tokens_ratio")}
#: How prompts are dealt: engine -> (option, balance -> its value).
_BALANCE = {
    "sglang": ("--load-balance-method", {"round-robin": "round_robin"}),
    "trtllm": ("attention_dp_config.enable_balance", {"round-robin": "false", "wait": "true"}),
}


def options(engine: str, worker: Worker, serving: Serving, at: str) -> Iterator[Option]:
    """The options of ``engine`` for a worker, the key ``at``. Raises EngineLacks for what it has none for."""
    yield Option(_STREAM[engine], "1", "the time between tokens (ITL), which is of each")
    if serving.poll_steps != 1:
        if engine not in _POLL:
            raise EngineLacks(engine, "deployment.poll_steps", serving.poll_steps, "it looks at every step: leave it at 1")
        yield Option(_POLL[engine], str(serving.poll_steps), "deployment.poll_steps")
    if serving.wait_steps:
        if engine not in _WAIT:
            raise EngineLacks(engine, "deployment.wait_steps", serving.wait_steps, "its prompts do not wait: leave it at 0")
        steps, fill = _WAIT[engine]
        yield Option(steps, str(serving.wait_steps), "deployment.wait_steps")
        yield Option(fill, f"{serving.wait_fill:g}", "deployment.wait_fill")
    if worker.balance is not None:
        name, values = _BALANCE.get(engine, ("", {}))
        if worker.balance not in values:
            known = f"use one of {', '.join(values)}, or leave it out" if values else "leave it out"
            raise EngineLacks(engine, f"{at}.balance", worker.balance, known)
        yield Option(name, values[worker.balance], f"{at}.balance")


def read(engine: str, given: Given, worker: dict[str, Any], whole: dict[str, Any]) -> None:
    """Add to ``worker`` and ``whole`` the keys that the options stand for; one that answers do not know stays in ``given``."""
    if given.left.get(_STREAM[engine]) == "1":
        given.word(_STREAM[engine])
    if engine in _POLL and (steps := given.number(_POLL[engine], 1)) != 1:
        whole["poll_steps"] = steps
    if engine in _WAIT:
        waits, fill = _WAIT[engine]
        if steps := given.number(waits, 0):
            whole["wait_steps"] = steps
        if (share := given.real(fill)) is not None and steps:
            whole["wait_fill"] = share
    if engine in _BALANCE:
        name, values = _BALANCE[engine]
        said = {value: balance for balance, value in values.items()}
        if (written := given.left.get(name)) in said and worker.get("dp", 1) > 1:
            given.word(name)
            worker["balance"] = said[written]
