"""The world as the compiled loop is handed it: one reference, instead of all arrays' parts with every call.

What numba compiles takes a tuple of arrays apart at every call; a reference to a structure is one pointer, which makes the
loop compile in a fraction of the time. The arrays are the same: what the loop changes is seen from outside.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Any

from ....fabric.quick_numba import njit, structures
from .layout import Rules, World

structref, types = structures()


def _fingerprint() -> str:
    """Of the loop's own sources. numba keeps what it compiled until the function's file changes; what a function takes over
    from other files, places of fields and of counters, it would keep from yesterday."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return blake2b(b"".join(source.read_bytes() for source in sources), digest_size=6).hexdigest()


_OF = _fingerprint()


class _Short(types.StructRef):  # type: ignore[misc, name-defined]
    """A structure whose type has a short name: numba writes it into the name of every function that takes one, and the arrays'
    own types are pages long. The name holds the sources' fingerprint: with another one everything is compiled anew."""

    def __init__(self, fields: Any) -> None:
        super().__init__(fields)
        self.name = f"{type(self).__name__}_{_OF}"

    def preprocess_fields(self, fields: Any) -> Any:
        return tuple((name, types.unliteral(kind)) for name, kind in fields)


@structref.register
class WorldType(_Short):
    """Its fields are `layout.World`'s."""


@structref.register
class RulesType(_Short):
    """Its fields are `layout.Rules`'s."""


class _World(structref.StructRefProxy):  # type: ignore[misc, name-defined]
    """What Python holds of a world."""


class _Rules(structref.StructRefProxy):  # type: ignore[misc, name-defined]
    """What Python holds of rules."""


structref.define_proxy(_World, WorldType, list(World._fields))
structref.define_proxy(_Rules, RulesType, list(Rules._fields))


@njit(cache=True)
def handle_of(world: World) -> Any:
    """A reference to ``world``'s arrays."""
    return _World(
        world.reqs, world.free, world.n, world.workers, world.ranks, world.queue, world.ring, world.events, world.out,
        world.itl, world.entries, world.buckets, world.holders, world.segments, world.segment_next, world.flows, world.port,
        world.port_load, world.woken, world.series, world.spans, world.changes, world.scratch, world.group, world.walked,
        world.hand,
    )  # fmt: skip


@njit(cache=True)
def rules_handle(rules: Rules) -> Any:
    """A reference to ``rules``."""
    return _Rules(
        rules.unit_tokens,
        rules.block_tokens,
        rules.drafts,
        rules.chances,
        rules.seed,
        rules.admission,
        rules.watermark,
        rules.swap,
        rules.prefix,
        rules.router,
        rules.far_router,
        rules.most_waiting,
        rules.patience,
        rules.layerwise,
        rules.layers,
        rules.early,
        rules.append,
        rules.token_bytes,
        rules.move_latency,
        rules.handover_steps,
        rules.tool_policy,
        rules.ttl,
        rules.closed,
        rules.retries,
        rules.backoff,
        rules.resume,
        rules.host_rate,
        rules.sample,
        rules.until,
        rules.first_steps,
        rules.first_token,
        rules.stream,
        rules.poll,
        rules.poll_steps,
        rules.wait_steps,
        rules.wait_fill,
        rules.balance_steps,
        rules.span_from,
        rules.span_to,
        rules.scale_every,
        rules.scale_up,
        rules.scale_down,
        rules.scale_least,
        rules.scale_ahead,
        rules.scale_full,
        rules.start_up,
        rules.imbalance_period,
        rules.keeps,
    )
