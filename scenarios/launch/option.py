"""One option of an engine, and what a deployment's keys and an engine's options make of each other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...hwmodels.errors import BadInput
from ...sim.inputs.serving import Serving, Worker

KV = {"fp8": "fp8_e4m3", "bf16": "bfloat16"}


@dataclass(frozen=True, slots=True)
class Option:
    """A flag, its value (None: a switch) and the key of the answer it comes from ("": how processes find each other)."""

    name: str
    value: str | None
    key: str


class EngineLacks(BadInput):
    """The engine has no option for what a deployment stands on."""

    def __init__(self, engine: str, key: str, value: object, lever: str) -> None:
        super().__init__(f"{engine} has no option for {key}={value}: {lever}")


@dataclass(frozen=True, slots=True)
class Site:
    """Where a worker runs: which of a deployment's workers it is, and how its GPUs lie on nodes.

    ``stored``: precision of the checkpoint's weights and experts; ``named``: whether the caller named the checkpoint itself,
    and so answers for its precision.
    """

    role: str  # "decode", "prefill"
    node_gpus: int
    stored: tuple[str, str] = ("", "")
    named: bool = False

    def nodes(self, worker: Worker) -> int:
        """Nodes of one worker."""
        return -(-worker.gpus // self.node_gpus)


@dataclass
class Given:
    """Flags of a command line, taken one after another; what is left is named as unused."""

    flags: dict[str, str | None]
    left: dict[str, str | None] = field(init=False)

    def __post_init__(self) -> None:
        self.left = dict(self.flags)

    def number(self, name: str, default: int) -> int:
        value = self.left.pop(name, None)
        return default if value is None else int(value)

    def real(self, name: str) -> float | None:
        value = self.left.pop(name, None)
        return None if value is None else float(value)

    def word(self, name: str) -> str | None:
        return self.left.pop(name, None)

    def switch(self, name: str) -> bool:
        return name in self.left and self.left.pop(name) != "false"

    def settings(self, name: str) -> dict[str, Any]:
        """A value that is a JSON object."""
        text = self.left.pop(name, None)
        if text is None:
            return {}
        try:
            read = json.loads(text)
        except json.JSONDecodeError as error:
            raise BadInput(f"{name} wants a JSON object, got {text!r} ({error.msg})") from None
        if not isinstance(read, dict):
            raise BadInput(f"{name} wants a JSON object, got {text!r}")
        return read


def only(settings: Mapping[str, Any], known: Iterable[str], name: str) -> None:
    """Raises BadInput for keys of the object given to ``name`` that nothing stands for."""
    if unknown := sorted(set(settings) - set(known)):
        raise BadInput(f"{name}: {', '.join(unknown)} means nothing to epicycle: leave it out to ask about the rest")


def compact(settings: Mapping[str, Any]) -> str:
    """JSON without spaces."""
    return json.dumps(settings, separators=(",", ":"))


def quantized(engine: str, serving: Serving, site: Site) -> str | None:
    """What an engine that quantizes weights as it loads them is told: "fp8", or None where the checkpoint is as it is asked.

    Raises EngineLacks where neither will do and the checkpoint is not named.
    """
    weights, experts = serving.weights or site.stored[0], serving.experts or site.stored[1]
    if (weights, experts) == site.stored or site.named:
        return None
    if (weights, experts) == ("fp8", "fp8") and site.stored == ("bf16", "bf16"):
        return "fp8"
    key, value = ("deployment.experts", experts) if experts != site.stored[1] else ("deployment.weights", weights)
    raise EngineLacks(
        engine,
        key,
        value,
        f"it loads what is stored ({site.stored[1]} experts); name a checkpoint in {value} with --checkpoint",
    )


def is_balanced(worker: Worker) -> bool:
    """Whether experts are placed by their load."""
    return worker.placement == "balanced" or (worker.placement is None and worker.redundant_experts > 0)


def takes_part(worker: Worker) -> bool:
    """Whether tokens travel to experts by a protocol: with data-parallel attention and experts on several ranks."""
    return worker.dp > 1 and worker.ep > 1


DEFAULT_WORKER = Worker()
